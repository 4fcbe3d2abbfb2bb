"""Pooling over folds: one matrix, floors over the same folds, persons counted once."""

import dataclasses

import numpy as np

from cytolabe.evaluate.aggregate import pooled_scores
from cytolabe.evaluate.results import Confusion
from cytolabe.records import Protocol, Score, ScoreStatus

GOOD, BAD = [[20, 0], [0, 20]], [[20, 0], [20, 0]]


def score(split, model, status=ScoreStatus.SCORED, reason=""):
    return Score(
        task="annotation", study="s", split=split, model=model, protocol=Protocol.CONTROL, metric="macro_f1_all_classes",
        resolution="fine", stratum="all", value=0.5, status=status, reason=reason, n_cells=40, n_donors=2,
    )  # fmt: skip


def confusion(split, model, matrix, persons=("p1", "p2")):
    return Confusion(
        split=split, model=model, resolution="fine", gene_policy="intersection", classes=("a", "b"), names=("a", "b"),
        matrix=np.array(matrix), by_seed={"0": np.array(matrix)}, scored=("a", "b"), persons=persons,
    )  # fmt: skip


def pooled(rows, matrices, model="m"):
    (found,) = [s for s in pooled_scores(rows, matrices, n_folds=2) if s.model == model]
    return found


def test_a_floor_that_was_not_applicable_in_one_fold_is_no_floor_of_the_pool():
    """metadata_only is perfect in the one fold it applies to; over both folds only the majority is a floor."""
    rows = [score(f, m) for m in ("majority", "m") for f in ("x", "y")]
    rows += [score("x", "metadata_only"), score("y", "metadata_only", ScoreStatus.NOT_RUN)]
    matrices = [confusion(f, m, BAD) for m in ("majority", "m") for f in ("x", "y")]
    matrices.append(confusion("x", "metadata_only", GOOD))
    found = pooled(rows, matrices)
    assert found.floor == found.value == 1 / 3
    only_x = [
        dataclasses.replace(s, status=ScoreStatus.REFUSED) if (s.split, s.model) == ("y", "m") else s for s in rows
    ]
    assert pooled(only_x, matrices).floor == 1.0


def test_the_pool_is_judged_by_its_own_floor_not_by_those_of_its_folds():
    rows = [score(f, m) for m in ("majority", "m") for f in ("x", "y")]
    weak = [dataclasses.replace(s, status=ScoreStatus.QUALIFIED, reason="panel: 94 genes; does not beat its floor")
            if s.model == "m" and s.split == "x" else s for s in rows]  # fmt: skip
    floors = [confusion(f, "majority", BAD) for f in ("x", "y")]
    strong = [*floors, confusion("x", "m", BAD), confusion("y", "m", GOOD)]
    assert pooled(weak, strong).reason == "panel: 94 genes"
    found = pooled(rows, [*floors, confusion("x", "m", BAD), confusion("y", "m", BAD)])
    assert (found.status, found.reason) == (ScoreStatus.QUALIFIED, "does not beat its floor")


def test_a_person_whom_two_folds_test_counts_once_and_all_folds_are_no_reservation():
    rows = [score(f, "m") for f in ("x", "y")]
    found = pooled(rows, [confusion("x", "m", GOOD), confusion("y", "m", GOOD, persons=("p2", "p3"))])
    assert found.n_donors == 3
    assert (found.status, found.reason) == (ScoreStatus.SCORED, "")
    assert "counts pooled over 2 of 2 folds" in found.notes
