"""Counts of a block in one form: sorted features, no stored zeros, the narrowest integers that lose nothing.

The values were proven before; here only their form changes, and what is dropped is counted.
"""

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.records import Block

__all__ = ["standardize_block"]

_DTYPES = (np.uint8, np.uint16, np.uint32, np.uint64)


def standardize_block(block: Block) -> tuple[Block, int]:
    """Return the block with its counts in standard form, and the number of stored zeros that were dropped.

    Raises
    ------
    ValueError
        If a value is negative or not whole: such a block was never proven.
    """
    counts = block.counts
    kept = np.flatnonzero(counts.data)
    n_zeros = len(counts.data) - len(kept)
    indptr = np.searchsorted(kept, counts.indptr).astype(np.int64)
    data, indices = counts.data[kept], counts.indices[kept]
    # Cells first, features second: one order for the whole block sorts every cell.
    order = np.lexsort((indices, np.repeat(np.arange(counts.shape[0]), np.diff(indptr))))
    data, indices = data[order], indices[order]
    largest = data.max(initial=0)
    if len(data) and (data.min() < 0 or not np.array_equal(data, np.floor(data))):
        msg = f"{block.dataset_id}: cells from {block.start} hold values that are no counts; prove them before this."
        raise ValueError(msg)
    dtype = next(np.dtype(one) for one in _DTYPES if largest <= np.iinfo(one).max)
    narrow = csr_matrix((data.astype(dtype), indices, indptr.astype(counts.indptr.dtype)), shape=counts.shape)
    standard = Block(dataset_id=block.dataset_id, start=block.start, cell_names=block.cell_names, counts=narrow)
    return standard, n_zeros
