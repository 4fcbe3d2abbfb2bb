"""Counts to a dense block over a panel of genes: the cells of a minibatch, one row each, zeros where nothing is."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel
from cytolabe.encode.entries import CellEntries, entries_of

__all__ = ["dense_panel", "fill_dense"]


def dense_panel(counts: csr_matrix, panel: Sequence[int]) -> Integer[np.ndarray, "cells panel"]:
    """Return the counts of some columns as a dense block (int64), in the order of the panel.

    Raises
    ------
    ValueError
        If a column does not exist or is named twice: a count would stand in two places.
    """
    positions = np.asarray(panel, dtype=np.int64)
    if positions.size and (positions.min() < 0 or positions.max() >= counts.shape[1]):
        msg = f"the panel names columns outside of the {counts.shape[1]} genes."
        raise ValueError(msg)
    if len(np.unique(positions)) != len(positions):
        msg = "the panel names a column twice: a count would stand in two places."
        raise ValueError(msg)
    place_of = np.full(counts.shape[1], -1, dtype=np.int64)
    place_of[positions] = np.arange(len(positions))
    cells = entries_of(counts)
    out = np.empty((counts.shape[0], len(positions)), dtype=np.int64)
    fill_dense(cells, place_of, out)
    return out


@kernel
def fill_dense(cells: CellEntries, place_of: np.ndarray, out: np.ndarray) -> None:
    """Write each cell as one row of `out`; `place_of` is the place of each column, or -1."""
    for cell in range(len(cells.starts)):
        out[cell, :] = 0
        for entry in range(cells.starts[cell], cells.stops[cell]):
            place = place_of[cells.columns[entry]]
            if place >= 0:
                out[cell, place] += cells.counts[entry]
