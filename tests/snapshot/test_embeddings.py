"""Embeddings beside the partitions: by position, whole or not there, and equal after any interruption."""

import dataclasses

import numpy as np
import pytest
import zarr

from cytolabe.errors import ConflictError, IntegrityError, RefusedError, UsageError
from cytolabe.files import local
from cytolabe.snapshot import embeddings
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.embeddings import EmbeddingSpec, EmbeddingStore
from cytolabe.snapshot.withdraw import withdraw_person

N_DIMS = 3


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    """12 cells in each of two partitions: two shards each, the second one not full."""
    monkeypatch.setattr(embeddings, "SHARD_CELLS", 8)
    monkeypatch.setattr(embeddings, "_CHUNK_CELLS", 4)


@pytest.fixture
def spec(shared_snapshot):
    return EmbeddingSpec(
        snapshot_id=shared_snapshot.snapshot_id, model="pca", card_digest="sha256:0", n_dims=N_DIMS, seed=7
    )


def values_of(positions):
    return np.outer(positions + 0.5, [1.0, -2.0, 0.0])


def fill(store, wanted=None):
    for shard in store.shards():
        chosen = shard.positions if wanted is None else np.intersect1d(shard.positions, wanted)
        if not store.is_written(shard):
            store.write(shard, chosen, values_of(chosen))
    return store


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_positions_come_back_in_the_order_asked_for(shared_snapshot, spec, tmp_path, precision):
    spec = dataclasses.replace(spec, precision=precision)
    store = fill(EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, spec))
    positions = np.array([23, 0, 11, 12, 7, 8])
    found = EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, spec).read(positions)
    assert found.dtype == np.dtype(precision)
    np.testing.assert_array_equal(found, values_of(positions).astype(precision))
    np.testing.assert_array_equal(store.covered_positions(), np.arange(24))


def test_plain_zarr_reads_values_marks_and_origin(shared_snapshot, spec, tmp_path):
    store = EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, spec)
    first = next(store.shards())
    store.write(first, first.positions, values_of(first.positions))
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert group.attrs["snapshot_id"] == shared_snapshot.snapshot_id
    assert {"model", "card_digest", "layer", "pooling", "precision", "seed"} <= set(group.attrs)
    np.testing.assert_array_equal(group[f"values/{first.partition}"][:8], values_of(np.arange(8)).astype("float32"))
    assert group[f"written/{first.partition}"][:].tolist() == [1, 0]
    assert group[f"covered/{first.partition}"][:].tolist() == [1] * 8 + [0] * 4


def test_cells_that_were_left_out_are_known_and_never_zeros(shared_snapshot, spec, tmp_path):
    wanted = np.array([0, 3, 13])
    store = fill(EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, spec), wanted)
    assert store.covered_positions().tolist() == wanted.tolist()
    np.testing.assert_array_equal(store.read(wanted), values_of(wanted).astype("float32"))
    with pytest.raises(UsageError, match="1 of 2 cells were left out"):
        store.read(np.array([0, 1]))


def test_what_is_not_written_yet_is_an_error(shared_snapshot, spec, tmp_path):
    store = EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, spec)
    with pytest.raises(UsageError, match="not embedded yet"):
        store.read(np.array([5]))


def test_an_interruption_at_any_write_is_made_good(shared_snapshot, spec, tmp_path, monkeypatch):
    fill(EmbeddingStore(tmp_path / "whole.zarr", shared_snapshot, spec))
    expected = content_of(tmp_path / "whole.zarr")
    calls = {"n": 0, "stop": 0}

    def stopping(name):
        real = getattr(type(local.operations), name)

        def call(self, *words):
            calls["n"] += 1
            if calls["n"] == calls["stop"]:
                raise KeyboardInterrupt
            return real(self, *words)

        return call

    for name in ("link", "rename", "fsync"):
        monkeypatch.setattr(type(local.operations), name, stopping(name))
    fill(EmbeddingStore(tmp_path / "counted.zarr", shared_snapshot, spec))
    n_calls = calls["n"]
    assert n_calls > 50
    for stop in range(1, n_calls, 7):
        calls.update(n=0, stop=stop)
        folder = tmp_path / f"{stop}.zarr"
        with pytest.raises(KeyboardInterrupt):
            fill(EmbeddingStore(folder, shared_snapshot, spec))
        fill(EmbeddingStore(folder, shared_snapshot, spec))
        found = {path: text for path, text in content_of(folder).items() if not path.name.startswith(".staged-")}
        assert found == expected, stop


