"""How a stream reads: every choice in one record, so that a stream can be made again with another one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from cytolabe.encode.binning import Ties
from cytolabe.encode.ranks import RankRule, TieBreak
from cytolabe.errors import UsageError
from cytolabe.snapshot.epoch import Reader

__all__ = ["LAYOUTS", "StreamOptions", "checked_weights"]

Layout = Literal["csr", "dense", "ranks", "value_bins"]
LAYOUTS = ("csr", "dense", "ranks", "value_bins")


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream reads; see `Snapshot.stream`.

    Parameters
    ----------
    minibatch_size
        Cells of a minibatch; the last one of an epoch may have fewer.
    seed
        Another seed is another order, and another draw of value bins.
    layout
        `csr`, `dense`, `ranks` or `value_bins`.
    reader
        Which of several readers this one is: rank * workers + worker, of ranks * workers.
    weights
        One weight per cell of the stream, 0 or more: cells are then drawn with replacement in proportion to it. For
        classes or groups: 1 / number of cells of the class.
    n_draws
        Draws of an epoch with weights; as many as cells without it.
    rank_rule, tie_break
        For `ranks`: tokens and medians, one per gene of the stream.
    n_bins, ties
        For `value_bins`.
    unmeasured
        `refuse` or `skip` genes that a data set does not measure.
    panels
        For `ranks`: `refuse` cells of panels and of files that were subset (rule R3), or `flag` them: the stream then
        says in `flags` of which data sets the tokens mean something else.
    label_codes
        Integer codes by name, one per row of `snapshot.cells`; their values come with each minibatch.
    reuse_buffers
        Fill the same arrays again and again: faster, and a minibatch is valid until the next one is drawn.
    unit_chunks, pool_entries
        Chunks that are read together, and counts that are shuffled together. Larger pools shuffle better and hold more:
        8 bytes a count, twice.
    """

    minibatch_size: int = 256
    seed: int = 0
    layout: Layout = "csr"
    reader: Reader = field(default_factory=Reader)
    weights: Float[np.ndarray, " cells"] | None = None
    n_draws: int | None = None
    rank_rule: RankRule | None = None
    tie_break: TieBreak = "token"
    n_bins: int = 51
    ties: Ties = "random"
    unmeasured: Literal["refuse", "skip"] = "refuse"
    panels: Literal["refuse", "flag"] = "refuse"
    label_codes: Mapping[str, np.ndarray] = field(default_factory=dict)
    reuse_buffers: bool = False
    unit_chunks: int = 8
    pool_entries: int = 16_000_000


def checked_weights(options: StreamOptions, n_cells: int) -> np.ndarray | None:
    """Return the weights of the cells of a stream, or None.

    Raises
    ------
    UsageError
        If there is not one for each cell, or one is negative or not finite, or none is positive.
    """
    weights = options.weights
    if weights is None:
        if options.n_draws is not None:
            msg = "n_draws says how many cells are drawn by weight; give weights as well."
            raise UsageError(msg)
        return None
    if weights.shape != (n_cells,) or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        msg = f"weights must be one finite number of 0 or more for each of the {n_cells} cells, and not all zero."
        raise UsageError(msg)
    return weights.astype(np.float64)
