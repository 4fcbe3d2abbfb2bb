"""How far a cell lies from everything that a model was trained on.

The distance is the mean to the nearest training cells in the embedding. Alone it has no unit, so it is told as a
rank: the share of held-out cells of known types that lie nearer. A rank of 0.99 says that of a hundred cells of
persons the model never saw, but of types that it knows, one lies that far. It cannot tell a new type from a new technique.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.spatial.distance import cdist

from cytolabe.errors import RefusedError

__all__ = ["MAX_REFERENCE_CELLS", "N_NEAREST", "NoveltyReference", "novelty_rank", "novelty_reference"]

N_NEAREST = 5
"""Fewer than the cells of a rare type: its own cells must be enough to be near."""

MAX_REFERENCE_CELLS = 20_000
"""Training cells that distances are taken to; more would cost time and hardly move a mean of five."""

_DISTANCES_PER_STEP = 4_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class NoveltyReference:
    """The training cells that distances are taken to."""

    cells: Float[np.ndarray, "reference dims"]

    def distance(self, embedding: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, " cells"]:
        """Return the mean Euclidean distance of each cell to its nearest training cells."""
        step = max(1, _DISTANCES_PER_STEP // len(self.cells))
        pieces = [self._nearest(embedding[start : start + step]) for start in range(0, len(embedding), step)]
        return np.concatenate([np.zeros(0), *pieces])

    def _nearest(self, embedding: np.ndarray) -> np.ndarray:
        n_nearest = min(N_NEAREST, len(self.cells))
        found = np.partition(cdist(embedding, self.cells), n_nearest - 1, axis=1)[:, :n_nearest]
        return np.asarray(found.mean(axis=1))


def novelty_reference(
    embedding: Float[np.ndarray, "cells dims"], labels: Shaped[np.ndarray, " cells"], *, rng: np.random.Generator
) -> NoveltyReference:
    """Keep the training cells that distances are taken to: all, or as many of each label as there is room for.

    Rare labels are kept whole, so that drawing never makes one of them look far away.

    Raises
    ------
    RefusedError
        If there is no cell.
    """
    if not len(embedding):
        msg = "No training cell to measure distances to."
        raise RefusedError(msg)
    if len(embedding) <= MAX_REFERENCE_CELLS:
        return NoveltyReference(cells=np.asarray(embedding, dtype=np.float64))
    names, codes, sizes = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    room = MAX_REFERENCE_CELLS // len(names)
    # What rare labels do not use goes to the frequent ones.
    spare = MAX_REFERENCE_CELLS - int(np.minimum(sizes, room).sum())
    wide = sizes > room
    room += spare // max(1, int(wide.sum()))
    kept = []
    for code in range(len(names)):
        own = np.flatnonzero(codes == code)
        kept.append(own if len(own) <= room else rng.choice(own, size=room, replace=False))
    return NoveltyReference(cells=np.asarray(embedding[np.sort(np.concatenate(kept))], dtype=np.float64))


def novelty_rank(
    distance: Float[np.ndarray, " cells"], held_out: Float[np.ndarray, " held_out"]
) -> Float[np.ndarray, " cells"]:
    """Return the share of held-out cells that lie nearer than each cell, in [0, 1].

    Parameters
    ----------
    distance
        Of the cells that are asked about.
    held_out
        Of cells of known types whose persons were held out; at least one.
    """
    return np.asarray(np.searchsorted(np.sort(held_out), distance, side="left") / len(held_out))
