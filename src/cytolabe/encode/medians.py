"""Median of each gene over the cells that have it, in one pass and in memory that does not grow with cells.

The value is `count / total of the cell * 10,000`, as in the rank rule; zeros are left out. Values of a gene are counted in
buckets whose bounds grow by a constant factor, so that the middle of a bucket is within `RELATIVE_ERROR` of all that is in
it: the stated error of the median, for every distribution. Sums of two digests are the digest of all their cells.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from cytolabe.errors import NotRawCountsError

__all__ = ["RELATIVE_ERROR", "CountedBlock", "CountedCells", "MedianDigest", "gene_medians"]

RELATIVE_ERROR = 0.005
"""How far a median may be from the exact one, as a share of it."""
_TARGET = 10_000.0
_SMALLEST = 1e-4  # a count of 1 among 100 million; below it a value is counted as this one
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOWEST = math.floor(math.log(_SMALLEST) / math.log(_GAMMA))
_N_BUCKETS = math.ceil(math.log(_TARGET) / math.log(_GAMMA)) - _LOWEST + 2


@runtime_checkable
class CountedCells(Protocol):
    """What a minibatch of a stream has."""

    @property
    def indptr(self) -> np.ndarray: ...  # noqa: D102

    @property
    def columns(self) -> np.ndarray: ...  # noqa: D102

    @property
    def counts(self) -> np.ndarray: ...  # noqa: D102

    @property
    def n_counts(self) -> np.ndarray: ...  # noqa: D102


class CountedBlock(NamedTuple):
    """Cells in the words of the digest."""

    indptr: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    n_counts: np.ndarray


class MedianDigest:
    """Buckets of values for each gene; 15 kB a gene."""

    def __init__(self, n_genes: int) -> None:
        self._n_of_bucket = np.zeros((n_genes, _N_BUCKETS), dtype=np.int64)

    @property
    def n_cells_of_gene(self) -> Integer[np.ndarray, " genes"]:
        """Cells that have a count of each gene."""
        total: np.ndarray = self._n_of_bucket.sum(axis=1)
        return total

    def add(self, cells: CountedCells) -> None:
        """Count the values of cells: `columns` and `counts` in runs of `indptr`, totals over all genes in `n_counts`.

        Raises
        ------
        NotRawCountsError
            If a cell has a count above its total: its value would be counted into another gene.
        """
        is_counted = cells.counts > 0
        _refuse_small_totals(cells)
        totals = np.repeat(cells.n_counts.astype(np.float64), np.diff(cells.indptr))[is_counted]
        values = cells.counts[is_counted] / totals * _TARGET
        buckets = np.ceil(np.log(np.maximum(values, _SMALLEST)) / math.log(_GAMMA)).astype(np.int64) - _LOWEST
        places = cells.columns[is_counted].astype(np.int64) * _N_BUCKETS + buckets
        np.add.at(self._n_of_bucket.reshape(-1), places, 1)

    def merge(self, other: "MedianDigest") -> None:
        """Add the cells of another digest over the same genes."""
        self._n_of_bucket += other._n_of_bucket

    def medians(self) -> Float[np.ndarray, " genes"]:
        """Return the median of each gene, within `RELATIVE_ERROR`; not a number for a gene that no cell has."""
        upto = np.cumsum(self._n_of_bucket, axis=1)
        n_values = upto[:, -1]
        lower, upper = (self._at(upto, (n_values - 1 + step) // 2) for step in (0, 1))
        return np.where(n_values > 0, (lower + upper) / 2, np.nan)

    @staticmethod
    def _at(upto: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Return the value of a rank, counted from 0: the middle of its bucket."""
        bucket = (upto <= rank[:, None]).sum(axis=1)
        middle: np.ndarray = 2 * _GAMMA ** (bucket + _LOWEST).astype(np.float64) / (_GAMMA + 1)
        return middle


def _refuse_small_totals(cells: CountedCells) -> None:
    """Raise where the total of a cell is not at least each of its counts."""
    totals = np.repeat(cells.n_counts.astype(np.float64), np.diff(cells.indptr))
    wrong = np.flatnonzero(~(totals >= cells.counts))
    if wrong.size:
        at = int(wrong[0])
        cell = int(np.searchsorted(cells.indptr, at, side="right")) - 1
        n_cells = len(np.unique(np.searchsorted(cells.indptr, wrong, side="right")))
        msg = (
            f"{n_cells} of {len(cells.indptr) - 1} cells have a count above their total (cell {cell} of the minibatch: "
            f"count {cells.counts[at]}, total {cells.n_counts[cell]}), so totals and counts are not of the same cells. "
            f"Take both from one stream."
        )
        raise NotRawCountsError(msg)


def gene_medians(minibatches: Iterable[CountedCells], n_genes: int) -> Float[np.ndarray, " genes"]:
    """Return the median of each gene over the cells that have it, of a stream of counts (layout `csr`)."""
    digest = MedianDigest(n_genes)
    for minibatch in minibatches:
        digest.add(minibatch)
    return digest.medians()
