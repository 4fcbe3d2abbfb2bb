"""The Cell Ontology, offline, and the levels at which a study scores."""

from cytolabe.ontology.graph import Ontology, TermRecord, load_ontology, ontology_of, shipped_releases
from cytolabe.ontology.hierarchy import Hierarchy, hierarchy_of, marginal_probability
from cytolabe.ontology.resolutions import DeclaredLevel, Resolution, Resolutions, build_resolutions
from cytolabe.ontology.tree import LeftOut, LevelNode, left_out, tree_of

__all__ = [
    "DeclaredLevel",
    "Hierarchy",
    "LeftOut",
    "LevelNode",
    "Ontology",
    "Resolution",
    "Resolutions",
    "TermRecord",
    "build_resolutions",
    "hierarchy_of",
    "left_out",
    "load_ontology",
    "marginal_probability",
    "ontology_of",
    "shipped_releases",
    "tree_of",
]
