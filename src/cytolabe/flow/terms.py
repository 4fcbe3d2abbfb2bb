"""What an ontology term is, and what an atlas makes of it: the answer of `cytolabe explain`.

Everything comes from the pinned release, offline. Use in an atlas is told by label: those that mean the term itself, and
those that mean a term below it, which a metric at the term's level counts too. Labels that only wait for a person are listed with
their decision, but their cells are not counted.
"""

import difflib
import re
from dataclasses import dataclass

from cytolabe.errors import UnresolvedLabelError, UsageError
from cytolabe.files import Place
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.records import LabelMapping
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.overlays import DECIDING, ontology_release_of

__all__ = ["LabelUse", "TermUse", "explain_term", "usage_of_term"]

_CURIE = re.compile(r"CL[:_]\d+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class LabelUse:
    """One label that means a term or one below it."""

    dataset_id: str
    contributor_label: str
    term: str
    term_name: str
    predicate: str
    decision: str
    n_cells: int


@dataclass(frozen=True, kw_only=True)
class TermUse:
    """Use of a term in an atlas: cells whose label means it, cells whose label means a term below it."""

    revision: int
    ontology_release: str
    n_cells: int
    n_cells_below: int
    labels: tuple[LabelUse, ...]


def explain_term(word: str) -> dict[str, object]:
    """Return what the pinned release says of a cell type, by id in any spelling, by name or by synonym.

    Raises
    ------
    UsageError
        If the release has no such term.
    """
    ontology = load_ontology("CL")
    replaced: dict[str, object] = {}
    if found := _CURIE.search(word):
        try:
            term = ontology.resolve(word)
        except UnresolvedLabelError as error:
            raise UsageError(str(error)) from None
        asked = found[0].upper().replace("_", ":")
        if asked != term:
            replaced = {"replaces": f"{asked} {ontology.name(asked)}".strip()}
    else:
        term = _term_called(word, ontology)
    return {
        "term": term,
        **replaced,
        "name": ontology.name(term),
        "definition": ontology.definition(term),
        "parents": _shown(ontology.parents(term), ontology),
        "part_of": _shown(ontology.part_of(term), ontology),
        "children": _shown(ontology.children(term), ontology),
        "synonyms": list(ontology.synonyms(term)),
        "n_descendants": len(ontology.descendants(term)),
        "release": ontology.release,
    }


def usage_of_term(atlas: Place, term: str) -> TermUse:
    """Return which labels of an atlas mean a live term or one below it, those of the term first, by cells.

    Raises
    ------
    UsageError
        If there is no atlas.
    """
    ontology = load_ontology("CL")
    opened = open_atlas(atlas)
    mappings = opened.mappings()
    below = ontology.descendants(term)
    used = [mapping for mapping in mappings if mapping.term == term or mapping.term in below]
    used.sort(key=lambda m: (m.term != term, -m.n_cells, m.dataset_id, m.contributor_label))
    counted = [mapping for mapping in used if mapping.decision in DECIDING]
    return TermUse(
        revision=opened.revision,
        ontology_release=ontology_release_of(mappings),
        n_cells=sum(m.n_cells for m in counted if m.term == term),
        n_cells_below=sum(m.n_cells for m in counted if m.term != term),
        labels=tuple(_use_of(mapping) for mapping in used),
    )


def _use_of(mapping: LabelMapping) -> LabelUse:
    return LabelUse(
        dataset_id=mapping.dataset_id,
        contributor_label=mapping.contributor_label,
        term=mapping.term,
        term_name=mapping.term_name,
        predicate=mapping.predicate.value,
        decision=mapping.decision,
        n_cells=mapping.n_cells,
    )


def _term_called(word: str, ontology: Ontology) -> str:
    names = {text.lower(): term for term in ontology.terms for text in ontology.synonyms(term)}
    names |= {ontology.name(term).lower(): term for term in ontology.terms}
    if word.lower() in names:
        return names[word.lower()]
    near = difflib.get_close_matches(word.lower(), list(names), n=3)
    hint = f" Near: {', '.join(near)}." if near else ""
    msg = f"{word!r} is neither a finding code nor a cell type of CL {ontology.release}.{hint}"
    raise UsageError(msg)


def _shown(terms: tuple[str, ...], ontology: Ontology) -> list[str]:
    return [f"{term} {ontology.name(term)}" for term in terms]
