"""Each rare type is listed with its cells, how many were found, and what the others were called."""

import json

import numpy as np
import pytest

from cytolabe.evaluate.documents import scores_document
from cytolabe.evaluate.harness import evaluate_study
from cytolabe.evaluate.rare_types import rare_types
from cytolabe.evaluate.results import Confusion

from .conftest import DC, MONO, NK, B, Lab, T

NAMES = ("B cell", "NK cell", "T cell", "dendritic cell", "monocyte")


def table(matrix, *, rare, level="fine"):
    return Confusion(
        split="component=a", model="net", resolution=level, gene_policy="shared", classes=NAMES, names=NAMES,
        matrix=np.array(matrix), rare=rare,
    )  # fmt: skip


def test_a_rare_type_has_its_recall_and_the_three_commonest_wrong_answers():
    counts = [[90, 0, 0, 0, 0], [1, 4, 3, 0, 2], [0, 0, 80, 0, 0], [3, 1, 1, 0, 7], [0, 0, 0, 0, 70]]
    dendritic, killer = rare_types([table(counts, rare=("NK cell", "dendritic cell"))], level="fine")
    assert (killer.name, killer.n_cells, killer.n_right, killer.recall) == ("NK cell", 10, 4, 0.4)
    assert [(one.name, one.n_cells) for one in killer.called_instead] == [("T cell", 3), ("monocyte", 2), ("B cell", 1)]
    # None right comes first; of equals the first class, and not more than three.
    assert (dendritic.name, dendritic.recall) == ("dendritic cell", 0.0)
    assert [(one.name, one.n_cells) for one in dendritic.called_instead] == [
        ("monocyte", 7), ("B cell", 3), ("NK cell", 1),
    ]  # fmt: skip


def test_a_type_that_was_always_found_was_called_nothing_else_and_other_levels_are_not_listed():
    fine = table(np.eye(5, dtype=int) * 9, rare=("NK cell",))
    (found,) = rare_types([fine, table(np.eye(5, dtype=int), rare=("NK cell",), level="broad")], level="fine")
    assert (found.recall, found.called_instead) == (1.0, ())


@pytest.fixture(scope="module")
def result(simulated_study):
    """A study with one fold, where NK cells are 4 of 94 test cells."""
    lab = {T: 40, B: 30, NK: 24, MONO: 30}
    study = simulated_study(
        models=("majority", "pca+knn"), lab_a=Lab(types={T: 36, B: 24, NK: 4, MONO: 30}), lab_b=Lab(types=lab),
        lab_c=Lab(types={**lab, DC: 12}),
    )  # fmt: skip
    return evaluate_study(study.snapshot, **study.arguments())


def test_scores_json_lists_the_rare_types_of_the_decision_level_as_the_predictions_have_them(result):
    document = json.loads(json.dumps(scores_document(result, result.snapshot_id)))
    listed = {(row["model"], row["term"]): row for row in document["rare_types"]}
    (rare,) = {score.n_cells for score in result.scores if score.stratum == "rare" and score.resolution == "fine"}
    assert {row["resolution"] for row in document["rare_types"]} == {"fine"}
    assert sum(row["n_cells"] for (model, _), row in listed.items() if model == "majority") == rare
    killer = listed["majority", NK]
    assert (killer["n_cells"], killer["n_right"], killer["recall"]) == (4, 0, 0.0)
    assert killer["called_instead"] == [{"term": T, "name": "T cell", "n_cells": 4}]


def test_what_is_refused_lists_no_rare_type(simulated_study):
    # Inside a file whose batch is its label nothing can be told of cell types.
    lab = Lab(types={T: 36, B: 24, NK: 4, MONO: 30}, n_persons=2, batch_is_label=True)
    study = simulated_study(models=("pca+knn",), by=("person",), lab_a=lab, lab_b=lab, lab_c=lab)
    found = evaluate_study(study.snapshot, **study.arguments())
    rare = [score for score in found.scores if score.stratum == "rare" and score.resolution == "fine"]
    assert {str(score.status) for score in rare} == {"REFUSED"}
    assert any(score.raw_value is not None for score in rare)
    assert scores_document(found, found.snapshot_id)["rare_types"] == []
