"""A plan spells out every row, and the floors run whether or not they are named."""

import pytest

from cytolabe.errors import UsageError
from cytolabe.evaluate.plan import EvaluationPlan, ModelPlan, annotator_plans


def _names(*models, **options):
    plan = EvaluationPlan(study="s", models=tuple(ModelPlan(name=name) for name in models), **options)
    return [annotator.name for annotator in annotator_plans(plan)]


def test_floors_come_first_and_embedders_get_both_probes():
    assert _names("pca", "precomputed:mine") == [
        "majority", "metadata_only", "pca+knn", "pca+logistic", "precomputed:mine",
    ]  # fmt: skip


def test_every_model_that_embeds_gets_both_probes_and_no_other_gets_any():
    assert _names("scgpt:random", "scvi")[2:] == [
        "scgpt:random+knn",
        "scgpt:random+logistic",
        "scvi+knn",
        "scvi+logistic",
    ]


def test_a_named_probe_is_taken_alone():
    assert _names("harmony+logistic")[2:] == ["harmony+logistic"]


@pytest.mark.parametrize(
    ("models", "options", "word"),
    [
        (("pca+svm",), {}, "svm"),
        (("pca", "pca+knn"), {}, "more than once"),
        (("pca",), {"gene_policies": ("union",)}, "union"),
        (("pca",), {"gene_policies": ()}, "no gene policy"),
        (("pca",), {"n_seeds": 0}, "n_seeds"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_by_name(models, options, word):
    with pytest.raises(UsageError, match=word):
        _names(*models, **options)


def test_a_model_may_narrow_the_gene_policies():
    plan = EvaluationPlan(
        study="s", models=(ModelPlan(name="scvi+knn", gene_policies=("intersection",)),),
        gene_policies=("intersection", "pairwise"),
    )  # fmt: skip
    policies = {annotator.name: annotator.gene_policies for annotator in annotator_plans(plan)}
    assert policies["scvi+knn"] == ("intersection",)
    assert policies["majority"] == ("intersection", "pairwise")
