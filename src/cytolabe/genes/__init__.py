"""One gene reference per organism, and what becomes of a data set's features under it.

The names below load on first use (PEP 562): who asks the reference alone does not wait for the alignment.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "GeneReference": "reference", "GeneRelease": "reference", "align_features": "alignment",
    "guess_organism": "organisms", "load_reference": "reference", "read_alias_table": "aliases",
    "shipped_organisms": "reference",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"cytolabe.genes.{_HOMES[name]}"), name)
