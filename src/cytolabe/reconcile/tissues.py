"""Tissues in words: an id of UBERON says its organ to whoever reads words, as its name does.

The curated table and the learned order know a tissue by words (`scopes_of`: `liver`, `pancrea`). A file may give the id alone,
and then `HSC` would be a stem cell of the blood where `liver` makes it a stellate cell. An id becomes its name in the pinned
release. Where that name opens no scope (`putamen`, `caecum`), the nearest organs of a fixed list that it is part of or a kind of
stand behind it. Only organs count: other terms above a tissue speak of how it develops (`structure with developmental
contribution from neural crest`) or of what runs through it, and their words would open the scope of another organ.
"""

import re
from functools import lru_cache

import pandas as pd

from cytolabe.errors import UnresolvedLabelError
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.reconcile.candidates import lexicon_of, scopes_of

__all__ = ["ORGANS", "tissue_in_words", "with_tissues_in_words"]

ORGANS = frozenset({
    "adipose tissue", "blood", "bone marrow", "brain", "breast", "central nervous system", "embryo", "endometrium",
    "esophagus", "eye", "heart", "hematopoietic system", "hepatobiliary system", "intestine", "islet of Langerhans", "kidney",
    "large intestine", "liver", "lung", "lymph node", "mammary gland", "ovary", "pancreas", "placenta", "prostate gland",
    "respiratory system", "retina", "skin of body", "small intestine", "spleen", "stomach", "testis", "thymus", "tonsil",
    "ureter", "urinary bladder", "uterus",
})  # fmt: skip
"""Names of UBERON; each opens a scope by its words."""

_ID = re.compile(r"(?:https?://\S*/)?\bUBERON[:_]\d+", re.IGNORECASE)


def with_tissues_in_words(labels: pd.DataFrame, *, cells: Ontology) -> pd.DataFrame:
    """Return a table of labels (`LABEL_COLUMNS`) with its tissues in words; the table itself stays as it is."""
    words = {tissue: tissue_in_words(str(tissue), cells=cells) for tissue in set(labels["tissue"])}
    return labels.assign(tissue=labels["tissue"].map(words))


def tissue_in_words(tissue: str, *, cells: Ontology) -> str:
    """Return a tissue with every id of UBERON as its name, and its organs behind it where the name opens no scope.

    An id that the release does not have stays as it is, and so does all other text. `cells` is the Cell Ontology whose
    curated table has the scopes.
    """
    return _ID.sub(lambda found: _words_of(found[0], cells), tissue)


@lru_cache(maxsize=4096)
def _words_of(written: str, cells: Ontology) -> str:
    ontology = load_ontology("UBERON")
    try:
        term = ontology.resolve(written)
    except UnresolvedLabelError:
        return written
    name = ontology.name(term)
    return name if scopes_of(name, lexicon_of(cells)) else ", ".join([name, *_nearest_organs(term, ontology)])


def _nearest_organs(term: str, ontology: Ontology) -> tuple[str, ...]:
    """Return the names of the organs fewest edges above a term, sorted; none where it is part of none."""
    seen, level = {term}, {term}
    while level:
        level = {parent for below in level for parent in ontology.parents(below)} - seen
        seen |= level
        if organs := {ontology.name(one) for one in level} & ORGANS:
            return tuple(sorted(organs))
    return ()
