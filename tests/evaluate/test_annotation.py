"""Random fits report every seed, fits on the query report what the query's composition does, and nobody gets a label."""

import dataclasses
import json

import numpy as np
import pytest

from cytolabe.evaluate import evaluate_study, fitting, scores_document
from cytolabe.evaluate.documents import rounded
from cytolabe.evaluate.status import judged
from cytolabe.models.cards import CARDS
from cytolabe.models.scopes import fit_scope
from cytolabe.records import FitOnQuery, ScoreStatus


@dataclasses.dataclass
class RandomProjection:
    """A joint method whose result is random; it remembers what it was handed."""

    card: object
    seen: list
    scopes: tuple = ()
    notes: tuple = ("all 560 genes used", "not converged: logistic regression in 5 iterations")

    def integrate(self, train, *, query, seed):
        self.seen.append((hasattr(train, "labels"), set(query.cell_ids)))
        self.axes = np.random.default_rng(seed).normal(size=(train.counts.shape[1], 8))
        self.scopes = (fit_scope("joint", [*train.cell_ids, *query.cell_ids]),)
        return self

    def embed(self, view):
        return np.asarray(view.counts @ self.axes, dtype=np.float64)


@pytest.fixture
def run(simulated_study, monkeypatch):
    real = fitting.make_model

    def evaluate(*, n_seeds):
        card = dataclasses.replace(CARDS["pca"], name="random", n_seeds=3, fit_on_query=FitOnQuery.JOINT)
        model = RandomProjection(card=card, seen=[])
        monkeypatch.setattr(fitting, "make_model", lambda name, **o: model if name == "random" else real(name, **o))
        study = simulated_study(models=("random",), plan={"n_seeds": n_seeds})
        result = evaluate_study(study.snapshot, **study.arguments())
        return result, model

    return evaluate


def _headline(result, resolution="fine"):
    return next(
        s for s in result.scores
        if (s.model, s.metric, s.stratum, s.resolution) == ("random+knn", "macro_f1", "all", resolution)
    )  # fmt: skip


def test_the_value_is_the_mean_over_seeds_and_each_seed_is_kept(run):
    score = _headline(run(n_seeds=3)[0])
    assert sorted(score.seeds) == ["0", "1", "2"]
    assert score.value == pytest.approx(np.mean(list(score.seeds.values())))
    assert "single seed" not in score.reason


def test_one_seed_qualifies_and_no_convergence_does_too(run):
    score = _headline(run(n_seeds=1)[0])
    assert score.status is ScoreStatus.QUALIFIED
    assert "single seed" in score.reason
    # What informs stands in the notes, and qualifies nothing.
    assert score.reason == "not converged: logistic regression in 5 iterations; single seed"
    assert "all 560 genes used" in score.notes
    assert not any("not converged" in note for note in score.notes)


def test_a_fit_on_the_query_reports_its_sensitivity_at_the_decision_level(run):
    result, _ = run(n_seeds=1)
    score = _headline(result)
    assert score.sensitivity["difference"] == pytest.approx(score.sensitivity["after"] - score.sensitivity["before"])
    assert any("without its most frequent type CL:0000084" in note for note in score.notes)
    assert _headline(result, "broad").sensitivity == {}


def test_a_joint_method_sees_no_label_and_is_fitted_once_for_all_levels_and_probes(run):
    _, model = run(n_seeds=1)
    assert not any(has_labels for has_labels, _ in model.seen)
    # One fold, and one more fit for the sensitivity, which both probes share.
    assert len(model.seen) == 2


@pytest.mark.parametrize(
    ("refusals", "qualifications", "status", "reason"),
    [
        ([], [], ScoreStatus.SCORED, ""),
        (["", ""], ["panel: 85 genes", "", "single seed", "single seed"], ScoreStatus.QUALIFIED, "panel: 85 genes; single seed"),
        (["leak"], ["single seed"], ScoreStatus.REFUSED, "leak"),
    ],
)  # fmt: skip
def test_one_refusal_refuses_and_every_reason_is_kept(refusals, qualifications, *, status, reason):
    verdict = judged(refusals, qualifications)
    assert (verdict.status, verdict.reason) == (status, reason)


def test_the_document_has_the_promised_keys_in_canonical_order_and_six_digits(run):
    result, _ = run(n_seeds=3)
    document = scores_document(result, "sha256:x")
    shuffled = dataclasses.replace(result, scores=result.scores[::-1])
    assert json.dumps(scores_document(shuffled, "sha256:x")) == json.dumps(document)
    promised = {
        "task", "study", "split", "model", "protocol", "metric", "resolution", "stratum", "value", "low", "high",
        "n_cells", "n_donors", "floor", "ceiling", "status", "reason", "certificate",
    }  # fmt: skip
    assert all(promised <= set(row) for row in document["scores"])


def test_the_release_and_the_levels_are_part_of_what_the_document_says(run):
    result, _ = run(n_seeds=1)
    document = scores_document(result, "sha256:x")
    assert document["ontology_release"] == "test"
    assert document["levels_digest"].startswith("sha256:")
    for changed in ({"ontology_release": "other"}, {"levels_digest": "sha256:other"}):
        assert scores_document(dataclasses.replace(result, **changed), "sha256:x") != document
    assert rounded({"a": [1 / 3, 7, None]}) == {"a": [0.333333, 7, None]}
