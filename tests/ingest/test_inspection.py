"""A file that takes its reader down, in time, in memory or by a crash, is a finding; nothing else stops."""

import struct

import h5py
import numpy as np
import pytest

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest import inspection
from cytolabe.ingest.inspect_hdf5 import is_plain_bytes, look_through
from cytolabe.ingest.inspection import HDF5_CHILD, inspect
from cytolabe.ingest.safety import raise_if_unsafe
from cytolabe.ingest.source import scan_source


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Put a module in the place of the one that looks through a file."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def _write(lines):
        (tmp_path / "made_up_child.py").write_text(lines)
        return "made_up_child"

    return _write


LOOK = "from cytolabe.ingest.child_limits import run_limited\ndef look(path):\n    {}\nrun_limited(look)\n"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL"])
def test_a_crash_of_the_parser_is_a_finding_and_leaves_no_core(plain, child, tmp_path, monkeypatch, *, name):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    module = child(LOOK.format(f"import os, signal; os.kill(os.getpid(), signal.{name})"))
    (finding,) = inspect(plain, module)
    assert (finding.code, finding.examples) == ("E-PARSE-01", (name,))
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"made_up_child.py", "__pycache__"}
    with pytest.raises(UnreadableInputError):
        raise_if_unsafe((finding,))


def test_an_unexpected_error_of_the_parser_is_a_finding(plain, child):
    (finding,) = inspect(plain, child(LOOK.format("raise ValueError('odd')")))
    assert (finding.code, finding.examples) == ("E-PARSE-01", ("ValueError: odd",))


def test_a_parser_that_takes_all_memory_is_stopped(plain, child, monkeypatch):
    monkeypatch.setattr(inspection, "_LEAST_MEMORY", 1 << 30)
    (finding,) = inspect(plain, child(LOOK.format("return b'x' * (2 << 30)")), memory=1 << 30)
    assert finding.code == "E-PARSE-02"
    assert "1,073,741,824 bytes" in finding.message


def test_a_parser_that_does_not_end_is_stopped(plain, child, monkeypatch):
    monkeypatch.setattr(inspection, "_CPU_SECONDS", 1)
    (finding,) = inspect(plain, child(LOOK.format("while True: pass")))
    assert finding.code == "E-PARSE-02"
    (finding,) = inspect(plain, child(LOOK.format("import time; time.sleep(60)")))
    assert finding.code == "E-PARSE-02"


def test_the_parser_cannot_write(plain, child, tmp_path):
    (finding,) = inspect(
        plain, child(LOOK.format(f"import pathlib; pathlib.Path({str(tmp_path / 'written')!r}).write_text('x')"))
    )
    assert finding.code == "E-PARSE-01"
    assert "File too large" in finding.examples[0]
    assert not (tmp_path / "written").exists() or not (tmp_path / "written").stat().st_size


def test_what_the_child_finds_comes_back_as_it_was(plain, edit):
    assert inspect(plain, HDF5_CHILD) == ()
    with edit(plain) as file:
        file["layers/x"] = h5py.ExternalLink("secret.h5", "/x")
        file["layers/y"] = h5py.SoftLink("/X")
    assert inspect(plain, HDF5_CHILD) == look_through(plain)
    assert [finding.code for finding in scan_source(plain)] == ["E-SEC-01", "E-SEC-02"]


def test_damage_in_the_last_chunk_is_found_before_anything_is_read(write, counts, make_adata):
    path = write(make_adata(counts), compression="gzip")
    with h5py.File(path) as file:
        data = file["X/data"].id
        place = data.get_chunk_info(data.get_num_chunks() - 1)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + place.size // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    assert [finding.code for finding in scan_source(path)] == ["E-FILE-10"]


def test_a_flipped_bit_anywhere_never_stops_this_process(write, counts, make_adata):
    """What the child lets pass can be opened here: a finding or an answer, never a crash."""
    path = write(make_adata(counts, cell_type=["B cell", "T cell"] * 20))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), size=10):
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(spoiled))
        assert all(finding.code[:7] in {"E-PARSE", "E-FILE-", "E-SEC-0"} for finding in scan_source(path))


def test_only_numbers_that_no_decoder_takes_part_in_are_left_unread(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = np.arange(10.0)
        file["text"] = ["a", "b"]
        file.create_dataset("never_written", shape=(5,), dtype="f4")
        file.create_dataset("packed", data=np.arange(10), chunks=(5,), compression="gzip")
        file.create_dataset("chunked", data=np.arange(10), chunks=(5,))
        file.create_dataset("elsewhere", shape=(5,), dtype="i4", external=[("other.bin", 0, 20)])
        layout = h5py.VirtualLayout(shape=(10,), dtype="f8")
        layout[:] = h5py.VirtualSource(file["plain"])
        file.create_virtual_dataset("virtual", layout)
    with h5py.File(tmp_path / "a.h5") as file:
        assert [name for name in file if is_plain_bytes(file[name])] == ["plain"]


def test_numbers_that_lie_behind_the_end_of_the_file_are_found(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        found = file.create_dataset("plain", data=np.arange(10.0)).id
        file.flush()
        n_bytes = found.get_storage_size()
        place = struct.pack("<QQ", found.get_offset(), n_bytes)
    assert look_through(path) == ()
    content = path.read_bytes()
    assert content.count(place) == 1
    path.write_bytes(content.replace(place, struct.pack("<QQ", len(content) + 512, n_bytes)))
    assert [finding.code for finding in look_through(path)] == ["E-FILE-08"]
