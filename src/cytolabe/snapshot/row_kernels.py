"""Compiled loops over the entries of blocks of cells."""

import numpy as np
from jaxtyping import Int64, Integer

from cytolabe.compiled import kernel

__all__ = ["moved_entries"]


def moved_entries(
    matrix: tuple[np.ndarray, np.ndarray, np.ndarray], columns: Int64[np.ndarray, " features"]
) -> tuple[Int64[np.ndarray, " cells1"], Integer[np.ndarray, " entries"], Integer[np.ndarray, " entries"]]:
    """Return row starts, columns and counts of the entries (row starts, features, counts) whose feature has a column, in order."""
    indptr, indices, data = matrix
    starts = np.zeros(len(indptr), dtype=np.int64)
    moved = np.empty(len(indices), dtype=np.int32)
    kept = np.empty(len(data), dtype=data.dtype)
    _move((indptr, indices, data), columns, (starts, moved, kept))
    n_kept = starts[-1]
    return starts, moved[:n_kept], kept[:n_kept]


@kernel
def _move(
    matrix: tuple[np.ndarray, np.ndarray, np.ndarray],
    columns: np.ndarray,
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    indptr, indices, data = matrix
    starts, moved, kept = out
    n_kept = 0
    for cell in range(len(indptr) - 1):
        for entry in range(indptr[cell], indptr[cell + 1]):
            column = columns[indices[entry]]
            if column >= 0:
                moved[n_kept] = column
                kept[n_kept] = data[entry]
                n_kept += 1
        starts[cell + 1] = n_kept
