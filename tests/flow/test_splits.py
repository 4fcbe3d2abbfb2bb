"""Splits, audits and embeddings of an atlas, outside of a study."""

import json
import pickle

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from cytolabe.apply import embed
from cytolabe.apply.embed import FittedModel, embed_shards, fit_embedder, write_stored_embedding
from cytolabe.audit import find_copies, near_copies
from cytolabe.errors import UsageError
from cytolabe.flow import splits
from cytolabe.flow.interpret import reconcile_atlas
from cytolabe.flow.sources import ingest_sources
from cytolabe.flow.splits import audit_atlas, embed_fold
from cytolabe.flow.splitting import AskedSplit, cutoff_of, make_split, rule_asked
from cytolabe.genes.reference import load_reference
from cytolabe.models.cards import CARDS
from cytolabe.models.precomputed import read_precomputed
from cytolabe.models.pretraining import corpora
from cytolabe.models.protocols import EmbeddingFacts
from cytolabe.provenance import cells_digest
from cytolabe.snapshot import embeddings
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.embeddings import EmbeddingSpec, EmbeddingStore
from cytolabe.snapshot.strata import strata_of
from cytolabe.split import plan_rule, split_of, write_split
from cytolabe.split.document import plan_document

N_SHARED = 30
"""Cells of the first lab that the third one delivers again, under other names and with fewer genes."""


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """Return a snapshot of three labs, the third of which holds cells of the first, and a fourth with other genes."""
    folder = tmp_path_factory.mktemp("labs")
    genes = sorted(load_reference().protein_coding)[:900]
    rng = np.random.default_rng(11)
    depth = rng.uniform(0.03, 0.12, size=(60, 1))  # cells differ in how much of them was read
    counts = {name: rng.negative_binomial(0.6, depth, size=(60, 900)).astype(np.float32) for name in "abcd"}
    counts["c"][:N_SHARED] = counts["a"][:N_SHARED]
    columns = {"a": slice(0, 900), "b": slice(0, 700), "c": slice(100, 800), "d": slice(700, 900)}
    for name, matrix in counts.items():
        table = pd.DataFrame(
            {"cell_type": np.array(["B cells", "NK", "CD14+ Mono"])[np.arange(60) % 3], "donor_id": "d1"}
        )
        table.index = [f"{name}{i}" for i in range(60)]
        measured = pd.DataFrame(index=genes[columns[name]])
        anndata.AnnData(X=csr_matrix(matrix[:, columns[name]]), obs=table, var=measured).write_h5ad(
            folder / f"{name}.h5ad"
        )
    ingest_sources(folder / "atlas", [folder])
    reconcile_atlas(folder / "atlas")
    return open_atlas(folder / "atlas").freeze()


@pytest.fixture
def split_file(snapshot, tmp_path):
    """Return a split that leaves each component out."""
    path = tmp_path / "split.json"
    write_split(make_split(snapshot, rule_asked(snapshot, AskedSplit())), path)
    return path


def test_a_snapshot_that_was_asked_goes_to_another_process_and_answers_there(snapshot):
    question = "SELECT dataset_id, count(*) AS n FROM cells GROUP BY ALL ORDER BY dataset_id"
    answer = snapshot.query(question)
    elsewhere = pickle.loads(pickle.dumps(snapshot))  # noqa: S301, TID251 - our own bytes
    assert elsewhere.query(question).equals(answer)


def test_copies_are_named_as_in_the_table_of_all_cells(snapshot):
    found = find_copies(snapshot).pairs
    assert len(found) == N_SHARED
    for side in "ab":
        cells = snapshot.cells.iloc[found[f"{side}_row"]]
        assert found[f"cell_{side}"].tolist() == cells["cell_id"].tolist()
        assert found[f"dataset_{side}"].tolist() == cells["dataset_id"].tolist()