def test_a_store_of_something_else_is_not_gone_on_with(shared_snapshot, spec, tmp_path):
    EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, spec)
    for changes in ({"seed": 8}, {"model": "scvi"}, {"precision": "float16"}, {"inputs_digest": "sha256:1"}):
        with pytest.raises(ConflictError, match="name of its own"):
            EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, dataclasses.replace(spec, **changes))
    with pytest.raises(UsageError, match="not aligned"):
        EmbeddingStore(tmp_path / "y.zarr", shared_snapshot, dataclasses.replace(spec, snapshot_id="sha256:other"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_are_not_finite_are_refused(shared_snapshot, spec, tmp_path, value):
    store = EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, dataclasses.replace(spec, precision="float16"))
    shard = next(store.shards())
    values = values_of(shard.positions)
    values[2, 1] = value
    with pytest.raises(RefusedError, match="1 of 8 cells"):
        store.write(shard, shard.positions, values)
    assert not store.is_written(shard)


def test_a_changed_or_missing_shard_is_an_error(shared_snapshot, spec, tmp_path):
    store = fill(EmbeddingStore(tmp_path / "x.zarr", shared_snapshot, spec))
    path = tmp_path / "x.zarr" / "values" / next(store.shards()).partition / "c" / "0" / "0"
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(IntegrityError):
            store.read(np.arange(8))
    path.unlink()
    with pytest.raises(IntegrityError, match="missing although"):
        store.read(np.arange(8))


def test_after_a_withdrawal_positions_still_find_their_cells(atlas, spec, tmp_path):
    before = atlas.freeze()
    old = fill(EmbeddingStore(tmp_path / "old.zarr", before, dataclasses.replace(spec, snapshot_id=before.snapshot_id)))
    withdraw_person(atlas, donor=("kang", "d1"))
    after = atlas.freeze()
    store = EmbeddingStore(tmp_path / "new.zarr", after, dataclasses.replace(spec, snapshot_id=after.snapshot_id))
    n_cells = len(after.cells)
    assert n_cells == 18
    for shard in store.shards():
        # The value of a cell stays with the cell, whatever its position became.
        rows = before.cells.index[before.cells["cell_id"].isin(after.cells["cell_id"].iloc[shard.positions])]
        store.write(shard, shard.positions, values_of(rows.to_numpy()))
    np.testing.assert_array_equal(store.covered_positions(), np.arange(n_cells))
    kept = before.cells.index[before.cells["cell_id"].isin(after.cells["cell_id"])].to_numpy()
    np.testing.assert_array_equal(store.read(np.arange(n_cells)), old.read(kept))


def test_after_a_withdrawal_filters_and_exports_speak_of_who_is_left(atlas):
    withdraw_person(atlas, donor=("kang", "d1"))
    after = atlas.freeze()
    for where in ("dataset_id = 'kang'", "n_counts > 4", "donor_id = 'd1'"):
        view = after.lazy(where=where)
        assert view.obs_names.tolist() == after.cells["cell_id"].iloc[after.rows(where)].tolist()
        np.testing.assert_array_equal(
            view.to_memory().X.toarray(), after.to_anndata(after.rows(where), list(view.var_names)).X.toarray()
        )


def test_data_sets_that_share_a_partition_keep_embeddings_of_their_own(tmp_path, make, monkeypatch):
    known = make.content.__globals__
    for table in ("FEATURES", "GENES"):
        monkeypatch.setitem(known[table], "twin", known[table]["kang"])
    atlas = create_atlas(tmp_path / "atlas")
    atlas.publish([write_dataset(atlas.path, content=make.content(name)) for name in ("kang", "twin")])
    snapshot = atlas.freeze()
    assert len({part.digest for entry in snapshot.entries.values() for part in entry.partitions}) == 1
    spec = EmbeddingSpec(snapshot_id=snapshot.snapshot_id, model="pca", card_digest="sha256:0", n_dims=N_DIMS, seed=7)
    store = fill(EmbeddingStore(tmp_path / "x.zarr", snapshot, spec))
    np.testing.assert_array_equal(store.read(np.arange(24)), values_of(np.arange(24)))
