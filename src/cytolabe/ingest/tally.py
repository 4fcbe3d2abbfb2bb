"""One streaming pass over a matrix: what its values are, on every non-zero, with the first place that breaks a rule.

Nothing is sampled. A heuristic on the first rows passes a matrix whose normalized cells come later, and the cost of
looking at every value is one read, which the totals per cell and feature need anyway.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cytolabe.records import Block

__all__ = ["LARGEST_COUNT", "SMALL_VALUES", "MatrixTally", "tally_matrix"]

LARGEST_COUNT = 2**53
"""Largest integer that every float64 up to it can tell from its neighbors."""
SMALL_VALUES = 9
"""Values from 1 to this one are counted per cell: counts thin out evenly there, scaled values leave holes."""
_EXP_LIMIT = 30.0
"""expm1 is taken up to here only; no logarithm of a scaled count is larger."""
_TOO_LARGE_TOTAL = float(2**62)


@dataclass
class MatrixTally:
    """What one pass found. Arrays per cell have one entry per cell, `feature_totals` one per feature.

    `exact_below` is the value from which on the stored type skips integers (`native.exact_below`), `n_inexact` how many
    values lie there. `cell_small` has the number of genes per cell whose count is 1, 2, ... `SMALL_VALUES`.

    `broken` maps `fractional`, `negative`, `nonfinite` and `oversized` to the number of non-zero values of that kind,
    `first` to the (cell, feature, value) where each occurs first. Totals are meaningful where nothing is broken.
    """

    n_cells: int
    n_features: int
    exact_below: float = float("inf")
    n_nonzero: int = 0
    n_ones: int = 0
    n_inexact: int = 0
    largest: float = 0.0
    broken: dict[str, int] = field(default_factory=dict)
    first: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    cell_totals: np.ndarray = field(init=False)
    cell_genes: np.ndarray = field(init=False)
    cell_smallest: np.ndarray = field(init=False)
    cell_divisor: np.ndarray = field(init=False)
    cell_small: np.ndarray = field(init=False)
    value_sums: np.ndarray = field(init=False)
    expm1_sums: np.ndarray = field(init=False)
    feature_totals: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Make the arrays."""
        self.cell_totals = np.zeros(self.n_cells, dtype=np.int64)
        self.cell_genes = np.zeros(self.n_cells, dtype=np.int64)
        self.cell_smallest = np.zeros(self.n_cells, dtype=np.int64)
        self.cell_divisor = np.zeros(self.n_cells, dtype=np.int64)
        self.cell_small = np.zeros((self.n_cells, SMALL_VALUES), dtype=np.int32)
        self.value_sums = np.zeros(self.n_cells)
        self.expm1_sums = np.zeros(self.n_cells)
        self.feature_totals = np.zeros(self.n_features, dtype=np.int64)

    @property
    def is_integer(self) -> bool:
        """Every non-zero is a non-negative, finite integer up to 2^53, and there is one."""
        return self.n_nonzero > 0 and not self.broken

    @property
    def broken_fraction(self) -> float:
        """Share of non-zeros that are no counts, in [0, 1]."""
        return min(1.0, sum(self.broken.values()) / self.n_nonzero) if self.n_nonzero else 0.0

    def add(self, block: Block) -> None:
        """Take in the next block."""
        counts = block.counts
        cells = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        kept = np.flatnonzero(counts.data)
        cells, features = cells[kept], counts.indices[kept]
        stored = counts.data[kept]
        values = stored.astype(np.float64)
        self.n_nonzero += len(values)
        self.n_ones += int(np.count_nonzero(values == 1.0))
        kinds = _kinds(values)
        for kind, wrong in kinds.items():
            places = np.flatnonzero(wrong)
            if len(places):
                self.broken[kind] = self.broken.get(kind, 0) + len(places)
                at = places[0]
                self.first.setdefault(kind, (block.start + int(cells[at]), int(features[at]), float(values[at])))
        here = slice(block.start, block.start + counts.shape[0])
        n_here = counts.shape[0]
        self.cell_genes[here] = np.bincount(cells, minlength=n_here)
        finite = np.where(np.isfinite(values), values, 0.0)
        self.largest = max(self.largest, float(finite.max(initial=0.0)))
        self.value_sums[here] = np.bincount(cells, weights=finite, minlength=n_here)
        if self.broken:
            logs = np.expm1(np.clip(finite, None, _EXP_LIMIT))
            self.expm1_sums[here] = np.bincount(cells, weights=logs, minlength=n_here)
        else:
            self.n_inexact += int(np.count_nonzero(values >= self.exact_below))
            self._add_integers(stored.astype(np.int64), cells, features=features, start=block.start)
        if self.value_sums[here].max(initial=0.0) > _TOO_LARGE_TOTAL:
            self.broken["oversized"] = self.broken.get("oversized", 0) + 1
            self.first.setdefault("oversized", (block.start, 0, float(self.value_sums[here].max())))

    def _add_integers(self, values: np.ndarray, cells: np.ndarray, *, features: np.ndarray, start: int) -> None:
        """Sum exactly: float sums would lose counts above 2^53."""
        np.add.at(self.feature_totals, features, values)
        if not len(cells):
            return
        first = np.flatnonzero(np.concatenate([[True], np.diff(cells) != 0]))
        rows = start + cells[first]
        self.cell_totals[rows] = np.add.reduceat(values, first)
        self.cell_smallest[rows] = np.minimum.reduceat(values, first)
        self.cell_divisor[rows] = np.gcd.reduceat(values, first)
        small = values <= SMALL_VALUES
        places = cells[small] * SMALL_VALUES + (values[small] - 1)
        n_rows = int(cells[-1]) + 1
        counted = np.bincount(places, minlength=n_rows * SMALL_VALUES).reshape(n_rows, SMALL_VALUES)
        self.cell_small[start : start + n_rows] = counted


def tally_matrix(
    blocks: Iterable[Block], *, n_cells: int, n_features: int, exact_below: float = float("inf")
) -> MatrixTally:
    """Run one pass over all blocks of a matrix."""
    tally = MatrixTally(n_cells=n_cells, n_features=n_features, exact_below=exact_below)
    for block in blocks:
        tally.add(block)
    return tally


def _kinds(values: np.ndarray) -> dict[str, np.ndarray]:
    """Sort values into what breaks the rule of counts; a value falls into at most one kind."""
    finite = np.isfinite(values)
    negative = finite & (values < 0)
    fractional = finite & ~negative & (values != np.floor(values))
    oversized = finite & ~negative & ~fractional & (values > LARGEST_COUNT)
    return {"nonfinite": ~finite, "negative": negative, "fractional": fractional, "oversized": oversized}
