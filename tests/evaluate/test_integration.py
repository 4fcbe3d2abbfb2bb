"""Beside annotation stands how far an embedding mixes batches and keeps types, between controls."""

from dataclasses import replace

import numpy as np
import pytest

from cytolabe.errors import RefusedError
from cytolabe.evaluate import harness
from cytolabe.evaluate.documents import scores_document
from cytolabe.evaluate.harness import evaluate_study
from cytolabe.evaluate.integration import CONTROLS, INTEGRATION_METRICS, measured
from cytolabe.evaluate.plan import ModelPlan
from cytolabe.models.baselines.pca import FittedPca, PcaEmbedder
from cytolabe.records import Protocol, ScoreStatus


def cells(rng, *, n=600, n_types=3, n_batches=2):
    return rng.integers(0, n_types, n).astype(str), rng.integers(0, n_batches, n).astype(str)


def told(labels, batches, embedding):
    return measured(embedding, labels, batches, seed=0, before=0.5)


def hot(words):
    codes = np.unique(words, return_inverse=True)[1]
    return np.eye(codes.max() + 1)[codes]


def evaluated(study):
    return evaluate_study(study.snapshot, **study.arguments())


@pytest.fixture(scope="module")
def result(simulated_study):
    return evaluated(simulated_study(models=("pca+knn", "pca+logistic"), n_folds=2))


def test_an_embedding_of_types_is_the_upper_end_and_one_of_batches_fails_where_types_are_asked():
    rng = np.random.default_rng(0)
    labels, batches = cells(rng)
    noise = rng.normal(0, 0.01, (600, 3))
    upper = told(labels, batches, hot(labels) + noise)
    assert min(upper["nmi"], upper["ari"], upper["asw_label"], upper["bras"]) > 0.9
    # Of 30 neighbors drawn from two batches not exactly half are of each: not 1 even where all is mixed.
    assert upper["cilisi"] > 0.85
    assert upper["avg_bio"] == pytest.approx((upper["nmi"] + upper["ari"] + upper["asw_label"]) / 3)
    assert upper["pcr_batch"] < 0.02
    assert upper["ilisi"] > 0.85
    assert upper["pcr_comparison"] > 0.95
    of_batches = told(labels, batches, hot(batches) + noise[:, :2])
    assert of_batches["cilisi"] < 0.01
    assert of_batches["bras"] < 0.1
    assert of_batches["pcr_batch"] > 0.99
    assert of_batches["ilisi"] < 0.01
    assert of_batches["pcr_comparison"] == pytest.approx(
        (0.5 - of_batches["pcr_batch"]) / 0.5
    )  # under 0, and not clipped
    assert of_batches["nmi"] < 0.05


def test_a_shuffle_mixes_batches_and_knows_no_type():
    rng = np.random.default_rng(1)
    labels, batches = cells(rng)
    embedding = hot(labels) * 3 + hot(batches)[:, [0, 1, 1]] * 3 + rng.normal(0, 0.3, (600, 3))
    plain, shuffled = told(labels, batches, embedding), told(labels, batches, rng.permutation(embedding))
    assert shuffled["cilisi"] > 0.8 > plain["cilisi"] + 0.5
    assert shuffled["avg_bio"] < plain["avg_bio"]


def test_cells_without_direction_are_left_out_of_bras_alone():
    rng = np.random.default_rng(2)
    labels, batches = cells(rng)
    embedding = hot(labels) + rng.normal(0, 0.1, (600, 3))
    embedding[:5] = 0
    found = told(labels, batches, embedding)
    assert found["bras"] == told(labels[5:], batches[5:], embedding[5:])["bras"]
    assert set(found) == set(INTEGRATION_METRICS)


def test_every_control_and_embedding_of_a_fold_has_every_metric_once(result):
    for split in {score.split for score in result.integration}:
        own = [(s.model, s.metric) for s in result.integration if s.split == split]
        expected = [f"control: {name}" for name in CONTROLS] + ["pca"]
        assert own == [(model, metric) for model in expected for metric in INTEGRATION_METRICS]
    assert {score.split for score in result.integration} == {score.split for score in result.scores} - {"all folds"}
    assert all(score.task == "integration" and score.resolution == "fine" for score in result.integration)
    certificates = {certificate.split_id: certificate.digest for certificate in result.certificates}
    assert all(score.certificate == certificates[score.split] for score in result.integration)


def test_the_control_without_correction_is_the_embedding_of_pca_and_the_labels_are_above_it(result):
    value = {(s.split, s.model, s.metric): s.value for s in result.integration}
    for split in {score.split for score in result.integration}:
        for metric in INTEGRATION_METRICS:
            assert value[split, "pca", metric] == value[split, "control: none", metric]
        assert value[split, "control: none", "pcr_comparison"] == 0
        assert value[split, "control: cell types", "avg_bio"] > 0.9
        assert value[split, "control: shuffled", "avg_bio"] < 0.4


