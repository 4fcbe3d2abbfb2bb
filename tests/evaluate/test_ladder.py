"""The ladder compares rungs on the same cells, and calls the random one leaky on every score."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cytolabe.evaluate import evaluate_study
from cytolabe.evaluate.ladder import Rung, inflation
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
