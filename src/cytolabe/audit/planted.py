"""Copies that are planted to see what a search finds: its power, measured on the data that it searched (rule R9)."""

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.audit.dispersion import dispersion
from cytolabe.audit.rare_join import partners_of
from cytolabe.audit.shared_cells import SharedCells
from cytolabe.encode.rare_genes import rarest_genes
from cytolabe.randomness import rng_for
from cytolabe.snapshot.view import SnapshotView

__all__ = ["KEPT_PERCENT", "plant", "thinned"]

KEPT_PERCENT = (90, 50, 20)
"""Percent of the counts that planted copies keep."""
_PLANTED = 200


def thinned(counts: csr_matrix, kept: float, rng: np.random.Generator) -> csr_matrix:
    """Return cells of which each count is kept with a probability, in [0, 1]: the same library, sequenced less deeply."""
    less = counts.copy()
    less.data = rng.binomial(counts.data, kept).astype(counts.data.dtype)
    less.eliminate_zeros()
    return less


def plant(snapshot: SnapshotView, cells: SharedCells, *, least: tuple[int, int]) -> dict[str, int]:
    """Plant copies of up to 200 of the cells, and count those that are still testable (`planted_P`) and found (`found_P`)."""
    chosen = np.unique(np.linspace(0, max(len(cells.rows) - 1, 0), min(_PLANTED, len(cells.rows))).astype(np.int64))
    told = {f"{kind}_{percent}": 0 for percent in KEPT_PERCENT for kind in ("planted", "found")}
    if not len(chosen):
        return told
    counts = snapshot.counts(cells.rows[chosen], cells.genes)
    counts.eliminate_zeros()
    for percent in KEPT_PERCENT:
        copies = thinned(counts, percent / 100, rng_for(0, "near copies", str(percent)))
        rarest, totals = rarest_genes(copies, cells.order)
        is_enough = (totals[:, 0] >= least[0]) & (totals[:, 1] >= least[1])
        copy, partner = partners_of(cells.index, rarest)
        is_nominated = np.zeros(len(chosen), dtype=bool)
        is_nominated[copy[partner == chosen[copy]]] = True
        # A copy that kept every count would be found as identical.
        told_by_counts = dispersion(counts, copies)
        is_found = is_nominated & (told_by_counts.is_near | told_by_counts.is_equal)
        told[f"planted_{percent}"] = int(is_enough.sum())
        told[f"found_{percent}"] = int((is_found & is_enough).sum())
    return told
