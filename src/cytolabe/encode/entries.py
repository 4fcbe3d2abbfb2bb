"""Cells as they lie in a buffer: what every kernel of this room reads.

The entries of a cell are one run of two arrays. Cells may lie anywhere and in any order, so a minibatch of shuffled
cells is a list of starts and stops, and nothing has to be moved before it is encoded.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

__all__ = ["CellEntries", "entries_of"]


class CellEntries(NamedTuple):
    """Gene columns and counts of all cells, and where each cell starts and stops."""

    columns: np.ndarray
    """uint32, or uint16 in a raw cache."""
    counts: np.ndarray
    """uint32, or uint16 in a raw cache; zeros are allowed and mean what they say."""
    starts: np.ndarray
    """int64, one per cell."""
    stops: np.ndarray
    """int64, one per cell."""


def entries_of(counts: csr_matrix) -> CellEntries:
    """Return the cells of a matrix of raw counts.

    Raises
    ------
    ValueError
        If a count is negative, no whole number, or above 2^32 - 1.
    """
    values = counts.data.astype(np.uint32) if counts.nnz == 0 or counts.data.min() >= 0 else None
    if values is None or not np.array_equal(values, counts.data):
        msg = "counts hold values that are no whole numbers of 0 to 4,294,967,295: these are not raw counts."
        raise ValueError(msg)
    bounds = counts.indptr.astype(np.int64)
    return CellEntries(counts.indices.astype(np.uint32), values, bounds[:-1], bounds[1:])
