"""Cells taken out: h5ad, zarr and SOMA come back equal through other libraries, and only whole."""

import importlib
from dataclasses import replace

import anndata
import numpy as np
import pytest
import zarr
from scipy.sparse import csr_matrix

from cytolabe.errors import RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.ingest.simulated_stamp import simulated_stamp
from cytolabe.snapshot import takeout
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.snapshot.build import write_dataset
from cytolabe.snapshot.selection import Selection
from cytolabe.snapshot.takeout import export_cells

READ = {".h5ad": anndata.read_h5ad, ".zarr": anndata.read_zarr}


def read_soma(path):
    tiledbsoma = pytest.importorskip("tiledbsoma")
    importlib.import_module("tiledbsoma.io")
    with tiledbsoma.Experiment.open(str(path)) as experiment:
        return tiledbsoma.io.to_anndata(experiment, "RNA", obs_id_name="obs_id", var_id_name="var_id")


def assert_same(found, expected):
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert found.var_names.tolist() == expected.var_names.tolist()
    for column in expected.obs.columns:
        assert found.obs[column].tolist() == expected.obs[column].tolist(), column


@pytest.mark.parametrize("suffix", READ)
@pytest.mark.parametrize("where", ["", "donor_id = 'd1' and dataset_id = 'zheng'"])
def test_a_file_is_read_by_plain_anndata(shared_snapshot, tmp_path, monkeypatch, suffix, where):
    # Pieces so small that every array grows several times.
    monkeypatch.setattr(takeout, "_CHUNK_VALUES", 8)
    monkeypatch.setattr(Selection.blocks, "__defaults__", (5,))
    path = tmp_path / f"out{suffix}"
    written = export_cells(shared_snapshot, path, where=where)
    found = READ[suffix](path)
    assert_same(found, shared_snapshot.to_anndata(shared_snapshot.rows(where)))
    assert found.X.dtype == np.float32
    assert found.uns["snapshot_id"] == shared_snapshot.snapshot_id
    assert {"gene_reference", "ontology_release", "gene_policy", "where"} <= set(found.uns)
    assert len(written.positions) == found.n_obs
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_zarr_needs_no_codec_of_ours(shared_snapshot, tmp_path):
    export_cells(shared_snapshot, tmp_path / "out.zarr")
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    for name in ("data", "indices", "indptr"):
        words = [type(codec).__name__ for codec in group[f"X/{name}"].metadata.codecs]
        assert set(words) <= {"BytesCodec", "ZstdCodec"}
    assert group["X/indptr"].dtype == np.int64


def test_soma_comes_back_through_tiledbsoma(shared_snapshot, tmp_path, monkeypatch):
    tiledbsoma = pytest.importorskip("tiledbsoma")
    monkeypatch.setattr(Selection.blocks, "__defaults__", (5,))
    export_cells(shared_snapshot, tmp_path / "out.soma", where="n_counts > 5")
    expected = shared_snapshot.to_anndata(shared_snapshot.rows("n_counts > 5"))
    with tiledbsoma.Experiment.open(str(tmp_path / "out.soma")) as experiment:
        assert experiment.metadata["snapshot_id"] == shared_snapshot.snapshot_id
    found = read_soma(tmp_path / "out.soma")
    assert_same(found, expected)
    assert found.uns["snapshot_id"] == shared_snapshot.snapshot_id


def test_genes_that_are_named_come_in_their_order(shared_snapshot, tmp_path):
    export_cells(shared_snapshot, tmp_path / "out.h5ad", genes=["G-NKG7", "G-CD3D"])
    assert anndata.read_h5ad(tmp_path / "out.h5ad").var_names.tolist() == ["G-NKG7", "G-CD3D"]
    with pytest.raises(UnmeasuredGeneError):
        export_cells(shared_snapshot, tmp_path / "other.h5ad", genes=["G-nowhere"])
    assert not (tmp_path / "other.h5ad").exists()


@pytest.mark.parametrize("suffix", READ)
def test_a_count_beyond_float32_makes_the_file_float64(make, tmp_path, suffix):
    counts = np.ones((6, 3), dtype=np.int64)
    counts[4, 1] = (1 << 24) + 1
    atlas = create_atlas(tmp_path / "atlas")
    atlas.publish([write_dataset(atlas.path, content=make.content("zheng", csr_matrix(counts)))])
    export_cells(atlas.freeze(), tmp_path / f"out{suffix}")
    found = READ[suffix](tmp_path / f"out{suffix}")
    assert found.X.dtype == np.float64
    assert found.X.max() == (1 << 24) + 1


