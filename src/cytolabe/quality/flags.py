"""Flags of cells: who lies far from the other cells of its library, or below what any cell must have (rule R10).

A flag removes nothing. A bound is so many median absolute deviations from the median of the library, counts and genes on
a logarithmic scale; a library that is too small, or in which most cells are equal, has no bound of its own. Fixed bounds
hold only for cells whose whole transcriptome was counted as molecules (`is_whole`).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from cytolabe.quality.thresholds import Thresholds

__all__ = ["FLAGS", "flag_cells", "outliers"]

FLAGS = ("low_counts", "low_genes", "high_mt", "low_nuclear", "likely_doublet")
"""Columns of flags; `is_flagged` is any of them."""

_TO_DEVIATIONS = 1.4826
"""Median absolute deviations to standard deviations of a normal distribution."""


def flag_cells(
    measures: Mapping[str, np.ndarray],
    libraries: Shaped[np.ndarray, " cells"],
    thresholds: Thresholds,
    *,
    is_whole: bool,
    has_whole_mt: bool,
) -> pd.DataFrame:
    """Return the columns of `FLAGS` and `is_flagged`, one row per cell.

    Parameters
    ----------
    measures
        `n_counts`, `n_genes`, `mt_fraction`, `nuclear_fraction`, `doublet_score`: NaN where a cell has none.
    libraries
        Library of each cell.
    is_whole
        Whether fixed bounds of counts and genes apply.
    has_whole_mt
        Whether the fixed bound of the mitochondrial share applies: enough of its genes are measured.
    """
    n = thresholds.n_deviations
    counts = np.log1p(measures["n_counts"].astype(np.float64))
    genes = np.log1p(measures["n_genes"].astype(np.float64))
    low = {
        "low_counts": outliers(counts, libraries, thresholds, n_deviations=-n),
        "low_genes": outliers(genes, libraries, thresholds, n_deviations=-n),
    }
    if is_whole:
        low["low_counts"] |= measures["n_counts"] < thresholds.min_counts
        low["low_genes"] |= measures["n_genes"] < thresholds.min_genes
    mt, nuclear, doublet = (measures[name] for name in ("mt_fraction", "nuclear_fraction", "doublet_score"))
    with np.errstate(invalid="ignore"):
        high_mt = outliers(mt, libraries, thresholds, n_deviations=n) & (mt >= thresholds.mt_at_least)
        if has_whole_mt:
            high_mt |= mt > thresholds.mt_always_above
        low_nuclear = outliers(nuclear, libraries, thresholds, n_deviations=-n) & (
            nuclear <= thresholds.nuclear_at_most
        )
        settings = thresholds.doublet
        is_doublet = outliers(doublet, libraries, thresholds, n_deviations=settings.n_deviations) & (
            doublet >= settings.at_least
        )
    flags = pd.DataFrame({**low, "high_mt": high_mt, "low_nuclear": low_nuclear, "likely_doublet": is_doublet})
    return flags.assign(is_flagged=flags.any(axis=1))


def outliers(
    values: Float[np.ndarray, " cells"],
    libraries: Shaped[np.ndarray, " cells"],
    thresholds: Thresholds,
    *,
    n_deviations: float,
) -> Bool[np.ndarray, " cells"]:
    """Tell which values lie beyond so many deviations from the median of their library: above it, or below if negative."""
    found = np.zeros(len(values), dtype=bool)
    codes, _ = pd.factorize(libraries)
    for code in range(int(codes.max(initial=-1)) + 1):
        own = np.flatnonzero((codes == code) & np.isfinite(values))
        if len(own) < thresholds.library_min_cells:
            continue
        center = np.median(values[own])
        deviation = _TO_DEVIATIONS * float(np.median(np.abs(values[own] - center)))
        if deviation == 0.0:
            continue
        beyond = values[own] - (center + n_deviations * deviation)
        found[own] = beyond > 0 if n_deviations > 0 else beyond < 0
    return found
