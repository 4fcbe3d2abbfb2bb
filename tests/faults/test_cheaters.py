"""Cheaters: a score that was not earned must be refused, failed or qualified - never SCORED."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cytolabe.evaluate import ModelPlan, evaluate_study, fitting
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import AnnotatorOutput
from cytolabe.provenance import cells_digest
from cytolabe.records import FitScope, Fold, ScoreStatus, Split

FOLD = "component=lab_a"


@dataclasses.dataclass(frozen=True)
class Cheater:
    """An annotator whose `answer` and `scope` are given; the rest is as the protocol asks."""

    answer: object
    scope: object
    card: object = dataclasses.replace(CARDS["majority"], name="cheater")
    notes: tuple = ()

    def fit(self, train, *, query, seed):
        assert query is None
        self.memory["train"] = train
        return self

    @property
    def memory(self):
        return self.answer.__dict__.setdefault("memory", {})

    @property
    def scopes(self):
        return self.scope(self.memory["train"])

    def predict(self, query):
        return self.answer(self.memory["train"], query)


def _honest_scope(train):
    return (FitScope(step="cheat", cells_digest=cells_digest(train.cell_ids), n_cells=len(train.cell_ids)),)


def _first_class(train, query):
    classes = tuple(sorted(set(train.labels)))
    probability = np.zeros((len(query.cell_ids), len(classes)))
    probability[:, 0] = 1.0
    return AnnotatorOutput(classes=classes, probability=probability)


@pytest.fixture
def run(simulated_study, monkeypatch):
    """Return a function that scores a cheater and gives its headline in the fold of lab_a."""
    real = fitting.make_model

    def score(model=None, *, change=None, override="", **study_options):
        def make(name, **options):
            return model if name == "cheater" else real(name, **options)

        monkeypatch.setattr(fitting, "make_model", make)
        study = simulated_study(models=("pca+knn",) if model is None else ("cheater",), **study_options)
        arguments = study.arguments(**(change(study) if change else {}))
        arguments["plan"] = dataclasses.replace(study.plan, override=override)
        result = evaluate_study(study.snapshot, **arguments)
        name = "pca+knn" if model is None else "cheater"
        return next(
            s for s in result.scores
            if (s.model, s.metric, s.stratum, s.resolution) == (name, "macro_f1", "all", "fine")
        )  # fmt: skip

    return score


def test_a_model_that_asks_for_the_test_labels_fails(run):
    score = run(Cheater(answer=lambda train, query: query.labels, scope=_honest_scope))
    assert score.status is ScoreStatus.FAILED
    assert "labels" in score.reason
    assert score.value is None


def test_a_file_of_copied_labels_is_never_scored_clean(run, simulated_study, tmp_path):
    cells = simulated_study().snapshot.cells
    copied = pd.DataFrame({"cell_id": cells["cell_id"], "term": cells["cell_type_ontology_term_id"]})
    copied.to_parquet(tmp_path / "copied.parquet")
    plan = ModelPlan(name="precomputed:copied", options={"path": tmp_path / "copied.parquet", "name": "copied"})
    study = simulated_study(models=(plan,))
    result = evaluate_study(study.snapshot, **study.arguments())
    rows = [s for s in result.scores if s.model == "precomputed:copied" and s.value is not None]
    assert rows
    assert all(s.status is ScoreStatus.QUALIFIED and "exposure unknown" in s.reason for s in rows)
    assert any("equal to the labels in every cell: copied?" in s.reason for s in rows)


def test_labels_among_the_dimensions_of_an_embedding_refuse_every_score_that_reads_it(simulated_study, tmp_path):
    study = simulated_study()
    cells = study.snapshot.cells
    noise = np.random.default_rng(0).normal(size=(len(cells), 3))
    columns = {"cell_id": cells["cell_id"], **{f"d{n}": noise[:, n] for n in range(3)}}
    pd.DataFrame(columns).to_parquet(tmp_path / "clean.parquet")
    code = pd.factorize(cells["cell_type_ontology_term_id"])[0] * 0.7 - 0.3
    pd.DataFrame({**columns, "d3": code}).to_parquet(tmp_path / "coded.parquet")
    plans = tuple(
        ModelPlan(name=f"precomputed:{name}", options={"path": tmp_path / f"{name}.parquet", "name": name})
        for name in ("clean", "coded")
    )
    study = simulated_study(models=plans)
    result = evaluate_study(study.snapshot, **study.arguments())
    for name, refused in (("coded", True), ("clean", False)):
        rows = [
            s for s in result.scores
            if s.model.startswith(f"precomputed:{name}+") and (s.metric, s.stratum) == ("macro_f1", "all")
            if s.split != "all folds"
        ]  # fmt: skip
        told = [s for s in rows if "E-LEAK-10: 1 of 4 dimensions (d3)" in s.reason]
        assert rows
        assert (len(told) == len(rows)) is refused
        assert all(s.value is None for s in told)
        assert all(s.status is ScoreStatus.REFUSED for s in told)
        (test,) = [
            test for test in result.certificates[0].tests if test["test"] == f"dimensions of precomputed:{name} that hold a code"
        ]  # fmt: skip
        assert test["n_found"] == int(refused)
    (finding,) = [finding for audit in result.audits for finding in audit.findings if finding.code == "E-LEAK-10"]
    assert finding.where == "precomputed:coded"


def test_a_constant_predictor_is_named_and_does_not_beat_its_floor(run):
    score = run(Cheater(answer=_first_class, scope=_honest_scope))
    assert score.status is ScoreStatus.QUALIFIED
    assert "one class predicted for every cell" in score.reason
    assert "does not beat its floor" in score.reason


def test_a_model_fitted_on_test_cells_is_refused_and_its_number_kept_aside(run, simulated_study):
    ids = simulated_study().snapshot.cells["cell_id"]

    def everything(train):
        return (FitScope(step="genes", cells_digest=cells_digest(ids), n_cells=len(ids)),)

    score = run(Cheater(answer=_first_class, scope=everything))
    assert score.status is ScoreStatus.REFUSED
    assert "E-LEAK-04" in score.reason
    assert score.value is None
    assert score.raw_value is not None


def test_no_fit_scope_no_score(run):
    score = run(Cheater(answer=_first_class, scope=lambda train: ()))
    assert score.status is ScoreStatus.REFUSED
    assert "no fit scope" in score.reason


def test_a_malformed_answer_is_a_failure_and_never_a_zero(run):
    def half(train, query):
        return AnnotatorOutput(classes=("CL:0000084",), probability=np.ones((len(query.cell_ids) // 2, 1)))

    score = run(Cheater(answer=half, scope=_honest_scope))
    assert score.status is ScoreStatus.FAILED
    assert score.value is score.raw_value is None


def _random_cells(study, *, rule="by hand"):
    """Divide the cells of lab_a and lab_b at random, whatever person they are from."""
    rows = np.arange(len(study.snapshot.cells))
    test = np.random.default_rng(0).random(len(rows)) < 0.3
    fold = Fold(
        split_id="by hand", held_out="cells", groups_train=("a",), groups_test=("b",),
        train_rows=rows[~test], test_rows=rows[test],
    )  # fmt: skip
    return {"split": Split(snapshot_id=study.snapshot.snapshot_id, rule=rule, seed=0, folds=(fold,))}


def test_a_split_that_shares_persons_is_refused(run):
    score = run(change=_random_cells)
    assert score.status is ScoreStatus.REFUSED
    assert "E-LEAK-01" in score.reason
    assert score.raw_value is not None


def test_a_random_cell_split_without_persons_is_refused_too(run, lab):
    nobody = {f"lab_{name}": lab(types={"CL:0000084": 40, "CL:0000236": 40}, n_persons=0) for name in "abc"}
    score = run(change=_random_cells, **nobody)
    assert score.status is ScoreStatus.REFUSED
    assert "persons are unknown" in score.reason


def test_a_random_cell_split_that_was_asked_for_is_stamped(run):
    score = run(change=lambda study: _random_cells(study, rule="random_cells 0.3"))
    assert score.status is ScoreStatus.QUALIFIED
    assert score.reason.startswith("leaky: random cells")


def test_an_override_lets_a_refused_number_out_and_is_stamped_on_it(run):
    score = run(change=_random_cells, override="to show what memory is worth")
    assert score.status is ScoreStatus.QUALIFIED
    assert score.value is not None
    assert score.reason.startswith("refusal overridden: E-LEAK-01")
    assert "refusals overridden: to show what memory is worth" in score.notes


def test_a_split_inside_a_file_whose_batch_is_its_label_is_refused(run, lab):
    sorted_lab = lab(types={"CL:0000084": 40, "CL:0000236": 40}, n_persons=2, batch_is_label=True)

    def inside(study):
        cells = study.snapshot.cells
        own = np.flatnonzero(cells["dataset_id"] == "lab_a")
        test = cells["person_id"].to_numpy()[own] == "lab_a/p0"
        fold = Fold(
            split_id="inside", held_out="person", groups_train=("p1",), groups_test=("p0",),
            train_rows=own[~test], test_rows=own[test],
        )  # fmt: skip
        return {"split": Split(snapshot_id=study.snapshot.snapshot_id, rule="by hand", seed=0, folds=(fold,))}

    score = run(change=inside, lab_a=sorted_lab)
    assert score.status is ScoreStatus.REFUSED
    assert score.raw_value is not None


def test_a_test_cell_with_a_copy_in_training_is_not_scored(run, simulated_study):
    def with_copies(study):
        pairs = pd.DataFrame({"a_row": np.arange(10), "b_row": np.arange(10) + 130, "cell_a": "x", "cell_b": "y"})
        pairs = pairs.assign(
            dataset_a="lab_a", dataset_b="lab_b", kind="identical", n_shared_genes=1, n_shared_nonzero=1
        )
        return {"duplicates": dataclasses.replace(study.duplicates, pairs=pairs)}

    score = run(change=with_copies)
    assert score.n_cells == 114
    assert score.status is ScoreStatus.QUALIFIED
    assert "10 test cells with an identical cell in training are left out" in score.reason
