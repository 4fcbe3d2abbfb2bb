"""Networks from nothing, frozen and fine-tuned in one study, beside the same networks that learned nothing without labels."""

import dataclasses

import numpy as np
import pytest

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.evaluate import ModelPlan, evaluate_study, fitting, kept_fits, scores_document
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import AnnotatorOutput
from cytolabe.models.scopes import fit_scope
from cytolabe.provenance import canonical_json, cells_digest

T, B, MONO = "CL:0000084", "CL:0000236", "CL:0000576"


@pytest.fixture(scope="module")
def few_cells(simulated_study, lab):
    """Return a function that makes a study of one fold and one level; what is learned from holds cells without a label, too."""

    def make(models, plan):
        labs = {
            "lab_a": lab(types={T: 12, B: 12, MONO: 12}, n_persons=6),
            "lab_b": lab(types={T: 24, B: 24, MONO: 24}, n_persons=5, n_unlabelled=12),
            "lab_c": lab(types={T: 12, B: 12, MONO: 12}, n_persons=4),
        }
        study = simulated_study(models=models, plan={"n_seeds": 1, **plan}, **labs)
        levels = dataclasses.replace(study.resolutions, levels=study.resolutions.levels[1:])
        return dataclasses.replace(study, resolutions=levels)

    return make


def training_cells(study, *, labelled):
    rows = study.split.folds[0].train_rows
    cells = study.snapshot.cells.iloc[rows]
    has_label = cells["cell_type_ontology_term_id"].to_numpy(dtype=object) != "unknown"
    return cells["cell_id"].to_numpy(dtype=object)[has_label if labelled else np.full(len(rows), fill_value=True)]


# --- what the harness does, with planted models ----------------------------------------------------------------------

SEEN = []


