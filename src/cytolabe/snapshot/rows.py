"""From a partition to a snapshot: which cells of a block are kept, and own features as columns of genes."""

import dataclasses

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.records import Block

__all__ = ["kept_of", "summed"]


def kept_of(block: Block, kept: np.ndarray) -> Block:
    """Return the cells of a block that are kept, numbered among these."""
    first, last = np.searchsorted(kept, [block.start, block.start + len(block.cell_names)])
    if last - first == len(block.cell_names):
        return block if first == block.start else dataclasses.replace(block, start=int(first))
    inside = kept[first:last] - block.start
    names = tuple(block.cell_names[row] for row in inside)
    counts = csr_matrix(block.counts[inside])
    return Block(dataset_id=block.dataset_id, start=int(first), cell_names=names, counts=counts)


def summed(counts: csr_matrix, columns: np.ndarray, *, n_genes: int) -> csr_matrix:
    """Move features to gene columns and add up those of one gene; features without a column are left behind."""
    target = columns[counts.indices]
    is_kept = target >= 0
    kept_before = np.concatenate([[0], np.cumsum(is_kept)])
    indptr = kept_before[counts.indptr]
    together = csr_matrix((counts.data[is_kept], target[is_kept], indptr), shape=(counts.shape[0], n_genes))
    together.sum_duplicates()
    return together
