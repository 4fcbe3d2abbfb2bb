"""Bytes that a process which may write no file keeps outside of its memory: the process that started it keeps them.

They go through a pipe into a file without a name, which only grows and which its writer may read. The one that
receives them looks at none of them. A full disk ends the pipe: the sender stops, and the receiver tells why.
"""

import os
import select
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

__all__ = ["MAX_SPILLED_BYTES", "Spill", "spill_received"]

MAX_SPILLED_BYTES = 16 << 30
"""More is refused: 8 bytes for each of 500 million rows, four times."""
_PIECE = 1 << 20
_WAIT_MS = 1


class Spill:
    """The sender's side. `ends` are the descriptors to write to and to read from."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self._writing, self._reading = ends
        self._n_bytes = 0

    @property
    def n_bytes(self) -> int:
        """Number of bytes that were sent."""
        return self._n_bytes

    def append(self, content: bytes) -> None:
        """Send bytes; BrokenPipeError where nobody takes them any more."""
        left = memoryview(content)
        while left:
            left = left[os.write(self._writing, left) :]
        self._n_bytes += len(content)

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes that were sent, after waiting until they are there; BrokenPipeError where they never will be."""
        ended = select.poll()
        ended.register(self._writing, 0)
        while os.fstat(self._reading).st_size < min(stop, self._n_bytes):
            if ended.poll(_WAIT_MS):
                raise BrokenPipeError
        return os.pread(self._reading, min(stop, self._n_bytes) - start, start)


@contextmanager
def spill_received() -> Iterator[tuple[int, int]]:
    """Yield the ends of a `Spill` to hand to a child, and keep what comes until the context ends.

    Raises
    ------
    OSError
        At the end, if it could not be kept: the disk of temporary files is full, or it came to more than
        `MAX_SPILLED_BYTES`.
    """
    problems: list[OSError] = []
    reading, writing = os.pipe()
    with tempfile.TemporaryFile(buffering=0) as kept:
        receiver = threading.Thread(target=_receive, args=(reading, kept, problems), daemon=True)
        receiver.start()
        try:
            yield writing, kept.fileno()
        finally:
            os.close(writing)
            receiver.join()
    if problems:
        raise problems[0]


def _receive(reading: int, kept: FileIO, problems: list[OSError]) -> None:
    n_bytes = 0
    try:
        while content := os.read(reading, _PIECE):
            n_bytes += len(content)
            if n_bytes > MAX_SPILLED_BYTES:
                msg = f"a process that looks through a file sent over {MAX_SPILLED_BYTES:,} bytes to keep"
                raise OSError(msg)  # noqa: TRY301 - ends the pipe as a full disk does
            left = memoryview(content)
            while left:
                left = left[kept.write(left) :]
    except OSError as error:
        problems.append(error)
    finally:
        os.close(reading)
