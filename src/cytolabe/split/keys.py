"""What a split may be asked to keep apart, and which group a cell belongs to under each word.

Each word of `VOCABULARY` turns the table of cells into one or two columns of *nodes*. Two cells that share a node may
never be separated; a component is whatever the nodes join. Three decisions:

1. Names that only mean something at home are scoped: a donor or batch string belongs to its study (`d1` of one lab
   is not `d1` of another), a resolved person does not.
2. A cell whose person is unknown or pooled may be any person of its data set, so it ties its whole data set
   together; the same holds for an unknown donor or batch.
3. `component` is study + person + shared cells (rule R11); shared cells come in as joins, see `components`.

Beside the words there are columns of the contributors' own tables: `contributed.cell_line` keeps together what a lab
calls by one name there. `perturbation` and `time` are such columns that the rule of the split names; a data set of
no such column has the value `unknown`.

All functions take a table with `NODE_COLUMNS`: of cells, or of strata (`snapshot.strata`), where a row stands for
many cells that are alike.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from cytolabe.errors import UsageError
from cytolabe.records import UNKNOWN

__all__ = [
    "CELLS",
    "CONTRIBUTED",
    "NODE_COLUMNS",
    "VOCABULARY",
    "WHOLE_DATASET_WORDS",
    "check_words",
    "columns_of",
    "is_labelled",
    "is_person_resolved",
    "is_person_split",
    "node_columns",
    "study_keys",
]

VOCABULARY = (
    "component", "person", "donor", "dataset", "batch", "library", "assay", "suspension_type", "tissue", "disease",
    "site", "study", "time", "perturbation",
)  # fmt: skip
"""The words that `by` understands."""

WHOLE_DATASET_WORDS = frozenset({"component", "dataset", "study"})
"""Words that never cut through a data set."""

CONTRIBUTED = "contributed."
"""Start of a word that is a column of the contributors' own tables."""

CELLS = "cells"
"""A split by single cells: the word of random splits, which only a ladder or an open admission uses."""

NODE_COLUMNS = (
    "dataset_id", "study", "donor_id", "person_id", "person_state", "contributor_label", "cell_type_ontology_term_id",
)  # fmt: skip
"""Columns that every split reads, whatever it is by."""

_COLUMN_OF = {"library": "batch"}


def check_words(by: Sequence[str], *, may_leak: bool = False) -> tuple[str, ...]:
    """Return `by` as a tuple; `may_leak` lets the word `cells` pass.

    Raises
    ------
    UsageError
        If it is empty, names a word twice, or holds a word outside of `VOCABULARY`.
    """
    known = (*VOCABULARY, CELLS) if may_leak else VOCABULARY
    wrong = [word for word in by if word not in known and not word.startswith(CONTRIBUTED)]
    if not by or wrong or len(set(by)) != len(by):
        what = f"unknown word(s) {', '.join(map(repr, wrong))}" if wrong else "no word, or one word twice"
        msg = f"A split by {list(by)!r}: {what}. Choose from {', '.join(VOCABULARY)}, or {CONTRIBUTED}COLUMN."
        raise UsageError(msg)
    return tuple(by)


def is_person_split(by: Sequence[str]) -> bool:
    """Tell whether a split cuts data sets between persons, so that unknown persons make it meaningless."""
    return bool({"person", "donor"} & set(by)) and not WHOLE_DATASET_WORDS & set(by)


def is_person_resolved(cells: pd.DataFrame) -> Bool[np.ndarray, " cells"]:
    """Tell for each cell whether its person is known; pooled and unknown persons are not."""
    return ((cells["person_state"] == "resolved") & (cells["person_id"] != UNKNOWN)).to_numpy(dtype=bool)


def is_labelled(cells: pd.DataFrame) -> Bool[np.ndarray, " cells"]:
    """Tell for each cell whether its contributor, or the reconciled mapping, names a cell type (rule R4)."""
    given = ~cells["contributor_label"].isin(["", UNKNOWN])
    reconciled = ~cells["cell_type_ontology_term_id"].isin(["", UNKNOWN])
    return (given | reconciled).to_numpy(dtype=bool)


def study_keys(cells: pd.DataFrame) -> Shaped[np.ndarray, " cells"]:
    """Return the study of each cell; a data set of no known study is a study of its own."""
    known = ~cells["study"].isin(["", UNKNOWN])
    return cells["study"].where(known, cells["dataset_id"]).to_numpy(dtype=object)


def node_columns(cells: pd.DataFrame, word: str) -> list[Shaped[np.ndarray, " cells"]]:
    """Return the node columns of one word; `""` means that a cell has no node in that column.

    The first column always names a node for each cell.
    """
    if word == "component":
        return [*_study(cells), *_dataset(cells), *_person(cells)]
    if word in _NODES:
        return _NODES[word](cells)
    named = _prefixed(word, cells[word].to_numpy(dtype=object))
    if word in VOCABULARY:
        return [named]
    # What a lab left open may be any of its values.
    return _tied_by_unknown(cells, named, ~cells[word].isin(["", UNKNOWN, "nan"]).to_numpy(dtype=bool))


def columns_of(by: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of `cells` that a split reads, without those of contributors."""
    plain = [_COLUMN_OF.get(word, word) for word in by if word in _PLAIN]
    return tuple(dict.fromkeys((*NODE_COLUMNS, *plain)))


def _prefixed(word: str, values: np.ndarray) -> np.ndarray:
    return np.array([f"{word}={value}" for value in values], dtype=object)


def _study(cells: pd.DataFrame) -> list[np.ndarray]:
    return [_prefixed("study", study_keys(cells))]


def _dataset(cells: pd.DataFrame) -> list[np.ndarray]:
    return [_prefixed("dataset", cells["dataset_id"].to_numpy(dtype=object))]


def _person(cells: pd.DataFrame) -> list[np.ndarray]:
    names = _prefixed("person", cells["person_id"].to_numpy(dtype=object))
    return _tied_by_unknown(cells, names, is_person_resolved(cells))


def _donor(cells: pd.DataFrame) -> list[np.ndarray]:
    return _scoped(cells, "donor", "donor_id")


def _batch(cells: pd.DataFrame) -> list[np.ndarray]:
    return _scoped(cells, "batch", "batch")


def _scoped(cells: pd.DataFrame, word: str, column: str) -> list[np.ndarray]:
    values = cells[column].to_numpy(dtype=object)
    pairs = zip(study_keys(cells), values, strict=True)
    # A batch that is called like its study needs no prefix: that is how a data set without batches looks.
    names = [f"{word}={value}" if value == study else f"{word}={study}:{value}" for study, value in pairs]
    return _tied_by_unknown(cells, np.array(names, dtype=object), ~np.isin(values.astype(str), ["", UNKNOWN]))


def _tied_by_unknown(cells: pd.DataFrame, names: np.ndarray, known: np.ndarray) -> list[np.ndarray]:
    """Put cells of unknown name under their data set, and tie every cell of such a data set to them."""
    datasets = cells["dataset_id"].to_numpy(dtype=object)
    unresolved = _prefixed("unresolved", datasets)
    has_unknown = np.isin(datasets.astype(str), np.unique(datasets[~known].astype(str)))
    return [np.where(known, names, unresolved), np.where(has_unknown, unresolved, "")]


_PLAIN = frozenset({"batch", "library", "assay", "suspension_type", "tissue", "disease", "site"})

_NODES: Mapping[str, Callable[[pd.DataFrame], list[np.ndarray]]] = {
    "person": _person,
    "donor": _donor,
    "dataset": _dataset,
    "batch": _batch,
    "library": _batch,
    "study": _study,
}
