"""Readable names of terms: what the snapshot says first, then the ontology, then the term itself."""

from collections.abc import Sequence

from cytolabe.errors import UnresolvedLabelError
from cytolabe.ontology.graph import load_ontology
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.view import SnapshotView

__all__ = ["term_names"]

_CELL_ONTOLOGY = "CL:"


def term_names(snapshot: SnapshotView, terms: Sequence[str]) -> dict[str, str]:
    """Return the name of each term; a term that nobody knows is its own name."""
    own = snapshot.cells[["cell_type_ontology_term_id", "cell_type"]].drop_duplicates()
    known = dict(zip(own.iloc[:, 0].astype(str), own.iloc[:, 1].astype(str), strict=True))
    known |= {mapping.term: mapping.term_name for mapping in snapshot.mappings if mapping.term}
    names = {term: known.get(term, UNKNOWN) for term in terms}
    return {term: name if name not in {UNKNOWN, ""} else _from_ontology(term) for term, name in names.items()}


def _from_ontology(term: str) -> str:
    if not term.startswith(_CELL_ONTOLOGY):
        return term
    try:
        return load_ontology("CL").name(term)
    except (UnresolvedLabelError, KeyError):
        return term
