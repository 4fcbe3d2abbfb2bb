"""`cytolabe network` on the simulated atlas and on a file: tables of features, what they are of, and what they are not."""

import importlib.util
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from cytolabe.apply.tokens import dictionaries_of_cells
from cytolabe.files import sha256_of_file
from cytolabe.genes.reference import load_reference
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.checkpoint import CheckpointCard, from_pretrained, network_digest, save_pretrained
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape
from cytolabe.models.scgpt.checkpoint import load_scgpt, save_scgpt
from cytolabe.models.scgpt.learning import started
from cytolabe.models.scgpt.source import Learning
from cytolabe.records import Protocol
from cytolabe.snapshot.artifacts import read_artifacts
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import read_runs

pytestmark = pytest.mark.models
QUICK = ("--option", "panels=flag", "--cells", "30", "--neighbors", "3", "--json")


@pytest.fixture(scope="module")
def model(frozen, tmp_path_factory):
    """Return the folder of a tiny Geneformer over the genes of the atlas, as one that was trained on it."""
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    snapshot = open_atlas(frozen).snapshot("v1")
    known = dictionaries_of_cells(snapshot, np.arange(snapshot.n_cells))
    shape = GeneformerShape(
        n_tokens=len(known.tokens), n_layers=2, width=16, n_heads=2, feed_forward=16, n_positions=200
    )
    folder = tmp_path_factory.mktemp("trained") / "model"
    about = CheckpointCard(weights="", dictionaries={}, protocol=Protocol.SELF_SUPERVISED, pretraining=())
    save_pretrained(folder, blank_network(shape, seed=3), shape=shape, dictionaries=known, about=about)
    return folder


