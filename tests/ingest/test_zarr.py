"""AnnData in zarr, version 2 and 3, folder and archive: the same cells, and nothing absent passes for a zero."""

import json
import shutil
import zipfile

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy.sparse import csc_matrix, vstack

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest.inspect_zarr import look_through
from cytolabe.ingest.source import format_of, open_source, scan_source
from cytolabe.ingest.zarr_safety import scan_zarr


@pytest.fixture
def store(tmp_path, counts, make_adata):
    """Write a hierarchy of 40 cells with small chunks; `text` has constant columns beside others."""

    def _write(version=3, matrix=None, **options):
        before = anndata.settings.zarr_write_format
        data = make_adata(
            counts if matrix is None else matrix,
            cell_type=pd.Categorical(["B cell", "T cell"] * 20),
            site=pd.Categorical(["here"] * 40),
            depth=np.arange(40),
        )
        data.uns["title"] = "a hierarchy"
        path = tmp_path / f"v{version}.zarr"
        if path.exists():
            shutil.rmtree(path)
        anndata.settings.zarr_write_format = version
        try:
            data.write_zarr(path, **options)
        finally:
            anndata.settings.zarr_write_format = before
        return path

    return _write


def codes(path):
    return [finding.code for finding in scan_zarr(path) if finding.code[0] == "E"]


def read(path):
    with open_source(path) as source:
        (matrix,) = source.matrices
        blocks = list(source.iter_blocks(matrix, dataset_id="d", max_cells=7))
        return source, vstack([block.counts for block in blocks], format="csr")


def zipped(folder, path, top=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, top + file.relative_to(folder).as_posix())
    return path


def rechunk(path, name, chunks):
    """Write an array of a hierarchy anew in other chunks."""
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    values, attributes = root[name][...], dict(root[name].attrs)
    del root[name]
    made = root.create_array(name, data=values, chunks=chunks[-1:], shards=chunks[:-1] or None)
    made.attrs.update(attributes)
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense", "archive"])
def test_the_same_cells_come_out_of_every_layout(store, counts, tmp_path, *, version, layout):
    form = {"csc": csc_matrix(counts), "dense": counts.toarray()}.get(layout, counts)
    path = store(version, matrix=form)
    if layout == "archive":
        path = zipped(path, tmp_path / "packed.bin", top="inner.zarr/" if version == 2 else "")
    assert format_of(path) == "zarr"
    assert all(finding.code == "W-ZARR-02" for finding in look_through(path))
    source, whole = read(path)
    assert (whole != counts).nnz == 0
    assert source.title == "a hierarchy"
    assert list(source.cell_table["cell_type"][:3]) == ["B cell", "T cell", "B cell"]
    assert set(source.cell_table["site"]) == {"here"}
    assert list(source.cell_table["depth"]) == list(range(40))
    assert source.cell_names[39] == "cell39"


