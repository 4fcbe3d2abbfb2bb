"""What a cell type counts, read off real labelled cells: the ground that simulated donors stand on.

Per type the share of each gene in its counts, and how deep and how dispersed its cells are. What few cells
differ by chance is no difference between types, and in a simulation it would be one: a gene whose counts differ between types no
more than by chance has one share in all of them, and the others are shrunk to it by their own spread. Only every
second cell is read, chosen by the hash of its id: the others stay unread, so that what is simulated can be held
against real cells that it was not made from. No cell is copied: what leaves here are sums over many cells.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix
from scipy.stats import chi2

__all__ = ["MIN_CELLS", "TypeProfiles", "is_read", "measure_profiles", "sums_of_types"]

MIN_CELLS = 15
"""Cells of a type that must be read; a share of fewer would be those cells again."""
_CHANCE = 1e-4
"""Probability, per gene, of taking chance for a difference between types."""
_BIN_EDGES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Quantiles of the pooled share that part the genes whose dispersion is measured together."""
_LEAST_DISPERSION = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class TypeProfiles:
    """Types with their terms and readable names; genes are ids of the reference.

    `shares` (types x genes) sum to 1 per type; of all genes `n_genes_that_differ` have another share in some type. `log_depth` and `log_depth_spread` are mean and standard deviation of the natural
    log of the counts per cell. `dispersions` (types x genes) are those of a negative binomial: variance = mean + dispersion * mean^2.
    `left_out` maps a term to its number of cells that were too few.
    """

    genes: tuple[str, ...]
    terms: tuple[str, ...]
    names: tuple[str, ...]
    n_cells: tuple[int, ...]
    shares: np.ndarray
    n_genes_that_differ: int
    log_depth: np.ndarray
    log_depth_spread: np.ndarray
    dispersions: np.ndarray
    left_out: Mapping[str, int]


def is_read(cell_ids: Sequence[str]) -> Bool[np.ndarray, " cells"]:
    """Tell which cells are read: those whose id has an even SHA-256. No other cell changes the answer."""
    return np.array([hashlib.sha256(str(name).encode()).digest()[-1] % 2 == 0 for name in cell_ids], dtype=bool)


def measure_profiles(
    counts: csr_matrix, terms: np.ndarray, *, genes: Sequence[str], names: Mapping[str, str]
) -> TypeProfiles:
    """Return the profiles of all types with enough cells.

    Parameters
    ----------
    counts
        Raw counts, cells x genes; of cells that may be read (`is_read`).
    terms
        The type of each cell.
    genes
        Reference ids of the columns.
    names
        Term -> name.

    Raises
    ------
    ValueError
        If fewer than two types have `MIN_CELLS` cells with counts: there would be nothing to tell apart.
    """
    depth = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    kept_cells = depth > 0
    counts, terms, depth = csr_matrix(counts[kept_cells]), terms[kept_cells].astype(str), depth[kept_cells]
    found, sizes = np.unique(terms, return_counts=True)
    kept = [str(term) for term, n_cells in zip(found, sizes, strict=True) if n_cells >= MIN_CELLS]
    if len(kept) < 2:
        msg = f"{len(kept)} of {len(found)} types have {MIN_CELLS} cells to be read; a simulation needs two types."
        raise ValueError(msg)
    sums = sums_of_types(counts, terms, kept)
    logs = [np.log(depth[terms == term]) for term in kept]
    squares = np.array([(depth[terms == term] ** 2).sum() for term in kept])
    pooled = sums.sum(axis=0) / sums.sum()
    dispersions = np.stack([
        _dispersions(csr_matrix(counts[terms == term]), depth[terms == term], shares=own / own.sum(), pooled=pooled)
        for term, own in zip(kept, sums, strict=True)
    ])  # fmt: skip
    shares, differs = _shrunk(sums, squares, dispersions)
    return TypeProfiles(
        genes=tuple(genes),
        terms=tuple(kept),
        names=tuple(names[term] for term in kept),
        n_cells=tuple(len(values) for values in logs),
        shares=shares,
        n_genes_that_differ=int(differs.sum()),
        log_depth=np.array([values.mean() for values in logs]),
        log_depth_spread=np.array([values.std(ddof=1) for values in logs]),
        dispersions=dispersions,
        left_out={str(term): int(n) for term, n in zip(found, sizes, strict=True) if str(term) not in kept},
    )


def sums_of_types(counts: csr_matrix, terms: np.ndarray, wanted: Sequence[str]) -> Float[np.ndarray, "types genes"]:
    """Return the summed counts of the cells of each wanted type."""
    member = csr_matrix(np.stack([terms.astype(str) == term for term in wanted]).astype(np.float64))
    return np.asarray((member @ counts).todense(), dtype=np.float64)


def _shrunk(
    sums: np.ndarray, squared_depths: np.ndarray, dispersions: np.ndarray
) -> tuple[Float[np.ndarray, "types genes"], Bool[np.ndarray, " genes"]]:
    """Return shares without what is chance, and which genes differ between types.

    With m = counts of a type x pooled share, a sum varies by m + its dispersion x (pooled share)^2 x the sum of squared depths.
    Genes beyond the chi-square of `_CHANCE` differ; their shares are posterior means of a gamma around the pooled share, whose squared
    coefficient of variation is the gene's own excess over chance.
    """
    totals = sums.sum(axis=1, keepdims=True)
    pooled = sums.sum(axis=0) / sums.sum()
    mean = totals * pooled
    by_chance = mean + dispersions * squared_depths[:, None] * pooled**2
    told = pooled > 0
    safe = np.where(by_chance > 0, by_chance, 1.0)
    statistic = ((sums - mean) ** 2 / safe).sum(axis=0)
    differs = told & (statistic > chi2.isf(_CHANCE, len(sums) - 1))
    spread = ((sums - mean) ** 2 - by_chance).sum(axis=0) / np.where(told, (mean**2).sum(axis=0), 1.0)
    strength = 1 / np.maximum(np.where(differs, spread, 0.0), 1e-9)
    ratio = np.where(differs, (sums + strength) / (mean + strength), 1.0)
    shares = pooled * ratio
    return shares / shares.sum(axis=1, keepdims=True), differs


def _dispersions(
    counts: csr_matrix, depth: np.ndarray, *, shares: np.ndarray, pooled: np.ndarray
) -> Float[np.ndarray, " genes"]:
    """Return the dispersion of each gene in one type: by moments, one for the genes of like pooled share.

    The sum of (x - m)^2 - m over that of m^2, with m = depth x share, over all cells and the genes of a bin; at least 0.01. Sums over
    all entries follow from those over the non-zeros, so that nothing dense is made.
    """
    edges = np.quantile(pooled[pooled > 0], _BIN_EDGES)
    bins = np.searchsorted(edges, pooled, side="right")
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    mean = depth[rows] * shares[counts.indices]
    x = counts.data.astype(np.float64)
    square = (depth**2).sum() * shares**2
    # Over every entry: sum (x - m)^2 = sum of x^2 - 2 x m over the non-zeros + sum of m^2 over all of them.
    excess = np.bincount(counts.indices, weights=x**2 - 2 * x * mean - x, minlength=len(shares)) + square
    told = np.bincount(bins, weights=square, minlength=len(edges) + 1)
    by_bin = np.bincount(bins, weights=excess, minlength=len(edges) + 1) / np.where(told > 0, told, 1.0)
    return np.maximum(by_bin, _LEAST_DISPERSION)[bins]
