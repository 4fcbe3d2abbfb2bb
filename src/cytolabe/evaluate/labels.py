"""Which cells count at a resolution, and which labels count at all (rules R4 and R5).

A cell counts at a level if it is labelled at it or below. Unlabelled cells are not a class; labels coarser than the
level, outside of it, or without a term are excluded and counted by reason, never silently right or wrong. The label
of a cell that was contributed twice counts once: the copy in the data set with fewer labelled cells gives way, and a
test cell with a copy in training is not scored at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer, Shaped
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cytolabe.ontology.resolutions import Resolutions
from cytolabe.records import UNKNOWN

__all__ = [
    "MIN_HEADLINE_CELLS",
    "RARE_TEST_FRACTION",
    "RARE_TRAIN_CELLS",
    "ClassSets",
    "LevelLabels",
    "class_sets",
    "counted_labels",
    "level_labels",
    "rows_with_copy",
    "support_table",
]

MIN_HEADLINE_CELLS = 10
"""Test cells below which the F1 of a class is shown but left out of the headline (rule R5)."""

RARE_TEST_FRACTION = 0.05
RARE_TRAIN_CELLS = 50
"""A class is rare under 5 % of a fold's labelled test cells, or under 50 training cells."""


@dataclass(frozen=True, kw_only=True)
class LevelLabels:
    """The labels of one resolution: a term per cell of the snapshot, empty where the cell does not count.

    `excluded` counts the cells that do not count: columns level, dataset_id, reason, n_cells.
    """

    level: str
    terms: np.ndarray
    excluded: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class ClassSets:
    """Classes of one fold at one level, fixed before anything is predicted; each sorted.

    `known` have training cells, `scored` also test cells, `headline` at least `MIN_HEADLINE_CELLS` of them, `rare`
    are scored and rare; `open_set` have test cells only.
    """

    known: tuple[str, ...]
    scored: tuple[str, ...]
    headline: tuple[str, ...]
    rare: tuple[str, ...]
    open_set: tuple[str, ...]


def level_labels(cells: pd.DataFrame, resolutions: Resolutions, level: str) -> LevelLabels:
    """Project the reconciled term of each cell onto a level, and count what does not count by reason."""
    own = cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    known = sorted(set(own) - {UNKNOWN, ""})
    projected = dict(zip(known, resolutions.project(level, np.array(known, dtype=str)).tolist(), strict=True))
    terms = np.array([projected.get(term, "") for term in own], dtype=object)
    why_term = resolutions.level(level).excluded
    contributed = cells["contributor_label"].to_numpy(dtype=object)
    reasons = [
        "" if term else _reason(str(label), str(one), str(why_term.get(one, "")))
        for term, label, one in zip(terms, contributed, own, strict=True)
    ]
    table = pd.DataFrame({"level": level, "dataset_id": cells["dataset_id"].to_numpy(dtype=object), "reason": reasons})
    counted = table[table["reason"] != ""].groupby(["level", "dataset_id", "reason"], sort=True).size()
    return LevelLabels(level=level, terms=terms, excluded=counted.rename("n_cells").reset_index())


def _reason(contributor_label: str, term: str, why_term: str) -> str:
    if contributor_label == "":
        return "unlabelled"
    if term in {UNKNOWN, ""}:
        return "label without a term"
    return why_term or "coarser than the level or outside of it"


