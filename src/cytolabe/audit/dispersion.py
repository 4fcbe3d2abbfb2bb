"""Are two cells two countings of one droplet? Their difference against what two samples of one profile would show.

Two draws of UMIs from one and the same profile differ by chance, and the two-sample chi-square, scaled to both depths,
is then about 1 per degree of freedom; biology adds to it. Nothing but a common origin makes it much smaller: of a cell
and what is left of it at a fraction p of its counts it is about (1 - p) / (1 + p) and a little more (rule R9).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel

__all__ = ["MAX_DISPERSION", "MIN_DEPTH_RATIO", "MIN_SIGMAS", "Dispersion", "dispersion"]

MAX_DISPERSION = 0.7
"""Chi-square per degree of freedom up to which two cells count as near-identical."""
MIN_SIGMAS = 4
"""Standard deviations (sqrt(2 / df)) that it has to be below 1: with few genes chance alone reaches .7."""
MIN_DEPTH_RATIO = 0.125
"""Counts of the shallower cell over those of the deeper from which on a pair can be told."""


@dataclass(frozen=True, kw_only=True)
class Dispersion:
    """What a test of pairs gives, one entry per pair.

    `ratio`: chi-square per degree of freedom, 0 or more, 1 where a cell is empty; `n_genes`: genes with a count in either cell; `correlation`: Pearson's r of
    the counts over all genes given, in [-1, 1], 0 where a cell is constant; `depth_ratio` in [0, 1]; `is_equal`: no count differs.
    """

    ratio: Float[np.ndarray, " pairs"]
    n_genes: Int64[np.ndarray, " pairs"]
    n_common: Int64[np.ndarray, " pairs"]
    correlation: Float[np.ndarray, " pairs"]
    depth_ratio: Float[np.ndarray, " pairs"]
    is_equal: Bool[np.ndarray, " pairs"]

    @property
    def sigmas(self) -> Float[np.ndarray, " pairs"]:
        """How far the ratio lies below 1, in standard deviations of a chi-square with as many degrees of freedom."""
        return np.asarray((1 - self.ratio) * np.sqrt(np.maximum(self.n_genes - 1, 0) / 2))

    @property
    def is_near(self) -> Bool[np.ndarray, " pairs"]:
        """Which pairs are near-identical: two countings of one cell, and not equal."""
        is_close = (self.ratio <= MAX_DISPERSION) & (self.sigmas >= MIN_SIGMAS)
        return np.asarray(is_close & (self.depth_ratio >= MIN_DEPTH_RATIO) & ~self.is_equal)


def dispersion(one: csr_matrix, other: csr_matrix) -> Dispersion:
    """Compare the cells of two matrices, row by row.

    Parameters
    ----------
    one, other
        Counts, pairs x genes, of the same shape; no stored zeros, no gene of a cell twice.
    """
    one.sort_indices()
    other.sort_indices()
    numbers = np.zeros((one.shape[0], 6), dtype=np.float64)
    matrices = (
        (one.indptr, one.indices, one.data.astype(np.float64)),
        (other.indptr, other.indices, other.data.astype(np.float64)),
    )
    _compare(matrices, one.shape[1], numbers)
    return Dispersion(
        ratio=numbers[:, 0],
        n_genes=numbers[:, 1].astype(np.int64),
        n_common=numbers[:, 2].astype(np.int64),
        correlation=numbers[:, 3],
        depth_ratio=numbers[:, 4],
        is_equal=numbers[:, 5] == 0,
    )


@kernel
def _compare(
    matrices: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
    n_genes: int,
    out: np.ndarray,
) -> None:
    one, other = matrices
    for pair in range(len(out)):
        low_x, high_x = one[0][pair], one[0][pair + 1]
        low_y, high_y = other[0][pair], other[0][pair + 1]
        x, y = one[2][low_x:high_x], other[2][low_y:high_y]
        genes_x, genes_y = one[1][low_x:high_x], other[1][low_y:high_y]
        total_x, total_y = x.sum(), y.sum()
        if total_x == 0 or total_y == 0:
            out[pair, 0], out[pair, 5] = 1.0, total_x + total_y
            continue
        up, down = np.sqrt(total_y / total_x), np.sqrt(total_x / total_y)
        place, against, n_either, n_common = 0, 0, 0, 0
        square, product, difference = 0.0, 0.0, 0.0
        while place < len(x) or against < len(y):
            in_x = place < len(x) and (against == len(y) or genes_x[place] <= genes_y[against])
            in_y = against < len(y) and (place == len(x) or genes_y[against] <= genes_x[place])
            own = x[place] if in_x else 0.0
            their = y[against] if in_y else 0.0
            square += (up * own - down * their) ** 2 / (own + their)
            product += own * their
            difference += abs(own - their)
            n_either += 1
            n_common += in_x and in_y
            place += in_x
            against += in_y
        out[pair, 0] = square / max(n_either - 1, 1)
        out[pair, 1], out[pair, 2] = n_either, n_common
        spread = np.sqrt(((x**2).sum() - total_x**2 / n_genes) * ((y**2).sum() - total_y**2 / n_genes))
        out[pair, 3] = (product - total_x * total_y / n_genes) / spread if spread > 0 else 0.0
        out[pair, 4] = min(total_x, total_y) / max(total_x, total_y)
        out[pair, 5] = difference
