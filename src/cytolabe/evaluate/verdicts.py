"""What is already known of every score of a fold, before any model answers: refusals, qualifications, notes.

A fold is not believed for what it says of itself. In this order: do its rows follow from the rule of the split; what
the split says of such a fold; persons that are unknown; what the audit found; labels that are circular. Where the rows
follow from no rule nothing of the split is taken for an excuse, and the notes say so.

Reasons are short, because they stand in every row: examples and data sets are named once, by the fold itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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

__all__ = ["RANDOM_CELLS", "FoldVerdict", "fold_verdict", "folds_of_a_rule", "refuse_malformed_folds"]

RANDOM_CELLS = "random_cells"
"""Start of the rule of a split that was asked for by random cells: stamped on every score instead of refused."""

_CIRCULAR_ORIGINS = frozenset({"automated", "transferred"})
_SUSPENSIONS = frozenset({"cell", "nucleus"})
_PLURAL = {"cell": "cells", "nucleus": "nuclei"}
_NOT_OF_THE_FOLD = frozenset({"E-LEAK-02", "E-EXPO-01"})
"""Copies are taken out of the test side here, and exposure is a model's own; neither refuses the whole fold."""

_PERSONS_CODE = "E-LEAK-01"
_SAID_BY_THE_SPLIT = "on both sides"


@dataclass(frozen=True, kw_only=True)
class FoldVerdict:
    """Reasons that hold for every score of a fold, each short."""

    refusals: tuple[str, ...] = ()
    qualifications: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
    qualifications += _about_labels(snapshot, data) + _pooled_suspensions(snapshot.cells, data)
    notes = [] if follows_rule else ["the rows of this fold follow from no rule that could be run again"]
    if "sorted" in _origins(snapshot.cells, data):
        notes.append("test labels are sort gates, not truth")
    return FoldVerdict(refusals=tuple(refusals), qualifications=tuple(qualifications), notes=tuple(notes))


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


def _about_labels(snapshot: SnapshotView, data: FoldData) -> list[str]:
    n_copies = int(data.dropped[data.dropped["reason"] == COPY_IN_TRAINING]["n_cells"].sum())
    found = [f"{n_copies} test cells with an identical cell in training are left out"] if n_copies else []
    declared = _origins(snapshot.cells, data) & _CIRCULAR_ORIGINS
    if declared:
        found.append(f"labels {' and '.join(sorted(declared))}: circular")
    suspected = _suspected_origins(snapshot, data) & _CIRCULAR_ORIGINS - declared
    if suspected:
        found.append(f"labels look {' and '.join(sorted(suspected))}: circular")
    return found


def _pooled_suspensions(cells: pd.DataFrame, data: FoldData) -> list[str]:
    """Say when a model is trained on cells and nuclei together, or on the one and asked for the other (rule R10)."""
    names = cells["suspension_type"].to_numpy(dtype=object)
    train, test = (set(names[rows].tolist()) & _SUSPENSIONS for rows in (data.labelled_rows, data.query_rows))
    if train == _SUSPENSIONS:
        return ["cells and nuclei are pooled in training"]
    if train and test - train:
        return [f"trained on {_PLURAL[min(train)]}, tested on {' and '.join(_PLURAL[one] for one in sorted(test))}"]
    return []


def _suspected_origins(snapshot: SnapshotView, data: FoldData) -> set[str]:
    """Return what the files behind the query give away of the origin of their labels, whatever was declared."""
    names = set(snapshot.cells["dataset_id"].to_numpy(dtype=object)[data.query_rows].tolist())
    return {snapshot.datasets[name].label_origin_suspected for name in names if name in snapshot.datasets}


def _origins(cells: pd.DataFrame, data: FoldData) -> set[str]:
    return set(cells["label_origin"].to_numpy(dtype=object)[data.query_rows].tolist())
