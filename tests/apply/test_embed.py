import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from cytolabe.apply.embed import embed_snapshot, write_embedding
from cytolabe.errors import UsageError
from cytolabe.models.precomputed import PrecomputedEmbedder, read_precomputed
from cytolabe.models.protocols import QueryView
from cytolabe.testing.memory import memory_snapshot

GENES = tuple(f"g{gene}" for gene in range(30))


@pytest.fixture
def snapshot():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"dataset_id": ["a"] * 80 + ["b"] * 40})
    matrices = {"a": csr_matrix(rng.poisson(2.0, (80, 30))), "b": csr_matrix(rng.poisson(1.0, (40, 30)))}
    return memory_snapshot(cells, matrices, genes={"a": GENES, "b": GENES})


def test_embedding_is_keyed_by_cell_and_names_its_snapshot(snapshot):
    rows = np.array([100, 3, 119])
    embedding = embed_snapshot(snapshot, "pca", train_rows=np.arange(80), rows=rows, genes=GENES, seed=0, n_dims=5)
    assert embedding.cell_ids.tolist() == snapshot.cells["cell_id"].iloc[rows].tolist()
    assert embedding.values.shape == (3, 5)
    assert embedding.values.dtype == np.float32
    assert (embedding.snapshot_id, embedding.model) == (snapshot.snapshot_id, "pca")


def test_held_out_cells_do_not_move_the_embedding_of_a_model_without_query(snapshot):
    train, rows = np.arange(80), np.arange(5)
    alone = embed_snapshot(snapshot, "pca", train_rows=train, rows=rows, genes=GENES, seed=0)
    beside = embed_snapshot(snapshot, "pca", train_rows=train, rows=np.r_[rows, 90:110], genes=GENES, seed=0)
    np.testing.assert_allclose(alone.values, beside.values[:5], atol=1e-6)


def test_a_joint_method_of_another_package_gets_the_other_rows_and_no_person(
    snapshot, install_package, offered_integrator
):
    install_package("lab-models", "lab_joint = made_up_embedding:Joint", "made_up_embedding", code=offered_integrator())
    rows = np.r_[70:90]
    embedding = embed_snapshot(snapshot, "lab_joint", train_rows=np.arange(80), rows=rows, genes=GENES, seed=0)
    assert embedding.values.shape == (20, 3)
    ((train, query),) = sys.modules["made_up_embedding"].HANDED
    assert (len(train.cell_ids), query.cell_ids.tolist()) == (80, snapshot.cells["cell_id"].iloc[80:90].tolist())
    assert {type(train), type(query)} == {QueryView}


@pytest.mark.models
def test_joint_model_gets_the_other_rows_as_its_query(snapshot):
    pytest.importorskip("harmonypy")
    rows = np.r_[70:90]
    embedding = embed_snapshot(snapshot, "harmony", train_rows=np.arange(80), rows=rows, genes=GENES, seed=0)
    assert np.isfinite(embedding.values).all()
    assert len(embedding.cell_ids) == 20


def test_model_that_embeds_nothing_is_refused(snapshot):
    with pytest.raises(UsageError, match="embeds no cells"):
        embed_snapshot(snapshot, "majority", train_rows=np.arange(80), rows=np.arange(5), genes=GENES, seed=0)


def test_written_embedding_is_read_back_as_a_precomputed_model(snapshot, tmp_path):
    embedding = embed_snapshot(snapshot, "pca", train_rows=np.arange(80), rows=np.arange(9), genes=GENES, seed=0)
    write_embedding(embedding, tmp_path / "out" / "pca.parquet")
    model = read_precomputed(tmp_path / "out" / "pca.parquet")
    assert isinstance(model, PrecomputedEmbedder)
    np.testing.assert_array_equal(model.values, embedding.values.astype(np.float64))
    assert list(model.row_of) == embedding.cell_ids.tolist()
    assert pq.read_schema(tmp_path / "out" / "pca.parquet").metadata[b"snapshot_id"] == snapshot.snapshot_id.encode()


def test_an_embedding_of_data_that_are_not_open_says_so_in_its_file(snapshot, tmp_path):
    embedding = embed_snapshot(snapshot, "pca", train_rows=np.arange(80), rows=np.arange(9), genes=GENES, seed=0)
    write_embedding(embedding, tmp_path / "a.parquet", access="managed")
    write_embedding(embedding, tmp_path / "b.parquet")
    assert pq.read_schema(tmp_path / "a.parquet").metadata[b"access"] == b"managed"
    assert b"access" not in pq.read_schema(tmp_path / "b.parquet").metadata


def test_two_writes_are_equal_bytes(snapshot, tmp_path):
    embedding = embed_snapshot(snapshot, "pca", train_rows=np.arange(80), rows=np.arange(9), genes=GENES, seed=0)
    for name in ("one", "two"):
        write_embedding(embedding, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
