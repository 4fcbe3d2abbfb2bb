"""`cytolabe train geneformer_genes`: genes held out, controls beside, a folder that opens, and a record of the run."""

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest

from cytolabe.apply.tokens import dictionaries_of_cells, tokens_of_cells
from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.files import sha256_of_file
from cytolabe.models.geneformer.checkpoint import CheckpointCard, save_pretrained
from cytolabe.models.geneformer.head_files import load_gene_classes
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape
from cytolabe.records import Protocol
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.run_ledger import read_runs
from cytolabe.split import read_split

pytestmark = pytest.mark.models
CONFIG = """
checkpoint = "model"
genes = "genes.tsv"
n_folds = 2
n_cells = 60
panels = "flag"
held_out_fraction = 0.2

[training]
n_steps = 3
learning_rate = 0.01
schedule = "cosine"
weight_decay = 0.1
"""


@pytest.fixture(scope="module")
def desk(frozen, tmp_path_factory):
    """Return a folder with a copy of the atlas, a checkpoint, a split, a table of genes and a training file."""
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    folder = tmp_path_factory.mktemp("genes")
    shutil.copytree(frozen, folder / "atlas")
    snapshot = open_atlas(folder / "atlas").snapshot("v1")
    known = dictionaries_of_cells(snapshot, np.arange(snapshot.n_cells))
    shape = GeneformerShape(
        n_tokens=len(known.tokens), n_layers=1, width=16, n_heads=2, feed_forward=16, n_positions=80
    )
    about = CheckpointCard(weights="", dictionaries={}, protocol=Protocol.SELF_SUPERVISED, pretraining=())
    save_pretrained(folder / "model", blank_network(shape, seed=0), shape=shape, dictionaries=known, about=about)
    genes = known.genes[:60]
    rows = [f"{gene}\t{'odd' if number % 2 else 'even'}\tpair{number // 4}" for number, gene in enumerate(genes)]
    (folder / "genes.tsv").write_text(
        "\n".join(["gene\tclass\tgroup", *rows, "NOTAGENE\todd\t", "ENSG00000000001\teven\t"])
    )
    (folder / "config.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def trained(call, desk):
    split = call("split", desk / "atlas", "--by", "dataset", "-o", desk / "split.json", "--json")
    assert split.code == 0, split.err
    called = train(call, desk, desk / "trained", "--fold", "1")
    assert called.code == 0, called.out + called.err
    return called.document


def train(call, desk, out, *words, config="config.toml"):
    return call("train", "geneformer_genes", desk / "atlas", "--split", desk / "split.json", "--config", desk / config, "-o", out, "--json", *words)  # fmt: skip


def test_every_gene_is_answered_once_beside_a_random_network_and_floors(trained, desk):
    assert [row["name"] for row in trained["scores"]] == ["geneformer", "random", "abundance", "majority"]
    assert trained["status"] == "QUALIFIED"
    assert "one seed (rule R13b)" in trained["reasons"]
    assert trained["left_out"]["unknown"] == ["NOTAGENE"]
    assert trained["left_out"]["without_token"] == ["ENSG00000000001"]
    assert trained["n_genes"] + len(trained["left_out"]["never_detected"]) == 60
    model = trained["scores"][0]
    assert len(model["by_fold"]) == 2
    assert model["gain_low"] is None
    with (desk / "trained" / "genes.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == trained["n_genes"] == sum(trained["classes"].values())
    assert {row["fold"] for row in rows} == {"1", "2"}
    for row in rows:
        assert float(row["geneformer:odd"]) + float(row["geneformer:even"]) == pytest.approx(1, abs=1e-5)
        assert row["geneformer"] == ("odd" if float(row["geneformer:odd"]) > float(row["geneformer:even"]) else "even")


def test_the_folder_opens_to_the_model_of_its_digest_and_knows_which_genes_it_was_shown(trained, desk):
    snapshot = open_atlas(desk / "atlas").snapshot("v1")
    fitted = load_gene_classes(desk / "trained")
    card = json.loads((desk / "trained" / "model_card.json").read_bytes())
    assert (card["weights_digest"], card["protocol"]) == (trained["weights"], "fine_tuned")
    fold = read_split(desk / "split.json", snapshot).folds[0]
    assert card["scopes"] == trained["scopes"]
    assert (card["scopes"][-1]["step"], card["scopes"][-1]["n_cells"]) == ("geneformer/gene_classes", 60)
    cells, _ = tokens_of_cells(snapshot, fold.train_rows[:30], dictionaries=fitted.dictionaries, max_length=80, panels="flag")  # fmt: skip
    other = next(gene for gene in fitted.dictionaries.genes if gene not in fitted.genes)
    assert fitted.predict(cells, [other]).classes == ("even", "odd")
    with pytest.raises(UsageError, match="would be memory"):
        fitted.predict(cells, fitted.genes[:1])


def test_a_changed_or_half_written_folder_is_refused(trained, desk, tmp_path):
    copy = shutil.copytree(desk / "trained", tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_gene_classes(copy)
    said = json.loads((copy / "head.json").read_bytes())
    assert {"schedule": "cosine", "weight_decay": 0.1, "accumulation": 1}.items() <= said["about"]["options"].items()
    (copy / "head.json").write_text(json.dumps({name: value for name, value in said.items() if name != "classes"}))
    with pytest.raises(UnreadableInputError, match="classes"):
        load_gene_classes(copy)
    (copy / "head.json").unlink()
    with pytest.raises(UnreadableInputError, match="holds no fine-tuned Geneformer"):
        load_gene_classes(copy)


def test_the_run_is_in_the_ledger_with_the_table_and_the_weights_that_it_began_with(trained, desk):
    runs = [run.body for run in read_runs(open_atlas(desk / "atlas").layout) if run.kind == "train"]
    (run,) = [run for run in runs if run["made"][0]["name"] == "trained"]
    assert run["made"][0]["digest"] == trained["weights"]
    assert {one["role"] for one in run["inputs"]} == {"split", "config", "genes", "model"}
    page = desk / "trained" / "report.html"
    assert [one["sha256"] for one in run["outputs"] if one["role"] == "report"] == [sha256_of_file(page)]
    assert trained["weights"] in page.read_text()


def test_equal_calls_make_equal_bytes_and_a_used_folder_is_kept(call, trained, desk, tmp_path):
    again = train(call, desk, tmp_path / "again", "--fold", "1")
    names = sorted(path.name for path in (desk / "trained").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert all((tmp_path / "again" / name).read_bytes() == (desk / "trained" / name).read_bytes() for name in names)
    assert again.document["scores"] == trained["scores"]
    assert train(call, desk, desk / "trained", "--fold", "1").code == 5


def test_what_cannot_be_asked_is_refused_with_counts(call, trained, desk, tmp_path):
    lines = (desk / "genes.tsv").read_text().splitlines()
    (desk / "few.tsv").write_text(
        "\n".join([*(line for line in lines[:30] if "odd" not in line), f"{lines[2].split()[0]}\todd\t"])
    )
    texts = {
        "few": CONFIG.replace("genes.tsv", "few.tsv"),
        "key": CONFIG.replace("n_folds", "folds"),
        "word": CONFIG.replace('"flag"', '"maybe"'),
        "type": CONFIG.replace("n_cells = 60", 'n_cells = "60"'),
        "genes": CONFIG.replace('genes = "genes.tsv"', ""),
    }
    told = {"few": "odd (1)", "key": "folds", "word": "maybe", "type": "type int", "genes": "genes is needed"}
    for name, text in texts.items():
        (desk / f"{name}.toml").write_text(text)
        called = train(call, desk, tmp_path / name, "--fold", "1", config=f"{name}.toml")
        assert called.code != 0
        assert told[name] in called.document["error"]["message"]
    assert train(call, desk, tmp_path / "p", "--fold", "1", "--processes", "2").code == 2
