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
    from cytolabe.snapshot.row_kernels import moved_entries  # noqa: PLC0415 - kernels load where they run

    entries = moved_entries((counts.indptr, counts.indices, counts.data), columns)
    together = csr_matrix((entries[2], entries[1], entries[0]), shape=(counts.shape[0], n_genes))
    targets = columns[columns >= 0]
    if (np.diff(targets) > 0).all() and counts.has_sorted_indices:
        return together
    if len(np.unique(targets)) == len(targets):
        together.sort_indices()
    else:
        together.sum_duplicates()
    return together
