"""What a fit costs is measured when it runs, whatever becomes of it, and is in nothing that two runs share."""

import dataclasses
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from cytolabe.evaluate import costs as watch_module
from cytolabe.evaluate import evaluate_study, scores_document
from cytolabe.evaluate.costs import Cost, Watch, machine_facts
from cytolabe.models.baselines.pca import PcaEmbedder
from cytolabe.models.network_size import NetworkSize
from cytolabe.provenance import canonical_json

BLANK = Cost(model="net", step="embedding", purpose="score", seed=0, n_train=1, n_query=1, n_genes=1)


class Fitted:
    network_size = NetworkSize(n_parameters=7, n_trained=3)
    weights_digest = "sha256:7"


@pytest.fixture
def clocks(monkeypatch):
    """Stopped clocks and a memory that tests move: `wall`, `processor` (seconds) and `resident` (bytes)."""
    now = {"wall": 10.0, "processor": 3.0, "resident": 100}
    asked = threading.Event()

    def resident():
        asked.set()
        return now["resident"]

    monkeypatch.setattr(
        watch_module, "time",
        SimpleNamespace(perf_counter=lambda: now["wall"], process_time=lambda: now["processor"]),
    )  # fmt: skip
    monkeypatch.setattr(watch_module, "_resident_bytes", resident)
    return now, asked


def test_the_fit_the_answer_and_the_memory_of_a_step_are_told_apart(clocks):
    now, asked = clocks
    costs = []
    with Watch(BLANK, into=costs) as watch:
        now |= {"wall": 15.0, "processor": 11.0, "resident": 900}
        asked.clear()
        assert asked.wait(30)  # somebody looks while the step runs, and not at its ends alone
        now["resident"] = 150
        watch.answering(Fitted())
        now["wall"] = 17.0
    (cost,) = costs
    assert (cost.fit_seconds, cost.answer_seconds) == (5.0, 2.0)
    assert cost.processor_seconds == pytest.approx(8.0, abs=1.0)
    assert (cost.start_resident_bytes, cost.peak_resident_bytes) == (100, 900)
    assert (cost.n_parameters, cost.n_trained, cost.weights, cost.is_finished) == (7, 3, "sha256:7", True)


def test_weights_are_named_after_the_clocks_stopped(clocks):
    now, _ = clocks
    costs = []

    class Slow:
        @property
        def weights_digest(self):
            now["wall"] += 100.0
            return "sha256:8"

    with Watch(BLANK, into=costs) as watch:
        watch.answering(Slow())
    assert (costs[0].weights, costs[0].answer_seconds) == ("sha256:8", 0.0)


def test_what_raises_has_cost_what_it_took_and_has_no_network(clocks):
    now, _ = clocks
    costs = []

    def fail():
        with Watch(BLANK, into=costs):
            now["wall"] = 12.0
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    (cost,) = costs
    assert (cost.is_finished, cost.fit_seconds, cost.answer_seconds, cost.weights) == (False, 2.0, 0.0, None)


def test_memory_is_that_of_this_process():
    before = watch_module._resident_bytes()
    held = np.ones(2**23)
    assert watch_module._resident_bytes() - before > 0.8 * held.nbytes


def test_an_embedding_is_paid_once_and_each_probe_of_each_level_for_itself(simulated_study):
    study = simulated_study(models=("pca",), plan={"ceilings": True})
    result = evaluate_study(study.snapshot, **study.arguments())
    rows = [row for row in result.costs.rows if row.purpose == "score"]
    own = sorted((row.model, row.step, row.resolution) for row in rows if row.model.startswith("pca"))
    probes = [(f"pca+{one}", "probe", level) for one in ("knn", "logistic") for level in ("broad", "fine")]
    assert own == sorted([("pca", "embedding", ""), *probes])
    assert {row.split for row in rows} == {study.split.folds[0].split_id}
    assert {row.purpose for row in result.costs.rows} == {"score", "ceiling"}
    sizes = {row.model: (row.n_train, row.n_query) for row in rows}
    assert {row.weights for row in rows} == {None}
    headline = next(score for score in result.scores if (score.model, score.metric) == ("pca+knn", "accuracy"))
    assert sizes["pca"][1] == headline.n_cells


def test_costs_are_in_no_row_of_the_scores(simulated_study):
    study = simulated_study(models=("pca+knn",))
    result = evaluate_study(study.snapshot, **study.arguments())
    bare = dataclasses.replace(result, costs=None)
    assert canonical_json(scores_document(result, "s")) == canonical_json(scores_document(bare, "s"))


def test_the_facts_of_the_machine_name_no_host():
    facts = machine_facts()
    assert facts["memory_bytes"] > 2**28
    assert facts["n_cores"] >= 1
    assert not [key for key in facts if "host" in key or "node" in key]


def test_a_model_that_fails_is_paid_too(simulated_study, monkeypatch):
    def raises(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(PcaEmbedder, "fit", raises)
    study = simulated_study(models=("pca+knn",))
    result = evaluate_study(study.snapshot, **study.arguments())
    assert {row.is_finished for row in result.costs.rows if row.model == "pca"} == {False}
