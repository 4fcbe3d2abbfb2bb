"""Marks of rows that lie outside of the process that makes them (`ingest.spill`)."""

import numpy as np
from jaxtyping import UInt64

from cytolabe.ingest.spill import Spill

__all__ = ["SpilledMarks"]

_BYTES = 8


class SpilledMarks:
    """The `Marks` in a spill, from where it ends now; nothing else is sent there before all of them came."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._start = spill.n_bytes

    @property
    def n_rows(self) -> int:
        """Number of rows whose marks came."""
        return (self._spill.n_bytes - self._start) // _BYTES

    def append(self, marks: UInt64[np.ndarray, " rows"]) -> None:
        """Take in the marks of the next rows."""
        self._spill.append(marks.tobytes())

    def piece(self, start: int, stop: int) -> UInt64[np.ndarray, " rows"]:
        """Return the marks of rows `start` to `stop`."""
        content = self._spill.read(self._start + start * _BYTES, self._start + stop * _BYTES)
        return np.frombuffer(content, dtype=np.uint64)
