"""`cytolabe train geneformer` and `cytolabe train scgpt` as commands: a folder that opens, a record of the run, and what is refused."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

from cytolabe.models import training
from cytolabe.models.registry import make_model
from cytolabe.provenance import cells_digest
from cytolabe.snapshot.artifacts import read_artifacts
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.run_ledger import read_runs
from cytolabe.split import read_split

pytestmark = pytest.mark.models
TRAINING = """
[training]
n_steps = 6
learning_rate = 0.003
warm_up = 1
schedule = "cosine"
accumulation = 2
check_every = 3
save_every = 2
"""
TOP = {
    "geneformer": 'preset = "tiny"\nminibatch = 8\npanels = "flag"\nheld_out_fraction = 0.2\n\n[network]\nwidth = 16\nn_positions = 40\n',
    "scgpt": 'preset = "tiny"\ntokens_per_minibatch = 512\nmax_length = 32\npanels = "flag"\nheld_out_fraction = 0.2\n',
}
FLOORS = {"geneformer": "of gene frequencies alone", "scgpt": "of the mean of each gene alone"}
MODELS = pytest.mark.parametrize("model", list(TOP))


@pytest.fixture(scope="module")
def desk(frozen, split_file, tmp_path_factory):
    """Return a folder with a copy of the atlas, a split by component, and a training file of each model."""
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    folder = tmp_path_factory.mktemp("scratch")
    shutil.copytree(frozen, folder / "atlas")
    shutil.copy(split_file, folder / "split.json")
    for model, top in TOP.items():
        (folder / f"{model}.toml").write_text(top + TRAINING)
    return folder


def train(call, desk, model, out, *words, config=""):
    return call("train", model, desk / "atlas", "--split", desk / "split.json", "--config", desk / (config or f"{model}.toml"), "-o", out, "--seed", 3, *words)  # fmt: skip


@pytest.fixture(scope="module")
def trained(call, desk):
    """Return a function that gives the document of a model's training on fold 2, which is made once."""
    made = {}

    def document(model):
        if model not in made:
            called = train(call, desk, model, desk / model, "--fold", 2, "--json")
            assert called.code == 0, called.out + called.err
            made[model] = called.document
        return made[model]

    return document


@MODELS
def test_a_network_from_scratch_saw_the_training_side_and_says_so(trained, desk, model):
    document = trained(model)
    snapshot = open_atlas(desk / "atlas").snapshot("v1")
    rows = np.sort(read_split(desk / "split.json", snapshot).folds[1].train_rows)
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)[rows].tolist()
    assert (document["snapshot_id"], document["n_cells"]) == (snapshot.snapshot_id, len(rows))
    assert {scope["cells_digest"] for scope in document["scopes"]} == {cells_digest(ids)}
    assert document["n_steps"] == 6
    assert document["best_step"] in (3, 6)
    assert 0 < document["n_cells_held_out"] < len(rows)
    assert all(document[name] > 0 for name in ("loss", "held_out_loss", "floor_loss"))
    card = make_model(model, checkpoint=desk / model, expected=document["weights"], panels="flag").card
    assert (str(card.protocol), card.weights_digest) == ("self_supervised", document["weights"])
    assert not (desk / model / "checkpoints").exists()
    curve = json.loads((desk / model / "training.json").read_bytes())
    rates = [step["learning_rate"] for step in curve["steps"]]
    assert rates[0] == 0
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert "<svg" in (desk / model / "loss.svg").read_text()


@MODELS
def test_the_run_is_in_the_ledger_and_the_model_among_the_artifacts(trained, desk, model):
    document, layout = trained(model), open_atlas(desk / "atlas").layout
    (run,) = [run.body for run in read_runs(layout) if run.kind == "train" and run.body["made"][0]["name"] == model]
    assert run["made"][0]["digest"] == document["weights"]
    assert {one["role"] for one in run["inputs"]} == {"split", "config"}
    (artifact,) = [one for one in read_artifacts(layout) if one.name == model]
    assert (artifact.kind, artifact.digest) == ("model", document["weights"])


@MODELS
def test_what_was_trained_embeds_by_the_command_and_another_training_gets_another_folder(call, trained, desk, tmp_path, model):  # fmt: skip
    document = trained(model)
    words = ("--checkpoint", desk / model, "--expect", document["weights"], "--option", "panels=flag")
    embedded = call("embed", model, desk / "atlas", "--split", desk / "split.json", "--fold", 2, *words, "-o", tmp_path / "e.zarr", "--json")  # fmt: skip
    assert embedded.code == 0, embedded.out + embedded.err
    assert embedded.document["n_dims"] == {"geneformer": 16, "scgpt": 32}[model]
    again = train(call, desk, model, desk / model, "--fold", 2, "--json")
    assert (again.code, "a folder of its own" in again.document["error"]["message"]) == (5, True)


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


@MODELS
def test_a_killed_command_goes_on_to_the_bytes_of_one_that_was_not(call, trained, desk, tmp_path, monkeypatch, model):
    save, whole = training.save_progress, trained(model)

    def die(*words, **named):
        save(*words, **named)
        raise Killed

    monkeypatch.setattr(training, "save_progress", die)
    with pytest.raises(Killed):
        train(call, desk, model, tmp_path / model, "--fold", 2)
    assert [path.name for path in (tmp_path / model / "checkpoints").iterdir()] == ["step-00000002"]
    monkeypatch.setattr(training, "save_progress", save)
    called = train(call, desk, model, tmp_path / model, "--fold", 2)
    assert called.code == 0, called.out + called.err
    assert "step 2 of" not in called.err
    assert "step 3 of 6: loss" in called.err
    assert f"6 steps on {whole['n_cells']} cells, loss {whole['loss']:.3f}" in called.out
    assert f"{FLOORS[model]} {whole['floor_loss']:.3f}" in called.out
    names = sorted(path.name for path in (desk / model).iterdir())
    assert sorted(path.name for path in (tmp_path / model).iterdir()) == names
    for name in names:
        assert (tmp_path / model / name).read_bytes() == (desk / model / name).read_bytes(), name


@MODELS
def test_what_cannot_be_trained_is_refused_before_anything_is_written(call, desk, tmp_path, model):
    for name, change, words, code, told in (
        ("fold", ("", ""), (), 2, "--fold"),
        ("key", ("n_steps", "steps"), ("--fold", 2), 2, "steps"),
        ("few", ("accumulation = 2", ""), ("--fold", 2, "--processes", 2), 2, "a step has 1. Say accumulation = 2"),
        ("engine", ("", ""), ("--fold", 2, "--engine", "dask"), 2, "none of local, ray"),
        ("address", ("", ""), ("--fold", 2, "--address", "head:6379"), 2, "needs --engine ray"),
        ("task", ("", ""), ("--fold", 2, "--task", "sex"), 2, "--task is for geneformer_cells"),
        ("panel", ('panels = "flag"', ""), ("--fold", 2), 1, "R3"),
    ):
        text = (desk / f"{model}.toml").read_text()
        (desk / f"{name}.toml").write_text(text.replace(*change) if change[0] else text)
        called = train(call, desk, model, tmp_path / name, *words, "--json", config=f"{name}.toml")
        assert called.code == code, (name, called.out)
        assert told in called.document["error"]["message"]
        assert not list((tmp_path / name).glob("*"))
