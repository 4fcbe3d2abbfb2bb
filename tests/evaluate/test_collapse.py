"""A model that looks at nothing is said to, whatever accuracy it has."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytolabe.evaluate.collapse import collapse_findings, collapsed_embeddings
from cytolabe.evaluate.harness import evaluate_study
from cytolabe.evaluate.plan import ModelPlan
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


@pytest.fixture
def nearly_one_vector(simulated_study, tmp_path):
    """A study with an embedding, made elsewhere, that differs between cells by less than a thousandth."""
    study = simulated_study(models=("majority", "pca+knn"), n_folds=2)
    cells = study.snapshot.cells["cell_id"].astype(str).tolist()
    rng = np.random.default_rng(3)
    values = np.array([3.0, -1.0, 2.0, 0.5]) + 1e-4 * rng.normal(size=(len(cells), 4))
    path = tmp_path / "flat.parquet"
    pq.write_table(pa.table({"cell_id": cells, **{f"d{k}": values[:, k] for k in range(4)}}), path)
    models = (*study.plan.models, ModelPlan(name="precomputed:flat", options={"path": str(path)}))
    return dataclasses.replace(study, plan=dataclasses.replace(study.plan, models=models))


def test_a_model_that_gives_every_cell_nearly_one_vector_is_a_finding_of_the_study(nearly_one_vector):
    study = nearly_one_vector
    result = evaluate_study(study.snapshot, **study.arguments())
    (finding,) = collapsed_embeddings((*result.scores, *result.integration))
    assert (finding.code, finding.where) == ("W-MODEL-02", "precomputed:flat")
    assert (finding.n_affected, finding.n_total) == (2, 2)
    assert "one vector, but for rounding (in 2 of 2 folds and gene policies)" in finding.message
    assert [name.split(",")[0] for name in finding.examples] == [fold.split_id for fold in study.split.folds]
    noted = {score.model for score in result.scores if any("the embedding collapsed" in note for note in score.notes)}
    assert {name.partition("+")[0] for name in noted} == {"precomputed:flat"}