def test_copies_tie_their_data_sets_whatever_was_asked_for(snapshot):
    for by in (("dataset",), ("component",), ("person", "dataset")):
        split = split_of(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=by))))
        datasets = snapshot.cells["dataset_id"].to_numpy(dtype=object)
        held_out = sorted(tuple(sorted(set(datasets[fold.test_rows]))) for fold in split.folds)
        assert held_out == [("a", "c"), ("b",), ("d",)]


def test_what_was_not_searched_for_copies_is_told_beside_the_split_and_not_in_it(snapshot, monkeypatch):
    rule, told = rule_asked(snapshot, AskedSplit(by=("dataset",))), []
    usual = plan_document(make_split(snapshot, rule, on_finding=told.append))
    # Labs b and d share no gene, c and d a hundred.
    assert [(finding.code, finding.n_affected) for finding in told] == [("N-DUP-04", 1)]
    monkeypatch.setattr(near_copies, "MOST_CELLS", 50)
    assert plan_document(make_split(snapshot, rule, on_finding=told.append)) == usual
    assert [(finding.code, finding.n_affected) for finding in told[1:]] == [("N-DUP-04", 10)]


def test_a_share_and_folds_are_two_ways(snapshot):
    share = rule_asked(snapshot, AskedSplit(by=("dataset",), test_fraction=0.4))
    assert len(make_split(snapshot, share, seed=1).folds()) == 1
    folds = make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("dataset",), n_folds=2))).folds()
    assert len(folds) == 2
    assert sorted(np.concatenate([fold.test_rows for fold in folds]).tolist()) == list(range(240))


def test_the_audit_certifies_each_fold_and_counts_the_copies(snapshot, split_file, tmp_path):
    told = []
    document, findings = audit_atlas(snapshot, split_file=split_file, out=tmp_path / "out", on_progress=told.append)
    assert document["n_duplicates"] == N_SHARED
    assert len(told) == 4  # the comparison, and three folds
    assert not [finding for finding in findings if str(finding.severity) == "error"]
    assert pq.read_table(document["duplicates_path"]).num_rows == N_SHARED
    again, _ = audit_atlas(snapshot, split_file=split_file, out=tmp_path / "again")
    assert again["digest"] == document["digest"]
    one, other = ((tmp_path / name / "certificate.json").read_bytes() for name in ("out", "again"))
    assert one == other


def test_a_split_that_is_not_there_stops_before_anything_is_compared(snapshot, tmp_path):
    told = []
    with pytest.raises(Exception, match="not readable as a split"):
        audit_atlas(snapshot, split_file=tmp_path / "no.json", out=tmp_path / "out", on_progress=told.append)
    assert told == []
    assert not (tmp_path / "out").exists()


def test_an_embedding_uses_only_genes_that_all_of_the_fold_measure(snapshot, tmp_path):
    ids = snapshot.cells["dataset_id"]
    split = split_of(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("dataset",)))))
    write_split(split, tmp_path / "split.json")
    measured = [set(snapshot.measured_genes(name)) for name in sorted(set(ids))]
    assert not set.intersection(*measured)
    with pytest.raises(UsageError, match="No gene is measured by all of 4 data sets: a, b, c, d"):
        embed_fold(
            snapshot, model="pca", split_file=tmp_path / "split.json", fold_id="1", seed=0, out=tmp_path / "e.parquet"
        )
    assert not (tmp_path / "e.parquet").exists()


class _Described:
    """An embedder that says where in its network its answer comes from."""

    scopes, notes = (), ()
    facts = EmbeddingFacts(layer="2 (last)", pooling="<cls>", precision="float16", details={"weights": "sha256:7"})

    def embed(self, view):
        return np.ones((len(view.cell_ids), 3))