@pytest.mark.parametrize(
    ("suffix", "by"), [(".h5ad", "declared"), (".h5ad", "suspected"), (".zarr", "suspected"), (".soma", "declared")]
)
def test_simulated_cells_that_are_taken_out_say_so_and_are_known_for_it_when_they_come_back(make, tmp_path, suffix, by):
    """The mark of the file that they came in stays there: without one of its own the copy would pass for real cells."""
    if suffix == ".soma":
        pytest.importorskip("tiledbsoma")
    made_up, real = make.content("kang"), make.content("zheng")
    if by == "declared":
        made_up = replace(made_up, cells=made_up.cells.assign(label_origin="simulated"))
    else:
        made_up = replace(made_up, record=replace(made_up.record, label_origin_suspected="simulated"))
    atlas = create_atlas(tmp_path / "atlas")
    atlas.publish([write_dataset(atlas.path, content=content) for content in (made_up, real)])
    frozen = atlas.freeze()
    for where, mark in (("dataset_id = 'kang'", "kang"), ("", "kang"), ("dataset_id = 'zheng'", None)):
        path = tmp_path / f"{len(where)}{suffix}"
        export_cells(frozen, path, where=where)
        found = {**READ, ".soma": read_soma}[suffix](path)
        assert found.uns.get("simulated") == mark
        assert frozen.to_anndata(frozen.rows(where)).uns.get("simulated") == mark
        assert simulated_stamp(found.obs, found.uns).is_simulated is bool(mark)


@pytest.mark.parametrize("suffix", takeout.SUFFIXES)
def test_an_interrupted_export_leaves_nothing(shared_snapshot, tmp_path, monkeypatch, suffix):
    if suffix == ".soma":
        pytest.importorskip("tiledbsoma")

    def broken(self, n_cells=5):
        yield self.snapshot.counts(self.positions[:5], self.genes)
        raise KeyboardInterrupt

    monkeypatch.setattr(Selection, "blocks", broken)
    with pytest.raises(KeyboardInterrupt):
        export_cells(shared_snapshot, tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_not_replaced(shared_snapshot, tmp_path):
    (tmp_path / "out.h5ad").write_text("mine")
    with pytest.raises(UsageError, match="not replaced"):
        export_cells(shared_snapshot, tmp_path / "out.h5ad")
    assert (tmp_path / "out.h5ad").read_text() == "mine"
    with pytest.raises(UsageError, match="names no format"):
        export_cells(shared_snapshot, tmp_path / "out.csv")


def test_no_cell_is_told_at_once(shared_snapshot, tmp_path):
    with pytest.raises(RefusedError, match=r"0 cells match .* Did you mean 'kang'"):
        export_cells(shared_snapshot, tmp_path / "out.h5ad", where="dataset_id = 'kangg'")
    assert list(tmp_path.iterdir()) == []


def test_a_lazy_view_reads_what_it_is_asked_for(shared_snapshot, monkeypatch):
    asked = []
    counts = type(shared_snapshot).counts
    monkeypatch.setattr(
        type(shared_snapshot), "counts", lambda self, rows, genes: asked.append(len(rows)) or counts(self, rows, genes)
    )
    view = shared_snapshot.lazy(where="dataset_id = 'zheng'")
    whole = shared_snapshot.to_anndata(shared_snapshot.rows("dataset_id = 'zheng'"))
    asked.clear()
    np.testing.assert_array_equal(view.X[2:5].toarray(), whole.X[2:5].toarray())
    assert asked == [3]
    gene = whole.var_names[1]
    np.testing.assert_array_equal(view.X[[7, 1], [gene]].toarray(), whole[[7, 1], [gene]].X.toarray())
    mask = (view.obs["donor_id"] == "d1").to_numpy()
    part = view[mask, :2]
    assert part.shape == (6, 2)
    assert_same(part.to_memory(), whole[mask, :2].to_memory())
    pieces = [piece.toarray() for piece, _, _ in view.chunked_X(5)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole.X.toarray())
    with pytest.raises(UsageError, match="no gene_id"):
        view.X[:, ["nothing"]]


def test_to_anndata_takes_a_filter(shared_snapshot):
    where = "donor_id = 'd0' and not contributor_label is unknown"
    assert_same(shared_snapshot.to_anndata(where=where), shared_snapshot.to_anndata(shared_snapshot.rows(where)))
    with pytest.raises(UsageError, match="not both"):
        shared_snapshot.to_anndata(np.arange(3), where=where)


def test_a_nul_that_hdf5_cannot_hold_is_refused_by_name_and_zarr_keeps_it(make, tmp_path):
    atlas = create_atlas(tmp_path / "atlas")
    content = make.content("kang")
    content.cells["contributor_label"] = ["T\0cell", *["B"] * (len(content.cells) - 1)]
    atlas.publish([write_dataset(atlas.path, content=content)])
    snapshot = atlas.freeze()
    with pytest.raises(RefusedError, match=r"1 values of contributor_label .* 'T\\x00cell', which HDF5 cannot hold"):
        export_cells(snapshot, tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()
    export_cells(snapshot, tmp_path / "out.zarr")
    assert anndata.read_zarr(tmp_path / "out.zarr").obs["contributor_label"].iloc[0] == "T\0cell"
    export_cells(snapshot, tmp_path / "some.h5ad", where="contributor_label = 'B'")
