"""Models of other packages in a study: scored like any other, and a broken one costs no other its row."""

import dataclasses
import sys

import pytest

from cytolabe.config.study import ModelSpec, Study
from cytolabe.errors import UsageError
from cytolabe.evaluate import EvaluationPlan, ModelPlan, annotator_plans, evaluate_study, fitting, kept_fits
from cytolabe.evaluate.plan import with_probes
from cytolabe.evaluate.results import ALL_FOLDS
from cytolabe.flow.recording import model_parents
from cytolabe.flow.study import run_study
from cytolabe.models.cards import CARDS
from cytolabe.models.entry_points import load_offer
from cytolabe.models.protocols import QueryView
from cytolabe.models.registry import card_named, offer_named
from cytolabe.provenance import digest_of
from cytolabe.records import FitOnQuery


def evaluated(study, *, folder=None, lines=None):
    plan = dataclasses.replace(study.plan, kept_fits=folder)
    say = (lines if lines is not None else []).append
    return evaluate_study(study.snapshot, **study.arguments(plan=plan, on_progress=say))


def headline(result, model):
    return [row for row in result.scores if row.model == model and row.metric == "macro_f1"]


def test_a_model_of_another_package_stands_among_the_scores_and_a_broken_one_beside_it(
    install_package, offered_code, simulated_study
):
    install_package("lab-models", "lab_mean = made_up_scored:Mean", "made_up_scored", version="2.1")
    install_package(
        "other-lab", "other_mean = made_up_broken:Mean", "made_up_broken", code=offered_code("other_mean")
    )  # fmt: skip
    models = (ModelPlan(name="lab_mean", options={"n_genes": 40}), ModelPlan(name="other_mean", options={"n_genes": 0}))
    result = evaluated(simulated_study(models=models))
    assert {row.model for row in result.scores} >= {"lab_mean+knn", "lab_mean+logistic", "other_mean", "majority"}
    assert all(row.value is not None for row in headline(result, "lab_mean+knn") if row.resolution == "fine")
    broken = headline(result, "other_mean")
    assert broken
    assert {row.status for row in broken} == {"FAILED"}
    assert all("other-lab 1.0 cannot be made" in row.reason for row in broken if row.split != ALL_FOLDS)
    assert all(row.value is None for row in broken)


def test_a_probe_on_an_annotator_of_another_package_is_refused_and_an_embedder_gets_both(install_package, offered_code):
    names = offered_code().replace('source="lab of B"', 'source="lab of B", capabilities=("predict_labels",)')
    install_package("lab-models", "lab_mean = made_up_naming:Mean", "made_up_naming", code=names)
    install_package("lab-b", "other_mean = made_up_embed:Mean", "made_up_embed", code=offered_code("other_mean"))
    plan = EvaluationPlan(study="s", models=(ModelPlan(name="lab_mean+knn"),))
    with pytest.raises(UsageError, match=r"lab_mean names cells itself and takes no probe. Leave out \+knn"):
        annotator_plans(plan)
    plan = EvaluationPlan(study="s", models=(ModelPlan(name="lab_mean"), ModelPlan(name="other_mean")))
    found = with_probes(annotator_plans(plan), card_of=lambda one: card_named(one.component))
    assert [one.name for one in found][2:] == ["lab_mean", "other_mean+knn", "other_mean+logistic"]


