"""`cytolabe train geneformer_cells`: several questions about cells, each judged by itself beside controls, and a folder that opens."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cytolabe.apply.tokens import dictionaries_of_cells, tokens_of_cells
from cytolabe.errors import IntegrityError, UnreadableInputError
from cytolabe.files import sha256_of_file
from cytolabe.flow import cell_tasks
from cytolabe.models.geneformer.checkpoint import CheckpointCard, save_pretrained
from cytolabe.models.geneformer.head_files import load_cell_tasks
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape
from cytolabe.models.scopes import fit_scope
from cytolabe.records import Protocol
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.run_ledger import read_runs
from cytolabe.split import read_split

pytestmark = pytest.mark.models
CONFIG = """
checkpoint = "model"
tasks = ["cell_type", "sex"]
panels = "flag"
held_out_fraction = 0.2

[training]
n_steps = 3
learning_rate = 0.01
save_every = 1
schedule = "constant"
accumulation = 2
precision = "bfloat16"
"""


@pytest.fixture(scope="module")
def desk(frozen, call, tmp_path_factory):
    """Return a folder with a copy of the atlas, a split by person, a checkpoint of its training side, and a training file."""
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    folder = tmp_path_factory.mktemp("cells")
    shutil.copytree(frozen, folder / "atlas")
    split = call("split", folder / "atlas", "--by", "component", "-o", folder / "split.json", "--json")
    assert split.code == 0, split.err
    snapshot = open_atlas(folder / "atlas").snapshot("v1")
    rows = read_split(folder / "split.json", snapshot).folds[1].train_rows
    ids = snapshot.cells["cell_id"].iloc[rows].tolist()
    for name, scopes in (("model", ("geneformer/medians", "geneformer/weights")), ("elsewhere", ())):
        known = dictionaries_of_cells(snapshot, rows)
        shape = GeneformerShape(
            n_tokens=len(known.tokens), n_layers=1, width=16, n_heads=2, feed_forward=16, n_positions=48
        )
        about = CheckpointCard(
            weights="", dictionaries={}, protocol=Protocol.SELF_SUPERVISED, pretraining=(),
            scopes=tuple(fit_scope(step, ids if scopes else ids[:-1]) for step in scopes or ("geneformer/weights",)),
        )  # fmt: skip
        save_pretrained(folder / name, blank_network(shape, seed=0), shape=shape, dictionaries=known, about=about)
    (folder / "config.toml").write_text(CONFIG)
    return folder


def train(call, desk, out, *words, config="config.toml"):
    return call("train", "geneformer_cells", desk / "atlas", "--split", desk / "split.json", "--fold", "2", "--config", desk / config, "-o", out, "--json", *words)  # fmt: skip


@pytest.fixture(scope="module")
def trained(call, desk):
    called = train(call, desk, desk / "trained")
    assert called.code == 0, called.out + called.err
    return called.document


def test_every_task_is_answered_beside_floors_each_task_alone_and_a_random_network(trained, desk):
    assert [one["task"] for one in trained["tasks"]] == ["cell_type", "sex"]
    for one in trained["tasks"]:
        assert [row["name"] for row in one["models"]] == [
            "majority",
            "metadata_only",
            "geneformer",
            "single_task",
            "random",
        ]
        assert sum(row["n_test"] for row in one["classes"]) == one["n_test"]
    answers = pd.read_parquet(desk / "trained" / "answers.parquet")
    assert set(answers["model"]) == {"geneformer", "single_task", "random"}
    assert not answers.duplicated(["cell_id", "task", "model"]).any()
    snapshot = open_atlas(desk / "atlas").snapshot("v1")
    tested = snapshot.cells["cell_id"].iloc[read_split(desk / "split.json", snapshot).folds[1].test_rows]
    assert set(answers["cell_id"]) <= set(tested)


def test_what_a_number_is_worth_stands_beside_it(trained, desk):
    scores = json.loads((desk / "trained" / "cell_scores.json").read_bytes())["scores"]
    assert {row["task"] for row in scores} == {"cell_tasks"}
    by_type = [row for row in scores if row["resolution"] == "cell_type" and row["model"] == "geneformer"]
    assert {"all", "rare"} <= {row["stratum"] for row in by_type}
    assert any(row["stratum"].startswith("class:") for row in by_type)
    headline = next(row for row in by_type if (row["metric"], row["stratum"]) == ("macro_f1", "all"))
    assert headline["status"] == "QUALIFIED"
    assert "single seed" in headline["reason"]
    assert "not converged" in headline["reason"]
    card = json.loads((desk / "trained" / "model_card.json").read_bytes())
    assert (card["protocol"], card["weights_digest"]) == ("fine_tuned", trained["weights"])
    assert [scope["step"] for scope in card["scopes"]] == [
        "geneformer/medians",
        "geneformer/weights",
        "geneformer/classes",
    ]
    certificate = json.loads((desk / "trained" / "certificate.json").read_bytes())["certificates"][1]
    fits = [one for one in certificate["tests"] if one["test"].startswith("fit scope of")]
    names = {one["test"].removeprefix("fit scope of ") for one in fits}
    assert names == {"geneformer", "single_task", "random", "majority"}  # metadata_only knew no level of the test side
    assert all(one["n_found"] == 0 for one in fits)


def test_the_verifier_that_lies_beside_agrees_with_certificates_and_scores(trained, desk, tmp_path):
    def verified(scores):
        words = ["verify_certificate.py", "certificate.json", desk / "split.json", "cells.tsv", scores]
        asked = [sys.executable, *map(str, words)]
        return subprocess.run(asked, cwd=desk / "trained", capture_output=True, text=True, check=False)  # noqa: S603

    found = verified("cell_scores.json")
    assert found.returncode == 0, found.stdout
    said = json.loads((desk / "trained" / "cell_scores.json").read_bytes())
    said["scores"][0]["certificate"] = "sha256:0"
    (tmp_path / "wrong.json").write_text(json.dumps(said))
    assert verified(tmp_path / "wrong.json").returncode == 1


def test_a_checkpoint_that_was_trained_on_other_cells_than_the_training_side_refuses_every_score(call, desk, tmp_path):
    (desk / "seeds.toml").write_text(CONFIG.replace("panels", "n_seeds = 2\npanels"))
    called = train(call, desk, tmp_path / "out", "--checkpoint", desk / "elsewhere", "--task", "cell_type", config="seeds.toml")  # fmt: skip
    rows = {row["name"]: row for row in called.document["tasks"][0]["models"]}
    assert "single_task" not in rows
    assert rows["geneformer"]["status"] == "REFUSED"
    assert "E-LEAK-04" in rows["geneformer"]["reason"]
    assert rows["geneformer"]["macro_f1"] is None
    # With the number of a control beside it, a gain would give the refused number away.
    assert [row["gain"] for row in rows.values() if row["gain"] is not None] == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Nothing can be said" in page
    assert "Confusion matrix of geneformer," not in page
    assert rows["random"]["status"] == "QUALIFIED"
    assert "2 seeds" in rows["random"]["reason"]
    scores = json.loads((tmp_path / "out" / "cell_scores.json").read_bytes())["scores"]
    random = next(row for row in scores if row["model"] == "random" and (row["metric"], row["stratum"]) == ("macro_f1", "all"))  # fmt: skip
    assert random["value"] == pytest.approx(np.mean(list(random["seeds"].values())))


def test_cells_without_a_label_of_a_task_are_masked_in_it_counted_and_kept_in_the_others(trained, desk):
    cells = open_atlas(desk / "atlas").snapshot("v1").cells
    by_name = {one["task"]: one for one in trained["tasks"]}
    silent = int((cells["dataset_id"] == "elm").sum())
    assert silent > 100
    # elm does not say whose cells are whose sex: what amber says is learned, and the types of elm are learned as well.
    assert by_name["sex"]["n_masked"] >= silent
    assert by_name["sex"]["n_train"] < by_name["cell_type"]["n_train"] <= trained["n_cells"]
    notes = next(row["notes"] for row in by_name["sex"]["models"] if row["name"] == "geneformer")
    assert f"{by_name['sex']['n_masked']} training cells are masked in this task" in notes


def test_the_folder_opens_to_the_model_that_answered(trained, desk, tmp_path):
    snapshot = open_atlas(desk / "atlas").snapshot("v1")
    heads, known = load_cell_tasks(desk / "trained")
    answers = pd.read_parquet(desk / "trained" / "answers.parquet").query(
        "model == 'geneformer' and task == 'cell_type'"
    )
    rows = np.flatnonzero(snapshot.cells["cell_id"].isin(answers["cell_id"]))
    cells, _ = tokens_of_cells(snapshot, rows, dictionaries=known, max_length=48, panels="flag")
    output = heads.predict(cells)[0]["cell_type"]
    said = np.array(output.classes, dtype=object)[output.probability.argmax(axis=1)]
    assert dict(zip(snapshot.cells["cell_id"].iloc[rows], said, strict=True)) == dict(zip(answers["cell_id"], answers["answer"], strict=True))  # fmt: skip
    copy = shutil.copytree(desk / "trained", tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_cell_tasks(copy)
    said = json.loads((copy / "head.json").read_bytes())
    steps = {"schedule": "constant", "accumulation": 2, "precision": "bfloat16", "clip_norm": 1.0}
    assert steps.items() <= said["about"]["options"].items()
    (copy / "head.json").write_text(json.dumps({name: value for name, value in said.items() if name != "tasks"}))
    with pytest.raises(UnreadableInputError, match="tasks"):
        load_cell_tasks(copy)


def test_the_run_is_in_the_ledger_with_the_weights_that_it_began_with(trained, desk):
    runs = [run.body for run in read_runs(open_atlas(desk / "atlas").layout) if run.kind == "train"]
    (run,) = [run for run in runs if run["made"][0]["name"] == "trained"]
    assert run["made"][0]["digest"] == trained["weights"]
    assert {one["role"] for one in run["inputs"]} == {"split", "config", "model"}
    page = desk / "trained" / "report.html"
    assert [one["sha256"] for one in run["outputs"] if one["role"] == "report"] == [sha256_of_file(page)]
    assert trained["weights"] in page.read_text()


class Killed(BaseException):
    """Stands for a signal: nothing may catch it."""


def test_a_killed_training_goes_on_to_the_bytes_of_one_that_was_not(call, trained, desk, tmp_path, monkeypatch):
    whole, fits = cell_tasks.fit_task_heads, []

    def dies_in_the_third(*words, **options):
        fits.append(options["tasks"])
        if len(fits) == 3:
            raise Killed
        return whole(*words, **options)

    monkeypatch.setattr(cell_tasks, "fit_task_heads", dies_in_the_third)
    with pytest.raises(Killed):
        train(call, desk, tmp_path / "out")
    assert not (tmp_path / "out" / "model_card.json").exists()
    assert len(list((tmp_path / "out" / "checkpoints").glob("*/step-00000003"))) == 2
    monkeypatch.setattr(cell_tasks, "fit_task_heads", whole)
    again = train(call, desk, tmp_path / "out")
    assert again.document["weights"] == trained["weights"]
    for path in (desk / "trained").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name
    assert train(call, desk, tmp_path / "out").code == 5


@pytest.mark.parametrize(
    ("words", "change", "told"),
    [
        (("--task", "assay"), ("", ""), "how a cell was made"),
        (("--task", "sex", "--task", "sex"), ("", ""), "sex more than once"),
        (("--task", "contributed.nothing"), ("", ""), "has a column 'nothing'"),
        ((), ("tasks =", "task ="), "task"),
        ((), ('"sex"', "3"), "no text"),
        ((), ('checkpoint = "model"', ""), "No checkpoint"),
        ((), ('panels = "flag"', "n_seeds = 0"), "n_seeds = 0"),
    ],
    ids=["technical", "twice", "no column", "key", "type", "no checkpoint", "no seed"],
)
def test_what_cannot_be_asked_is_refused(call, desk, tmp_path, words, change, told):
    (desk / "wrong.toml").write_text(CONFIG.replace(*change) if change[0] else CONFIG)
    called = train(call, desk, tmp_path / "out", *words, config="wrong.toml")
    assert called.code == 2
    assert told in called.document["error"]["message"]


def test_options_of_another_training_are_not_passed_over(call, desk, tmp_path):
    called = call("train", "geneformer", desk / "atlas", "--split", desk / "split.json", "--config", desk / "config.toml", "-o", tmp_path / "o", "--json", "--task", "sex")  # fmt: skip
    assert called.code == 2