def test_they_stand_in_the_document_of_scores_and_change_no_other_row(result):
    rows = scores_document(result, result.snapshot_id)["scores"]
    assert [row for row in rows if row["task"] == "integration"]
    assert len(rows) == len(result.scores) + len(result.integration)
    assert {score.task for score in result.scores} == {"annotation"}
    assert {s.protocol for s in result.integration if s.model.startswith("control: ")} == {Protocol.CONTROL}


def test_batches_that_hold_one_type_each_are_refused_and_the_number_stays_outside(simulated_study, lab):
    nested = {
        name: lab(types={term: 40}, n_persons=4)
        for name, term in (("lab_a", "CL:0000084"), ("lab_b", "CL:0000236"), ("lab_c", "CL:0000084"))
    }
    found = evaluated(simulated_study(models=("pca+knn",), by=("dataset",), n_folds=3, **nested)).integration
    assert found
    told = {score.status for score in found}
    assert told == {ScoreStatus.REFUSED}
    assert all(score.value is None and score.raw_value is not None for score in found if score.metric == "nmi")
    assert all("holds one type" in score.reason and "R12" in score.reason for score in found)


def test_a_data_set_whose_batches_hold_one_type_each_is_one_batch_and_said_to_be(simulated_study, lab):
    gates = lab(types={"CL:0000084": 30, "CL:0000236": 30}, n_persons=2, batch_is_label=True)
    found = evaluated(simulated_study(models=("pca+knn",), n_folds=1, lab_b=gates)).integration
    assert {score.status for score in found} <= {ScoreStatus.SCORED, ScoreStatus.QUALIFIED}
    assert all("2 batches of lab_b hold one type each" in " ".join(score.notes) for score in found)


def test_two_gene_spaces_have_no_one_embedding_and_no_rows(simulated_study, lab):
    study = simulated_study(
        models=(ModelPlan(name="pca+knn"),),
        plan={"gene_policies": ("pairwise",)},
        lab_b=lab(types={"CL:0000084": 40, "CL:0000236": 40}, n_persons=3),
    )
    assert evaluated(study).integration == ()


def test_a_refused_fold_has_no_number_here_and_one_that_was_let_out_is_stamped(simulated_study, monkeypatch):
    verdict = harness.fold_verdict
    monkeypatch.setattr(
        harness, "fold_verdict", lambda *given, **named: replace(verdict(*given, **named), refusals=("persons shared",))
    )
    refused = evaluated(simulated_study(models=("pca+knn",), n_folds=1)).integration
    assert {(score.status, score.value) for score in refused} == {(ScoreStatus.REFUSED, None)}
    assert all(score.raw_value is not None for score in refused)
    let_out = evaluated(simulated_study(models=("pca+knn",), n_folds=1, plan={"override": "to look at it"})).integration
    for score in let_out:
        assert (score.status, score.reason) == (ScoreStatus.QUALIFIED, "refusal overridden: persons shared")
        assert "refusals overridden: to look at it" in score.notes


def test_labels_that_a_program_gave_are_circular_here_on_either_side(simulated_study, lab):
    others = lab(types={"CL:0000084": 40, "CL:0000236": 30}, n_persons=3, label_origin="automated")
    found = evaluated(simulated_study(models=("pca+knn",), n_folds=1, lab_b=others)).integration
    assert {score.status for score in found} == {ScoreStatus.QUALIFIED}
    assert all("labels automated: circular" in score.reason for score in found)


def test_what_qualifies_the_fit_of_a_model_qualifies_its_embedding(simulated_study, monkeypatch):
    monkeypatch.setattr(FittedPca, "notes", ("not converged: by order of this test",))
    found = evaluated(simulated_study(models=("pca+knn",), n_folds=1)).integration
    own = [score for score in found if score.model == "pca"]
    assert all("not converged: by order of this test" in score.reason for score in own)
    assert all(not score.reason for score in found if score.model.startswith("control: "))


def test_a_failed_embedding_has_no_number_and_its_reason(simulated_study, monkeypatch):
    def fails(*_args, **_options):
        msg = "no components today"
        raise RefusedError(msg)

    monkeypatch.setattr(PcaEmbedder, "fit", fails)
    found = evaluated(simulated_study(models=("pca+knn",))).integration
    for score in found:
        if score.model != "control: cell types":
            assert (score.value, score.raw_value, score.status) == (None, None, ScoreStatus.REFUSED)
            assert "no components today" in score.reason
