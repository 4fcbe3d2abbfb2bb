"""Order-0 entropy of a sparse matrix: what a codec that knows only frequencies needs per non-zero.

A non-zero is a gap (to the entry before it in its cell; the first entry counts from -1) and a count. The two are
coded apart, so their entropies add. A codec that sees context, or repeated cells, may go below.
"""

import numpy as np

from cytolabe.compiled import kernel

_ROOM = 1 << 16
"""Gaps and counts up to this have a cell of the histogram; rarer ones share the last, which bounds from below."""


class Entropy:
    """Histograms of gaps and counts, filled block by block."""

    def __init__(self) -> None:
        self._gaps = np.zeros(_ROOM, dtype=np.int64)
        self._counts = np.zeros(_ROOM, dtype=np.int64)

    def add(self, indptr: np.ndarray, indices: np.ndarray, counts: np.ndarray) -> None:
        """Count the entries of some cells, whose indices ascend within each."""
        _fill((indptr, indices, counts), self._gaps, self._counts)

    def bytes_per_nonzero(self) -> float:
        """Return the sum of both entropies in bytes; 0 where nothing was added."""
        return (_bits(self._gaps) + _bits(self._counts)) / 8


@kernel
def _fill(matrix: tuple[np.ndarray, np.ndarray, np.ndarray], gaps: np.ndarray, sizes: np.ndarray) -> None:
    indptr, indices, counts = matrix
    last = len(gaps) - 1
    for cell in range(len(indptr) - 1):
        before = np.int64(-1)
        for entry in range(indptr[cell], indptr[cell + 1]):
            gene = np.int64(indices[entry])
            gaps[min(gene - before, last)] += 1
            sizes[min(np.int64(counts[entry]), last)] += 1
            before = gene


def _bits(histogram: np.ndarray) -> float:
    used = histogram[histogram > 0]
    if not len(used):
        return 0.0
    shares = used / used.sum()
    return float(-(shares * np.log2(shares)).sum())
