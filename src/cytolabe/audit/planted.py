"""Copies that are planted to see what a search finds: its power, measured on the data that it searched (rule R9)."""

import dataclasses

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.audit.dispersion import dispersion
from cytolabe.audit.rare_join import RareIndex, pairs_asked
from cytolabe.audit.shared_cells import SharedCells
from cytolabe.encode.rare_genes import rarest_genes
from cytolabe.randomness import rng_for
from cytolabe.snapshot.view import SnapshotView

__all__ = ["KEPT_PERCENT", "nominated_copies", "plant", "thinned"]

KEPT_PERCENT = (90, 50, 20)
"""Percent of the counts that planted copies keep."""
_PLANTED, _PLANTED_OF_EACH, _DATASETS = 200, 10, 40


def thinned(counts: csr_matrix, kept: float, rng: np.random.Generator) -> csr_matrix:
    """Return cells of which each count is kept with a probability, in [0, 1]: the same library, sequenced less deeply."""
    less = counts.copy()
    less.data = rng.binomial(counts.data, kept).astype(counts.data.dtype)
    less.eliminate_zeros()
    return less


def plant(snapshot: SnapshotView, cells: SharedCells, allowed: np.ndarray, *, least: tuple[int, int]) -> dict[str, int]:
    """Plant copies of some of the cells, and count those that are still testable (`planted_P`) and found (`found_P`).

    The copies are a data set of their own beside all cells that were searched, and go the same way: they compete for places
    with every other cell, and whoever asks in the search asks here. `allowed` says which data sets are compared.
    """
    told = {f"{kind}_{percent}": 0 for percent in KEPT_PERCENT for kind in ("planted", "found")}
    chosen = _chosen(cells, allowed)
    if not len(chosen):
        return told
    counts = snapshot.counts(cells.rows[chosen], cells.genes)
    counts.eliminate_zeros()
    for percent in KEPT_PERCENT:
        copies = thinned(counts, percent / 100, rng_for(0, "near copies", str(percent)))
        rarest, totals = rarest_genes(copies, cells.order)
        is_enough = (totals[:, 0] >= least[0]) & (totals[:, 1] >= least[1])
        told_by_counts = dispersion(counts, copies)
        # A copy that kept every count would be found as identical.
        is_copy = told_by_counts.is_near | told_by_counts.is_equal
        is_found = np.asarray(nominated_copies(cells, chosen, rarest, allowed=allowed) & is_copy)
        told[f"planted_{percent}"] = int(np.count_nonzero(is_enough))
        told[f"found_{percent}"] = int(np.count_nonzero(is_found & is_enough))
    return told


def _chosen(cells: SharedCells, allowed: np.ndarray) -> np.ndarray:
    """Return positions evenly over all cells that are compared, and some of each data set, however small it is."""
    is_compared = np.asarray(allowed.any(axis=1), dtype=bool)
    compared = np.flatnonzero(is_compared[cells.index.groups])
    if not len(compared):
        return compared
    pieces = [compared[np.linspace(0, len(compared) - 1, min(_PLANTED, len(compared))).astype(np.int64)]]
    groups = cells.index.groups[compared]
    pieces += [compared[groups == group][:_PLANTED_OF_EACH] for group in np.unique(groups)[:_DATASETS]]
    return np.unique(np.concatenate(pieces))


def nominated_copies(cells: SharedCells, chosen: np.ndarray, rarest: np.ndarray, *, allowed: np.ndarray) -> np.ndarray:
    """Tell which copies, by the rarest genes of each, the search would pair with the cells at positions `chosen`."""
    n_cells, n_datasets = len(cells.rows), len(allowed)
    together = np.zeros((n_datasets + 1, n_datasets + 1), dtype=bool)
    together[:n_datasets, :n_datasets] = allowed
    together[n_datasets, :n_datasets] = together[:n_datasets, n_datasets] = True
    index = RareIndex.of(
        np.concatenate([cells.index.kept, rarest]),
        np.concatenate([cells.index.groups, np.full(len(rarest), n_datasets, dtype=np.int64)]),
        n_genes=len(cells.genes),
    )
    # A search with planted cells is as strong as without them.
    index = dataclasses.replace(index, strength=cells.index.strength)
    copies = n_cells + np.arange(len(rarest), dtype=np.int64)
    a, b = pairs_asked(index, np.concatenate([chosen, copies]), together)
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return np.array([(int(own), int(copy)) in pairs for own, copy in zip(chosen, copies, strict=True)])
