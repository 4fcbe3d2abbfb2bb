"""The rarest genes that a cell expresses: what is left of them when the cell is sequenced less deeply or counted again.

Two droplets of one cell type share common genes and hardly any rare one; two countings of one droplet share its rare genes,
however few are left. A thinned cell expresses a subset of the genes, in the same order of rarity, so that its rarest
genes are those of the whole cell that were left, and next in line.
"""

import numpy as np
from jaxtyping import Float, Int32, Int64
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel
from cytolabe.encode.sketches import priorities_of

__all__ = ["RARE_GENES", "rarest_genes", "rarity_order"]

RARE_GENES = 64
"""Genes kept of each cell."""


def rarity_order(detection: Float[np.ndarray, "datasets genes"], genes: tuple[str, ...]) -> Int64[np.ndarray, " genes"]:
    """Return the place of each gene in the order of rarity, the rarest first.

    Parameters
    ----------
    detection
        Fraction of the cells of each data set with a count of each gene, in [0, 1].
    genes
        Their ids.

    Notes
    -----
    A gene counts as often as in the data set that detects it most: one that another pipeline never counts is not rare.
    Ties go by a hash of the id, so that they do not follow the alphabet, which follows gene families.
    """
    most = detection.max(axis=0) if len(detection) else np.zeros(len(genes))
    places = np.empty(len(genes), dtype=np.int64)
    places[np.lexsort([priorities_of(genes), most])] = np.arange(len(genes))
    return places


def rarest_genes(
    counts: csr_matrix, order: Int64[np.ndarray, " genes"]
) -> tuple[Int32[np.ndarray, "cells kept"], Int64[np.ndarray, "cells 2"]]:
    """Return the `RARE_GENES` rarest genes of each cell, and its totals.

    Parameters
    ----------
    counts
        Cells x genes, no negative entries, no gene of a cell twice.
    order
        What `rarity_order` gives.

    Returns
    -------
    kept
        Places in the order, ascending; the number of genes where a cell has fewer.
    totals
        Genes with a count, and counts.
    """
    kept = np.full((counts.shape[0], RARE_GENES), len(order), dtype=np.int32)
    totals = np.zeros((counts.shape[0], 2), dtype=np.int64)
    matrix = (counts.indptr, counts.indices, counts.data.astype(np.int64, copy=False))
    _keep_rarest(matrix, order, (kept, totals))
    return kept, totals


@kernel
def _keep_rarest(
    matrix: tuple[np.ndarray, np.ndarray, np.ndarray], order: np.ndarray, out: tuple[np.ndarray, np.ndarray]
) -> None:
    indptr, indices, data = matrix
    kept, totals = out
    n_kept = kept.shape[1]
    # A bit for each gene of the order: the rarest of a cell are the first that are set, and most of the order is not read.
    is_there = np.zeros(len(order) // 64 + 1, dtype=np.uint64)
    for cell in range(len(indptr) - 1):
        n_genes, n_counts = 0, 0
        for entry in range(indptr[cell], indptr[cell + 1]):
            if data[entry] > 0:
                place = order[indices[entry]]
                is_there[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
                n_genes += 1
                n_counts += data[entry]
        totals[cell, 0], totals[cell, 1] = n_genes, n_counts
        n_found = 0
        for word in range(len(is_there)):
            bits = is_there[word]
            is_there[word] = 0
            place = word << 6
            while bits and n_found < n_kept:
                if bits & np.uint64(1):
                    kept[cell, n_found] = place
                    n_found += 1
                bits >>= np.uint64(1)
                place += 1
