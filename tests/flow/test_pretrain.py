"""A Geneformer trained on one side of a split: what it saw, what it became, and that a kill changes nothing."""

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cytolabe.apply.tokens import dictionaries_of_cells
from cytolabe.audit import exposure_of
from cytolabe.audit.fit_scopes import check_fit_scopes
from cytolabe.errors import ConflictError, RefusedError, UsageError
from cytolabe.flow.pretrain import pretrain_geneformer, read_pretraining
from cytolabe.flow.splits import embed_fold
from cytolabe.flow.splitting import AskedSplit, make_split, rule_asked
from cytolabe.flow.training_files import TrainingOrder
from cytolabe.models import training_means
from cytolabe.models.geneformer.checkpoint import from_pretrained
from cytolabe.models.registry import make_model
from cytolabe.models.training import train
from cytolabe.provenance import cells_digest
from cytolabe.records import FitScope, Protocol
from cytolabe.split import split_of, write_split

pytestmark = pytest.mark.models

CONFIG = """
preset = "tiny"
minibatch = 8
panels = "flag"
held_out_fraction = 0.2

[network]
width = 16
n_positions = 40

[training]
n_steps = 12
learning_rate = 0.005
warm_up = 2
check_every = 4
save_every = 3
"""


class Killed(BaseException):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def snapshot(needs, make_labs):
    """Return a snapshot of two labs that measure different genes, with three donors each."""
    needs("torch", "transformers", "safetensors")
    return make_labs(700, 100, ("B cells", "NK", "CD14+ Mono"))


@pytest.fixture(scope="module")
def split(snapshot, tmp_path_factory):
    """Return the file of a split that leaves each lab out; fold 1 tests amber."""
    path = tmp_path_factory.mktemp("split") / "split.json"
    write_split(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("dataset",)))), path)
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(CONFIG)
    return read_pretraining(path)


@pytest.fixture(scope="module")
def trained(snapshot, split, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "model"
    return out, pretrain_geneformer(snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=out))


def folds(snapshot):
    return split_of(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("dataset",))))).folds


def ids(snapshot, rows):
    return snapshot.cells["cell_id"].to_numpy(dtype=object)[rows].tolist()


def test_the_model_opens_with_a_card_that_names_the_training_cells_and_no_others(trained, snapshot):
    out, document = trained
    opened = from_pretrained(out)
    fold = folds(snapshot)[0]
    assert {scope.cells_digest for scope in opened.card.scopes} == {cells_digest(ids(snapshot, fold.train_rows))}
    assert (opened.card.protocol, opened.card.pretraining, opened.notes) == (Protocol.SELF_SUPERVISED, (), ())
    assert opened.card.weights == document["weights"]
    # Dictionary of the lab that was trained on: a gene that it does not measure has no token.
    names = {snapshot.cells["dataset_id"].iloc[row] for row in fold.train_rows}
    assert set(opened.dictionaries.genes) <= set(snapshot.measured_genes(*names))
    assert document["n_cells"] == 60
    assert any("1 training person(s)" in note for note in document["notes"])


def test_a_score_on_another_split_is_refused_by_the_digest(trained, snapshot):
    fitted = make_model("geneformer", checkpoint=trained[0], panels="flag")
    for number, fold in enumerate(folds(snapshot)):
        digest = cells_digest(ids(snapshot, fold.train_rows))
        findings = check_fit_scopes(fitted.card.scopes, allowed={digest: "training cells"})
        assert bool(findings) == (number == 1)
        scope = FitScope(step="training cells", cells_digest=digest, n_cells=60)
        (exposure,) = exposure_of(fitted.card, ["tested"], train=["other"], train_scope=scope)
        assert exposure.status == ("unknown" if number == 1 else "out")


def test_it_embeds_cells_of_both_sides_by_the_command_that_embeds(trained, snapshot, split, tmp_path, monkeypatch):
    # Nothing is fitted, so no count of the training side is read to fit: an atlas of any size can be embedded.
    monkeypatch.setattr("cytolabe.apply.embed.train_view", None)
    document, _ = embed_fold(
        snapshot, model="geneformer", split_file=split, fold_id="1", seed=0, out=tmp_path / "e.zarr",
        checkpoint=trained[0], panels="flag", layer=0, pooling="mean",
    )  # fmt: skip
    assert (document["n_cells"], document["n_dims"]) == (120, 16)
    facts = json.loads((tmp_path / "e.zarr" / "zarr.json").read_bytes())["attributes"]
    assert facts["layer"] == "hidden state 2 of 0..2 (layer 0 of the published code)"
    assert facts["details"]["weights"] == trained[1]["weights"]


