"""What one fold has to work with, decided before any model runs.

In this order: test cells with a copy in training are taken out; a label that expression decided is no truth (rule
R6b); labels of copies inside a side count once; the query is the test cells whose label still counts at some level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.audit.evidence import decided_by_expression
from cytolabe.evaluate.fitting import FitTask
from cytolabe.evaluate.gene_space import GeneSpace, gene_spaces
from cytolabe.evaluate.labels import ClassSets, LevelLabels, class_sets, counted_labels, rows_with_copy
from cytolabe.evaluate.measures import Cells
from cytolabe.records import UNKNOWN, Fold
from cytolabe.snapshot.view import SnapshotView

__all__ = ["COPY_IN_TRAINING", "FoldData", "PolicyData", "fold_data", "open_set_table", "policy_data"]

COPY_IN_TRAINING = "has an identical cell in training"
"""Reason under which `FoldData.dropped` counts test cells that are not scored at all."""


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """The cells of a fold that count.

    `train_terms` and `test_terms` hold for each level a term per cell of the snapshot, empty where the label does not
    count on that side; `train_counts` says of each cell whether its label counts in training, whatever the level. `dropped` counts test cells by data set and reason; `flagged_rows` are cells flagged for quality.
    """

    fold: Fold
    train_rows: np.ndarray
    labelled_rows: np.ndarray
    query_rows: np.ndarray
    train_terms: dict[str, np.ndarray]
    test_terms: dict[str, np.ndarray]
    test_datasets: tuple[str, ...]
    dropped: pd.DataFrame
    train_counts: np.ndarray
    flagged_rows: np.ndarray | None = None

    def cells_at(self, snapshot: SnapshotView, level: str) -> tuple[np.ndarray, Cells]:
        """Return positions in the query of the cells that are labelled at a level, and these cells."""
        truth = self.test_terms[level][self.query_rows]
        places = np.flatnonzero(truth != "")
        part = snapshot.cells.iloc[self.query_rows[places]]
        known = set(self.train_terms[level][self.train_rows].tolist()) - {""}
        is_resolved = (part["person_state"] == "resolved").to_numpy() & (part["person_id"] != UNKNOWN).to_numpy()
        return places, Cells(
            truth=truth[places],
            datasets=part["dataset_id"].to_numpy(dtype=object),
            persons=np.where(is_resolved, part["person_id"].to_numpy(dtype=object), ""),
            is_closed=np.array([term in known for term in truth[places]], dtype=bool),
            is_flagged=None if self.flagged_rows is None else np.isin(self.query_rows[places], self.flagged_rows),
        )

    def classes_at(self, level: str) -> ClassSets:
        """Return the classes of a level."""
        return class_sets(self.train_terms[level][self.train_rows], self.test_terms[level][self.query_rows])


@dataclass(frozen=True, kw_only=True)
class PolicyData:
    """One gene policy of a fold: its gene spaces and the fits that they ask for, named; `why_none` if there are none."""

    policy: str
    spaces: tuple[GeneSpace, ...]
    tasks: dict[str, FitTask]
    ceilings: dict[str, FitTask]
    why_none: str = ""

    @property
    def n_genes(self) -> int:
        """Number of genes of the smallest space."""
        return min((space.n_genes for space in self.spaces if space.genes), default=0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the genes."""
        notes = []
        sizes = [space.n_genes for space in self.spaces]
        if len(sizes) > 1:
            notes.append(f"{len(sizes)} pairs of data sets on {min(sizes)} to {max(sizes)} genes")
        left_out = sorted({name for space in self.spaces for name in space.left_out})
        if left_out:
            notes.append(f"left out of the fit, genes not measured: {', '.join(left_out)}")
        empty = [space for space in self.spaces if not space.genes]
        notes += [f"no gene shared: {space.train_datasets[0]} and {space.test_datasets[0]}" for space in empty]
        return tuple(notes)


