"""What a process that may write no file keeps outside of its memory comes back as it was, or the want of room is told."""

import tracemalloc

import numpy as np
import pytest

from cytolabe.ingest import spill
from cytolabe.ingest.inspection import inspect
from cytolabe.ingest.spill import Spill, spill_received

CHILD = """
from cytolabe.ingest.child_limits import run_limited
def look(path, *, spill):
    spill.append(bytes(range(256)) * 1000)
    if spill.read(255, 258) != b"\\xff\\x00\\x01":
        raise ValueError("not what was sent")
    {}
    return ()
run_limited(look)
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(line):
        (tmp_path / "made_up_child.py").write_text(CHILD.format(line))
        return "made_up_child"

    return write


def test_what_was_sent_can_be_read_from_anywhere_and_is_not_held():
    pieces = [np.full(100_000, number, dtype=np.uint64).tobytes() for number in range(5)]
    with spill_received() as ends:
        sent = Spill(ends)
        tracemalloc.start()
        for piece in pieces:
            sent.append(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sent.n_bytes == sum(map(len, pieces))
        assert sent.read(799_992, 800_008) == pieces[0][-8:] + pieces[1][:8]
        assert sent.read(3_999_992, 9_999_999) == pieces[4][-8:]
    # One piece on its way, and a half: not the five that were sent.
    assert peak < 2 * (1 << 20) < sent.n_bytes


def test_a_process_that_can_write_no_file_has_its_bytes_kept(plain, child):
    with spill_received() as ends:
        assert inspect(plain, child("pass"), spill=ends) == ()


def test_the_file_of_the_other_process_cannot_be_written_directly(plain, child):
    with spill_received() as ends:
        (finding,) = inspect(plain, child("import os; os.pwrite(spill._reading, b'x', 0)"), spill=ends)
    assert "File too large" in finding.examples[0]


def send_too_much():
    with spill_received() as ends:
        sent = Spill(ends)
        with pytest.raises(BrokenPipeError):
            at_the_first_byte_or_later(sent)


def at_the_first_byte_or_later(sent):
    sent.append(bytes(2000))
    sent.read(0, 2000)


def test_a_full_disk_ends_the_sender_and_is_told_as_such(monkeypatch):
    monkeypatch.setattr(spill, "MAX_SPILLED_BYTES", 1000)
    with pytest.raises(OSError, match="over 1,000 bytes"):
        send_too_much()
