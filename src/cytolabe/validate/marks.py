"""64 bits for each row of a table or a matrix, and which rows have the same ones.

Where they lie is not said here: in memory, or outside of the process, where rows are many. They are looked through in
parts of those that begin alike, so that no step holds, sorts or copies all of them.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt64

__all__ = ["HeldMarks", "Marks", "MarksFor", "repeated_marks", "rows_alike"]

_FIRST_BITS, _CHUNK = 6, 1 << 16
_N_EXAMPLES = 5


@runtime_checkable
class Marks(Protocol):
    """Takes the marks of rows in their order, and gives them back by pieces when all are there."""

    @property
    def n_rows(self) -> int:
        """Number of rows whose marks came."""
        ...

    def append(self, marks: UInt64[np.ndarray, " rows"]) -> None:
        """Take in the marks of the next rows."""
        ...

    def piece(self, start: int, stop: int) -> UInt64[np.ndarray, " rows"]:
        """Return the marks of rows `start` to `stop`."""
        ...


MarksFor = Callable[[int], Marks]
"""Number of rows that are to come -> where their marks are kept."""


class HeldMarks:
    """Marks in memory, 8 bytes a row."""

    def __init__(self, n_rows: int) -> None:
        self._marks = np.empty(n_rows, dtype=np.uint64)
        self._n_rows = 0

    @property
    def n_rows(self) -> int:
        """Number of rows whose marks came."""
        return self._n_rows

    def append(self, marks: UInt64[np.ndarray, " rows"]) -> None:
        """Take in the marks of the next rows; ValueError if these are more rows than were to come."""
        self._marks[self._n_rows : self._n_rows + len(marks)] = marks
        self._n_rows += len(marks)

    def piece(self, start: int, stop: int) -> UInt64[np.ndarray, " rows"]:
        """Return the marks of rows `start` to `stop`."""
        return self._marks[start : min(stop, self._n_rows)]


def rows_alike(marks: Marks) -> tuple[int, list[int]]:
    """Return how many rows have the mark of another one, and the first five of them."""
    n_alike, first = 0, np.zeros(0, dtype=np.int64)
    for rows, found in _parts(marks):
        _, place, n_like = np.unique(found, return_inverse=True, return_counts=True)
        copies = rows[n_like[place] > 1]
        n_alike += len(copies)
        first = np.sort(np.concatenate([first, copies[:_N_EXAMPLES]]))[:_N_EXAMPLES]
    return n_alike, first.tolist()


def repeated_marks(marks: Marks) -> tuple[int, tuple[int, ...]]:
    """Return how many rows have a mark that an earlier row has, and the least five of these marks, once for each row."""
    n_repeated, least = 0, np.zeros(0, dtype=np.uint64)
    for _, found in _parts(marks):
        found.sort()
        again = found[1:][found[1:] == found[:-1]]
        n_repeated += len(again)
        least = np.concatenate([least, again])[:_N_EXAMPLES]
    return n_repeated, tuple(least.tolist())


def _parts(marks: Marks) -> Iterator[tuple[Int64[np.ndarray, " rows"], UInt64[np.ndarray, " rows"]]]:
    """Go through the rows whose marks begin alike, with their marks, from the least beginning to the largest."""
    for begin in range(1 << _FIRST_BITS):
        rows, found = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
        for at in range(0, marks.n_rows, _CHUNK):
            piece = marks.piece(at, min(at + _CHUNK, marks.n_rows))
            here = np.flatnonzero(piece >> np.uint64(64 - _FIRST_BITS) == begin)
            rows.append(here + at)
            found.append(piece[here])
        yield np.concatenate(rows), np.concatenate(found)
