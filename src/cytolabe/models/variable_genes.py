"""Which genes a model reads where there are too many: those that vary more than others of their mean.

The rule is the dispersion rule of Satija et al. (2015, doi:10.1038/nbt.3192), computed on training cells only: take
log(variance / mean) of the cp10k values of each gene, cut the genes into 20 bins of log1p(mean), and standardize
inside each bin. It is written out here, because which genes are read is part of every score (rule R1); the test
compares it with scanpy's flavor `seurat`. Ties are broken by the order of the genes. No batch key: a gene that varies
between batches may be chosen, which is what the integration models are there for.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

__all__ = ["N_MEAN_BINS", "normalized_dispersion", "variable_genes"]

N_MEAN_BINS = 20


def normalized_dispersion(values: csr_matrix) -> Float[np.ndarray, " genes"]:
    """Return how much each gene varies, in standard deviations of genes of similar mean.

    Parameters
    ----------
    values
        log1p_cp10k, cells x genes; at least two cells.

    Returns
    -------
    numpy.ndarray
        One value per gene, any sign, higher varies more; minus infinity for a gene without counts.
    """
    cp10k = csr_matrix((np.expm1(values.data.astype(np.float64)), values.indices, values.indptr), shape=values.shape)
    n_cells = values.shape[0]
    mean = np.asarray(cp10k.mean(axis=0)).ravel()
    square = np.asarray(cp10k.multiply(cp10k).mean(axis=0)).ravel()
    variance = np.maximum(square - mean**2, 0.0) * n_cells / (n_cells - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.where(mean > 0, np.log(variance / mean), np.nan)
    dispersion[np.isinf(dispersion)] = np.nan
    bins = pd.Series(pd.cut(pd.Series(np.log1p(mean)), bins=N_MEAN_BINS, labels=False))
    grouped = pd.Series(dispersion).groupby(bins)
    center = grouped.transform("mean").to_numpy()
    spread = grouped.transform("std").to_numpy()
    # A gene alone in its bin has no spread: it counts as one standard deviation above, as in the original.
    alone = np.isnan(spread)
    spread = np.where(alone, center, spread)
    center = np.where(alone, 0.0, center)
    with np.errstate(divide="ignore", invalid="ignore"):
        standardized = (dispersion - center) / spread
    return np.where(np.isfinite(standardized), standardized, -np.inf)


def variable_genes(values: csr_matrix, *, n_top: int) -> Int[np.ndarray, " chosen"]:
    """Return the positions of the `n_top` most variable genes, ascending; all of them where there are no more.

    Parameters
    ----------
    values
        log1p_cp10k of the training cells, cells x genes.
    n_top
        How many genes to keep, 1 or more.
    """
    n_genes = values.shape[1]
    if n_genes <= n_top:
        return np.arange(n_genes)
    order = np.argsort(-normalized_dispersion(values), kind="stable")
    return np.sort(order[:n_top])
