"""The order of an epoch: which cells are read together, and which minibatch each lands in.

Cells that begin in the same few chunks are a *unit*: decoding one of them costs as much as decoding all. Units are
shuffled, so many of them as fill a buffer are a *pool*, and the cells of a pool are shuffled again. What is drawn
depends on (seed, epoch) and the cells alone, never on threads, on how far somebody read, or on what was read before;
so an epoch can be entered anywhere.

Several readers (ranks times workers) cut this one order into equal parts of whole minibatches: each cell is read by
one of them, and all make the same number of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from cytolabe.errors import UsageError
from cytolabe.randomness import rng_for

__all__ = ["CellLayout", "EpochOrder", "Reader"]


@dataclass(frozen=True)
class CellLayout:
    """The cells that are streamed, in units.

    `cells` are positions in `snapshot.cells`, ascending, each once; `unit_starts` is where each unit begins among them
    (one more than units), `entries` the number of counts of each cell.
    """

    cells: Int[np.ndarray, " cells"]
    unit_starts: Int[np.ndarray, " starts"]
    entries: Int[np.ndarray, " cells"]

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.unit_starts) - 1


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One of several readers that share an epoch; `number` counts from 0."""

    number: int = 0
    n_readers: int = 1

    def __post_init__(self) -> None:
        """Refuse a reader that is not one of them."""
        if not 0 <= self.number < self.n_readers:
            msg = f"reader {self.number} is none of {self.n_readers}; they count from 0."
            raise UsageError(msg)


class EpochOrder:
    """The pools and minibatches of one epoch for one reader.

    Parameters
    ----------
    layout
        The cells, in units.
    pool_entries
        Counts that a pool holds at most, but for a single unit that is larger.
    minibatch_size
        Cells of a minibatch; with several readers the size of the largest.
    key
        (seed, epoch).
    reader
        Who reads.
    repeats
        How often each cell of the layout is drawn in this epoch; once without it.
    """

    def __init__(
        self,
        layout: CellLayout,
        *,
        pool_entries: int,
        minibatch_size: int,
        key: tuple[int, int],
        reader: Reader,
        repeats: Int[np.ndarray, " cells"] | None = None,
    ) -> None:
        if minibatch_size < 1:
            msg = f"minibatch_size is {minibatch_size}; a minibatch has at least one cell."
            raise UsageError(msg)
        self._layout = layout
        self._key = key
        self._repeats = repeats
        self._size = minibatch_size
        self._reader = reader
        self._units = self._rng("units").permutation(layout.n_units)
        self._pool_units = _pools(self._unit_entries[self._units], pool_entries)

    @cached_property
    def _unit_entries(self) -> np.ndarray:
        """Counts that are decoded for each unit: of all cells of it that are drawn at all."""
        entries = self._layout.entries
        drawn = entries if self._repeats is None else entries * (self._repeats > 0)
        before = np.concatenate([[0], np.cumsum(drawn)])
        counted: np.ndarray = np.diff(before[self._layout.unit_starts])
        return counted

    @cached_property
    def _pool_starts(self) -> np.ndarray:
        """Draws before each pool (one more than pools)."""
        per_pool = self._firsts_per_pool
        if self._repeats is not None:
            # Copies of a cell beyond the first are spread over all pools: together they would come in one burst.
            per_pool = per_pool + np.bincount(self._spread[1], minlength=self.n_pools)
        return np.concatenate([[0], np.cumsum(per_pool)])

    @cached_property
    def _firsts_per_pool(self) -> np.ndarray:
        """Cells of each pool that are drawn at all."""
        per_unit = np.diff(self._layout.unit_starts)
        if self._repeats is not None:
            before = np.concatenate([[0], np.cumsum(self._repeats > 0)])
            per_unit = np.diff(before[self._layout.unit_starts])
        before = np.concatenate([[0], np.cumsum(per_unit[self._units])])
        counted: np.ndarray = np.diff(before[self._pool_units])
        return counted

    @cached_property
    def _spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (place in the layout, pool) of each draw of a cell beyond its first one, by pool."""
        extra = np.zeros(0, dtype=np.int64) if self._repeats is None else np.maximum(self._repeats - 1, 0)
        places = np.repeat(np.arange(len(extra)), extra)
        pools = self._rng("copies").integers(0, max(1, self.n_pools), len(places))
        order = np.lexsort((places, pools))
        return places[order], pools[order]

    @property
    def n_pools(self) -> int:
        """Number of pools."""
        return len(self._pool_units) - 1

    @property
    def n_draws(self) -> int:
        """Cells that all readers draw together."""
        return int(self._pool_starts[-1])

    @cached_property
    def steps(self) -> np.ndarray:
        """Where each minibatch of this reader begins in the order of the epoch (one more than minibatches)."""
        n_readers = self._reader.n_readers
        if n_readers == 1:
            return np.append(np.arange(0, self.n_draws, self._size), self.n_draws) if self.n_draws else np.zeros(1, int)
        # The same number of steps for everybody: minibatches that differ by one cell at most.
        n_steps = -(-self.n_draws // (n_readers * self._size)) * n_readers
        if self.n_draws < n_steps:
            msg = (
                f"{self.n_draws} cells do not make a minibatch for each of {n_readers} readers; use fewer readers, "
                "or more cells."
            )
            raise UsageError(msg)
        borders = np.arange(n_steps + 1) * self.n_draws // max(1, n_steps)
        per_reader = n_steps // n_readers
        own: np.ndarray = borders[self._reader.number * per_reader : (self._reader.number + 1) * per_reader + 1]
        return own

    def pools_of(self, step: int) -> tuple[int, int]:
        """Return the first and the last pool that hold a draw of a minibatch."""
        low, high = int(self.steps[step]), int(self.steps[step + 1])
        return self._pool_of(low), self._pool_of(high - 1)

    @property
    def last_pool(self) -> int:
        """The last pool that this reader needs."""
        return self._pool_of(int(self.steps[-1]) - 1)

    def _pool_of(self, draw: int) -> int:
        return int(np.searchsorted(self._pool_starts, draw, side="right")) - 1

    def pool_start(self, pool: int) -> int:
        """Return the number of draws before a pool."""
        return int(self._pool_starts[pool])

    def pool(self, pool: int) -> np.ndarray:
        """Return the places in the layout of the draws of a pool, in the order in which they are drawn."""
        units = self._units[self._pool_units[pool] : self._pool_units[pool + 1]]
        starts, stops = self._layout.unit_starts[units], self._layout.unit_starts[units + 1]
        lengths = stops - starts
        before = np.cumsum(lengths) - lengths
        places = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
        if self._repeats is not None:
            spread, pools = self._spread
            low, high = np.searchsorted(pools, [pool, pool + 1])
            places = np.concatenate([places[self._repeats[places] > 0], spread[low:high]])
        drawn: np.ndarray = self._rng("cells", str(pool)).permutation(places)
        return drawn

    def _rng(self, *names: str) -> np.random.Generator:
        seed, epoch = self._key
        return rng_for(seed, "stream", str(epoch), *names)


def _pools(entries: Sequence[int] | np.ndarray, room: int) -> np.ndarray:
    """Cut units into pools of at most `room` entries; returns the unit where each begins, and the end."""
    before = np.concatenate([[0], np.cumsum(entries)])
    cuts = [0]
    while cuts[-1] < len(entries):
        fitting = int(np.searchsorted(before, before[cuts[-1]] + room, side="right")) - 1
        cuts.append(min(len(entries), max(cuts[-1] + 1, fitting)))
    return np.array(cuts, dtype=np.int64)
