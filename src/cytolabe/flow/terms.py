"""What an ontology term is, and what an atlas makes of it: the answer of `cytolabe explain`.

Everything comes from the pinned release, offline. Use in an atlas is told by label: those that mean the term itself, and
those that mean a term below it, which a metric at the term's level counts too. Labels that only wait for a person are listed with
their decision, but their cells are not counted.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cytolabe.errors import UnresolvedLabelError, UsageError
from cytolabe.files import Place
from cytolabe.ontology.graph import PINNED_RELEASES, Ontology, load_ontology
from cytolabe.records import LabelMapping
from cytolabe.snapshot.atlas import Atlas, open_atlas
from cytolabe.snapshot.overlays import DECIDING, ontology_release_of

__all__ = ["LabelUse", "TermUse", "explain_term", "usage_of_term"]

_CURIE = re.compile(r"\b(?P<prefix>[A-Za-z]+)[:_]\d+")
_HOME = {name.lower(): name for name in PINNED_RELEASES} | {"afpo": "HANCESTRO"}
"""Prefix of an id in lower case -> the ontology that holds it."""
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "UBERON": ("tissue",), "MONDO": ("disease",), "PATO": ("sex", "disease"), "EFO": ("assay",),
}  # fmt: skip
"""Ontology -> columns of the cells whose text may name one of its terms."""


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
    """Use of a term in an atlas: cells whose label means it, cells whose label means a term below it.

    Both are None where nothing of the cells could name a term of this ontology; `not_counted` then says why.
    """

    revision: int
    ontology_release: str
    n_cells: int | None
    n_cells_below: int | None
    labels: tuple[LabelUse, ...]
    not_counted: str = ""


def explain_term(word: str) -> dict[str, object]:
    """Return what the pinned releases say of a term, by id in any spelling, by name or by synonym; cell types first.

    Raises
    ------
    UsageError
        If no pinned release has such a term.
    """
    replaced: dict[str, object] = {}
    found = _CURIE.search(word)
    if found and (home := _HOME.get(found["prefix"].lower())):
        ontology = load_ontology(home)
        try:
            term = ontology.resolve(word)
        except UnresolvedLabelError as error:
            raise UsageError(str(error)) from None
        asked = ontology.written(word)
        if asked != term:
            replaced = {"replaces": f"{asked} {ontology.name(asked)}".strip()}
    else:
        ontology, term = _term_called(word)
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
        "edges": ontology.edges,
        "release": ontology.release,
    }


def usage_of_term(atlas: Place, term: str) -> TermUse:
    """Return which labels of an atlas mean a live term or one below it, those of the term first, by cells.

    Raises
    ------
    UsageError
        If there is no atlas.
    """
    opened = open_atlas(atlas)
    if not term.startswith("CL:"):
        return _usage_of_text(opened, term)
    ontology = load_ontology("CL")
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


def _usage_of_text(atlas: Atlas, term: str) -> TermUse:
    """Return which cells name a term, or one below it, in the column of its ontology: by id, by name or by synonym."""
    home = _HOME[term.partition(":")[0].lower()]
    ontology = load_ontology(home)
    if home not in _COLUMNS:
        why = f"the cells of an atlas have no column for terms of {home}; what a contributor gave stands in contributed.<dataset_id>"
        return TermUse(
            revision=atlas.revision, ontology_release=ontology.release, n_cells=None, n_cells_below=None, labels=(),
            not_counted=why,
        )  # fmt: skip
    meant = {term, *ontology.descendants(term)}
    named = {text.lower(): t for t in sorted(meant) for text in (t, ontology.name(t), *ontology.synonyms(t))}
    cells = atlas.cells()
    used = []
    for column in _COLUMNS[home]:
        texts = cells[column].astype(str)
        own = texts.str.lower().isin(list(named))
        for (dataset_id, text), part in texts[own].groupby([cells.loc[own, "dataset_id"].astype(str), texts[own]]):
            means = named[str(text).lower()]
            used.append(LabelUse(
                dataset_id=str(dataset_id), contributor_label=str(text), term=means, term_name=ontology.name(means),
                predicate="", decision=f"as delivered ({column})", n_cells=len(part),
            ))  # fmt: skip
    used.sort(key=lambda use: (use.term != term, -use.n_cells, use.dataset_id, use.contributor_label))
    return TermUse(
        revision=atlas.revision,
        ontology_release=ontology.release,
        n_cells=sum(use.n_cells for use in used if use.term == term),
        n_cells_below=sum(use.n_cells for use in used if use.term != term),
        labels=tuple(used),
    )


def _term_called(word: str) -> tuple[Ontology, str]:
    """Return the term of a name or an exact synonym: a cell type where there is one, else of the other ontologies."""
    near: list[str] = []
    for prefix in ("CL", *(name for name in PINNED_RELEASES if name != "CL")):
        ontology = load_ontology(prefix)
        names = {text.lower(): term for term in ontology.terms for text in ontology.synonyms(term)}
        names |= {ontology.name(term).lower(): term for term in ontology.terms}
        if word.lower() in names:
            return ontology, names[word.lower()]
        if prefix == "CL":
            near = difflib.get_close_matches(word.lower(), list(names), n=3)
    hint = f" Near: {', '.join(near)}." if near else ""
    msg = f"{word!r} is neither a finding code nor a cell type of CL {PINNED_RELEASES['CL']}, nor a term of {', '.join(n for n in PINNED_RELEASES if n != 'CL')}.{hint}"
    raise UsageError(msg)


def _shown(terms: tuple[str, ...], ontology: Ontology) -> list[str]:
    return [f"{term} {ontology.name(term)}" for term in terms]
