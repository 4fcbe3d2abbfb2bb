"""The Cell Ontology, offline, and the levels at which a study scores."""

from cytolabe.ontology.graph import Ontology, TermRecord, load_ontology, ontology_of, shipped_releases
from cytolabe.ontology.resolutions import DeclaredLevel, Resolution, Resolutions, build_resolutions

__all__ = [
    "DeclaredLevel",
    "Ontology",
    "Resolution",
    "Resolutions",
    "TermRecord",
    "build_resolutions",
    "load_ontology",
    "ontology_of",
    "shipped_releases",
]
