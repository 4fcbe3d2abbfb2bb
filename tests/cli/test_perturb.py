"""`cytolabe perturb` on the simulated atlas, by a network that one gene was planted in."""

import csv
import importlib.util
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from cytolabe.apply.tokens import dictionaries_of_cells
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.checkpoint import CheckpointCard, from_pretrained, network_digest, save_pretrained
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape
from cytolabe.records import Protocol
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.run_ledger import read_runs

pytestmark = pytest.mark.models
QUICK = ("--option", "panels=flag", "--option", "layer=0", "--cells", "40", "--matched", "25")


@pytest.fixture(scope="module")
def atlas(frozen, tmp_path_factory):
    """Return a copy that these tests may write records into."""
    return shutil.copytree(frozen, tmp_path_factory.mktemp("perturbed") / "atlas")


@pytest.fixture(scope="module")
def model(frozen, tmp_path_factory):
    """Return a folder and genes of like frequency, the first of which moves every vector far; the last is the rarest."""
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    snapshot = open_atlas(frozen).snapshot("v1")
    known = dictionaries_of_cells(snapshot, np.arange(snapshot.n_cells))
    genes = sorted(set.intersection(*(set(snapshot.measured_genes(name)) for name in snapshot.datasets)))
    n_cells = np.asarray((snapshot.counts(np.arange(snapshot.n_cells), genes) > 0).sum(axis=0)).ravel()
    by_frequency = [genes[place] for place in np.argsort(-n_cells) if n_cells[place]]
    common = [*by_frequency[100:130], by_frequency[-1]]
    shape = GeneformerShape(
        n_tokens=len(known.tokens), n_layers=1, width=64, n_heads=1, feed_forward=16, n_positions=300
    )
    network, torch = blank_network(shape, seed=0), import_extra("torch")
    with torch.no_grad():
        direction = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)
        network.bert.embeddings.word_embeddings.weight[known.tokens[common[0]]] = 60 * direction
        reads = network.bert.encoder.layer[0].attention.self
        # Wherever that token stands, every position attends to it and to hardly any other.
        reads.query.weight.zero_()
        reads.query.bias.copy_(4 * direction)
        reads.key.weight.copy_(torch.eye(64))
        reads.value.weight.mul_(20)
    folder = tmp_path_factory.mktemp("planted") / "model"
    about = CheckpointCard(weights="", dictionaries={}, protocol=Protocol.SELF_SUPERVISED, pretraining=())
    save_pretrained(folder, network, shape=shape, dictionaries=known, about=about)
    return folder, common


def rows_of(called):
    assert called.code == 0, called.out + called.err
    return {row["genes"]: row for row in called.document["perturbations"]}


def test_a_planted_gene_moves_vectors_farther_than_matched_ones_and_others_do_not(call, atlas, model, tmp_path):
    folder, common = model
    asked = ",".join(common[:4])
    called = call("perturb", atlas, "--checkpoint", folder, "--delete", asked, *QUICK, "-o", tmp_path / "p.parquet", "--json")  # fmt: skip
    rows = rows_of(called)
    assert rows[common[0]]["p_value"] == pytest.approx(1 / 26)
    assert rows[common[0]]["effect"] < rows[common[0]]["effect_of_matched"] < 1
    others = [rows[gene] for gene in common[1:4]]
    assert sum(row["p_value"] > 0.1 for row in others) >= 2
    assert all(row["q_value"] >= row["p_value"] for row in rows.values())
    assert all(row["n_cells"] == row["n_cells_detected"] <= 40 for row in rows.values())
    assert "not an effect of a gene on a cell" in called.document["reading"]
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["genes"].to_pylist() == common[:4]
    assert b"no evidence of a cause" in table.schema.metadata[b"reading"]
    again = call("perturb", atlas, "--checkpoint", folder, "--delete", asked, *QUICK, "-o", tmp_path / "q.tsv", "--json")  # fmt: skip
    assert rows_of(again) == rows
    with (tmp_path / "q.tsv").open() as file:
        assert [float(row["effect"]) for row in csv.DictReader(file, delimiter="\t")] == [row["effect"] for row in rows.values()]  # fmt: skip


def test_random_weights_are_named_by_their_own_digest_and_not_by_that_of_the_checkpoint(call, atlas, model, tmp_path):
    folder, common = model
    words = ("--delete", common[0], "--option", "weights=random", *QUICK, "-o", tmp_path / "p.tsv", "--json")
    called = call("perturb", atlas, "--checkpoint", folder, *words)
    assert called.code == 0, called.out + called.err
    assert called.document["weights"] == called.document["facts"]["details"]["weights"]
    assert called.document["weights"] == network_digest(blank_network(from_pretrained(folder).shape, seed=0))


