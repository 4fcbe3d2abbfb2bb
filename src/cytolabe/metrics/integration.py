"""How well an embedding mixes batches inside cell types, and how far it keeps types apart.

Mean cosine distance to a set of cells is 1 minus the product with their mean direction, so BRAS is exact in one pass
over the cells. Batches are compared inside a type only: an embedding that mixes types mixes batches, too, and that is no
merit. Silhouettes as such say little of batches (Rautenstrauch & Ohler 2025, doi:10.1038/s41587-025-02743-4).
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64, Int64
from sklearn.neighbors import NearestNeighbors

__all__ = ["MIN_TYPE_CELLS", "batch_variance", "bras", "cilisi", "ilisi", "lisi", "variance_removed"]

MIN_TYPE_CELLS = 10
"""Cells of a type below which its mixing is not told (CiLISI)."""
_PERPLEXITY = 30
_STEPS = 50
_TOLERANCE = 1e-5
_BLOCK_CELLS = 4096


def bras(
    embedding: Float[np.ndarray, "cells dims"], labels: np.ndarray, batches: np.ndarray
) -> tuple[float | None, dict[str, float]]:
    """Return the batch removal adapted silhouette, and its value per label.

    Within each label a cell has a, its mean cosine distance to the other cells of its batch, and b, that to all cells of other
    batches; the value of a label is the mean of 1 - |b - a| / max(a, b). In [0, 1], higher is better mixed. The only cell of a
    batch counts as 1, as in the published code.

    Parameters
    ----------
    embedding
        One vector per cell, none of them zero.
    labels, batches
        What each cell is, and where it was measured. Labels of a single batch, or with no batch of two cells, tell nothing and are left out.

    Returns
    -------
    The unweighted mean over labels (None where no label tells anything), and label -> value.

    Raises
    ------
    ValueError
        If a vector is zero: it has no direction.
    """
    lengths = np.linalg.norm(embedding, axis=1)
    if not (lengths > 0).all():
        msg = f"{int((lengths == 0).sum())} of {len(lengths)} cells have a vector of zeros, which has no direction"
        raise ValueError(msg)
    directions = embedding / lengths[:, None]
    found = {}
    for label, here in _types(labels):
        names, batch, sizes = np.unique(batches[here].astype(str), return_inverse=True, return_counts=True)
        if not 1 < len(names) < len(here):
            continue
        own = directions[here].astype(np.float64)
        sums = np.zeros((len(names), own.shape[1]))
        np.add.at(sums, batch, own)
        n_own, n_other = sizes[batch], len(here) - sizes[batch]
        with_own, with_all = np.einsum("ij,ij->i", own, sums[batch]), own @ sums.sum(axis=0)
        inside = (n_own - with_own) / np.maximum(n_own - 1, 1)
        outside = (n_other - (with_all - with_own)) / n_other
        largest = np.maximum(inside, outside)
        is_told = (n_own > 1) & (largest > 0)
        widths = np.where(is_told, (outside - inside) / np.where(is_told, largest, 1), 0.0)
        found[label] = float((1 - np.abs(widths)).mean())
    return (float(np.mean(list(found.values()))) if found else None), found


def lisi(
    embedding: Float[np.ndarray, "cells dims"], groups: np.ndarray, *, perplexity: int = _PERPLEXITY
) -> Float64[np.ndarray, " cells"]:
    """Return the local inverse Simpson index of each cell: the effective number of groups among its neighbors.

    Neighbors weigh by a Gaussian kernel whose width gives `perplexity`, over the 3 * perplexity - 1 nearest other cells
    (Korsunsky 2019, doi:10.1038/s41592-019-0619-0; the published table is reproduced to 1e-4). In [1, number of groups].

    Raises
    ------
    ValueError
        If there are fewer than 3 * perplexity cells.
    """
    n_neighbors = 3 * perplexity - 1
    if len(embedding) <= n_neighbors:
        msg = f"{len(embedding)} cells are too few for a perplexity of {perplexity}: {n_neighbors + 1} are needed"
        raise ValueError(msg)
    number = np.unique(groups.astype(str), return_inverse=True)[1]
    index = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(embedding)
    pieces = []
    for start in range(0, len(embedding), _BLOCK_CELLS):
        here = np.arange(start, min(start + _BLOCK_CELLS, len(embedding)))
        distances, neighbors = _others(*index.kneighbors(embedding[here]), here=here)
        weights = _weights(distances, float(np.log(perplexity)))
        shares = np.zeros((len(here), int(number.max()) + 1))
        np.add.at(shares, (np.repeat(np.arange(len(here)), n_neighbors), number[neighbors].ravel()), weights.ravel())
        pieces.append(1 / (shares**2).sum(axis=1))
    return np.concatenate(pieces)


def cilisi(
    embedding: Float[np.ndarray, "cells dims"], labels: np.ndarray, batches: np.ndarray
) -> tuple[float | None, dict[str, float]]:
    """Return how many batches the neighbors of a cell come from inside its own type, from 0 (one) to 1 (all alike).

    (LISI - 1) / (batches - 1), within types of at least `MIN_TYPE_CELLS` cells in two batches; the perplexity is 30, or a third of
    the cells of a smaller type. The mean over types, each counted once, and type -> mean over its cells.
    """
    found = {}
    for label, here in _types(labels):
        n_batches = len(np.unique(batches[here].astype(str)))
        if len(here) < MIN_TYPE_CELLS or n_batches < 2:
            continue
        perplexity = min(_PERPLEXITY, len(here) // 3)
        index = lisi(embedding[here], batches[here], perplexity=perplexity)
        found[label] = float(((index - 1) / (n_batches - 1)).mean())
    return (float(np.mean(list(found.values()))) if found else None), found


def ilisi(embedding: Float[np.ndarray, "cells dims"], batches: np.ndarray) -> float | None:
    """Return how many batches the neighbors of a cell come from, from 0 (one) to 1 (all alike), whatever the types.

    (median of LISI - 1) / (batches - 1). None with one batch, or fewer than 90 cells. Where batches hold other types, a perfect embedding is
    not at 1, and one that knows no type may be; `cilisi` asks inside types.
    """
    n_batches = len(np.unique(batches.astype(str)))
    if n_batches < 2 or len(embedding) < 3 * _PERPLEXITY:
        return None
    return float((np.median(lisi(embedding, batches)) - 1) / (n_batches - 1))


def variance_removed(before: float, after: float) -> float | None:
    """Return the part of the batch variance of one embedding that another one lacks: (before - after) / before (PCR comparison).

    1 where batches explain nothing any more, under 0 where they explain more: it is not clipped, so that an embedding which adds batch variance
    is seen to. None where there was none before. What a shuffle removes is all of it.
    """
    return (before - after) / before if before > 0 else None


def batch_variance(embedding: Float[np.ndarray, "cells dims"], batches: np.ndarray) -> float:
    """Return the part of the variance of an embedding that batches explain, in [0, 1] (principal component regression).

    The R2 of each dimension on the batches, weighted by its variance: what a regression on all principal components gives, without
    finding them, because a rotation changes neither sum. Compare it before and after an integration; a drop may as well be
    biology that was lost.
    """
    centered = embedding.astype(np.float64) - embedding.mean(axis=0, dtype=np.float64)
    names, batch, sizes = np.unique(batches.astype(str), return_inverse=True, return_counts=True)
    sums = np.zeros((len(names), embedding.shape[1]))
    np.add.at(sums, batch, centered)
    total = float((centered**2).sum())
    return float((sums**2 / sizes[:, None]).sum() / total) if total > 0 else 0.0


def _types(labels: np.ndarray) -> Iterator[tuple[str, Int64[np.ndarray, " cells"]]]:
    """Yield each label with its cells."""
    words = labels.astype(str)
    for label in np.unique(words):
        yield str(label), np.flatnonzero(words == label)


def _others(distances: np.ndarray, neighbors: np.ndarray, *, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the cell itself, wherever it stands among equals; else the farthest."""
    is_self = neighbors == here[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    shape = (len(here), neighbors.shape[1] - 1)
    return distances[~is_self].reshape(shape), neighbors[~is_self].reshape(shape)


def _weights(distances: np.ndarray, entropy: float) -> np.ndarray:
    """Return for each cell the weights exp(-d * beta), summing to 1, of the wanted entropy; beta by bisection."""
    n_cells = len(distances)
    beta, low, high = np.ones(n_cells), np.full(n_cells, -np.inf), np.full(n_cells, np.inf)
    weights = np.zeros_like(distances)
    left = np.arange(n_cells)
    for _ in range(_STEPS):
        raw = np.exp(-distances[left] * beta[left, None])
        total = np.maximum(raw.sum(axis=1), np.finfo(float).tiny)
        excess = np.log(total) + beta[left] * (distances[left] * raw).sum(axis=1) / total - entropy
        weights[left] = raw / total[:, None]
        is_open = np.abs(excess) >= _TOLERANCE
        left, is_wide = left[is_open], excess[is_open] > 0
        if not len(left):
            break
        low[left[is_wide]], high[left[~is_wide]] = beta[left[is_wide]], beta[left[~is_wide]]
        up = np.where(np.isinf(high[left]), beta[left] * 2, (beta[left] + high[left]) / 2)
        down = np.where(np.isinf(low[left]), beta[left] / 2, (beta[left] + low[left]) / 2)
        beta[left] = np.where(is_wide, up, down)
    return weights
