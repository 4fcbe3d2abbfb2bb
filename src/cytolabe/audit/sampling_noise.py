"""Do the counts of a data set disperse as samples of molecules do? Rounded, scaled or imputed ones do not.

Two samples of UMIs differ by chance at least, so that the chi-square of a random pair of cells is about 1 per degree of freedom
or more. Values that were scaled and rounded, smoothed, or transformed differ by less, and unrelated cells then look like
two countings of one droplet: there the search has to be silent (rule R9).
"""

import numpy as np
from jaxtyping import Bool

from cytolabe.audit.dispersion import dispersion
from cytolabe.audit.shared_cells import SharedCells
from cytolabe.randomness import rng_for
from cytolabe.snapshot.view import SnapshotView

__all__ = ["disperses"]

_CELLS = 300
_PAIRS = 1_500
_CLOSE = 0.8
"""Chi-square per degree of freedom below which a random pair is closer than samples of molecules are."""
_MOST_CLOSE = 0.005
_LEAST_SPREAD = 0.05
"""Coefficient of variation of the totals below which cells were scaled to one depth."""
_LEAST_CELLS = 50


def disperses(snapshot: SnapshotView, cells: SharedCells) -> Bool[np.ndarray, " datasets"]:
    """Tell for each data set whether its cells can be searched; those with too few to tell are taken to.

    Random pairs of a file in which every cell stands twice hold few true pairs; so many are allowed for.
    """
    found = np.ones(len(cells.names), dtype=bool)
    for number, name in enumerate(cells.names):
        own = np.flatnonzero(cells.index.groups == number)
        if len(own) < _LEAST_CELLS:
            continue
        totals = cells.totals[own]
        if totals.std() < _LEAST_SPREAD * totals.mean():
            found[number] = False
            continue
        rng = rng_for(0, "sampling noise", name)
        drawn = np.sort(rng.choice(own, min(_CELLS, len(own)), replace=False))
        counts = snapshot.counts(cells.rows[drawn], cells.genes)
        counts.eliminate_zeros()
        a, b = rng.integers(0, len(drawn), size=(2, _PAIRS))
        told = dispersion(counts[a[a != b]], counts[b[a != b]])
        is_close = (told.ratio < _CLOSE) & (told.depth_ratio >= 0.125) & ~told.is_equal
        twins = (a != b).sum() / (len(drawn) - 1)
        found[number] = is_close.sum() <= _MOST_CLOSE * _PAIRS + 3 * twins
    return found