@dataclasses.dataclass(frozen=True)
class Start:
    """An embedder of the first genes; every fit is written down."""

    size: int = 4
    card: object = dataclasses.replace(CARDS["pca"], name="start")
    scopes: tuple = ()
    notes: tuple = ()

    def fit(self, train, *, query, seed):
        SEEN.append(("start", self.size, len(train.cell_ids), sorted(set(train.labels.tolist()))))
        return dataclasses.replace(self, scopes=(fit_scope("start", train.cell_ids),))

    def embed(self, view):
        return np.log1p(view.counts[:, : 30 * self.size].toarray()).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The nearest mean in what a start embeds."""

    start: object = Start()
    card: object = dataclasses.replace(CARDS["scgpt_scratch_tuned"], name="tuned", n_seeds=1, determinism="bit_exact")
    scopes: tuple = ()
    notes: tuple = ()
    means: object = None
    started: object = None

    def fit(self, train, *, query, seed):
        return self.tune(self.start.fit(train, query=None, seed=seed), train, seed=seed)

    def tune(self, started, train, *, seed):
        SEEN.append(("tune", self.start.size, len(train.cell_ids), sorted(set(train.labels.tolist()))))
        found = started.embed(train)
        kinds = sorted(set(train.labels.tolist()) - {""})
        means = {kind: found[train.labels == kind].mean(axis=0) for kind in kinds}
        scopes = (*started.scopes, fit_scope("classes", train.cell_ids[train.labels != ""]))
        return dataclasses.replace(self, means=means, scopes=scopes, started=started)

    def predict(self, query):
        found = self.started.embed(query)
        far = np.stack([((found - mean) ** 2).mean(axis=1) for mean in self.means.values()], axis=1)
        weight = np.exp(far.min(axis=1, keepdims=True) - far)
        return AnnotatorOutput(classes=tuple(self.means), probability=weight / weight.sum(axis=1, keepdims=True))


@pytest.fixture
def planted(monkeypatch):
    """What is written down of the planted models."""
    SEEN.clear()
    wide = dataclasses.replace(Tuned.card, name="wide")
    own = {"start": Start, "tuned": Tuned, "wide": lambda: Tuned(start=Start(size=5), card=wide)}
    real = fitting.make_model
    monkeypatch.setattr(fitting, "make_model", lambda name, **o: own[name](**o) if name in own else real(name, **o))
    monkeypatch.setattr(kept_fits, "LEAST_SECONDS", 0.0)
    return SEEN


FEW = LimitedLabels(cells_per_type=(2, 5), n_draws=2, annotators=("tuned",))
FROZEN, TUNED = ModelPlan(name="start+knn"), ModelPlan(name="tuned")


def run(study, **plan):
    return evaluate_study(study.snapshot, **study.arguments(plan=dataclasses.replace(study.plan, **plan)))


def starts(seen):
    return [one for one in seen if one[0] == "start"]


@pytest.mark.parametrize("models", [(FROZEN, TUNED), (TUNED, FROZEN), (TUNED,)], ids=["frozen first", "last", "alone"])
def test_a_fold_makes_a_start_once_for_the_frozen_network_the_tuned_one_and_every_draw(few_cells, planted, models):
    study = few_cells(models, {"limited_labels": FEW})
    result = run(study)
    assert starts(planted) == [("start", 4, len(training_cells(study, labelled=False)), [""])]
    assert [one[:3] for one in planted if one[0] == "tune"] == [
        ("tune", 4, 120)
    ] * 5  # all labels, and two draws of two
    own = [row for row in result.costs.rows if row.step == "start"]
    assert len(own) == (0 if models[0] is FROZEN else 1)


def test_who_starts_otherwise_makes_a_start_of_its_own(few_cells, planted):
    run(few_cells((FROZEN, TUNED, ModelPlan(name="wide")), {}))
    assert [one[1] for one in planted] == [4, 4, 5, 5]


def test_what_a_start_is_fitted_on_has_no_label_and_what_is_tuned_has_those_of_the_level(few_cells, planted):
    study = few_cells((TUNED,), {})
    (certificate,) = run(study).certificates
    assert starts(planted)[0][3] == [""]
    assert [one[3] for one in planted if one[0] == "tune"] == [["", T, B, MONO]]
    (test,) = [test for test in certificate.tests if test["test"] == "fit scope of tuned"]
    assert {step["step"]: step["cells_digest"] for step in test["steps"]} == {
        "start": cells_digest(training_cells(study, labelled=False)),
        "classes": cells_digest(training_cells(study, labelled=True)),
    }
    assert test["n_found"] == 0


def test_an_annotator_that_does_not_ask_for_them_is_handed_no_cell_without_a_label(few_cells, planted, monkeypatch):
    bare = dataclasses.replace(CARDS["scgpt_annotator"], name="tuned")
    monkeypatch.setattr(fitting, "make_model", lambda name, real=fitting.make_model, **o: (
        dataclasses.replace(real(name, **o), card=bare) if name == "tuned" else real(name, **o)
    ))  # fmt: skip
    run(few_cells((TUNED,), {}))
    assert [one[2] for one in planted if one[0] == "tune"] == [108]


def test_a_run_that_was_killed_ends_in_the_same_bytes_and_makes_the_start_only_for_what_is_left(
    few_cells, planted, tmp_path
):
    study = few_cells((FROZEN, TUNED), {"limited_labels": FEW})
    whole = run(study)
    planted.clear()
    first = run(few_cells((FROZEN,), {}), kept_fits=tmp_path / "fits")
    assert first.scores
    assert len(starts(planted)) == 1
    second = run(study, kept_fits=tmp_path / "fits")
    assert len(starts(planted)) == 2
    third = run(study, kept_fits=tmp_path / "fits")
    assert len(starts(planted)) == 2
    documents = [canonical_json(scores_document(one, one.snapshot_id)) for one in (whole, second, third)]
    assert documents[0] == documents[1] == documents[2]


# --- a small study with the networks themselves ----------------------------------------------------------------------

GENEFORMER = {"preset": "tiny", "panels": "flag", "n_steps": 8}
SCGPT = {"preset": "tiny", "panels": "flag", "max_length": 64, "ties": "mid", "n_steps": 3}
NETWORKS = {
    "geneformer": (GENEFORMER, {"n_steps": 40, "learning_rate": 1e-2, "warm_up": 5, "check_every": 20, "minibatch": 16}),
    "scgpt": (SCGPT, {"n_steps": 12, "learning_rate": 1e-2, "warm_up": 2, "check_every": 6}),
}  # fmt: skip


@pytest.fixture(scope="module")
def networks(few_cells):
    """Both families, frozen and fine-tuned, from scratch and from random weights, and one of them on few labels."""
    pytest.importorskip("torch", reason="the [models] extra is not installed")
    pytest.importorskip("transformers", reason="the [models] extra is not installed")
    models = []
    for family, (start, tuning) in NETWORKS.items():
        bare = {name: value for name, value in start.items() if name != "n_steps"}
        models += [
            ModelPlan(name=f"{family}_random+knn", options=bare),
            ModelPlan(name=f"{family}_scratch+knn", options=start),
            ModelPlan(name=f"{family}_random_tuned", options={**tuning, "start": bare}),
            ModelPlan(name=f"{family}_scratch_tuned", options={**tuning, "start": start}),
        ]
    few = LimitedLabels(cells_per_type=(1, 8), n_draws=1, annotators=("geneformer_scratch_tuned",))
    study = few_cells(tuple(models), {"limited_labels": few})
    return study, run(study)


def headlines(result):
    return {s.model: s for s in result.scores if (s.metric, s.stratum) == ("macro_f1", "all") and s.split != "all folds"}  # fmt: skip


@pytest.mark.models
def test_frozen_and_fine_tuned_networks_and_their_controls_are_scored_under_their_words(networks):
    _, result = networks
    rows = headlines(result)
    words = {
        "random+knn": "control",
        "scratch+knn": "self_supervised",
        "random_tuned": "supervised",
        "scratch_tuned": "fine_tuned",
    }
    for family in NETWORKS:
        for name, word in words.items():
            row = rows[f"{family}_{name}"]
            assert (str(row.protocol), str(row.status)) == (word, "QUALIFIED")
            assert "exposure unknown" not in row.reason
            assert row.value is not None
    tuned = rows["geneformer_scratch_tuned"]
    assert tuned.value > tuned.floor + 0.3
    assert "not converged without labels" in tuned.reason


@pytest.mark.models
def test_every_fit_of_a_network_names_the_weights_that_answered(networks):
    _, result = networks
    rows = result.costs.rows
    assert all((row.weights is None) is (row.n_parameters is None) for row in rows)
    assert all(row.weights.startswith("sha256:") for row in rows if row.weights)
    scores = {row.model: row.weights for row in rows if row.purpose == "score" and row.weights}
    families = [
        f"{family}_{kind}" for family in NETWORKS for kind in ("random", "scratch", "random_tuned", "scratch_tuned")
    ]
    assert set(scores) == set(families)
    assert len(set(scores.values())) == len(families)


@pytest.mark.models
def test_each_network_is_fine_tuned_from_the_frozen_one_of_its_row(networks):
    study, result = networks
    steps = {}
    for test in result.certificates[0].tests:
        if test["test"].startswith("fit scope of "):
            steps[test["test"].removeprefix("fit scope of ")] = {
                one["step"]: one["cells_digest"] for one in test["steps"]
            }
            assert test["n_found"] == 0
    every = cells_digest(training_cells(study, labelled=False))
    for family, step in (("geneformer", "geneformer/weights"), ("scgpt", "scgpt/generation")):
        assert steps[f"{family}_scratch_tuned"][step] == steps[f"{family}_scratch+knn"][step] == every
        assert step not in steps[f"{family}_random_tuned"]
        assert steps[f"{family}_random_tuned"][f"{family}/classes"] == cells_digest(
            training_cells(study, labelled=True)
        )
    assert steps["geneformer_random_tuned"]["geneformer/medians"] == every
    sizes = {row.model: row.n_parameters for row in result.costs.rows if row.purpose == "score" and row.n_parameters}
    assert sizes["geneformer_random_tuned"] == sizes["geneformer_scratch_tuned"]
    assert not [row for row in result.costs.rows if row.step == "start"]


@pytest.mark.models
def test_few_labels_fine_tune_the_same_start_or_are_refused_with_a_reason(networks):
    _, result = networks
    rows = {(row.model, row.stratum): row for row in result.limited}
    one, eight = (rows["geneformer_scratch_tuned", f"cells_per_type={n}"] for n in (1, 8))
    assert (str(one.status), one.value) == ("REFUSED", None)
    assert "needs at least 10" in one.reason
    assert eight.value is not None
    assert any("fine-tuned anew on the labelled cells of each draw" in note for note in eight.notes)
    assert rows["geneformer_scratch+knn", "cells_per_type=8"].value is not None
