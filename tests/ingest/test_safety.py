import gzip
import os

import h5py
import numpy as np
import pytest

from cytolabe.errors import HostileInputError, UnreadableInputError
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.safety import raise_if_unsafe, scan_h5


def codes(path, **limits):
    return [finding.code for finding in scan_h5(path, **limits)]


def test_a_good_file_has_no_finding(plain):
    assert scan_h5(plain) == ()
    raise_if_unsafe(())


def test_every_real_file_may_be_read(real):
    for path in sorted(real.glob("*.h5ad")):
        assert scan_h5(path) == (), path.name


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "E-FILE-03", id="empty"),
        pytest.param(b"<!DOCTYPE html><html>busy</html>", "E-FILE-04", id="web page"),
        pytest.param(gzip.compress(b"x" * 100), "E-FILE-05", id="compressed"),
        pytest.param(b"PK\x03\x04rest", "E-FILE-05", id="zip"),
        pytest.param(b"a,b,c\n1,2,3\n", "E-FILE-06", id="text"),
    ],
)
def test_what_is_no_hdf5_is_said_in_plain_words(tmp_path, content, code):
    path = tmp_path / "x.h5ad"
    path.write_bytes(content)
    assert codes(path) == [code]
    with pytest.raises(UnreadableInputError) as caught:
        raise_if_unsafe(scan_h5(path))
    assert not isinstance(caught.value, HostileInputError)
    assert findings_of(caught.value)[0].code == code


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    assert codes(tmp_path / "gone.h5ad") == ["E-FILE-01"]
    assert codes(tmp_path) == ["E-FILE-02"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_says_how_much_is_there(plain, share):
    content = plain.read_bytes()
    plain.write_bytes(content[: int(len(content) * share)])
    (finding,) = scan_h5(plain)
    assert finding.code == "E-FILE-07"
    assert f"{len(content):,}" in finding.message


def test_a_link_into_another_file_is_never_followed(plain, edit, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["x"] = np.arange(3)
    with edit(plain) as file:
        file["layers/x"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
        file["layers/y"] = h5py.SoftLink("/X")
    assert codes(plain) == ["E-SEC-01", "E-SEC-02"]
    with pytest.raises(HostileInputError):
        raise_if_unsafe(scan_h5(plain))


def test_values_stored_elsewhere_are_refused(plain, edit, tmp_path):
    (tmp_path / "raw").write_bytes(b"secret12" * 10)
    with edit(plain) as file:
        file.create_dataset("obsm/X", shape=(10,), dtype="f8", external=[(str(tmp_path / "raw"), 0, 80)])
        layout = h5py.VirtualLayout(shape=(10,), dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape=(10,))
        file.create_virtual_dataset("obsm/V", layout)
    assert codes(plain) == ["E-SEC-03", "E-SEC-04"]


def test_an_unusual_filter_is_refused(plain, edit):
    with edit(plain) as file:
        file.create_dataset("obsm/s", data=np.arange(100), chunks=(10,), scaleoffset=0)
    assert codes(plain) == ["E-SEC-05"]


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_the_usual_filters_are_read(plain, edit, compression):
    with edit(plain) as file:
        data = np.arange(100)
        file.create_dataset("obsm/s", data=data, chunks=(10,), compression=compression, shuffle=True, fletcher32=True)
    assert scan_h5(plain) == ()


def test_a_small_file_that_declares_terabytes_is_refused(plain, edit):
    with edit(plain) as file:
        file.create_dataset("layers/bomb", shape=(400_000, 500_000), dtype="f8", chunks=(100, 100), compression="gzip")
    assert codes(plain) == ["E-SEC-06", "E-SEC-07"]
    assert codes(plain, max_declared_bytes=1 << 60) == ["E-SEC-07"]


def test_the_limit_is_on_what_is_declared_together(plain):
    assert codes(plain, max_declared_bytes=1_000) == ["E-SEC-06"]


def test_a_group_that_contains_itself_does_not_hang(plain, edit):
    with edit(plain) as file:
        file["uns/loop"] = file["uns"]
        file["uns/again"] = file["obs"]
    assert codes(plain) == ["E-SEC-08", "E-SEC-08"]


def test_deep_nesting_is_refused(plain, edit):
    with edit(plain) as file:
        file.create_group("uns/" + "/".join("x" * 40))
    assert codes(plain) == ["E-SEC-10"]


def test_too_many_objects_are_refused(plain, edit, monkeypatch):
    monkeypatch.setattr("cytolabe.ingest.safety.MAX_OBJECTS", 20)
    with edit(plain) as file:
        for number in range(30):
            file.create_group(f"uns/{number}")
    assert codes(plain) == ["E-SEC-09"]


def test_no_folder_of_filter_plugins_is_left(plain, monkeypatch, tmp_path):
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path))
    scan_h5(plain)
    assert "HDF5_PLUGIN_PATH" not in os.environ
    assert h5py.h5pl.size() == 0


@pytest.mark.parametrize(
    ("limit", "place"),
    [
        pytest.param("MAX_CHUNK_BYTES", "/X/data", id="a chunk, which is decoded whole"),
        pytest.param("MAX_TABLE_BYTES", "/obs/cell_type/codes", id="a column, which is held whole"),
        pytest.param("MAX_TABLE_BYTES", "/X/indptr", id="pointers, which are held whole"),
    ],
)
def test_what_has_to_be_read_in_one_piece_has_a_limit_of_its_own(
    write, make_adata, counts, *, limit, place, monkeypatch
):
    path = write(make_adata(counts, cell_type=["B cell", "T cell"] * 20), compression="gzip")
    assert codes(path) == []
    monkeypatch.setattr(f"cytolabe.ingest.safety.{limit}", 30)
    found = {finding.where: finding.code for finding in scan_h5(path)}
    assert found[place] == "E-SEC-06"