def test_pairs_are_tested_in_cells_that_have_both_and_a_goal_is_approached_or_not(call, atlas, model, tmp_path):
    folder, common = model
    words = ("--where", "dataset_id = 'amber'", "--goal", "dataset_id = 'birch'", "--combinations", "2")
    called = call("perturb", atlas, "--checkpoint", folder, "--delete", ",".join(common[1:4]), *words, *QUICK, "-o", tmp_path / "p.tsv", "--json")  # fmt: skip
    rows = rows_of(called)
    pairs = [f"{common[a]}+{common[b]}" for a, b in ((1, 2), (1, 3), (2, 3))]
    assert list(rows) == [*common[1:4], *pairs]
    assert all(row["measure"] == "goal_shift" for row in rows.values())
    for pair in pairs:
        assert rows[pair]["n_cells"] <= min(rows[gene]["n_cells"] for gene in pair.split("+"))
    assert (called.document["n_cells"], called.document["n_goal_cells"]) == (40, 40)
    both = call("perturb", atlas, "--checkpoint", folder, "--delete", common[1], "--goal", "dataset_id = 'amber'", *QUICK, "-o", tmp_path / "x.tsv", "--json")  # fmt: skip
    assert both.code == 2
    assert "part of the goal" in both.document["error"]["message"]
    few = call("perturb", atlas, "--checkpoint", folder, "--delete", common[1], "--goal", "dataset_id = 'amber'", *QUICK, "--cells", "1", "-o", tmp_path / "x.tsv", "--json")  # fmt: skip
    assert few.code == 2


def test_what_was_done_is_in_the_ledger_without_the_words_of_the_filter(call, own_atlas, model, tmp_path):
    folder, common = model
    where = "donor_id != 'nobody'"
    called = call("perturb", own_atlas, "--checkpoint", folder, "--overexpress", common[5], "--where", where, *QUICK, "-o", tmp_path / "p.parquet", "--json")  # fmt: skip
    assert rows_of(called)[common[5]]["n_cells"] == 40
    (run,) = [run for run in read_runs(open_atlas(own_atlas).layout) if run.kind == "perturb"]
    assert run.body["parameters"]["genes"] == [common[5]]
    assert "nobody" not in json.dumps(run.body)
    made = {one["role"]: one["digest"] for one in run.body["made"]}
    assert made == {"perturbation": called.document["content"]}
    assert [one["name"] for one in run.body["inputs"]] == ["model.safetensors"]
    assert call("verify", own_atlas, "--data", tmp_path, "--json").document["ok"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--delete", "NOGENE1"), 2, "no gene of"),
        (("--delete", "ENSG00000000000"), 2, "has never read it"),
        (("--delete", "A", "--overexpress", "B"), 2, "either --delete"),
        (("--delete", "COMMON,COMMON"), 2, "Name it once"),
        (("--delete", "COMMON", "--combinations", "2"), 2, "--combinations 2, of 1 gene"),
        (("--delete", "COMMON", "--where", "tissue = 'moon'"), 2, "No cell matches"),
        (("--delete", "COMMON", "--expect", "sha256:00"), 4, "expected was"),
        (("--delete", "COMMON", "--option", "panels=refuse"), 1, "R3"),
        (("--delete", "RARE", "--cells", "1"), 1, "None of 1 cells has"),
    ],
)
def test_what_cannot_be_perturbed_is_refused_by_name(call, atlas, model, tmp_path, words, code, told):
    folder, common = model
    named = [word.replace("COMMON", common[1]).replace("RARE", common[-1]) for word in words]
    called = call("perturb", atlas, "--checkpoint", folder, *QUICK, *named, "-o", tmp_path / "p.tsv", "--json")
    assert called.code == code, called.out
    assert told in called.document["error"]["message"]
    assert not (tmp_path / "p.tsv").exists()


def test_weights_that_are_no_numbers_are_refused_before_a_cell_is_read(call, atlas, model, tmp_path):
    folder, common = model
    torch = import_extra("torch")
    weights = import_extra("safetensors.torch").load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][5, 0] = torch.nan
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in folder.iterdir():
        if path.name not in ("card.json", "model.safetensors"):
            (bad / path.name).write_bytes(path.read_bytes())
    import_extra("safetensors.torch").save_file(weights, bad / "model.safetensors")
    called = call("perturb", atlas, "--checkpoint", bad, "--delete", common[1], *QUICK, "-o", tmp_path / "p.tsv", "--json")  # fmt: skip
    assert called.code == 4
    assert "word_embeddings.weight holds 1 values that are not finite" in called.document["error"]["message"]
