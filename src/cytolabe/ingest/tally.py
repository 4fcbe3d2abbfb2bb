"""One streaming pass over a matrix: what its values are, on every non-zero, with the first place that breaks a rule.

Nothing is sampled. A heuristic on the first rows passes a matrix whose normalized cells come later, and the cost of
looking at every value is one read, which the totals per cell and feature need anyway.

A tally is of a run of cells. What is found of a cell depends on that cell alone, so the tallies of neighboring runs
merge into that of both, wherever the cells are cut: runs are counted by independent tasks.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt64
from scipy.sparse import csr_matrix

from cytolabe.ingest.tally_kernels import (
    COUNTERS,
    KINDS,
    LARGEST_COUNT,
    MIN_GENES,
    fingerprints_of,
    tally_cells,
)
from cytolabe.records import Block

__all__ = [
    "LARGEST_COUNT",
    "MIN_GENES",
    "Hole",
    "MatrixTally",
    "block_fingerprints",
    "merge_tallies",
    "tally_matrix",
]

_PER_CELL = ("cell_totals", "cell_genes", "value_sums", "expm1_sums", "fingerprints")


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A cell without any gene at `value`, but with `n_next` genes at the value after it."""

    cell: int
    value: int
    n_next: int


@dataclass
class MatrixTally:
    """What one pass found of the cells `start` to `start + n_cells`; arrays per cell have one entry for each of these.

    `exact_below` is the value from which on the stored type skips integers (`native.exact_below`), `n_inexact` how many
    values lie there. `n_divisible` and `n_without_ones` count cells of `MIN_GENES` genes or more whose values share a
    divisor, or are never 1. `n_testable` cells have a small value `FREQUENT` times, `n_holed` of all cells skip the
    value before it. `fingerprints` tell whether a cell is still the same when it is read again.

    `broken` maps `fractional`, `negative`, `nonfinite` and `oversized` to the number of non-zero values of that kind,
    `first` to the (cell, feature, value) where each occurs first. Totals are meaningful where nothing is broken.
    """

    n_cells: int
    n_features: int
    exact_below: float = float("inf")
    start: int = 0
    n_nonzero: int = 0
    n_ones: int = 0
    n_inexact: int = 0
    n_divisible: int = 0
    n_without_ones: int = 0
    n_testable: int = 0
    n_holed: int = 0
    largest: float = 0.0
    first_hole: Hole | None = None
    broken: dict[str, int] = field(default_factory=dict)
    first: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    cell_totals: np.ndarray = field(init=False)
    cell_genes: np.ndarray = field(init=False)
    value_sums: np.ndarray = field(init=False)
    expm1_sums: np.ndarray = field(init=False)
    fingerprints: np.ndarray = field(init=False)
    feature_totals: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Make the arrays."""
        self.cell_totals = np.zeros(self.n_cells, dtype=np.int64)
        self.cell_genes = np.zeros(self.n_cells, dtype=np.int64)
        self.value_sums = np.zeros(self.n_cells)
        self.expm1_sums = np.zeros(self.n_cells)
        self.fingerprints = np.zeros(self.n_cells, dtype=np.uint64)
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
        here = slice(block.start - self.start, block.start - self.start + counts.shape[0])
        counters, broken = np.zeros(len(COUNTERS), dtype=np.int64), np.zeros(len(KINDS), dtype=np.int64)
        first = np.full((len(KINDS), 2), -1, dtype=np.int64)
        first_values, largest = np.zeros(len(KINDS)), np.zeros(1)
        hole = np.full(3, -1, dtype=np.int64)
        indices, indptr = counts.indices.astype(np.int32, copy=False), counts.indptr.astype(np.int64)
        tally_cells(
            (_plain_values(counts.data), indices, indptr, self.exact_below),
            (
                self.cell_totals[here],
                self.cell_genes[here],
                self.fingerprints[here],
                self.value_sums[here],
                self.expm1_sums[here],
            ),
            (counters, self.feature_totals, broken, first, first_values, largest, hole),
        )
        for name, found in zip(COUNTERS, counters.tolist(), strict=True):
            setattr(self, name, getattr(self, name) + found)
        self.largest = max(self.largest, float(largest[0]))
        if self.first_hole is None and hole[0] >= 0:
            self.first_hole = Hole(cell=block.start + int(hole[0]), value=int(hole[1]), n_next=int(hole[2]))
        for number, kind in enumerate(KINDS):
            if broken[number]:
                self.broken[kind] = self.broken.get(kind, 0) + int(broken[number])
                cell, feature = first[number].tolist()
                self.first.setdefault(kind, (block.start + cell, feature, float(first_values[number])))


def tally_matrix(
    blocks: Iterable[Block], *, n_cells: int, n_features: int, exact_below: float = float("inf"), start: int = 0
) -> MatrixTally:
    """Run one pass over all blocks of a matrix, or of its `n_cells` cells from `start` on."""
    tally = MatrixTally(n_cells=n_cells, n_features=n_features, exact_below=exact_below, start=start)
    for block in blocks:
        tally.add(block)
    return tally


def merge_tallies(parts: Sequence[MatrixTally]) -> MatrixTally:
    """Return the tally of all cells of neighboring runs; merging in any grouping gives the same.

    Raises
    ------
    ValueError
        If the runs do not follow each other, or are of different matrices.
    """
    ordered = sorted(parts, key=lambda part: part.start)
    for one, other in itertools.pairwise(ordered):
        if other.start != one.start + one.n_cells or other.n_features != one.n_features:
            msg = f"cells {one.start}-{one.start + one.n_cells} and those from {other.start} on are no neighbors."
            raise ValueError(msg)
    head = ordered[0]
    n_cells = sum(part.n_cells for part in ordered)
    merged = MatrixTally(n_cells=n_cells, n_features=head.n_features, exact_below=head.exact_below, start=head.start)
    for part in ordered:
        here = slice(part.start - head.start, part.start - head.start + part.n_cells)
        for name in _PER_CELL:
            getattr(merged, name)[here] = getattr(part, name)
        for name in COUNTERS:
            setattr(merged, name, getattr(merged, name) + getattr(part, name))
        merged.feature_totals += part.feature_totals
        merged.largest = max(merged.largest, part.largest)
        merged.first_hole = merged.first_hole or part.first_hole
        for kind, times in part.broken.items():
            merged.broken[kind] = merged.broken.get(kind, 0) + times
            merged.first.setdefault(kind, part.first[kind])
    return merged


def block_fingerprints(counts: csr_matrix) -> UInt64[np.ndarray, " cells"]:
    """Return the fingerprints of cells, as `MatrixTally.fingerprints` has them."""
    indices, indptr = counts.indices.astype(np.int32, copy=False), counts.indptr.astype(np.int64)
    return fingerprints_of(_plain_values(counts.data), indices, indptr)


def _plain_values(values: np.ndarray) -> np.ndarray:
    """Return the values in one of the three types that the kernel is compiled for, each of them unchanged.

    What is above 2^63 stays above 2^53 and is told; half precision fits single precision.
    """
    if values.dtype.kind == "f":
        return values.astype(np.float32 if values.dtype.itemsize < 8 else np.float64, copy=False)
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(2**63 - 1))
    return values.astype(np.int64, copy=False)