def test_what_an_embedder_says_of_itself_stands_in_the_store(snapshot, tmp_path, monkeypatch):
    asked = {}

    def fit(snapshot, model, *, train_rows, rows, genes, seed, **options):
        asked.update(options)
        card = CARDS["scgpt"]
        return FittedModel(snapshot=snapshot, name=model, card=card, genes=(), fitted=_Described())

    monkeypatch.setattr(splits, "fit_embedder", fit)
    monkeypatch.setattr(splits, "shared_genes", lambda frozen, rows: ())
    write_split(
        split_of(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("dataset",))))), tmp_path / "split.json"
    )
    embed_fold(
        snapshot, model="scgpt", split_file=tmp_path / "split.json", fold_id="1", seed=0, out=tmp_path / "e.zarr",
        checkpoint=tmp_path,
    )  # fmt: skip
    told = json.loads((tmp_path / "e.zarr" / "zarr.json").read_text())["attributes"]
    assert (told["layer"], told["pooling"], told["precision"]) == ("2 (last)", "<cls>", "float16")
    assert told["details"] == {"weights": "sha256:7"}
    assert asked == {"checkpoint": tmp_path}


def test_a_fold_without_training_cells_fits_nothing(snapshot, tmp_path):
    write_split(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("tissue",)))), tmp_path / "split.json")
    with pytest.raises(UsageError, match="has no training cell"):
        embed_fold(
            snapshot, model="pca", split_file=tmp_path / "split.json", fold_id="", seed=0, out=tmp_path / "e.parquet"
        )


