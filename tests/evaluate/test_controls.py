"""Ceilings say how much they were trained on; sensitivity is measured for every policy; a gap in training is named."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cytolabe.evaluate import evaluate_study, fitting
from cytolabe.evaluate.controls import answer_of, ceiling_plan, inner_folds
from cytolabe.evaluate.fitting import Failure, FitTask, ModelRunner
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.models.baselines import probes
from cytolabe.models.cards import CARDS
from cytolabe.models.scopes import fit_scope
from cytolabe.records import FitOnQuery

T, B, NK, MONO, DC = "CL:0000084", "CL:0000236", "CL:0000623", "CL:0000576", "CL:0000451"


def headline(result, model, **wanted):
    wanted = {"resolution": "fine", "split": "component=lab_a", "gene_policy": "intersection", **wanted}
    rows = [s for s in result.scores if (s.model, s.metric, s.stratum) == (model, "macro_f1", "all")]
    (found,) = [s for s in rows if all(getattr(s, name) == value for name, value in wanted.items())]
    return found


def table(persons):
    return pd.DataFrame({
        "person_id": persons,
        "person_state": ["unknown" if one == "unknown" else "resolved" for one in persons],
        "dataset_id": "a", "batch": "b", "tissue": "blood",
    })  # fmt: skip


def test_inner_folds_keep_persons_whole():
    persons = [f"p{n % 5}" for n in range(40)]
    fold_of_row, stamp = inner_folds(table(persons), np.arange(40), seed=0)
    assert stamp == ""
    assert all(len(set(fold_of_row[[p == name for p in persons]])) == 1 for name in set(persons))
    assert set(fold_of_row) == {0, 1, 2}


@pytest.mark.parametrize(
    ("persons", "stamp", "trained_on"),
    [
        (["p0"] * 30 + ["p1"] * 60, "", "30 to 60 labelled cells of 1 person(s)"),
        (["p0"] * 90, "ceiling leaky: by cell, one person", "60 labelled cells of 1 person(s)"),
        (["unknown"] * 90, "ceiling leaky: by cell, persons unknown", "60 labelled cells"),
    ],
)
def test_a_ceiling_says_on_how_many_cells_and_persons_it_is_trained(persons, stamp, trained_on):
    task = FitTask(train_rows=np.arange(90), query_rows=np.arange(90), genes=("g",), seed=0)
    terms = np.array([T, B, NK] * 30, dtype=object)
    plan = ceiling_plan({"a": task}, cells=table(persons), terms=terms)
    assert (plan.stamp, plan.trained_on, plan.why_none) == (stamp, trained_on, "")
    tested = np.concatenate([fit.query_rows for fit in plan.fits])
    np.testing.assert_array_equal(np.sort(tested), np.arange(90))
    assert all(set(fit.train_rows).isdisjoint(fit.query_rows) for fit in plan.fits)


def test_too_few_labels_give_no_ceiling():
    task = FitTask(train_rows=np.arange(90), query_rows=np.arange(90), genes=("g",), seed=0)
    terms = np.array([T] * 5 + [""] * 85, dtype=object)
    assert ceiling_plan({"a": task}, cells=table(["p0"] * 90), terms=terms).why_none == (
        "no ceiling: 5 labelled cells inside the test side"
    )


def test_a_model_above_its_ceiling_is_told_how_small_the_ceiling_was(simulated_study, lab):
    """Seven cells per type inside the test side: the ceiling learns from far fewer cells than the model."""
    study = simulated_study(
        models=("pca+logistic",),
        plan={"ceilings": True},
        lab_a=lab(types={T: 14, B: 12, NK: 10, MONO: 12}, n_persons=2),
    )
    rows = [s for s in evaluate_study(study.snapshot, **study.arguments()).scores if s.model == "pca+logistic"]
    assert {
        s.ceiling is None for s in rows if s.metric == "macro_f1" and s.stratum == "all" and s.split != "all folds"
    } == {False}
    for score in rows:
        told = [note for note in score.notes if "trained on" in note]
        is_headline = (score.metric, score.stratum) == ("macro_f1", "all") and score.split != "all folds"
        is_above = score.ceiling is not None and score.value is not None and score.value > score.ceiling
        assert bool(told) == (is_headline or is_above)
        if told:
            words = "above its ceiling: that was trained on" if is_above else "ceiling trained on"
            assert told[0].startswith(f"{words} 24 labelled cells of 1 person(s), the model on ")


def test_cells_that_no_reference_reaches_are_counted(simulated_study):
    runner = ModelRunner(simulated_study().snapshot)
    pca = AnnotatorPlan(name="pca+knn", component="pca", probe="knn", options={}, gene_policies=("pairwise",))
    tasks = {"x>y": FitTask(train_rows=np.arange(3), query_rows=np.array([5, 6]), genes=("g",), seed=0)}
    terms = np.full(9, "", dtype=object)
    failure = answer_of(runner, pca, tasks, terms=terms, rows=np.array([5, 6, 7]))
    assert isinstance(failure, Failure)
    assert failure.reason == "1 of 3 query cells share no gene with a labelled training data set"
    failure = answer_of(runner, pca, tasks, terms=terms, rows=np.array([5, 6]))
    assert failure.reason == "no training label at this level"


@dataclasses.dataclass
class Mapper:
    """An embedder in two steps, whose embedding depends on the query; it counts its trainings."""

    card: object
    trained: list
    scopes: tuple = ()
    notes: tuple = ()
    mean: object = None

    def fit(self, train, *, query, seed):
        assert query is None
        self.trained.append((len(train.cell_ids), seed))
        axes = np.random.default_rng(seed).normal(size=(train.counts.shape[1], 6))
        return dataclasses.replace(self, scopes=(fit_scope("train", train.cell_ids),), mean=axes)

    def map_query(self, fitted, query, *, seed):
        scopes = (*fitted.scopes, fit_scope("query", query.cell_ids))
        return dataclasses.replace(fitted, scopes=scopes, mean=fitted.mean * (1 + len(query.cell_ids) / 100))

    def embed(self, view):
        return np.asarray(view.counts @ self.mean, dtype=np.float64)


@pytest.fixture
def mapper(monkeypatch):
    card = dataclasses.replace(CARDS["pca"], name="mapper", n_seeds=3, fit_on_query=FitOnQuery.UNLABELLED)
    model = Mapper(card=card, trained=[])
    real = fitting.make_model
    monkeypatch.setattr(fitting, "make_model", lambda name, **o: model if name == "mapper" else real(name, **o))
    return model


@pytest.mark.parametrize("policy", ["intersection", "pairwise"])
def test_sensitivity_is_measured_under_every_policy_that_is_the_first(simulated_study, mapper, policy):
    study = simulated_study(models=("mapper+knn",), plan={"gene_policies": (policy,), "n_seeds": 1})
    score = headline(evaluate_study(study.snapshot, **study.arguments()), "mapper+knn", gene_policy=policy)
    assert set(score.sensitivity) == {"before", "after", "difference"}
    assert f"sensitivity: query without its most frequent type {T} (T cell)" in score.notes


def test_a_model_in_two_steps_is_not_trained_again_for_another_query(simulated_study, lab, mapper):
    study = simulated_study(
        models=("mapper+knn", "mapper+logistic"), plan={"n_seeds": 3, "ceilings": True},
        lab_a=lab(types={T: 40, B: 30, NK: 24, MONO: 30}, n_persons=8, n_unlabelled=10),
    )  # fmt: skip
    result = evaluate_study(study.snapshot, **study.arguments())
    score = headline(result, "mapper+knn")
    assert score.sensitivity
    n_train = len(study.split.folds[0].train_rows)
    # Three seeds on the training side for both probes, all levels and the sensitivity; three inner folds of the ceiling.
    assert len([n for n, _ in mapper.trained if n == n_train]) == 3
    assert len(mapper.trained) == 6
    test = next(t for t in result.certificates[0].tests if t["test"] == "fit scope of mapper+knn")
    assert (test["n_found"], test["n_exempt"]) == (0, 1)
    # The query is the labelled part of the test side, so only the harness can name it.
    assert {step["cells"].partition(" [")[0] for step in test["steps"]} == {"training cells", "query cells"}


def test_a_ceiling_that_did_not_converge_says_so(simulated_study, monkeypatch):
    monkeypatch.setattr(probes, "_MAX_ITERATIONS", 2)
    study = simulated_study(models=("pca+logistic",), plan={"ceilings": True})
    score = headline(evaluate_study(study.snapshot, **study.arguments()), "pca+logistic")
    assert score.reason == "not converged: logistic regression in 2 iterations"
    assert any("ceiling not converged" in note for note in score.notes)
