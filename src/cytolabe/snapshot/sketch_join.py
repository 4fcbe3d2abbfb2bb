"""Which cells of two data sets may be equal on the genes that both measure, from their sketches alone.

A cell can equal another only if the shorter of their two lists of shared sketched genes is the start of the other. So
cells are joined on such starts, length by length; of two data sets with the same genes, and inside one, on the hash of
whole cells. No cell that has an equal one is missed; of the others few are named, and counts have to confirm.
"""

from collections.abc import Sequence

import numpy as np

from cytolabe.encode.sketches import SKETCH_GENES, priorities_of, shared_prefixes
from cytolabe.snapshot.sketches import CellSketches

__all__ = ["may_hold", "possibly_equal"]


def may_hold(cells: CellSketches, least: tuple[int, int]) -> np.ndarray:
    """Tell which cells may hold so many genes with a count, and counts, on some of their genes."""
    return np.asarray((cells.totals[:, 0] >= least[0]) & (cells.totals[:, 1] >= least[1]))


def possibly_equal(
    sides: tuple[CellSketches, CellSketches], shared: Sequence[str], *, is_whole: bool, least: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells of two data sets may have an equal one on the other side; inside one, give it twice.

    `is_whole`: both measure the shared genes and no others. Cells that hold less than `least` (genes, counts) are left out.
    """
    alive = [may_hold(side, least) for side in sides]
    if is_whole:
        hashes = [side.hashes[here] for side, here in zip(sides, alive, strict=True)]
        if sides[0] is sides[1]:
            values, n_cells = np.unique(hashes[0], return_counts=True)
            hits = [np.isin(hashes[0], values[n_cells > 1])] * 2
        else:
            hits = [np.isin(hashes[0], hashes[1]), np.isin(hashes[1], hashes[0])]
        return _spread(alive[0], hits[0]), _spread(alive[1], hits[1])
    priorities = np.sort(priorities_of(shared))
    lengths, starts = zip(
        *(shared_prefixes(side.entries[here], priorities) for side, here in zip(sides, alive, strict=True)),
        strict=True,
    )
    hits = [np.zeros(len(length), dtype=bool) for length in lengths]
    for length in range(SKETCH_GENES + 1):
        for own, other in ((0, 1), (1, 0)):
            ends = np.flatnonzero(lengths[own] == length)
            reaches = np.flatnonzero(lengths[other] >= length)
            if len(ends) and len(reaches):
                ended, reached = starts[own][length, ends], starts[other][length, reaches]
                hits[own][ends] |= np.isin(ended, reached)
                hits[other][reaches] |= np.isin(reached, ended)
    return _spread(alive[0], hits[0]), _spread(alive[1], hits[1])


def _spread(alive: np.ndarray, hits: np.ndarray) -> np.ndarray:
    found = np.zeros(len(alive), dtype=bool)
    found[alive] = hits
    return found
