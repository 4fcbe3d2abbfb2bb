"""An scGPT trained on one side of a split: what it saw, that a kill changes nothing, and what a file may say."""

import dataclasses
import json
from pathlib import Path

import pytest

from cytolabe.audit.fit_scopes import check_fit_scopes
from cytolabe.errors import ConflictError, RefusedError, UsageError
from cytolabe.flow.pretrain_scgpt import pretrain_scgpt, read_scgpt_training
from cytolabe.flow.splits import embed_fold
from cytolabe.flow.splitting import AskedSplit, make_split, rule_asked
from cytolabe.flow.training_files import TrainingOrder
from cytolabe.models import training, training_means
from cytolabe.models.ray_training import RayWorkers
from cytolabe.models.registry import make_model
from cytolabe.provenance import cells_digest
from cytolabe.records import Protocol
from cytolabe.split import split_of

pytestmark = pytest.mark.models

CONFIG = """
preset = "tiny"
panels = "flag"
ties = "mid"
max_length = 40
tokens_per_minibatch = 1024
held_out_fraction = 0.2

[training]
n_steps = 8
learning_rate = 0.003
warm_up = 2
check_every = 4
"""
MANY = "check_every = 2\nsave_every = 3\naccumulation = 2\nschedule = 'cosine'\nweight_decay = 0.1\nclip_norm = 0.5"


class Killed(BaseException):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def snapshot(needs, two_labs):
    needs("torch", "safetensors")
    return two_labs


@pytest.fixture(scope="module")
def split(two_labs_split):
    return two_labs_split


def read(folder, text=CONFIG):
    (folder / "small.toml").write_text(text)
    return read_scgpt_training(folder / "small.toml")


@pytest.fixture(scope="module")
def trained(snapshot, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder / "model", pretrain_scgpt(
        snapshot, read(folder), TrainingOrder(split=split, fold="1", seed=3, out=folder / "model")
    )


def test_the_model_says_which_cells_it_saw_and_is_refused_on_another_split(trained, snapshot):
    out, document = trained
    card = make_model("scgpt", checkpoint=out, expected=document["weights"], panels="flag").card
    assert (card.protocol, card.pretraining) == (Protocol.SELF_SUPERVISED, ())
    folds = split_of(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("dataset",))))).folds
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
    for number, fold in enumerate(folds):
        digest = cells_digest(ids[fold.train_rows].tolist())
        assert bool(check_fit_scopes(card.scopes, allowed={digest: "training cells"})) == (number == 1)
    assert (document["n_cells"], document["n_genes"], document["n_cells_held_out"]) == (60, 250, 20)
    assert any("1 training person(s)" in note for note in document["notes"])


def test_the_folder_has_the_curve_and_its_picture_and_no_checkpoints(trained):
    out, document = trained
    assert sorted(path.name for path in out.iterdir()) == [
        "args.json", "loss.svg", "model.safetensors", "training.json", "vocab.json",
    ]  # fmt: skip
    curve = json.loads((out / "training.json").read_text())
    assert [step["number"] for step in curve["steps"]] == list(range(1, 9))
    assert curve["steps"][-1]["loss"] == pytest.approx(document["loss"], rel=1e-5)
    assert "<svg" in (out / "loss.svg").read_text()


def test_the_floor_of_gene_means_stands_beside_the_held_out_loss_in_curve_picture_and_notes(trained):
    out, document = trained
    curve, errors = json.loads((out / "training.json").read_text()), document["hidden_values"]
    own = sum(errors[way] for way in ("from_genes", "from_cell", "from_embedding"))
    assert own == pytest.approx(document["held_out_loss"], rel=1e-5)
    assert document["floor_loss"] == pytest.approx(3 * errors["gene_means"]) == curve["floor_loss"]
    assert curve["hidden_values"] == pytest.approx(errors)
    picture = (out / "loss.svg").read_text()
    assert "dashed: mean of each gene alone" in picture
    assert picture.count('class="floor"') == 1
    told = f"{errors['from_genes']:.2f} from the other genes"
    assert any(told in note and "by the mean of each gene alone" in note for note in document["notes"])


