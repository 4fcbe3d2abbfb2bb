"""The Cell Ontology, offline, and the levels at which a study scores."""

from cytolabe.ontology.graph import Ontology, TermRecord, load_ontology, ontology_of, shipped_releases
from cytolabe.ontology.resolutions import DeclaredLevel, Resolution, Resolutions, build_resolutions
from cytolabe.ontology.tree import LeftOut, LevelNode, left_out, tree_of

__all__ = [
    "DeclaredLevel",
    "LeftOut",
    "LevelNode",
    "Ontology",
    "Resolution",
    "Resolutions",
    "TermRecord",
    "build_resolutions",
    "left_out",
    "load_ontology",
    "ontology_of",
    "shipped_releases",
    "tree_of",
]
