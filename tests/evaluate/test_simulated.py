"""Simulated cells: told in every score, and never in one score with real ones."""

import dataclasses

import pytest

from cytolabe.evaluate import evaluate_study
from cytolabe.evaluate.verdicts import simulated_datasets

T, B, MONO = "CL:0000084", "CL:0000236", "CL:0000576"
TYPES = {T: 30, B: 24, MONO: 24}


def headline(result):
    return [
        s
        for s in result.scores
        if (s.model, s.metric, s.stratum) == ("pca+knn", "macro_f1", "all") and s.split != "all folds"
    ]


@pytest.fixture
def study(simulated_study, lab):
    def make(*simulated, **changes):
        labs = {
            name: lab(types=TYPES, label_origin="simulated" if name in simulated else "manual", **changes.get(name, {}))
            for name in ("lab_a", "lab_b", "lab_c")
        }
        return simulated_study(models=("pca+knn",), n_folds=1, **labs)

    return make


def test_scores_on_simulated_cells_say_so(study):
    made = study("lab_a", "lab_b", "lab_c")
    assert simulated_datasets(made.snapshot) == {"lab_a", "lab_b", "lab_c"}
    result = evaluate_study(made.snapshot, **made.arguments())
    for score in (*headline(result), *(s for s in result.integration if s.value is not None)):
        assert str(score.status) == "QUALIFIED"
        assert "simulated cells: says nothing of real ones" in score.reason


def test_real_cells_are_told_nothing_of_simulations(study):
    made = study()
    assert simulated_datasets(made.snapshot) == frozenset()
    assert all("simulated" not in score.reason for score in evaluate_study(made.snapshot, **made.arguments()).scores)


@pytest.mark.parametrize("simulated", [("lab_a",), ("lab_b", "lab_c")], ids=["on one side", "on the other side"])
def test_simulated_and_real_cells_are_refused_in_one_score(study, simulated):
    made = study(*simulated)
    result = evaluate_study(made.snapshot, **made.arguments())
    assert headline(result)
    for score in headline(result):
        assert (str(score.status), score.value) == ("REFUSED", None)
        assert "simulated and real cells in one score" in score.reason


def test_simulated_cells_without_labels_teach_no_model_of_real_ones(study):
    made = study("lab_c", lab_c={"n_unlabelled": 40})
    result = evaluate_study(made.snapshot, **made.arguments())
    assert {str(score.status) for score in headline(result)} == {"REFUSED"}


def test_what_the_file_says_of_itself_counts_whatever_was_declared(study):
    made = study()
    records = {
        name: dataclasses.replace(record, label_origin_suspected="simulated")
        for name, record in made.snapshot.datasets.items()
    }
    snapshot = dataclasses.replace(made.snapshot, datasets=records)
    assert simulated_datasets(snapshot) == {"lab_a", "lab_b", "lab_c"}
    scores = headline(evaluate_study(snapshot, **made.arguments()))
    assert all("simulated cells" in score.reason for score in scores)