def test_it_embeds_cells_of_both_sides_by_the_command_that_embeds(trained, snapshot, split, tmp_path, monkeypatch):
    # Nothing is fitted, so no count of the training side is read to fit: an atlas of any size can be embedded.
    monkeypatch.setattr("cytolabe.apply.embed.train_view", None)
    document, _ = embed_fold(
        snapshot, model="scgpt", split_file=split, fold_id="1", seed=0, out=tmp_path / "e.zarr", checkpoint=trained[0],
        panels="flag",
    )  # fmt: skip
    assert (document["n_cells"], document["n_dims"]) == (120, 32)
    told = json.loads((tmp_path / "e.zarr" / "zarr.json").read_text())["attributes"]
    assert told["details"]["weights"] == trained[1]["weights"]


def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(trained, snapshot, split, tmp_path, monkeypatch):
    save, n_saved = training.save_progress, []

    def die(*arguments, **named):
        save(*arguments, **named)
        n_saved.append(1)
        raise Killed

    monkeypatch.setattr(training, "save_progress", die)
    config = read(tmp_path, CONFIG.replace("check_every = 4", MANY))
    with pytest.raises(Killed):
        pretrain_scgpt(snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "model"))
    monkeypatch.setattr(training, "save_progress", save)
    told = []
    again = pretrain_scgpt(
        snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "model", on_progress=told.append)
    )
    assert len(n_saved) == 1
    assert not any("step 3 " in line for line in told)
    assert any("step 4 " in line for line in told)
    whole = pretrain_scgpt(snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "whole"))
    curves = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("model", "whole")]
    assert curves[0] == curves[1]
    assert {step["epoch"] for step in curves[0]["steps"]} > {0}
    assert again["weights"] == whole["weights"] != trained[1]["weights"]


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_processes_are_those_that_the_file_or_the_command_says_and_change_no_byte(
    trained, snapshot, split, tmp_path, monkeypatch, engine
):
    asked = []

    def here(objective, plan, *, workers=None, n_processes=1, **more):
        asked.append((n_processes, workers))
        return training.train(objective, plan, **more)

    monkeypatch.setattr(training_means, "train" if engine == "local" else "train_on_ray", here)
    config = read(tmp_path, "processes = 2\n" + CONFIG)
    address = "head:6379" if engine == "ray" else ""
    config = dataclasses.replace(config, engine=engine, address=address)
    pretrain_scgpt(snapshot, config, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "model"))
    workers = RayWorkers(n_workers=2, address="head:6379")
    assert asked == [(2, None) if engine == "local" else (1, workers)]
    for path in trained[0].iterdir():
        assert (tmp_path / "model" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_second_training_into_the_folder_and_a_panel_are_refused(trained, snapshot, split, tmp_path):
    with pytest.raises(ConflictError, match="holds a model already"):
        pretrain_scgpt(snapshot, read(tmp_path), TrainingOrder(split=split, fold="1", seed=3, out=trained[0]))
    strict = read(tmp_path, CONFIG.replace('panels = "flag"', ""))
    with pytest.raises(RefusedError, match="rule R3"):
        pretrain_scgpt(snapshot, strict, TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("n_steps = 3", "[training] with n_steps"),
        ("[training]\nn_steps = 3\nlearning_rat = 0.1", "learning_rat"),
        ("checkpoint = 'x'\n[training]\nn_steps = 3", "checkpoint"),
        ("preset = 'huge'\n[training]\nn_steps = 3", "none of tiny, small, base"),
        ("[training]\nn_steps = 'many'", "a value of type int"),
        ("[training", "cannot be read"),
        ("[training]\nn_steps = 3\nschedule = 'step'", "schedule = 'step'"),
        ("[training]\nn_steps = 3\nprecision = 'float16'", "precision = 'float16'"),
        ("engine = 'ray'\n[training]\nn_steps = 3", "engine"),
    ],
)
def test_a_training_file_that_means_nothing_is_refused_with_its_cause(text, told, tmp_path):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)


def test_the_shipped_training_file_is_read_and_whole_numbers_are_rates():
    shipped = read_scgpt_training(Path(__file__).parents[2] / "studies" / "scgpt_small.toml")
    shipped = shipped.learning
    assert (shipped.preset, shipped.n_steps, shipped.learning_rate) == ("small", 2000, 0.001)


def test_a_rate_may_be_written_as_a_whole_number(tmp_path):
    assert read(tmp_path, "[training]\nn_steps = 3\nlearning_rate = 1").learning.learning_rate == 1.0
