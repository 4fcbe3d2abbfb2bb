"""Cells of like length together, so that little is computed for what only fills up.

For embedding, cells are sorted by length and cut where a minibatch would hold more tokens than its budget; the order of
the answer is that of the input. For training, lengths are grouped as transformers does it (mega-batches that are
shuffled, then sorted inside), and the minibatches are shuffled again, so that a step does not see long cells only.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Integer

from cytolabe.randomness import rng_for

__all__ = ["by_length", "length_grouped"]

_MEGA_BATCHES = 50
"""Minibatches that are sorted together, as in transformers."""


def by_length(lengths: Integer[np.ndarray, " cells"], *, tokens_per_minibatch: int) -> Iterator[np.ndarray]:
    """Yield rows of cells, longest first, so that cells x longest length stays within a budget; one cell always fits."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens_per_minibatch // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def length_grouped(
    lengths: Integer[np.ndarray, " cells"], *, size: int, seed: int, epoch: int
) -> list[Integer[np.ndarray, " rows"]]:
    """Return the minibatches of an epoch: every cell once, `size` cells of like length each.

    Parameters
    ----------
    size
        Cells of a minibatch; the last one may have fewer.
    seed, epoch
        Equal ones give equal lists.
    """
    rng = rng_for(seed, "models", "training", "minibatches", str(epoch))
    order = rng.permutation(len(lengths))
    mega = min(max(1, len(order) // (4 * size)), _MEGA_BATCHES) * size
    grouped = [
        chunk[np.argsort(-lengths[chunk], kind="stable")] for chunk in np.split(order, range(mega, len(order), mega))
    ]
    minibatches = [chunk[start : start + size] for chunk in grouped for start in range(0, len(chunk), size)]
    return [minibatches[place] for place in rng.permutation(len(minibatches))]
