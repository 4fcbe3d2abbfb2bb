"""One gene reference per organism, and what becomes of a data set's features under it."""

from cytolabe.genes.aliases import read_alias_table
from cytolabe.genes.alignment import align_features
from cytolabe.genes.organisms import guess_organism
from cytolabe.genes.reference import GeneReference, GeneRelease, load_reference, shipped_organisms

__all__ = [
    "GeneReference",
    "GeneRelease",
    "align_features",
    "guess_organism",
    "load_reference",
    "read_alias_table",
    "shipped_organisms",
]
