"""What is already known of every score of a fold, before any model answers: refusals, qualifications, notes.

A fold is not believed for what it says of itself. In this order: do its rows follow from the rule of the split; what
the split says of such a fold; persons that are unknown; what the audit found; labels that are circular; cells that are simulated. Where the rows
follow from no rule nothing of the split is taken for an excuse, and the notes say so.

Reasons are short, because they stand in every row: examples and data sets are named once, by the fold itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.audit.leakage import FoldAudit
from cytolabe.errors import LeakageError, UsageError
from cytolabe.evaluate.folds import COPY_IN_TRAINING, FoldData
from cytolabe.records import Finding, Fold, Severity, Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.groups import apply_rule
from cytolabe.split.keys import CELLS, is_person_resolved
from cytolabe.split.rule import parse_rule
from cytolabe.split.status import brief, persons_unknown

__all__ = [
    "RANDOM_CELLS",
    "FoldVerdict",
    "circular_labels",
    "fold_verdict",
    "folds_of_a_rule",
    "refuse_malformed_folds",
    "simulated_datasets",
]

RANDOM_CELLS = "random_cells"
"""Start of the rule of a split that was asked for by random cells: stamped on every score instead of refused."""

_SIMULATED = "simulated"
_CIRCULAR_ORIGINS = frozenset({"automated", "transferred"})
_SUSPENSIONS = frozenset({"cell", "nucleus"})
_PLURAL = {"cell": "cells", "nucleus": "nuclei"}
_NOT_OF_THE_FOLD = frozenset({"E-LEAK-02", "E-EXPO-01"})
"""Copies are taken out of the test side here, and exposure is a model's own; neither refuses the whole fold."""

_PERSONS_CODE = "E-LEAK-01"
_SAID_BY_THE_SPLIT = "on both sides"


@dataclass(frozen=True, kw_only=True)
class FoldVerdict:
    """Reasons that hold for every score of a fold, each short.

    `circular` maps a qualification for circular labels to the data sets that have them: a score on another data set
    alone stands without it (rule R7: with and without).
    """

    refusals: tuple[str, ...] = ()
    qualifications: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    circular: Mapping[str, frozenset[str]] = field(default_factory=dict)


def refuse_malformed_folds(split: Split, n_cells: int) -> None:
    """Raise unless the rows of each fold are positions of different cells, none of them on both sides.

    Raises
    ------
    UsageError
        If a row is no position of a cell, or a side has it twice.
    LeakageError
        If a cell is on both sides.
    """
    for fold in split.folds:
        for side, rows in (("training", fold.train_rows), ("test", fold.test_rows)):
            outside = len(rows) > 0 and (rows.min() < 0 or rows.max() >= n_cells)
            if outside or len(np.unique(rows)) != len(rows):
                msg = f"{fold.split_id}: the {side} rows are not positions of {n_cells} cells, each at most once."
                raise UsageError(msg)
        n_shared = len(np.intersect1d(fold.train_rows, fold.test_rows))
        if n_shared:
            msg = f"{fold.split_id}: {n_shared} cell(s) are on both sides; a score on them would measure memory."
            raise LeakageError(msg)


def folds_of_a_rule(snapshot: SnapshotView, split: Split) -> frozenset[str]:
    """Return the folds whose rows and status follow from the rule of the split, run again on the snapshot."""
    try:
        rule = parse_rule(split.rule)
        again = {fold.split_id: fold for fold in apply_rule(snapshot, rule, seed=split.seed).folds}
    except UsageError:
        return frozenset()
    return frozenset(fold.split_id for fold in split.folds if _is_same(fold, again.get(fold.split_id)))


def _is_same(fold: Fold, other: Fold | None) -> bool:
    return (
        other is not None
        and (fold.status, fold.reason) == (other.status, other.reason)
        and np.array_equal(np.sort(fold.train_rows), other.train_rows)
        and np.array_equal(np.sort(fold.test_rows), other.test_rows)
    )


