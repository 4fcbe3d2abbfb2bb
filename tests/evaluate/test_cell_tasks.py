"""Whether a question about cells can be answered by biology, and how much one model gains over another."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from cytolabe.evaluate.cell_tasks import (
    CellTaskLabels,
    TaskFold,
    confounding_findings,
    gain_over,
    task_claim,
)
from cytolabe.evaluate.folds import FoldData
from cytolabe.evaluate.labels import class_sets
from cytolabe.evaluate.measures import Cells, measures_of
from cytolabe.evaluate.scoring import RowContext
from cytolabe.records import Fold, ScoreStatus


def table(n_donors=12, **columns):
    """Return two libraries of two cells for each donor, all of one data set and assay unless said otherwise."""
    donor = np.repeat([f"P{number:02}" for number in range(n_donors)], 4)
    cells = pd.DataFrame({
        "cell_id": [f"c{number}" for number in range(len(donor))], "dataset_id": "one", "study": "s", "donor_id": donor,
        "person_id": donor, "person_state": "resolved", "batch": np.tile(["L1", "L1", "L2", "L2"], n_donors) + donor,
        "assay": "10x", "suspension_type": "cell", "site": "here", "tissue": "blood", "disease": "normal", "sex": "unknown",
        "contributor_label": "", "cell_type": "unknown",
    })  # fmt: skip
    return cells.assign(**columns)


def asked(cells, labels, column="tissue"):
    n_train = 4 * (cells["donor_id"].nunique() - 4)
    train, test = np.arange(n_train), np.arange(n_train, len(cells))
    labels = np.array(labels, dtype=object)
    data = FoldData(
        fold=Fold(
            split_id="f", held_out="person", groups_train=(), groups_test=(), train_rows=train, test_rows=test
        ),
        train_rows=train, labelled_rows=train,
        query_rows=test, train_terms={column: labels}, test_terms={column: labels}, test_datasets=("one",),
        dropped=pd.DataFrame(), train_counts=np.ones(len(cells), dtype=bool),
    )  # fmt: skip
    found = TaskFold(task=CellTaskLabels(name=column, column=column, labels=labels), data=data, train_rows=train)
    return found, test


def claim(cells, labels, column="tissue"):
    found, test = asked(cells, labels, column)
    return task_claim(cells, found, test_rows=test)


def test_a_test_side_with_one_level_is_refused_whatever_was_learned():
    cells = table()
    levels = np.where(np.arange(48) < 32, np.tile(["lung", "gut"], 24), "gut")
    found = claim(cells, levels)
    assert found.status is ScoreStatus.REFUSED
    assert "one level of tissue (gut)" in found.reason
    assert claim(cells, np.where(np.arange(48) < 32, "gut", "")).status is ScoreStatus.REFUSED


def test_what_varies_within_donors_is_scored_where_technique_does_not_tell_it():
    found = claim(table(), np.tile(["lung", "lung", "gut", "gut"], 12))
    assert found.status is ScoreStatus.SCORED


@pytest.mark.parametrize("column", ["dataset_id", "assay", "site"])
def test_what_varies_within_donors_and_is_told_by_a_technical_column_is_refused_and_found(column):
    levels = np.tile(["lung", "lung", "gut", "gut"], 12)
    cells = table(**{column: np.where(levels == "lung", "a", "b")})
    found = claim(cells, levels)
    assert found.status is ScoreStatus.REFUSED
    assert f"tissue in {column}" in found.reason
    assert "W-CONF-01" in {one.code for one in confounding_findings(cells, asked(cells, levels)[0])}


def test_what_is_constant_within_donors_is_judged_by_donor():
    sex = np.repeat(["female", "male"] * 6, 4)
    assert claim(table(), sex, "sex").status is ScoreStatus.SCORED
    by_kit = claim(table(assay=np.where(sex == "male", "new", "old")), sex, "sex")
    assert by_kit.status is ScoreStatus.REFUSED
    assert "determined by assay among 8 training donors" in by_kit.reason
    few = claim(table(n_donors=8), np.repeat(["female"] * 3 + ["male"] + ["female", "male"] * 2, 4), "sex")
    assert few.status is ScoreStatus.QUALIFIED
    assert "untie sex" in few.reason


def context(truth, persons):
    cells = Cells(
        truth=truth,
        datasets=np.full(len(truth), "one", dtype=object),
        persons=persons,
        is_closed=np.ones(len(truth), dtype=bool),
    )
    return RowContext(
        study="t", split="f", resolution="t", gene_policy="measured", n_genes=9000, is_panel=False, why_none="", refusals=(),
        qualifications=(), notes=(), population="donors of s, not labs", seed=0, cells=cells, places=np.arange(len(truth)),
        closed_rows=np.arange(len(truth)), n_train_labelled=9, measures=measures_of(cells, class_sets(truth, truth), ["one"]),
    )  # fmt: skip


def answers(rng, truth, wrong):
    return np.where(rng.random(len(truth)) < wrong, rng.permutation(truth), truth).astype(object)


@pytest.mark.parametrize(("n_donors", "method"), [(4, ""), (10, "jackknife-t"), (30, "bootstrap")])
def test_a_gain_is_the_difference_of_macro_f1_with_an_interval_over_donors(n_donors, method):
    rng = np.random.default_rng(3)
    truth = rng.choice(["a", "b", "c"], 40 * n_donors).astype(object)
    persons = np.repeat([f"P{number}" for number in range(n_donors)], 40).astype(object)
    ours, theirs = answers(rng, truth, 0.2), answers(rng, truth, 0.6)
    found = gain_over(context(truth, persons), [ours], [theirs])
    f1 = [f1_score(truth.astype(str), said.astype(str), average="macro") for said in (ours, theirs)]
    assert found.value == pytest.approx(f1[0] - f1[1], abs=1e-12)
    back = gain_over(context(truth, persons), [theirs], [ours])
    assert back.value == pytest.approx(-found.value, abs=1e-12)
    if not method:
        assert found.interval is None
        assert set(found.points) == {"P0", "P1", "P2", "P3"}
        return
    assert found.interval.method.startswith(method)
    assert 0 < found.interval.low < found.value < found.interval.high
    # A difference is paired: what is lost one way is gained the other, and bounds below 0 are not cut off.
    assert back.interval.high == pytest.approx(-found.interval.low, abs=1e-9 if method == "jackknife-t" else 0.02)
    assert back.interval.low < 0


def test_a_gain_over_oneself_is_none_and_unknown_donors_have_no_interval():
    truth = np.array(["a", "b"] * 40, dtype=object)
    said = np.array(["a"] * 40 + ["b"] * 40, dtype=object)
    found = gain_over(context(truth, np.full(80, "", dtype=object)), [said], [said])
    assert (found.value, found.interval, found.points) == (0.0, None, {})
