"""`cytolabe train scanvi` and what a study makes of its folder, by the commands."""

import hashlib
import importlib.util
import shutil

import pytest

from cytolabe.snapshot.artifacts import read_artifacts
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import read_runs

pytestmark = pytest.mark.models
CONFIG = """
n_latent = 4
n_hidden = 8
n_top_genes = 100

[training]
max_epochs = 1
label_epochs = 1
"""


@pytest.fixture(scope="module")
def trained(call, frozen, split_file, tmp_path_factory):
    """Return a copy of the atlas, the folder beside it, and what the command said."""
    if not all(importlib.util.find_spec(module) for module in ("scvi", "torch", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    folder = tmp_path_factory.mktemp("scanvi")
    atlas = shutil.copytree(frozen, folder / "atlas")
    (folder / "small.toml").write_text(CONFIG)
    words = ["train", "scanvi", atlas, "--split", split_file, "--fold", "1", "--config", folder / "small.toml"]
    return folder, words, call(*words, "-o", folder / "model", "--task", "cell_type", "--json")


def test_a_folder_its_picture_and_a_run_that_names_both_networks(trained):
    folder, _, called = trained
    assert called.code == 0, called.err
    document = called.document
    assert document["n_labelled"] + document["n_unlabelled"] == document["n_cells"]
    assert sum(one["n_train"] for one in document["classes"]) == document["n_labelled"]
    names = {path.relative_to(folder / "model").as_posix() for path in (folder / "model").rglob("*") if path.is_file()}
    own = {"model_card.json", "scanvi.json", "weights.safetensors", "loss.svg", "split.json"}
    assert names == {*own, "scvi/model_card.json", "scvi/scvi.json", "scvi/weights.safetensors"}
    layout = Layout(folder / "atlas")
    run = next(run for run in read_runs(layout) if run.kind == "train")
    both = {
        hashlib.sha256((folder / "model" / name).read_bytes()).hexdigest()
        for name in ("weights.safetensors", "scvi/weights.safetensors")
    }
    assert both <= {result.digest.removeprefix("sha256:") for result in run.results}
    assert "model" in {artifact.kind for artifact in read_artifacts(layout)}


def test_classes_and_cells_are_told_on_the_terminal(trained, call):
    folder, words, called = trained
    told = call(*words, "-o", folder / "again")
    assert told.code == 0, told.err
    document = called.document
    assert f"{document['n_labelled']} cells with a label of cell_type, {document['n_unlabelled']} without" in told.out
    assert document["classes"][0]["name"] in told.out


def test_a_word_that_is_for_another_training_and_a_second_label_are_refused(trained, call, split_file):
    folder, words, _ = trained
    two = call(*words, "-o", folder / "two", "--task", "sex", "--task", "cell_type", "--json")
    assert (two.code, "one label of each cell, and 2 are asked for" in two.document["error"]["message"]) == (2, True)
    again = call(*words, "-o", folder / "model")
    assert (again.code, "holds a model already" in again.err) == (again.code, True)
    (folder / "empty.toml").write_text("")
    scvi = ["train", "scvi", *words[2:-1], folder / "empty.toml", "-o", folder / "scvi"]
    assert "--task is for geneformer_cells and scanvi; scvi learns no label" in call(*scvi, "--task", "sex").err
    assert "--checkpoint is for geneformer_cells" in call(*words, "-o", folder / "x", "--checkpoint", folder).err
    assert "scanvi is trained by one process here" in call(*words, "-o", folder / "x", "--processes", 2).err
