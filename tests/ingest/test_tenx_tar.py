"""A 10x matrix in a tar archive: read in place, or refused whole."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from scipy.sparse import vstack

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest import tar_listing
from cytolabe.ingest.inspect_tar import look_through
from cytolabe.ingest.source import format_of, open_source, scan_source


def pack(path, counts, *extra, mode="w:gz", top="sample/"):
    """Write the three files, and whatever else a test wants."""
    entries = counts.tocoo()
    order = np.lexsort((entries.col, entries.row))
    lines = [f"{entries.col[i] + 1} {entries.row[i] + 1} {entries.data[i]:g}" for i in order]
    head = ["%%MatrixMarket matrix coordinate integer general", f"{counts.shape[1]} {counts.shape[0]} {counts.nnz}"]
    texts = {
        "matrix.mtx.gz": head + lines,
        "barcodes.tsv.gz": [f"cell{i}" for i in range(counts.shape[0])],
        "features.tsv.gz": [f"ENSG{i:011d}" for i in range(counts.shape[1])],
    }
    with tarfile.open(path, mode) as archive:
        for name, text in texts.items():
            content = gzip.compress(("\n".join(text) + "\n").encode())
            entry = tarfile.TarInfo(top + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return path


def entry(name, kind=tarfile.REGTYPE, **values):
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in values.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(("mode", "top"), [("w", ""), ("w:gz", "sample/"), ("w:xz", "./a/b/")])
def test_the_cells_of_a_packed_folder_are_read(tmp_path, counts, *, mode, top):
    path = pack(tmp_path / "a.bin", counts, entry("notes.txt", size=3), mode=mode, top=top)
    assert format_of(path) == "10x-tar"
    assert scan_source(path) == ()
    with open_source(path) as source:
        (matrix,) = source.matrices
        whole = vstack([block.counts for block in source.iter_blocks(matrix, dataset_id="d")])
        assert source.cell_names[0] == "cell0"
    assert (whole != counts).nnz == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (entry("../../escaped"), "E-SEC-11"),
        (entry("/etc/escaped"), "E-SEC-11"),
        (entry("a", tarfile.SYMTYPE, linkname="/etc/passwd"), "E-SEC-11"),
        (entry("a", tarfile.LNKTYPE, linkname="sample/matrix.mtx.gz"), "E-SEC-11"),
        (entry("a", tarfile.CHRTYPE), "E-SEC-11"),
        (entry("a", tarfile.FIFOTYPE), "E-SEC-11"),
        (entry("sample/MATRIX.mtx.gz"), "E-SEC-12"),
        (entry("sample/matrix.mtx.gz"), "E-SEC-12"),
    ],
)
def test_what_no_archive_needs_is_refused(tmp_path, counts, extra, code):
    assert [finding.code for finding in look_through(pack(tmp_path / "a.tar.gz", counts, extra))] == [code]


def test_bombs_of_size_and_of_number_are_refused(tmp_path, counts, monkeypatch):
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(entry("zeros", size=70 << 30).tobuf())
    assert [finding.code for finding in look_through(path)] == ["E-SEC-06", "E-SEC-07"]
    monkeypatch.setattr(tar_listing, "MAX_ENTRIES", 2)
    assert [finding.code for finding in look_through(pack(path, counts))] == ["E-SEC-06"]


def test_an_archive_that_was_cut_off_or_holds_no_matrix_is_unreadable(tmp_path, counts):
    path = pack(tmp_path / "a.tar.gz", counts)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert [finding.code for finding in look_through(path)] == ["E-FILE-10"]
    with tarfile.open(path, "w") as archive:
        archive.addfile(entry("notes.txt"))
    with pytest.raises(UnreadableInputError, match="does not hold one matrix"), open_source(path):
        pass


def test_an_archive_of_something_else_says_what_it_holds_and_what_to_do(tmp_path, counts):
    names = ("matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz")
    with (
        tarfile.open(pack(tmp_path / "a.tar", counts, mode="w")) as packed,
        zipfile.ZipFile(tmp_path / "mtx.zip", "w") as archive,
    ):
        for name in names:
            archive.writestr(f"out/{name}", packed.extractfile(f"sample/{name}").read())
    with tarfile.open(tmp_path / "zarr.tar", "w") as archive:
        archive.addfile(entry("x.zarr/zarr.json"))
    for name, held in (("mtx.zip", "barcodes.tsv.gz"), ("zarr.tar", "x.zarr/zarr.json")):
        (finding,) = scan_source(tmp_path / name)
        assert finding.code == "E-ARCHIVE-01"
        assert held in finding.message
        assert "Unpack it" in finding.remedy
