"""A scANVI trained on one side of a split and its labels: what it saw and learned, that its folder opens, and what a file may say."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from cytolabe.audit.fit_scopes import check_fit_scopes
from cytolabe.errors import ConflictError, RefusedError, UsageError
from cytolabe.flow import pretrain_scanvi as flow
from cytolabe.flow.pretrain_scanvi import pretrain_scanvi, read_scanvi_training
from cytolabe.flow.split_records import model_step
from cytolabe.flow.splitting import AskedSplit, make_split, rule_asked
from cytolabe.flow.training_files import TrainingOrder
from cytolabe.provenance import cells_digest
from cytolabe.split import read_split, write_split

pytestmark = pytest.mark.models

CONFIG = """
n_latent = 4
n_hidden = 8

[training]
max_epochs = 2
label_epochs = 2
"""
KINDS = ("NK", "B cells", "Monocytes", "")
"""Every fourth cell has no label."""
TERMS = ("CL:0000236", "CL:0000576", "CL:0000623")


@pytest.fixture(scope="module")
def labs(needs, make_labs):
    needs("scvi", "torch", "safetensors")
    return make_labs(120, 20, KINDS)


@pytest.fixture(scope="module")
def split(labs, tmp_path_factory):
    path = tmp_path_factory.mktemp("split") / "split.json"
    write_split(make_split(labs, rule_asked(labs, AskedSplit(by=("dataset",)))), path)
    return path


def read(folder, text=CONFIG):
    (folder / "small.toml").write_text(text)
    return read_scanvi_training(folder / "small.toml")


@pytest.fixture(scope="module")
def trained(labs, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    order = TrainingOrder(split=split, fold="1", seed=3, out=folder / "model")
    return folder / "model", pretrain_scanvi(labs, read(folder), order)


def test_the_card_names_classes_cells_without_a_label_and_the_training_cells_of_one_split(trained, labs, split):
    out, document = trained
    assert (document["n_cells"], document["n_labelled"], document["n_unlabelled"]) == (60, 45, 15)
    assert [one["class"] for one in document["classes"]] == list(TERMS)
    assert {one["n_train"] for one in document["classes"]} == {15}
    said = json.loads((out / "model_card.json").read_bytes())
    details = said["artifact"]["details"]
    assert (details["classes"], details["labelled_cells"]) == (", ".join(TERMS), "45")
    assert details["unlabelled_cells"].startswith("15, of the category 'unlabelled'")
    assert details["dictionary.classes"] == document["dictionaries"]["classes"]
    assert said["card"]["weights_digest"] == document["weights"]
    described = json.loads((out / "scanvi.json").read_bytes())
    assert described["training"].pop("split") == "sha256:" + hashlib.sha256(split.read_bytes()).hexdigest()
    assert (out / "split.json").read_bytes() == split.read_bytes()
    assert described["training"] == {
        "snapshot_id": labs.snapshot_id, "split_id": document["split_id"], "task": "cell_type", "level": "mid", "seed": 3,
    }  # fmt: skip
    assert (out / "loss.svg").read_bytes().startswith(b"<svg")
    ids = labs.cells["cell_id"].to_numpy(dtype=object)
    from cytolabe.models.scanvi_files import load_scanvi  # noqa: PLC0415 - needs torch

    scopes = load_scanvi(out).scopes
    for number, fold in enumerate(read_split(split, labs).folds):
        digest = cells_digest(ids[fold.train_rows].tolist())
        assert bool(check_fit_scopes(scopes, allowed={digest: "training cells"})) == (number == 1)


def test_labels_of_the_test_side_are_not_read(trained, labs, split, tmp_path, monkeypatch):
    def blinded(*words, **more):
        (asked,) = real(*words, **more)
        test = read_split(split, labs).folds[0].test_rows
        labels = asked.labels.copy()
        labels[test] = np.where(labels[test] == "", "", "CL:0000000")
        return (dataclasses.replace(asked, labels=labels),)

    real = flow.labels_of_tasks
    monkeypatch.setattr(flow, "labels_of_tasks", blinded)
    order = TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "model")
    assert pretrain_scanvi(labs, read(tmp_path), order)["weights"] == trained[1]["weights"]


def test_a_file_that_asks_for_it_keeps_the_posteriors_which_the_ledger_knows(labs, split, tmp_path):
    order = TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "model")
    document = pretrain_scanvi(labs, read(tmp_path, "latent_posterior = true\n" + CONFIG), order)
    assert document["latent_posterior"] == str(tmp_path / "model" / "posterior.parquet")
    step = model_step(document, split, tmp_path / "small.toml", model="scanvi", out=tmp_path / "model", seed=3)
    assert sorted(one.role for one in step.outputs) == ["posterior", "posterior", "weights", "weights"]


def test_hierarchical_and_labels_of_a_contributor_are_learned_where_the_file_says_so(labs, split, tmp_path):
    order = TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "a")
    config = dataclasses.replace(read(tmp_path, "hierarchical = true\n" + CONFIG), label_epochs=1, max_epochs=1)
    assert "coarse_labels" in (pretrain_scanvi(labs, config, order) and _capabilities(tmp_path / "a"))
    order = dataclasses.replace(order, out=tmp_path / "b")
    config = dataclasses.replace(config, hierarchical=False, tasks=("contributed.cell_type",))
    document = pretrain_scanvi(labs, config, order)
    assert [one["class"] for one in document["classes"]] == ["B cells", "Monocytes", "NK"]
    assert (document["task"], document["level"]) == ("contributed.cell_type", "")
    order = dataclasses.replace(order, out=tmp_path / "c")
    with pytest.raises(UsageError, match=r"the classes of contributed\.cell_type have none"):
        pretrain_scanvi(labs, dataclasses.replace(config, hierarchical=True), order)


def _capabilities(folder):
    return json.loads((folder / "model_card.json").read_bytes())["card"]["capabilities"]


def test_a_batch_that_spells_the_label_is_none_and_where_all_do_nothing_is_trained(labs, split, tmp_path, monkeypatch):
    order = TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "model")
    config = dataclasses.replace(read(tmp_path), label_epochs=1, max_epochs=1)
    real = flow.train_view

    def by_library(*words, **more):
        view = real(*words, **more)
        return dataclasses.replace(view, technical=view.technical.assign(batch=[f"b{k % 3}" for k in range(60)]))

    monkeypatch.setattr(flow, "train_view", by_library)
    monkeypatch.setattr(flow, "merged_batches", lambda *_: {"birch": (3, 3)})
    document = pretrain_scanvi(labs, config, order)
    assert document["batches"] == ["birch|birch"]
    assert "3 batches of birch hold one class each: the data set is its batch here (R12)" in document["notes"]
    monkeypatch.setattr(flow, "why_nested", lambda *_, **__: "each of 3 training batches holds one type")
    with pytest.raises(RefusedError, match="each of 3 training batches holds one type"):
        pretrain_scanvi(labs, config, dataclasses.replace(order, out=tmp_path / "other"))


def test_a_used_folder_and_a_file_that_means_nothing_are_refused(trained, labs, split, tmp_path):
    order = TrainingOrder(split=split, fold="1", seed=3, out=trained[0])
    with pytest.raises(ConflictError, match="holds a model already"):
        pretrain_scanvi(labs, read(tmp_path), order)
    order = dataclasses.replace(order, out=tmp_path / "model")
    for text, told in (
        ("label_epoch = 2", "label_epoch"),
        ("level = 3", "level is 3"),
        ("[training]\nlabel_epochs = 0", "label_epochs = 0 means"),
    ):
        with pytest.raises(UsageError, match=told):
            read(tmp_path, text)
    with pytest.raises(UsageError, match="one label of each cell, and 2 are asked for"):
        pretrain_scanvi(labs, dataclasses.replace(read(tmp_path), tasks=("cell_type", "sex")), order)
    with pytest.raises(UsageError, match=r"None of 60 training cells .* has a label of disease"):
        pretrain_scanvi(labs, read(tmp_path, 'task = "disease"'), order)
    with pytest.raises(UsageError, match=r"assay.* is no task"):
        pretrain_scanvi(labs, read(tmp_path, 'task = "assay"'), order)