@pytest.fixture(scope="module")
def scgpt(tmp_path_factory):
    """Return the folder of a tiny scGPT over symbols of many genes, with a configuration as published."""
    if not all(importlib.util.find_spec(module) for module in ("torch", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    reference = load_reference()
    symbols = sorted({reference.primary.symbols[gene] for gene in reference.protein_coding} - {""})
    folder = tmp_path_factory.mktemp("scgpt") / "model"
    save_scgpt(started(Learning(preset="tiny"), symbols, seed=3, fields={}), folder)
    return folder


def test_a_checkpoint_of_scgpt_gives_rows_states_and_attention_of_its_genes(call, own_atlas, scgpt, tmp_path):
    words = ("network", "scgpt", own_atlas, "--checkpoint", scgpt, "--most-frequent", 8, "--attention", "raw", *QUICK)
    called = call(*words, "-o", tmp_path / "features")
    assert called.code == 0, called.out + called.err
    document = called.document
    assert (document["model"], document["weights_are"]) == ("scgpt", "checkpoint")
    assert (document["layer"], document["n_layers"], document["heads"]) == (2, 2, [0, 1, 2, 3])
    assert document["details"]["weights"] == f"sha256:{sha256_of_file(scgpt / 'model.safetensors')}"
    assert document["details"]["vocabulary"] == f"sha256:{sha256_of_file(scgpt / 'vocab.json')}"
    genes = pq.read_table(tmp_path / "features" / "genes.parquet")
    # By symbol in the vocabulary, by id in the atlas: the row of a gene is that of its own token.
    model = load_scgpt(scgpt)
    tokens = [model.vocabulary.tokens[symbol] for symbol in genes["symbol"].to_pylist()]
    rows = pq.read_table(tmp_path / "features" / "input.parquet")
    assert rows["gene"] == genes["gene"]
    torch = import_extra("torch")
    with torch.no_grad():
        expected = model.network.encoder(torch.tensor(tokens)).numpy()
    np.testing.assert_allclose(np.column_stack(rows.columns[1:]), expected, atol=1e-6)
    pairs = pq.read_table(tmp_path / "features" / "attention.parquet").to_pandas()
    of_query = pairs.groupby("query")["attention"].sum()
    assert pairs["attention"].dropna().between(0, 1).all()
    assert (of_query < 1).all()
    other = call(*words, "--option", "weights=random", "-o", tmp_path / "random")
    assert (other.document["weights_are"], other.document["content"] != document["content"]) == ("random", True)


def test_tables_hold_every_gene_and_pair_and_the_document_claims_nothing_about_regulation(call, own_atlas, model, tmp_path):  # fmt: skip
    out = tmp_path / "features"
    where = "donor_id != 'nobody'"
    called = call("network", "geneformer", own_atlas, "--checkpoint", model, "--most-frequent", 12, "--where", where, *QUICK, "-o", out)  # fmt: skip
    assert called.code == 0, called.out + called.err
    document = called.document
    assert "Nothing is claimed about regulation" in document["reading"]
    assert (document["layer"], document["n_layers"], document["heads"], document["precision"]) == (
        2,
        2,
        [0, 1],
        "float32",
    )
    assert document["details"]["weights"] == f"sha256:{sha256_of_file(model / 'model.safetensors')}"
    assert (document["n_cells"], document["n_genes"], document["n_pairs"]) == (30, 12, 144)
    stored = json.loads((out / "network.json").read_text(encoding="utf-8"))
    assert stored == {name: value for name, value in document.items() if name != "out"}
    assert {name: f"sha256:{sha256_of_file(out / name)}" for name in document["files"]} == document["files"]
    genes = pq.read_table(out / "genes.parquet")
    assert genes["n_cells"].to_pylist() == sorted(genes["n_cells"].to_pylist(), reverse=True)
    pairs = pq.read_table(out / "attention.parquet")
    assert [column.to_pylist().count(None) for column in pairs.columns] == [0, 0, document["n_pairs_never_together"], 0]
    assert pairs["query"].to_pylist()[:13:12] == genes["gene"].to_pylist()[:2]
    assert all(pq.read_table(out / f"{kind}.parquet")["gene"] == genes["gene"] for kind in ("input", "contextual"))
    neighbors = pq.read_table(out / "neighbors.parquet").to_pylist()
    assert len(neighbors) == 2 * 12 * 3
    assert all(row["gene"] != row["neighbor"] and -1 <= row["cosine"] <= 1 for row in neighbors)
    (run,) = [run for run in read_runs(Layout(own_atlas)) if run.kind == "network"]
    assert "nobody" not in json.dumps(run.body)
    assert {one["digest"] for one in run.body["made"]} == {document["content"]}
    assert "gene features" in {one.kind for one in read_artifacts(Layout(own_atlas))}
    again = call("network", "geneformer", own_atlas, "--checkpoint", model, "--most-frequent", 12, "--where", where, *QUICK, "-o", tmp_path / "again")  # fmt: skip
    assert (again.document["content"], again.document["files"]) == (document["content"], document["files"])
    taken = call("network", "geneformer", own_atlas, "--checkpoint", model, *QUICK, "-o", out)
    assert (taken.code, "is there already" in taken.document["error"]["message"]) == (2, True)


def test_a_file_in_no_atlas_is_read_and_random_weights_are_named_as_such(call, model, simulated, tmp_path):
    out = tmp_path / "features"
    words = ("--checkpoint", model, "--most-frequent", 5, "--option", "weights=random", "--attention", "none", "--layer", 1)  # fmt: skip
    called = call("network", "geneformer", simulated / "birch.h5ad", *words, *QUICK, "-o", out)
    assert called.code == 0, called.out + called.err
    document = called.document
    drawn = network_digest(blank_network(from_pretrained(model).shape, seed=0))
    assert (document["weights_are"], document["details"]["weights"]) == ("random", drawn)
    assert (document["snapshot_id"], document["file"]["name"]) == (None, "birch.h5ad")
    assert (document["layer"], document["attention"], document["heads"]) == (1, "none", [])
    assert not (out / "attention.parquet").exists()
    genes = ",".join(reversed(pq.read_table(out / "genes.parquet")["symbol"].to_pylist()))
    named = call("network", "geneformer", simulated / "birch.h5ad", *words[:2], "--genes", genes, *QUICK, "-o", tmp_path / "named")  # fmt: skip
    assert pq.read_table(tmp_path / "named" / "genes.parquet")["symbol"].to_pylist() == genes.split(",")
    assert named.document["weights_are"] == "checkpoint"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--genes", "NOGENE1"), 2, "no gene of"),
        (("--genes", "ENSG00000000000"), 2, "has never read it"),
        (("--most-frequent", "2001"), 2, "more than 2,000"),
        (("--layer", "3"), 2, "layers 1 to 2"),
        (("--heads", "0,2"), 2, "heads 0 to 1"),
        (("--heads", "first"), 2, "numbers from 0"),
        (("--attention", "mean"), 2, "none of rank"),
        (("--where", "tissue = 'moon'"), 2, "No cell matches"),
        (("--option", "layer=-1"), 2, "--layer says the layer"),
        (("--option", "panels=refuse"), 1, "R3"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(call, frozen, model, tmp_path, words, code, told):
    asked = ("network", "geneformer", frozen, "--checkpoint", model, *QUICK, *words, "-o", tmp_path / "features")
    called = call(*asked)
    assert called.code == code, called.out
    assert told in called.document["error"]["message"]
    assert not (tmp_path / "features").exists()


def test_a_model_without_genes_that_attend_is_refused(call, frozen, model, tmp_path):
    called = call("network", "pca", frozen, "--checkpoint", model, *QUICK, "-o", tmp_path / "features")
    assert called.code == 2
    assert "geneformer, scgpt" in called.document["error"]["message"]
