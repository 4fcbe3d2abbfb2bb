"""A model that looks at nothing is said to, whatever accuracy it has."""

import numpy as np
import pytest

from cytolabe.evaluate.collapse import collapse_findings, collapse_note
from cytolabe.evaluate.results import Confusion


def table(matrix, *, model="net", split="component=a"):
    names = ("B cell", "T cell", "monocyte")
    return Confusion(
        split=split, model=model, resolution="mid", gene_policy="shared", classes=names, names=names,
        matrix=np.array(matrix),
    )  # fmt: skip


def test_one_class_for_everything_is_a_finding_with_the_class_and_the_fold():
    constant = table([[0, 5, 0], [0, 90, 0], [0, 5, 0]])
    fine = table([[4, 1, 0], [0, 90, 0], [0, 5, 0]], split="component=b")
    (finding,) = collapse_findings((constant, fine))
    assert (finding.code, finding.where, finding.n_affected, finding.n_total) == ("W-MODEL-01", "net", 1, 2)
    assert finding.examples == ("component=a, mid, shared: all T cell",)


@pytest.mark.parametrize("model", ["majority", "metadata_only"])
def test_a_floor_is_constant_by_design(model):
    assert collapse_findings((table([[0, 5, 0], [0, 90, 0], [0, 5, 0]], model=model),)) == ()


def test_one_class_is_right_where_the_truth_has_one():
    assert collapse_findings((table([[0, 0, 0], [0, 90, 0], [0, 0, 0]]),)) == ()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_point_and_a_line_are_collapsed_and_a_cloud_is_not(scale):
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(200, 16)) * scale
    direction = rng.normal(size=16) * scale
    assert collapse_note(cloud) == ""
    assert "one vector" in collapse_note(direction + 1e-5 * cloud)
    assert "one line" in collapse_note(rng.normal(size=(200, 1)) * direction + 1e-4 * cloud)
    assert "one vector" in collapse_note(np.zeros((10, 4)))


def test_a_flat_but_wide_embedding_and_one_of_a_single_dimension_are_no_lines():
    rng = np.random.default_rng(1)
    assert collapse_note(rng.normal(size=(200, 4)) * np.array([1.0, 0.5, 0, 0])) == ""
    assert collapse_note(rng.normal(size=(200, 1))) == ""


def test_the_note_of_a_collapsed_embedding_stands_beside_its_scores(simulated_study, monkeypatch):
    from cytolabe.evaluate import fitting  # noqa: PLC0415
    from cytolabe.evaluate.harness import evaluate_study  # noqa: PLC0415

    monkeypatch.setattr(fitting, "collapse_note", lambda values: f"the embedding collapsed: {values.shape[1]} dims")
    study = simulated_study(models=("majority", "pca+knn"))
    result = evaluate_study(study.snapshot, **study.arguments())
    noted = [score for score in result.scores if any("the embedding collapsed" in note for note in score.notes)]
    assert {score.model for score in noted}
    assert "majority" not in {score.model for score in noted}