def counted_labels(
    cells: pd.DataFrame, pairs: pd.DataFrame, rows: Integer[np.ndarray, " rows"]
) -> Bool[np.ndarray, " cells"]:
    """Return for each cell of the snapshot whether its label counts on the side that `rows` are.

    Parameters
    ----------
    cells
        Cells of the snapshot.
    pairs
        Duplicates: columns a_row and b_row.
    rows
        One side of a fold.

    Notes
    -----
    Of two labelled copies inside the side, one whose label has a term counts; then the one in the data set with more
    labelled cells; then the one in the data set with the smaller id, then the earlier row. The order is total, so a
    group of copies keeps exactly one.
    """
    has_no_term = cells["cell_type_ontology_term_id"].isin(["", UNKNOWN]).to_numpy(dtype=bool)
    is_labelled = (cells["contributor_label"] != "").to_numpy(dtype=bool)
    counts = np.zeros(len(cells), dtype=bool)
    counts[rows] = is_labelled[rows]
    n_labelled = cells["dataset_id"].map(cells.loc[is_labelled, "dataset_id"].value_counts()).fillna(0).to_numpy()
    names = cells["dataset_id"].to_numpy(dtype=object)

    def rank(row: int) -> tuple[bool, float, str, int]:
        return bool(has_no_term[row]), -float(n_labelled[row]), str(names[row]), row

    groups = _copy_groups(pairs, len(cells))
    best: dict[int, int] = {}
    for row in np.flatnonzero(counts & (groups >= 0)).tolist():
        kept = best.setdefault(int(groups[row]), row)
        worse = max(kept, row, key=rank)
        if worse != min(kept, row, key=rank):
            counts[worse] = False
            best[int(groups[row])] = min(kept, row, key=rank)
    return counts


def rows_with_copy(
    pairs: pd.DataFrame,
    *,
    n_cells: int,
    test_rows: Integer[np.ndarray, " test"],
    train_rows: Integer[np.ndarray, " train"],
) -> Integer[np.ndarray, " copies"]:
    """Return the test rows that have a copy among the training rows, directly or through a third copy; sorted.

    Parameters
    ----------
    pairs
        Duplicates: columns a_row and b_row.
    n_cells
        Cells of the snapshot.
    test_rows, train_rows
        The sides of a fold.
    """
    groups = _copy_groups(pairs, n_cells)
    in_train = groups[train_rows]
    own = groups[test_rows]
    return np.sort(test_rows[(own >= 0) & np.isin(own, in_train)])


def _copy_groups(pairs: pd.DataFrame, n_cells: int) -> Integer[np.ndarray, " cells"]:
    """Return the number of each cell's group of identical cells; -1 for a cell without a copy."""
    groups = np.full(n_cells, -1, dtype=np.int64)
    a, b = (pairs[column].to_numpy(dtype=np.int64) for column in ("a_row", "b_row"))
    if len(a):
        graph = coo_matrix((np.ones(len(a), dtype=np.int8), (a, b)), shape=(n_cells, n_cells))
        touched = np.union1d(a, b)
        groups[touched] = connected_components(graph, directed=False)[1][touched]
    return groups


def class_sets(train: Shaped[np.ndarray, " train"], test: Shaped[np.ndarray, " test"]) -> ClassSets:
    """Fix the classes of a fold at a level from the labels of both sides; empty labels do not count."""
    n_train = pd.Series(train[train != ""], dtype=object).value_counts()
    n_test = pd.Series(test[test != ""], dtype=object).value_counts()
    total = int(n_test.sum())
    scored = tuple(sorted(set(n_test.index) & set(n_train.index)))
    return ClassSets(
        known=tuple(sorted(n_train.index)),
        scored=scored,
        headline=tuple(name for name in scored if n_test[name] >= MIN_HEADLINE_CELLS),
        rare=tuple(
            name for name in scored if n_test[name] < RARE_TEST_FRACTION * total or n_train[name] < RARE_TRAIN_CELLS
        ),
        open_set=tuple(sorted(set(n_test.index) - set(n_train.index))),
    )


def support_table(cells: pd.DataFrame, levels: Sequence[LevelLabels]) -> pd.DataFrame:
    """Count cells by level, data set and class; cells that do not count have the term empty and a reason.

    Columns: level, dataset_id, term, reason, n_cells.
    """
    pieces = []
    for labels in levels:
        table = pd.DataFrame({"dataset_id": cells["dataset_id"].to_numpy(dtype=object), "term": labels.terms})
        counted = table[table["term"] != ""].groupby(["dataset_id", "term"], sort=True).size()
        pieces.append(counted.rename("n_cells").reset_index().assign(level=labels.level, reason=""))
        pieces.append(labels.excluded.assign(term=""))
    columns = ["level", "dataset_id", "term", "reason", "n_cells"]
    if not pieces:
        return pd.DataFrame(columns=columns)
    return pd.concat(pieces, ignore_index=True)[columns]