def test_a_joint_method_of_another_package_is_handed_all_cells_with_their_batches_and_no_label_or_person(
    install_package, offered_integrator, simulated_study
):
    install_package("lab-models", "lab_joint = made_up_asked:Joint", "made_up_asked", code=offered_integrator())
    study = simulated_study(models=(ModelPlan(name="lab_joint+knn", options={"n_genes": 40}),))
    result = evaluated(study)
    (train, query), *others = sys.modules["made_up_asked"].HANDED
    # The sensitivity to the query's composition is another fit: of a joint method every row depends on all others.
    assert len(others) == 1
    assert {type(view) for views in sys.modules["made_up_asked"].HANDED for view in views} == {QueryView}
    assert not any(hasattr(view, name) for view in (train, query) for name in ("labels", "persons"))
    assert all({"dataset_id", "batch"} <= set(view.technical) for view in (train, query))
    (fold,) = study.split.folds
    ids = study.snapshot.cells["cell_id"].to_numpy()
    assert train.cell_ids.tolist() == ids[fold.train_rows].tolist()
    assert set(query.cell_ids) <= set(ids[fold.test_rows])
    rows = [row for row in headline(result, "lab_joint+knn") if row.stratum == "all" and row.resolution == "fine"]
    scored = [row for row in rows if row.split != ALL_FOLDS]
    assert scored
    assert all(row.value is not None and row.fit_on_query is FitOnQuery.JOINT and row.sensitivity for row in scored)
    test = next(one for one in result.certificates[0].tests if one["test"] == "fit scope of lab_joint+knn")
    assert (test["n_found"], test["n_exempt"]) == (0, 1)


def test_an_embedder_that_calls_itself_joint_is_not_handed_the_query(simulated_study, monkeypatch):
    class Posing:
        card = dataclasses.replace(CARDS["hvg"], name="posing", fit_on_query=FitOnQuery.JOINT)

        def fit(self, train, *, query, seed):
            assert query is None
            return fitting.make_model("hvg").fit(train, query=None, seed=seed)

    real = fitting.make_model
    monkeypatch.setattr(fitting, "make_model", lambda name, **o: Posing() if name == "posing" else real(name, **o))
    result = evaluated(simulated_study(models=("posing+knn",)))
    assert all(row.value is not None for row in headline(result, "posing+knn") if row.resolution == "fine")


def test_a_fit_of_another_version_or_of_other_code_is_not_taken_up(
    install_package, offered_code, simulated_study, tmp_path, monkeypatch
):
    monkeypatch.setattr(kept_fits, "LEAST_SECONDS", 0.0)
    # Every installed library is a condition of a kept fit already: here the question itself has to differ.
    monkeypatch.setattr(kept_fits, "_libraries", list)
    study, taken = simulated_study(models=("lab_mean+knn",)), []
    mended = offered_code() + "# mended\n"
    for number, (version, code) in enumerate([("1.0", ""), ("1.1", ""), ("1.0", mended), ("1.0", "")]):
        lines: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", list(sys.path))
            load_offer.cache_clear()  # as in another process
            install_package(
                "lab", "lab_mean = made_up_kept:Mean", "made_up_kept", version=version, code=code, where=f"{number}"
            )
            evaluated(study, folder=tmp_path / "fits", lines=lines)
        taken.append(sum(int(line.split()[0]) for line in lines if "were taken up" in line))
    # Floors and components are taken up each time; the embedding only where package, version and code are the same.
    assert taken == [0, 5, 5, 6]


def test_the_record_of_a_run_names_the_package_its_version_and_its_code(install_package):
    install_package("lab-models", "lab_mean = made_up_recorded:Mean", "made_up_recorded", version="2.1")
    found = {one.role: one for one in model_parents([ModelSpec(name="lab_mean+knn")])}
    assert found["model"].digest == digest_of(card_named("lab_mean"))
    assert (found["package"].name, found["package"].digest) == (
        "lab_mean of lab-models 2.1",
        offer_named("lab_mean").code,
    )
    assert {one.role for one in model_parents([ModelSpec(name="pca")])} == {"model"}


def test_a_study_that_names_a_broken_model_is_refused_before_a_file_is_read(install_package, tmp_path):
    install_package("lab-models", "lab_mean = made_up_absent:Mean")
    with pytest.raises(UsageError, match=r"lab-models 1\.0 cannot be imported"):
        run_study(Study(name="s", models=(ModelSpec(name="lab_mean"),)), tmp_path / "out", sources=())
    assert not (tmp_path / "out").exists()
