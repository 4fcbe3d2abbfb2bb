"""What the values of cells come to where they arrive by features: gathered from entries in any order.

A matrix that lies by features (CSC) spreads each cell over the whole file. Everything that is asked of a cell is a sum,
a least value or a divisor, so a slice of entries adds to it, and no cell is ever put together: 40 bytes a cell.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["CellSums", "Entries", "prints_of_entries"]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_VALUE = np.uint64(0xD1B54A32D192ED03)


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Some stored values of a matrix, each with its cell and its feature."""

    cells: np.ndarray
    features: np.ndarray
    values: np.ndarray

    def by_cell(self) -> "Entries":
        """Return those that are not zero, cells ascending."""
        kept = np.flatnonzero(self.values != 0)
        order = kept[np.argsort(self.cells[kept], kind="stable")]
        return Entries(cells=self.cells[order], features=self.features[order], values=self.values[order])


class CellSums:
    """Sizes, totals, least values, divisors and prints of `n_cells` cells."""

    def __init__(self, n_cells: int) -> None:
        self.sizes = np.zeros(n_cells, dtype=np.int64)
        self.totals = np.zeros(n_cells)
        self.least = np.full(n_cells, np.inf)
        self.divisors = np.zeros(n_cells, dtype=np.int64)
        self.prints = np.zeros(n_cells, dtype=np.uint64)

    def add(self, entries: Entries) -> None:
        """Take in entries without zeros, cells ascending."""
        cells, starts = _runs(entries.cells)
        if not len(cells):
            return
        self.sizes[cells] += np.diff(starts, append=len(entries.cells))
        self.totals[cells] += np.add.reduceat(entries.values, starts, dtype=np.float64)
        self.least[cells] = np.minimum(self.least[cells], np.minimum.reduceat(entries.values, starts))
        self.prints[cells] += np.add.reduceat(prints_of_entries(entries.features, entries.values), starts)

    def add_divisors(self, entries: Entries) -> None:
        """Take in what divides these values; they have to be whole."""
        cells, starts = _runs(entries.cells)
        if len(cells):
            divisors = np.gcd.reduceat(entries.values.astype(np.int64), starts)
            self.divisors[cells] = np.gcd(self.divisors[cells], divisors)


def _runs(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells that occur, and where the entries of each begin."""
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    return cells[starts], starts


def prints_of_entries(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return 64 bits of each (feature, value); their sum over a cell is the same in every order."""
    bits = values.astype(np.float64).view(np.uint64)
    state = features.astype(np.uint64)
    state *= _ODD
    bits *= _VALUE
    state += bits
    for shift in (30, 27):
        state ^= state >> np.uint64(shift)
        state *= _MIX
    state ^= state >> np.uint64(31)
    return state
