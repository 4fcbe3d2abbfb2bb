"""The ladder compares rungs on the same cells, and calls the random one leaky on every score."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cytolabe.config.study import ModelSpec, Study
from cytolabe.evaluate import evaluate_study
from cytolabe.evaluate.ladder import Rung, inflation
from cytolabe.flow.ladder import run_ladder
from cytolabe.flow.study import StudyEvidence
from cytolabe.report.ladder import ladder_figure, ladder_table
from cytolabe.split import RuleKind, SplitRule, plan_rule, split_of

from .conftest import MONO, NK, B, T


@pytest.fixture(scope="module")
def climbed(simulated_study):
    study = simulated_study(models=("pca+knn",))
    rungs = []
    for name, by in (("random", ("cells",)), ("dataset", ("person", "dataset"))):
        plan = plan_rule(study.snapshot, SplitRule(kind=RuleKind.GROUPED_FOLDS, by=by, n_folds=3), seed=0)
        split = split_of(plan)
        result = evaluate_study(
            study.snapshot, split=split, plan=study.plan, resolutions=study.resolutions, duplicates=study.duplicates
        )
        rungs.append(Rung(name=name, by=by, n_groups=3, n_folds=3, result=result, refused={}))
    return study, rungs


def table_of(study, rungs):
    return inflation(
        rungs, study.snapshot, resolutions=study.resolutions, level="fine", gene_policy="intersection", seed=0
    )


def test_every_score_of_random_cells_says_that_it_leaks(climbed):
    _, (random, dataset) = climbed
    told = [score.reason for score in random.result.scores if score.split != "all folds" and score.value is not None]
    assert told
    assert all("leaky: random cells" in reason for reason in told)
    assert not any("leaky" in score.reason for score in dataset.result.scores)


def test_the_gap_is_that_of_the_same_cells(climbed):
    study, rungs = climbed
    table = table_of(study, rungs)
    rows = table[(table["model"] == "pca+knn") & (table["metric"] == "accuracy")]
    assert rows["rung"].tolist() == ["dataset"]
    (row,) = rows.to_dict("records")
    answers = [
        rung.result.predictions.query("model == 'pca+knn' and resolution == 'fine'").set_index("cell_id")["term"]
        for rung in rungs
    ]
    truth = study.snapshot.cells.set_index("cell_id")["cell_type_ontology_term_id"]
    both = pd.concat([*answers, truth], axis=1, join="inner", keys=["a", "b", "truth"])
    n_before = len(both)
    # Only one lab has dendritic cells: held out whole, nobody could have learned them.
    both = both[both["truth"].isin({T, B, NK, MONO})]
    assert row["n_cells"] == len(both) < n_before
    gap = float((both["a"] == both["truth"]).mean() - (both["b"] == both["truth"]).mean())
    assert row["inflation"] == pytest.approx(gap)
    assert row["inflation"] == pytest.approx(row["value_random"] - row["value"])
    assert row["unit"] == "person"
    if row["low"] is not None:
        assert row["low"] <= row["inflation"] <= row["high"]


def test_a_rung_that_answers_alike_inflates_nothing(climbed):
    study, (random, _) = climbed
    same = dataclasses.replace(random, name="person")
    table = table_of(study, [random, same])
    assert (table["inflation"] == 0.0).all()
    assert table["low"].isna().all() or np.allclose(table["low"].dropna().astype(float), 0.0)


def test_folds_that_were_refused_are_not_compared(climbed):
    study, (random, dataset) = climbed
    every = dict.fromkeys(dataset.result.predictions["split"], "persons unknown")
    table = table_of(study, [random, dataclasses.replace(dataset, refused=every)])
    assert set(table["status"]) == {"NOT_RUN"}
    assert ladder_figure(table) is None


def test_the_drawing_and_the_table_tell_the_same(climbed):
    table = table_of(*climbed)
    drawn = str(ladder_figure(table))
    assert "pca+knn" in drawn
    assert "inflation" in drawn
    assert len(ladder_table(table).rows) == len(table)


def evidence_of(study, **declared: dict[str, str]) -> StudyEvidence:
    """What a ladder reads of a study; `declared` has what the manifest of a lab says."""
    datasets = {
        name: dataclasses.replace(record, declared=declared.get(name, {}))
        for name, record in study.snapshot.datasets.items()
    }
    snapshot = dataclasses.replace(study.snapshot, datasets=datasets)
    object.__setattr__(snapshot, "n_cells", len(snapshot.cells))
    made = object.__new__(StudyEvidence)
    models = (ModelSpec(name="majority"),)
    asked = Study(name="s", decision_level="fine", gene_policies=("intersection",), models=models)
    told = {"study": asked, "snapshot": snapshot, "duplicates": study.duplicates, "resolutions": study.resolutions}
    for name, value in told.items():
        object.__setattr__(made, name, value)
    return made


def test_without_a_date_the_rung_of_time_is_told_and_not_run(climbed):
    last = run_ladder(evidence_of(climbed[0])).rung_table().to_dict("records")[-1]
    assert (last["rung"], last["status"], last["n_folds"]) == ("time", "NOT_RUN", 0)
    assert last["reason"].startswith("none of 3 manifests tells when its data set was published (date)")


@pytest.mark.parametrize(("key", "kind"), [("date", "date of publication"), ("collected", "begin of collection")])
def test_with_dates_the_last_rung_trains_on_what_is_older_and_tests_what_is_younger(climbed, *, key, kind):
    study = climbed[0]
    dated = {"lab_a": {key: "2018"}, "lab_b": {key: "2019-03-01"}, "lab_c": {key: "2021-05"}}
    ladder = run_ladder(evidence_of(study, **dated))
    rows = {row["rung"]: row for row in ladder.rung_table().to_dict("records")}
    assert [row["status"] for row in rows.values()] == ["RUN"] * 5
    assert rows["time"]["reason"] == f"by {kind}, tested after 2019-03-01"
    tested = {name.partition(":")[0] for name in ladder.rungs[-1].result.predictions["cell_id"]}
    assert tested == {"lab_c"}
    assert set(ladder.table.loc[ladder.table["rung"] == "time", "metric"]) >= {"macro_f1", "accuracy"}


def test_one_date_for_all_and_undated_cells_are_told(climbed):
    same = {name: {"date": "2018"} for name in ("lab_a", "lab_b", "lab_c")}
    last = run_ladder(evidence_of(climbed[0], **same)).rung_table().to_dict("records")[-1]
    assert (last["status"], last["n_folds"]) == ("NOT_RUN", 0)
    assert "3 of 3 tell their date of publication" in last["reason"]
    some = {"lab_a": {"date": "2018"}, "lab_c": {"date": "2021"}}
    last = run_ladder(evidence_of(climbed[0], **some)).rung_table().to_dict("records")[-1]
    assert last["reason"] == (
        "by date of publication, tested after 2018-12-31; 1 of 3 data sets do not tell it and are on neither side; 112 cells on neither side"
    )