def test_a_killed_embedding_goes_on_and_embeds_no_shard_twice(snapshot, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD_CELLS", 32)
    monkeypatch.setattr(embeddings, "_CHUNK_CELLS", 16)
    rows = np.flatnonzero(snapshot.cells["dataset_id"].isin(["a", "b", "c"]))
    genes = sorted(set.intersection(*(set(snapshot.measured_genes(name)) for name in "abc")))
    fitted = fit_embedder(snapshot, "pca", train_rows=rows[:100], rows=rows, genes=genes, seed=0, n_dims=4)
    spec = EmbeddingSpec(snapshot_id=snapshot.snapshot_id, model="pca", card_digest="sha256:0", n_dims=4, seed=0)
    whole = EmbeddingStore(tmp_path / "whole.zarr", snapshot, spec)
    assert embed_shards(fitted, whole, rows) == 180

    def stop(message):
        raise KeyboardInterrupt

    store = EmbeddingStore(tmp_path / "cut.zarr", snapshot, spec)
    with pytest.raises(KeyboardInterrupt):
        embed_shards(fitted, store, rows, on_progress=stop)
    assert embed_shards(fitted, store, rows) == 180 - 32
    assert embed_shards(fitted, store, rows) == 0
    np.testing.assert_array_equal(store.read(rows), whole.read(rows))
    np.testing.assert_allclose(store.read(rows), fitted.embed(rows), atol=1e-5)
    monkeypatch.setattr(embed, "SHARD_CELLS", 50)
    write_stored_embedding(store, tmp_path / "kept.parquet", snapshot=snapshot, rows=rows[::-1])
    kept = read_precomputed(tmp_path / "kept.parquet")
    assert list(kept.row_of) == snapshot.cells["cell_id"].iloc[rows[::-1]].tolist()
    np.testing.assert_array_equal(kept.values, whole.read(rows)[::-1])


class _Frozen:
    """An embedder that learns nothing: the first counts of each cell."""

    scopes, notes = (), ()
    card = CARDS["geneformer"]

    def fit(self, train, *, query, seed):
        raise AssertionError

    def over(self, genes, *, handed, seed):
        self.scopes = (handed,)
        return self

    def embed(self, view):
        return view.counts[:, :3].toarray() + np.arange(len(view.cell_ids))[:, None] * 0


class _Untouched:
    """A table of cells that may be there and must not be read."""

    def __getattr__(self, name):
        raise AssertionError(name)

    def __getitem__(self, key):
        raise AssertionError(key)


def test_a_checkpoint_embeds_an_atlas_without_a_table_of_all_its_cells(snapshot, tmp_path, monkeypatch):
    fold = split_of(make_split(snapshot, rule_asked(snapshot, AskedSplit(by=("dataset",))))).folds[0]
    apart = open_atlas(snapshot.layout.root).snapshot(snapshot.snapshot_id)
    rows = np.flatnonzero(snapshot.cells["dataset_id"].isin(["a", "b", "c"]))
    genes = sorted(set.intersection(*(set(snapshot.measured_genes(name)) for name in "abc")))
    frozen = _Frozen()
    vars(apart)["cells"] = _Untouched()
    monkeypatch.setattr(embed, "make_model", lambda name, **options: frozen)
    monkeypatch.setattr(embed, "_BLOCK_CELLS", 7)
    fitted = fit_embedder(apart, "mine", train_rows=fold.train_rows[::-1], rows=rows, genes=genes, seed=0)
    spec = EmbeddingSpec(snapshot_id=snapshot.snapshot_id, model="mine", card_digest="sha256:0", n_dims=3, seed=0)
    store = EmbeddingStore(tmp_path / "e.zarr", apart, spec)
    embed_shards(fitted, store, rows)
    write_stored_embedding(store, tmp_path / "e.parquet", snapshot=apart, rows=rows)
    np.testing.assert_array_equal(store.read(rows), snapshot.counts(rows, genes)[:, :3].toarray())
    (handed,) = frozen.scopes
    named = snapshot.cells["cell_id"].iloc[fold.train_rows]
    assert (handed.cells_digest, handed.n_cells) == (cells_digest(named), len(named))


def test_the_cut_off_of_a_model_is_the_day_by_which_its_corpora_were_closed(tmp_path):
    assert cutoff_of("geneformer-v1-10m") == corpora()["genecorpus-30m"].not_after
    card = tmp_path / "card.json"
    card.write_text('{"name": "mine", "pretraining": ["genecorpus-30m", "genecorpus-95m"]}')
    assert cutoff_of(str(card)) == corpora()["genecorpus-95m"].not_after


@pytest.mark.parametrize("model", ["pca", "nobody-knows-me", "missing.json"])
def test_a_model_without_a_dated_corpus_has_no_cut_off(model):
    with pytest.raises(UsageError, match="card"):
        cutoff_of(model)


def test_against_a_cut_off_only_samples_count_that_were_collected_later(snapshot):
    with pytest.raises(UsageError, match="time"):
        make_split(snapshot, rule_asked(snapshot, AskedSplit(cutoff_model="geneformer-v1-10m")))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (AskedSplit(by=("cells",), n_folds=2), "--i-know-this-leaks"),
        (AskedSplit(n_folds=2, after="2020"), "different ways"),
        (AskedSplit(unseen=True, perturbation="x"), "--test-fraction"),
        (AskedSplit(by=("contributed.nothing",)), "No data set"),
    ],
)
def test_what_cannot_be_split_as_asked_is_refused(snapshot, asked, told):
    with pytest.raises(UsageError, match=told):
        rule_asked(snapshot, asked)


def test_the_strata_of_a_frozen_snapshot_are_those_of_its_table_of_cells(snapshot):
    columns = ("dataset_id", "person_id", "person_state", "contributor_label", "cell_type", "batch")
    found = strata_of(snapshot, columns)
    pd.testing.assert_frame_equal(
        found.table.iloc[found.number_of_row()].reset_index(drop=True)[list(columns)], snapshot.cells[list(columns)],
        check_dtype=False,
    )  # fmt: skip
    assert not found.table.duplicated(list(columns)).any()
    assert found.table["n_cells"].tolist() == np.bincount(found.number_of_row()).tolist()


@pytest.mark.parametrize("by", ["person", "cells"])
def test_a_split_is_the_same_however_many_cells_are_looked_at_together(snapshot, by, monkeypatch):
    rule = rule_asked(snapshot, AskedSplit(by=(by,), n_folds=2, leaks=True))
    whole = plan_document(plan_rule(snapshot, rule, seed=3))
    monkeypatch.setattr("cytolabe.snapshot.strata._BLOCK", 7)
    assert plan_document(plan_rule(snapshot, rule, seed=3)) == whole