def fold_data(snapshot: SnapshotView, fold: Fold, *, levels: Sequence[LevelLabels], pairs: pd.DataFrame) -> FoldData:
    """Work out which cells of a fold count.

    Parameters
    ----------
    levels
        Labels of every resolution.
    pairs
        Duplicates, with columns a_row and b_row.
    """
    cells = snapshot.cells
    copies = rows_with_copy(pairs, n_cells=len(cells), test_rows=fold.test_rows, train_rows=fold.train_rows)
    test_rows = fold.test_rows[~np.isin(fold.test_rows, copies)]
    train_counts = counted_labels(cells, pairs, fold.train_rows)
    by_expression = decided_by_expression(cells, snapshot.mappings)
    test_counts = counted_labels(cells, pairs, test_rows[~by_expression[test_rows]])
    has_term = np.any([labels.terms != "" for labels in levels], axis=0)
    is_labelled = (cells["contributor_label"] != "").to_numpy(dtype=bool)
    no_truth = test_rows[is_labelled[test_rows] & by_expression[test_rows]]
    repeated = test_rows[is_labelled[test_rows] & ~test_counts[test_rows] & ~by_expression[test_rows]]
    names = cells["dataset_id"].to_numpy(dtype=object)
    dropped = [(fold.split_id, str(names[row]), COPY_IN_TRAINING) for row in copies]
    dropped += [(fold.split_id, str(names[row]), "label decided by expression") for row in no_truth]
    dropped += [(fold.split_id, str(names[row]), "label counted in its copy") for row in repeated]
    table = pd.DataFrame(dropped, columns=["split", "dataset_id", "reason"])
    return FoldData(
        fold=fold,
        train_rows=np.sort(fold.train_rows),
        labelled_rows=np.flatnonzero(train_counts & has_term),
        query_rows=np.flatnonzero(test_counts & has_term),
        train_terms={labels.level: np.where(train_counts, labels.terms, "") for labels in levels},
        test_terms={labels.level: np.where(test_counts, labels.terms, "") for labels in levels},
        train_counts=train_counts,
        test_datasets=tuple(sorted(set(names[fold.test_rows].tolist()))),
        dropped=table.groupby(["split", "dataset_id", "reason"], sort=True).size().rename("n_cells").reset_index(),
    )


def policy_data(snapshot: SnapshotView, data: FoldData, policy: str, *, seed: int) -> PolicyData:
    """Work out the gene spaces of a policy and the fits that follow from them."""
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    spaces = gene_spaces(
        snapshot,
        policy,
        split=data.fold.split_id,
        train_rows=data.train_rows,
        labelled_rows=data.labelled_rows,
        query_rows=data.query_rows,
    )
    tasks = {
        f"{'+'.join(space.train_datasets)}>{'+'.join(space.test_datasets)}": FitTask(
            train_rows=data.train_rows[np.isin(names[data.train_rows], space.train_datasets)],
            query_rows=data.query_rows[np.isin(names[data.query_rows], space.test_datasets)],
            genes=space.genes,
            seed=seed,
        )
        for space in spaces
        if space.genes
    }
    return PolicyData(
        policy=policy, spaces=spaces, tasks=tasks, ceilings=_ceilings(tasks), why_none=_why_none(data, policy, tasks)
    )


def _why_none(data: FoldData, policy: str, tasks: dict[str, FitTask]) -> str:
    if not len(data.query_rows):
        return "no clean labelled test cell"
    if not len(data.labelled_rows):
        return "no labelled training cell"
    if policy == "native":
        return "native genes: this model needs one gene list for all cells"
    return "" if tasks else "no gene is measured by all data sets of both sides"


def _ceilings(tasks: dict[str, FitTask]) -> dict[str, FitTask]:
    """Return one fit for each group of test cells, on all genes that any of its fits uses; nothing is trained on yet."""
    found: dict[str, FitTask] = {}
    for name, task in tasks.items():
        target = name.partition(">")[2]
        genes = set(task.genes) | (set(found[target].genes) if target in found else set())
        found[target] = FitTask(
            train_rows=task.query_rows,
            query_rows=task.query_rows,
            genes=tuple(sorted(genes)),
            seed=task.seed,
            purpose="ceiling",
        )
    return found


def open_set_table(folds: Sequence[FoldData], levels: Sequence[str], *, names: Mapping[str, str]) -> pd.DataFrame:
    """List the classes that only a test side has: split, level, term, name, n_cells."""
    rows = []
    for data in folds:
        for level in levels:
            test = data.test_terms[level][data.query_rows]
            rows += [
                {
                    "split": data.fold.split_id,
                    "level": level,
                    "term": term,
                    "name": names.get(term, term),
                    "n_cells": int((test == term).sum()),
                }
                for term in data.classes_at(level).open_set
            ]
    return pd.DataFrame(rows, columns=["split", "level", "term", "name", "n_cells"])
