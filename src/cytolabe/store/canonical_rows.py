"""Cells in the one order of a partition: features ascending, each once, no zeros - without sorting.

A cell marks its features in a bitmap and leaves its counts in a table, both as wide as the features; reading the
bitmap from its low end gives the order. That costs one step per entry and one per 64 features, whatever order the
source has; where the columns of a cell ascend already, they are copied.
"""

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel

__all__ = ["canonical_rows"]

_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_POSITIONS = np.zeros(64, dtype=np.int64)
for _bit in range(64):
    _POSITIONS[((int(_DE_BRUIJN) << _bit) & (2**64 - 1)) >> 58] = _bit


def canonical_rows(
    counts: csr_matrix, column_of_feature: np.ndarray, *, n_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (indptr int64, columns uint32, counts uint64) of cells in the order of a partition.

    Parameters
    ----------
    counts
        Cells x features of the source: unsigned or proven whole numbers, in any order; a feature that occurs twice
        in a cell is added up.
    column_of_feature
        Column in the partition of each feature of the source.
    n_columns
        Number of columns.
    """
    n_stored = len(counts.data)
    columns = np.empty(n_stored, dtype=np.uint32)
    values = np.empty(n_stored, dtype=np.uint64)
    indptr = np.zeros(counts.shape[0] + 1, dtype=np.int64)
    bitmap = np.zeros(n_columns // 64 + 1, dtype=np.uint64)
    table = np.zeros(max(1, n_columns), dtype=np.uint64)
    n_kept = _reorder(
        (counts.indptr, counts.indices, counts.data),
        (column_of_feature, bitmap, table),
        (indptr, columns, values),
    )
    return indptr, columns[:n_kept], values[:n_kept]


@kernel
def _reorder(
    source: tuple[np.ndarray, np.ndarray, np.ndarray],
    scratch: tuple[np.ndarray, np.ndarray, np.ndarray],
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> int:
    pointers, indices, data = source
    column_of, bitmap, table = scratch
    indptr, columns, values = out
    kept = 0
    for cell in range(len(pointers) - 1):
        low, high = pointers[cell], pointers[cell + 1]
        last = -1
        at = kept
        for entry in range(low, high):
            column = column_of[indices[entry]]
            if column <= last or data[entry] == 0:
                break
            columns[at] = column
            values[at] = np.uint64(data[entry])
            last = column
            at += 1
        if at - kept == high - low:
            kept = at
        else:
            for entry in range(low, high):
                column = column_of[indices[entry]]
                table[column] += np.uint64(data[entry])
                if table[column] != 0:
                    bitmap[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
            for word in range(len(bitmap)):
                bits = bitmap[word]
                while bits != 0:
                    lowest = bits & (~bits + np.uint64(1))
                    column = word * 64 + _POSITIONS[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                    columns[kept] = column
                    values[kept] = table[column]
                    table[column] = 0
                    kept += 1
                    bits &= bits - np.uint64(1)
                bitmap[word] = 0
        indptr[cell + 1] = kept
    return kept