def fold_verdict(
    snapshot: SnapshotView, data: FoldData, audit: FoldAudit, *, rule: str, follows_rule: bool
) -> FoldVerdict:
    """Return what refuses, what qualifies and what must be said of every score of a fold.

    Parameters
    ----------
    snapshot, data, audit
        The fold, and what its audit found.
    rule
        The rule of the split.
    follows_rule
        Whether `folds_of_a_rule` names the fold.
    """
    fold = data.fold
    refusals = [brief(fold.reason) or "the fold is refused"] if fold.status == "REFUSED" else []
    qualifications = brief(fold.reason).split("; ") if fold.status == "QUALIFIED" else []
    qualifications += _persons_unknown(snapshot.cells, fold)
    is_said = follows_rule and _SAID_BY_THE_SPLIT in fold.reason
    leaks = _leaks(audit.findings, is_said=is_said) + _divided(snapshot.cells, fold)
    if _is_random(rule):
        qualifications += ["leaky: random cells", *leaks]
    else:
        refusals += leaks
    circular = circular_labels(snapshot, _scored_rows(data))
    qualifications += [*_copies_left_out(data), *circular, *_pooled_suspensions(snapshot.cells, data)]
    mixed, simulated = _simulated(snapshot, data)
    refusals += mixed
    qualifications += simulated
    notes = [] if follows_rule else ["the rows of this fold follow from no rule that could be run again"]
    if "sorted" in set().union(*_origins_of(snapshot.cells, _scored_rows(data)).values()):
        notes.append("test labels are sort gates, not truth")
    return FoldVerdict(
        refusals=tuple(refusals), qualifications=tuple(qualifications), notes=tuple(notes), circular=circular
    )


def _is_random(rule: str) -> bool:
    """Tell whether a split was asked for by single cells."""
    if rule.startswith(RANDOM_CELLS):
        return True
    try:
        return CELLS in parse_rule(rule).by
    except UsageError:
        return False


def _persons_unknown(cells: pd.DataFrame, fold: Fold) -> list[str]:
    """Say it whether or not the fold does; a fold that does uses the same words, and they are said once."""
    rows = np.concatenate([fold.train_rows, fold.test_rows])
    unknown = rows[~is_person_resolved(cells)[rows]]
    return [brief(text) for text in persons_unknown(cells["dataset_id"].to_numpy(dtype=object)[unknown])]


def _leaks(findings: Sequence[Finding], *, is_said: bool) -> list[str]:
    """Return the errors of the audit, up to the first stop; the finding itself says the rest."""
    return [
        f"{finding.code}: {finding.message.partition(';')[0].partition(':')[0]}"
        for finding in findings
        if finding.severity is Severity.ERROR
        and finding.code not in _NOT_OF_THE_FOLD
        and not (is_said and finding.code == _PERSONS_CODE)
    ]


def _divided(cells: pd.DataFrame, fold: Fold) -> list[str]:
    """Name the data sets with cells of unknown persons on both sides: cells of one person may be on both."""
    is_unknown = ~is_person_resolved(cells)
    names = cells["dataset_id"].to_numpy(dtype=object)
    train, test = (set(names[rows][is_unknown[rows]].tolist()) for rows in (fold.train_rows, fold.test_rows))
    shared = sorted(train & test)
    return [f"cells of {', '.join(shared)} are on both sides and their persons are unknown"] if shared else []


def _copies_left_out(data: FoldData) -> list[str]:
    n_copies = int(data.dropped[data.dropped["reason"] == COPY_IN_TRAINING]["n_cells"].sum())
    return [f"{n_copies} test cells with an identical cell in training are left out"] if n_copies else []