def test_a_killed_training_ends_with_the_bytes_of_one_that_was_not(trained, snapshot, split, config, tmp_path):
    def die(message):
        if message.startswith("step 8 "):
            raise Killed

    with pytest.raises(Killed):
        pretrain_geneformer(
            snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path, on_progress=die)
        )
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000006"]
    document = pretrain_geneformer(snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path))
    assert {**document, "model": ""} == {**trained[1], "model": ""}
    names = sorted(path.name for path in trained[0].iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all((tmp_path / name).read_bytes() == (trained[0] / name).read_bytes() for name in names)


def test_on_ray_the_cells_the_plan_and_the_card_are_the_same(trained, snapshot, split, config, tmp_path, monkeypatch):
    asked = []

    def here(objective, plan, *, seed, folder, workers, on_step):
        asked.append(workers)
        return train(objective, plan, seed=seed, folder=folder, on_step=on_step)

    monkeypatch.setattr(training_means, "train_on_ray", here)
    on_ray = dataclasses.replace(config, engine="ray", address="head:6379")
    pretrain_geneformer(snapshot, on_ray, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path))
    assert [(one.n_workers, one.address) for one in asked] == [(1, "head:6379")]
    for path in trained[0].iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_engine_that_is_none_and_an_address_without_ray_are_refused(snapshot, split, config, tmp_path):
    for changes, told in (({"engine": "dask"}, "none of local, ray"), ({"address": "head:6379"}, "needs --engine ray")):
        asked = dataclasses.replace(config, **changes)
        with pytest.raises(UsageError, match=told):
            pretrain_geneformer(snapshot, asked, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path))
    (tmp_path / "c.toml").write_text('engine = "ray"\n' + CONFIG)
    with pytest.raises(UsageError, match="engine"):
        read_pretraining(tmp_path / "c.toml")


def test_the_curve_and_its_picture_tell_every_step(trained):
    out, document = trained
    curve = json.loads((out / "training.json").read_bytes())
    assert [step["number"] for step in curve["steps"]] == list(range(1, 13))
    assert document["best_step"] in (4, 8, 12)
    picture = ET.fromstring((out / "loss.svg").read_bytes())  # noqa: S314 - our own bytes
    kinds = [element.get("class") for element in picture.iter()]
    assert kinds.count("held-point") == 3
    assert kinds.count("floor") == 1
    assert curve["floor_loss"] == pytest.approx(document["floor_loss"]) != pytest.approx(document["held_out_loss"])
    assert {"train", "held"} <= set(kinds)


def test_medians_are_of_training_cells_only(snapshot):
    fold = folds(snapshot)[0]
    known = dictionaries_of_cells(snapshot, fold.train_rows)
    genes = snapshot.measured_genes(str(snapshot.cells["dataset_id"].iloc[fold.train_rows[0]]))
    counts = snapshot.counts(fold.train_rows, genes).toarray()
    values = counts / counts.sum(axis=1, keepdims=True) * 10_000
    for column, gene in enumerate(genes[:50]):
        present = values[counts[:, column] > 0, column]
        assert known.medians.get(gene, 0) == pytest.approx(np.median(present) if len(present) else 0, rel=0.011)


def test_a_panel_a_used_folder_and_a_fold_that_is_not_there_are_refused(trained, snapshot, split, config, tmp_path):
    with pytest.raises(RefusedError, match=r"birch: .*R3"):
        pretrain_geneformer(
            snapshot,
            dataclasses.replace(config, panels="refuse"),
            TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "a"),
        )
    with pytest.raises(ConflictError, match="folder of its own"):
        pretrain_geneformer(snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=trained[0]))
    with pytest.raises(UsageError, match="--fold"):
        pretrain_geneformer(snapshot, config, TrainingOrder(split=split, fold="7", seed=3, out=tmp_path / "b"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[training]\nn_steps = 0\n", "n_steps = 0"),
        ("[training]\nsteps = 3\n", "steps"),
        ("[network]\nlayers = 3\n[training]\nn_steps = 3\n", "layers"),
        ('preset = "tiny"\n', "n_steps is needed"),
        ("presets = 1\n", "preset"),
        ("[training\n", "cannot be read"),
    ],
)
def test_a_training_file_that_cannot_be_followed_names_the_place(tmp_path, text, told):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError, match=told):
        read_pretraining(tmp_path / "c.toml")


def test_the_training_file_that_is_shipped_is_read():
    shipped = read_pretraining(Path(__file__).parents[2] / "studies" / "geneformer_small.toml")
    assert (shipped.preset, shipped.plan.n_steps, shipped.panels) == ("small", 2000, "refuse")
