"""Counts of a block in one form: sorted features, no stored zeros, the narrowest integers that lose nothing.

The values were proven before; here only their form changes, and what is dropped is counted.
"""

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel
from cytolabe.records import Block

__all__ = ["standardize_block"]

_DTYPES = (np.uint8, np.uint16, np.uint32, np.uint64)
_TOO_LARGE = 2.0**64


def standardize_block(block: Block) -> tuple[Block, int]:
    """Return the block with its counts in standard form, and the number of stored zeros that were dropped.

    Raises
    ------
    ValueError
        If a value is negative or not whole: such a block was never proven.
    """
    counts = block.counts
    data = counts.data if counts.data.dtype.kind in "iuf" else counts.data.astype(np.int64)
    wrong, n_zeros, largest, is_ascending = _look_at_values(data, counts.indices, counts.indptr)
    if wrong:
        msg = f"{block.dataset_id}: cells from {block.start} hold values that are no counts; prove them before this."
        raise ValueError(msg)
    dtype = next(np.dtype(one) for one in _DTYPES if largest <= np.iinfo(one).max)
    indptr, indices = counts.indptr, counts.indices
    if n_zeros or not is_ascending:
        data, indices, indptr = _in_order(data, indices, indptr=indptr)
    # The block belongs to the caller, so nothing of it is shared.
    narrow = csr_matrix((data.astype(dtype), indices.copy(), indptr.copy()), shape=counts.shape)
    standard = Block(dataset_id=block.dataset_id, start=block.start, cell_names=block.cell_names, counts=narrow)
    return standard, int(n_zeros)


def _in_order(
    data: np.ndarray, indices: np.ndarray, *, indptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop stored zeros and sort the features of each cell."""
    kept = np.flatnonzero(data)
    shorter = np.searchsorted(kept, indptr).astype(indptr.dtype)
    data, indices = data[kept], indices[kept]
    # Cells first, features second: one order for the whole block sorts every cell.
    order = np.lexsort((indices, np.repeat(np.arange(len(indptr) - 1), np.diff(shorter))))
    return data[order], indices[order], shorter


@kernel
def _look_at_values(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> tuple[bool, int, float, bool]:
    """Return whether a value is no count, the number of zeros, the largest value, and whether every cell ascends."""
    n_zeros, n_descents, largest = 0, 0, 0.0
    for cell in range(len(indptr) - 1):
        last = -1
        for at in range(indptr[cell], indptr[cell + 1]):
            value, index = data[at], int(indices[at])
            if not (value >= 0 and value < _TOO_LARGE) or value != np.floor(value):
                return True, 0, largest, False
            n_zeros += value == 0
            largest = max(largest, float(value))
            n_descents += index <= last
            last = index
    return False, n_zeros, largest, n_descents == 0
