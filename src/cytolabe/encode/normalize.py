"""Counts to log-normalized values: `log1p_cp10k`, the one normalization that the models here use.

Computed in float64 and rounded once to float32, because float32 sums of deep cells lose counts. The result is never
stored: it follows from the counts. Definition: value = log(1 + 10,000 * count / total of the cell), natural log.
"""

import numpy as np
from jaxtyping import Integer
from scipy.sparse import csr_matrix

__all__ = ["CP10K_TARGET", "log1p_cp10k"]

CP10K_TARGET = 10_000.0
"""Counts that each cell is scaled to."""


def log1p_cp10k(counts: csr_matrix, *, totals: Integer[np.ndarray, " cells"] | None = None) -> csr_matrix:
    """Scale each cell to 10,000 counts, then take log(1 + x).

    Parameters
    ----------
    counts
        Raw counts, cells x genes, without negative values. Not modified.
    totals
        The count of each cell that stands for 10,000. By default the row sums; give the totals over the whole
        transcriptome where `counts` holds a subset of the genes, so that a value means the same on every subset.

    Returns
    -------
    csr_matrix
        Cells x genes, float32, with the sparsity of `counts` (explicit zeros stay zeros).

    Raises
    ------
    ValueError
        If a cell has no counts (it has no composition, and a silent zero row would later look like a real, quiet
        cell), if a count is negative or not finite, or if a given total is smaller than the row sum.
    """
    values = np.asarray(counts.data, dtype=np.float64)
    if values.size and not (np.isfinite(values).all() and values.min() >= 0):
        msg = "Counts hold negative or non-finite values: these are not raw counts, and log1p would hide it."
        raise ValueError(msg)
    matrix = csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape, copy=False)
    sums = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    scale_by = sums if totals is None else np.asarray(totals, dtype=np.float64)
    if scale_by.shape != sums.shape:
        msg = f"{scale_by.size} totals were given for {sums.size} cells."
        raise ValueError(msg)
    _refuse_bad_totals(sums, scale_by)
    per_value = np.repeat(CP10K_TARGET / scale_by, np.diff(counts.indptr))
    scaled = np.log1p(values * per_value).astype(np.float32)
    return csr_matrix((scaled, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


def _refuse_bad_totals(sums: np.ndarray, scale_by: np.ndarray) -> None:
    """Raise where a cell has nothing to be scaled by, or more counts than its total."""
    empty = np.flatnonzero(scale_by <= 0)
    if empty.size:
        msg = (
            f"{empty.size} of {sums.size} cells have no counts (first rows: {', '.join(map(str, empty[:5]))}): "
            "they have no composition. Leave them out, or give totals over all genes of the data set."
        )
        raise ValueError(msg)
    short = np.flatnonzero(scale_by < sums)
    if short.size:
        msg = (
            f"{short.size} of {sums.size} cells have more counts than their given total (first rows: "
            f"{', '.join(map(str, short[:5]))}): the totals belong to other cells."
        )
        raise ValueError(msg)