@pytest.mark.filterwarnings("ignore")
def test_a_process_of_its_own_looks_through_it(store):
    path = store()
    assert [finding.code for finding in scan_source(path)] == [finding.code for finding in scan_zarr(path)]
    (path / "X" / "data" / "c" / "0").unlink()
    assert "E-ZARR-01" in [finding.code for finding in scan_source(path)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("part", ["X/data", "X/indices", "X/indptr"])
def test_a_chunk_of_a_matrix_that_is_absent_is_never_zeros(store, *, version, part):
    path = store(version)
    folder = path / part
    (folder / "0" if version == 2 else folder / "c" / "0").unlink()
    (finding,) = [finding for finding in scan_zarr(path) if finding.code[0] == "E"]
    assert (finding.code, finding.where, finding.n_affected) == ("E-ZARR-01", part, 1)


@pytest.mark.filterwarnings("ignore")
def test_a_chunk_that_is_absent_inside_a_shard_is_found(store):
    path = store()
    array = rechunk(path, "X/data", (400, 100))
    assert codes(path) == []
    array[100:200] = 0
    assert codes(path) == ["E-ZARR-01"]


@pytest.mark.filterwarnings("ignore")
def test_absent_chunks_of_a_column_are_said(store):
    found = {finding.where: finding.code for finding in scan_zarr(store())}
    assert found == {"obs/site/codes": "W-ZARR-02"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("edit", "code"),
    [
        pytest.param(
            lambda m: m.update(filters=[{"id": "pickle"}], dtype="|O"), "E-SEC-05", id="a codec that unpickles"
        ),
        pytest.param(lambda m: m.update(dtype="|O"), "E-SEC-05", id="objects"),
        pytest.param(lambda m: m.update(compressor={"id": "unheard"}), "E-SEC-05", id="an unknown codec"),
        pytest.param(lambda m: m.update(shape=[10**13], chunks=[10**8]), "E-SEC-06", id="terabytes"),
        pytest.param(lambda m: m.update(chunks=[2**40]), "E-SEC-06", id="a chunk that is decoded whole"),
        pytest.param(lambda m: m.update(shape=[10**9], chunks=[10]), "E-SEC-06", id="a billion chunks"),
        pytest.param(lambda m: m.update(shape=[-5]), "E-FILE-08", id="a negative length"),
        pytest.param(lambda m: m.update(chunks=[0]), "E-FILE-08", id="chunks of nothing"),
        pytest.param(lambda m: m.pop("shape"), "E-FILE-08", id="no shape"),
        pytest.param(lambda m: m.update(dtype="made up"), "E-FILE-08", id="an unknown type"),
    ],
)
def test_metadata_that_ask_for_too_much_are_refused(store, *, edit, code):
    path = store(2)
    place = path / "X" / "data" / ".zarray"
    document = json.loads(place.read_text())
    edit(document)
    place.write_text(json.dumps(document))
    assert code in codes(path)


@pytest.mark.filterwarnings("ignore")
def test_metadata_that_are_no_json_or_too_deep_are_unreadable(store):
    path = store()
    for text in ("{", "[" * 100_000, "[]"):
        (path / "X" / "data" / "zarr.json").write_text(text)
        assert codes(path) == ["E-FILE-08"]


@pytest.mark.filterwarnings("ignore")
def test_a_link_in_the_folder_is_refused(store, tmp_path):
    path = store()
    (tmp_path / "secret").write_bytes(b"secret")
    (path / "X" / "data" / "c" / "0").unlink()
    (path / "X" / "data" / "c" / "0").symlink_to(tmp_path / "secret")
    assert codes(path) == ["E-SEC-02"]


@pytest.mark.filterwarnings("ignore")
def test_damaged_chunks_are_unreadable_not_wrong(store):
    path = store()
    place = path / "X" / "data" / "c" / "0"
    place.write_bytes(place.read_bytes()[:40])
    assert [finding.code for finding in look_through(path) if finding.code[0] == "E"] == ["E-FILE-10"]


@pytest.mark.filterwarnings("ignore")
def test_a_hierarchy_of_something_else_is_told_apart(tmp_path):
    zarr.open_group(tmp_path / "x.zarr", mode="w").create_array("a", data=np.arange(3))
    with pytest.raises(UnreadableInputError, match="no AnnData"), open_source(tmp_path / "x.zarr"):
        pass


# --- archives -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["../../escaped", "/etc/escaped", "a\\..\\b", "x/../../y"])
def test_an_archive_with_a_name_that_leads_out_is_refused(store, tmp_path, name):
    path = zipped(store(), tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    assert codes(path) == ["E-SEC-11"]


@pytest.mark.filterwarnings("ignore")
def test_links_devices_bombs_and_doubled_names_of_an_archive_are_refused(store, tmp_path):
    good = zipped(store(), tmp_path / "good.zip")
    for kind in (0o120777, 0o020666):
        path = shutil.copy(good, tmp_path / "a.zip")
        with zipfile.ZipFile(path, "a") as archive:
            entry = zipfile.ZipInfo("X/link")
            entry.external_attr = kind << 16
            archive.writestr(entry, "/etc/passwd")
        assert codes(path) == ["E-SEC-11"]
    path = shutil.copy(good, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/ZARR.json", b"{}")
        archive.writestr("X/extra", b"")
    assert codes(path) == ["E-SEC-12"]
    path = shutil.copy(good, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("X/zeros", b"\0" * (64 << 20))
    assert codes(path) == ["E-SEC-11"]


@pytest.mark.filterwarnings("ignore")
def test_too_many_files_are_refused(store, tmp_path, monkeypatch):
    folder = store()
    path = zipped(folder, tmp_path / "a.zip")
    monkeypatch.setattr("cytolabe.ingest.zarr_files.MAX_FILES", 10)
    assert codes(folder) == codes(path) == ["E-SEC-09"]


def test_an_archive_that_was_cut_off_is_unreadable(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04rest")
    assert [finding.code for finding in scan_source(path)] == ["E-FILE-08"]