def circular_labels(snapshot: SnapshotView, rows: np.ndarray) -> dict[str, frozenset[str]]:
    """Return what must be said of labels that a program or another data set gave, and the data sets that have them.

    Parameters
    ----------
    rows
        The cells whose labels are taken for truth.
    """
    declared = _with_origin(_origins_of(snapshot.cells, rows))
    suspected = _with_origin(_suspected_origins(snapshot, rows))
    found = {}
    if declared:
        found[f"labels {' and '.join(sorted(declared))}: circular"] = frozenset().union(*declared.values())
    new = {origin: names for origin, names in suspected.items() if origin not in declared}
    if new:
        found[f"labels look {' and '.join(sorted(new))}: circular"] = frozenset().union(*new.values())
    return found


def simulated_datasets(snapshot: SnapshotView) -> frozenset[str]:
    """Return the data sets whose cells are made up, as was declared or as the file itself says."""
    declared = _origins_of(snapshot.cells, np.arange(len(snapshot.cells)))
    suspected = {name: record.label_origin_suspected for name, record in snapshot.datasets.items()}
    names = {name for name, origins in declared.items() if _SIMULATED in origins}
    return frozenset(names | {name for name in declared if suspected.get(name) == _SIMULATED})


def _simulated(snapshot: SnapshotView, data: FoldData) -> tuple[list[str], list[str]]:
    """Return what refuses and what qualifies a fold with simulated cells.

    Profiles of simulated cells are read off real ones, so a score over both would be memory of the one in the other; and it would be of
    neither. Training cells count whether or not they have a label.
    """
    simulated = simulated_datasets(snapshot)
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    present = set(names[np.concatenate([data.fold.train_rows, data.query_rows])].tolist())
    if not present & simulated:
        return [], []
    if present - simulated:
        n_both = len(present & simulated), len(present - simulated)
        return [f"simulated and real cells in one score: {n_both[0]} simulated and {n_both[1]} real data set(s)"], []
    return [], ["simulated cells: says nothing of real ones"]


def _with_origin(origins: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    """Return the data sets of each circular origin."""
    return {
        origin: frozenset(name for name, of_name in origins.items() if origin in of_name)
        for origin in _CIRCULAR_ORIGINS & set().union(*origins.values())
    }


def _pooled_suspensions(cells: pd.DataFrame, data: FoldData) -> list[str]:
    """Say when a model is trained on cells and nuclei together, or on the one and asked for the other (rule R10)."""
    names = cells["suspension_type"].to_numpy(dtype=object)
    train, test = (set(names[rows].tolist()) & _SUSPENSIONS for rows in (data.labelled_rows, data.query_rows))
    if train == _SUSPENSIONS:
        return ["cells and nuclei are pooled in training"]
    if train and test - train:
        return [f"trained on {_PLURAL[min(train)]}, tested on {' and '.join(_PLURAL[one] for one in sorted(test))}"]
    return []


def _suspected_origins(snapshot: SnapshotView, rows: np.ndarray) -> dict[str, set[str]]:
    """Return what the files behind some cells give away of the origin of their labels, whatever was declared."""
    names = set(snapshot.cells["dataset_id"].to_numpy(dtype=object)[rows].tolist())
    return {name: {snapshot.datasets[name].label_origin_suspected} for name in names if name in snapshot.datasets}


def _scored_rows(data: FoldData) -> np.ndarray:
    """Return the query cells whose label counts at some level: where the others' labels come from does not matter."""
    counts = [terms[data.query_rows] != "" for terms in data.test_terms.values()]
    return data.query_rows[np.logical_or.reduce(counts)] if counts else data.query_rows


def _origins_of(cells: pd.DataFrame, rows: np.ndarray) -> dict[str, set[str]]:
    """Return the declared origins of the labels of each data set of some cells."""
    part = cells[["dataset_id", "label_origin"]].iloc[rows].drop_duplicates()
    found: dict[str, set[str]] = {}
    for name, origin in zip(part["dataset_id"], part["label_origin"], strict=True):
        found.setdefault(str(name), set()).add(str(origin))
    return found
