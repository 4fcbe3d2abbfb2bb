"""A stored scANVI in a study and before it: that it maps a query as the fit did, on which cells it is scored, and what is no folder of one."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from cytolabe.apply.views import query_view, train_view
from cytolabe.audit import find_copies
from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.errors import (
    IntegrityError,
    LeakageError,
    RefusedError,
    UnmeasuredGeneError,
    UnreadableInputError,
    UsageError,
)
from cytolabe.evaluate import EvaluationPlan, ModelPlan, evaluate_study
from cytolabe.flow.interpret import resolutions_of
from cytolabe.flow.pretrain_scanvi import ScanviTraining, pretrain_scanvi
from cytolabe.flow.splits import shared_genes
from cytolabe.flow.splitting import AskedSplit, make_split, rule_asked
from cytolabe.flow.training_files import TrainingOrder
from cytolabe.models.extras import import_extra
from cytolabe.models.registry import make_model
from cytolabe.records import ScoreStatus
from cytolabe.split import read_split, write_split

pytestmark = pytest.mark.models

CONFIG = ScanviTraining(n_latent=4, n_hidden=8, max_epochs=2, label_epochs=2)
LYMPHOCYTE, ABOVE_ALL, STRANGE = "CL:0000542", "CL:0000000", "CL:0000451"


@pytest.fixture(scope="module")
def labs(needs, make_labs):
    needs("scvi", "torch", "safetensors")
    return make_labs(120, 20, ("NK", "B cells", "Monocytes", ""))


@pytest.fixture(scope="module")
def split(labs, tmp_path_factory):
    path = tmp_path_factory.mktemp("split") / "split.json"
    write_split(make_split(labs, rule_asked(labs, AskedSplit(by=("dataset",)))), path)
    return path


@pytest.fixture(scope="module")
def stored(labs, split, tmp_path_factory):
    """Return the folder of a scANVI of the training side of fold 1, its digest, and that side with its labels beside the other."""
    out = tmp_path_factory.mktemp("stored") / "model"
    document = pretrain_scanvi(labs, CONFIG, TrainingOrder(split=split, fold="1", seed=3, out=out))
    fold = read_split(split, labs).folds[0]
    terms = labs.cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    labels = np.where(np.isin(terms, [one["class"] for one in document["classes"]]), terms, "").astype(object)
    genes = shared_genes(labs, np.arange(120))
    rows = np.sort(fold.train_rows)
    train = train_view(labs, rows, genes=genes, labels=labels[rows])
    return out, document["weights"], train, query_view(labs, np.sort(fold.test_rows), genes=genes)


def test_opened_it_answers_as_a_fit_that_was_never_stored_and_trains_nothing_but_new_batches(stored):
    out, digest, train, query = stored
    model = make_model("scanvi", checkpoint=out, expected=digest)
    opened, fitted = model.fit(train, query=query, seed=3), CONFIG.fit(train, query=query, seed=3)
    np.testing.assert_allclose(opened.predict(query).probability, fitted.predict(query).probability, atol=1e-5)
    np.testing.assert_allclose(opened.predict(train).probability, fitted.predict(train).probability, atol=1e-5)
    assert [scope.step for scope in opened.scopes] == [scope.step for scope in fitted.scopes]
    assert (model.card.n_seeds, model.card.weights_digest) == (1, digest)
    before = model.fit(train, query=None, seed=3)
    assert before.network_size.n_trained == 0
    n_new = opened.network_size.n_parameters - before.network_size.n_parameters
    assert opened.network_size.n_trained == n_new > 0
    turned = dataclasses.replace(train, genes=train.genes[::-1], counts=train.counts[:, ::-1].tocsr())
    asked = dataclasses.replace(query, genes=query.genes[::-1], counts=query.counts[:, ::-1].tocsr())
    again = model.fit(turned, query=asked, seed=3)
    np.testing.assert_allclose(again.predict(asked).probability, opened.predict(query).probability, atol=1e-5)


def test_a_study_scores_it_where_it_saw_the_training_side_alone_and_refuses_it_elsewhere(labs, split, stored):
    few = LimitedLabels(cells_per_type=(2,), donors=(), n_draws=1, annotators=("scanvi",))
    plan = EvaluationPlan(
        study="stored", decision_level="mid", limited_labels=few,
        models=(ModelPlan(name="scanvi", options={"checkpoint": stored[0], "expected": stored[1]}),),
    )  # fmt: skip
    levels, whole = resolutions_of(labs), read_split(split, labs)
    found = evaluate_study(labs, split=whole, plan=plan, resolutions=levels, duplicates=find_copies(labs))
    rows = [
        one
        for one in found.scores
        if (one.model, one.metric, one.stratum, one.resolution) == ("scanvi", "macro_f1", "all", "mid")
    ]
    first, second = (next(one for one in rows if one.split == fold.split_id) for fold in whole.folds)
    assert first.status in (ScoreStatus.SCORED, ScoreStatus.QUALIFIED), first.reason
    assert first.value is not None
    assert "exposure" not in first.reason
    assert second.status is ScoreStatus.REFUSED
    assert second.value is None
    assert "E-LEAK-04" in second.reason
    by_fold = {
        exposure.dataset_id: exposure
        for audit in found.audits
        for exposure in audit.exposures
        if exposure.model == "scanvi"
    }
    assert by_fold["amber"].status == "out"
    assert by_fold["birch"].status == "unknown"
    limited = [one for one in found.limited if one.model == "scanvi" and one.split == whole.folds[0].split_id]
    assert limited
    assert {one.status for one in limited} == {ScoreStatus.REFUSED}
    assert all("learned from 45 labels, and here 6 may be used" in one.reason for one in limited)


def test_labels_that_it_does_not_have_are_refused_and_those_above_its_classes_are_not(stored):
    out, _, train, query = stored
    model = make_model("scanvi", checkpoint=out)
    strange = train.labels.copy()
    strange[0] = STRANGE
    with pytest.raises(
        RefusedError, match=rf"1 label\(s\) .* none of the 3 classes .*: {STRANGE}\. It could never answer"
    ):
        model.fit(dataclasses.replace(train, labels=strange), query=query, seed=3)
    above = np.where(train.labels == "CL:0000623", LYMPHOCYTE, train.labels).astype(object)
    assert model.fit(dataclasses.replace(train, labels=above), query=None, seed=3).classes == tuple(
        sorted(set(train.labels) - {""})
    )
    fewer = train.labels.copy()
    fewer[np.flatnonzero(fewer != "")[0]] = ""
    with pytest.raises(RefusedError, match="learned from 45 labels, and here 44 may be used"):
        model.fit(dataclasses.replace(train, labels=fewer), query=query, seed=3)


def test_a_cell_on_both_sides_and_a_gene_that_was_not_measured_are_refused(stored):
    out, _, train, query = stored
    model = make_model("scanvi", checkpoint=out)
    with pytest.raises(LeakageError):
        model.fit(train, query=train, seed=3)
    cut = dataclasses.replace(train, genes=train.genes[1:], counts=train.counts[:, 1:])
    with pytest.raises(
        UnmeasuredGeneError, match=f"1 of 80 genes that the model reads were not measured here: {train.genes[0]}"
    ):
        model.fit(cut, query=None, seed=3)
    with pytest.raises(UnmeasuredGeneError):
        model.fit(train, query=dataclasses.replace(query, genes=query.genes[1:], counts=query.counts[:, 1:]), seed=3)


def test_other_weights_and_options_that_would_change_nothing_are_refused(stored):
    with pytest.raises(IntegrityError, match=r"sha256:0 was expected"):
        make_model("scanvi", checkpoint=stored[0], expected="sha256:0")
    with pytest.raises(UsageError, match="label_epochs: a checkpoint is not trained again"):
        make_model("scanvi", checkpoint=stored[0], label_epochs=7)
    with pytest.raises(UsageError, match="give checkpoint, too"):
        make_model("scanvi", expected="sha256:0")
    assert make_model("scanvi", checkpoint=stored[0], query_epochs=7).mapper.query_epochs == 7


def test_a_folder_of_another_model_says_which_one_it_holds(stored):
    with pytest.raises(
        UnreadableInputError, match=r"holds no stored scanvi\. It holds a stored scvi: ask for that model"
    ):
        make_model("scanvi", checkpoint=stored[0] / "scvi")
    with pytest.raises(
        UnreadableInputError, match=r"holds no stored scvi\. It holds a stored scanvi: .* Its folder scvi is"
    ):
        make_model("scvi", checkpoint=stored[0])
    assert make_model("scvi", checkpoint=stored[0] / "scvi").card.name == "scvi"


@pytest.mark.parametrize("part", ["model_card.json", "scanvi.json", "weights.safetensors", "scvi/model_card.json"])
def test_a_half_written_folder_is_no_model(stored, tmp_path, part):
    shutil.copytree(stored[0], tmp_path / "model")
    (tmp_path / "model" / part).unlink()
    with pytest.raises((UnreadableInputError, IntegrityError), match=part.rpartition("/")[2]):
        make_model("scanvi", checkpoint=tmp_path / "model")


def test_weights_that_are_not_finite_and_classes_of_another_card_are_refused(stored, tmp_path):
    from cytolabe.models.scanvi_files import load_scanvi, save_scanvi  # noqa: PLC0415 - needs torch

    broken = load_scanvi(stored[0])
    with import_extra("torch").no_grad():
        next(iter(broken.model.module.parameters())).fill_(float("nan"))
    save_scanvi(broken, tmp_path / "nan")
    with pytest.raises(IntegrityError, match="not finite"):
        make_model("scanvi", checkpoint=tmp_path / "nan")
    shutil.copytree(stored[0], tmp_path / "model")
    said = json.loads((tmp_path / "model" / "scanvi.json").read_bytes())
    (tmp_path / "model" / "scanvi.json").write_text(json.dumps({**said, "classes": [*said["classes"][:2], STRANGE]}))
    with pytest.raises(IntegrityError, match=r"scanvi\.json: classes has the digest .* the card expects"):
        make_model("scanvi", checkpoint=tmp_path / "model")
