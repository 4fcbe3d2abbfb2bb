"""Which cells share many of their rarest genes: a join through the lists of cells that keep each gene.

Nothing is drawn at random. Every cell asks for those with most in common, in its own data set and in others apart; a
shallow copy of a deep cell is among the first that the copy asks for, and may be hidden behind deep neighbors when the deep
cell asks, so that a pair counts if either asks for the other. The work grows with the square of the number of cells, divided
by how rare the genes are; above `_MANY_CELLS` fewer genes are joined, more have to be shared, and only the earlier cell asks.

Partners are counted a block of cells at a time: the counters of a block and its lists stay in the cache of a core, and many
cells ask the one block before the next.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt16

from cytolabe.compiled import kernel

__all__ = ["RareIndex", "Strength", "nominated_pairs", "pairs_asked"]

_FEW_CELLS, _MANY_CELLS = 20_000, 100_000
_QUERIES = 1024
_BLOCK = 1 << 16
"""Cells whose counters, two bytes each, are held at a time; a place in a block fits 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """Which of the kept genes are joined (`n_joined`, the rarest), and how many have to be shared: of these, and of all.

    `n_partners` are nominated of each cell in its own data set, and as many in others, those with most genes in common first.
    `both_ask` says that each cell asks among all, not only among those after it.
    """

    n_joined: int
    least_joined: int
    least_kept: int = 8
    n_partners: int = 16
    both_ask: bool = True

    @classmethod
    def for_cells(cls, n_cells: int) -> "Strength":
        """Return what keeps the nominated pairs few among so many cells."""
        if n_cells <= _FEW_CELLS:
            return cls(n_joined=32, least_joined=4, n_partners=64)
        if n_cells <= _MANY_CELLS:
            return cls(n_joined=32, least_joined=4)
        return cls(n_joined=24, least_joined=5, both_ask=False)


@dataclass(frozen=True, kw_only=True)
class RareIndex:
    """The cells to search, their rarest genes, and which cells keep each gene among those that are joined.

    `kept` as `encode.rare_genes.rarest_genes` gives it; `groups` is the number of the data set of each cell. `cells` lists, block
    by block and in each gene by gene from `starts`, the cells of the block that keep it, ascending and counted from its first.
    """

    kept: Int32[np.ndarray, "cells kept"]
    groups: Int64[np.ndarray, " cells"]
    starts: Int64[np.ndarray, "blocks genes1"]
    cells: UInt16[np.ndarray, " entries"]
    strength: Strength

    @classmethod
    def of(
        cls, kept: Int32[np.ndarray, "cells kept"], groups: Int64[np.ndarray, " cells"], *, n_genes: int
    ) -> "RareIndex":
        """Index cells."""
        strength = Strength.for_cells(len(kept))
        starts = np.zeros((-(-len(kept) // _BLOCK), n_genes + 1), dtype=np.int64)
        cells = np.empty(int((kept[:, : strength.n_joined] < n_genes).sum()), dtype=np.uint16)
        _index(kept[:, : strength.n_joined], starts, cells)
        return cls(kept=kept, groups=groups, starts=starts, cells=cells, strength=strength)


def nominated_pairs(
    index: RareIndex, allowed: Bool[np.ndarray, "datasets datasets"]
) -> Iterator[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]]:
    """Yield pairs of indexed cells (smaller position first, each once) that share enough, of data sets to be compared."""
    everyone = np.arange(len(index.kept), dtype=np.int64)
    if index.strength.both_ask:
        yield pairs_asked(index, everyone, allowed)
        return
    for start, (rows, partners) in _asked_in_threads(index, everyone, allowed):
        yield everyone[start:][rows], partners


def pairs_asked(
    index: RareIndex, positions: Int64[np.ndarray, " asking"], allowed: Bool[np.ndarray, "datasets datasets"]
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Return the pairs (smaller position first, each once) that some of the indexed cells ask for."""
    pieces = [np.zeros((0, 2), dtype=np.int64)]
    for start, (rows, partners) in _asked_in_threads(index, positions, allowed):
        pieces.append(np.stack([positions[start:][rows], partners], axis=1))
    pairs = np.unique(np.sort(np.concatenate(pieces), axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _asked_in_threads(
    index: RareIndex, positions: np.ndarray, allowed: np.ndarray
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Yield for each run of the positions its start, and (number in the run, partner) of what its cells ask for."""
    starts = range(0, len(positions), _QUERIES)

    def found(start: int) -> tuple[np.ndarray, np.ndarray]:
        return _joined(index, positions[start : start + _QUERIES], allowed)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from zip(starts, pool.map(found, starts), strict=True)


def _joined(index: RareIndex, positions: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    strength = index.strength
    after = np.full(len(positions), -1, dtype=np.int64) if strength.both_ask else positions
    partners = np.full((len(positions), 2, strength.n_partners), -1, dtype=np.int32)
    limits = (strength.n_joined, strength.least_joined, strength.least_kept)
    first = int(after.min(initial=len(index.kept)) + 1) // _BLOCK
    n_best = np.zeros((len(positions), 2), dtype=np.int64)
    best = np.empty(partners.shape, dtype=np.int64)
    indexed = (index.kept, index.groups, index.starts, index.cells)
    for block in range(first, len(index.starts)):
        _join_block((positions, after, allowed, (block, *limits)), indexed, (partners, best, n_best))
    rows, lists, places = np.nonzero(partners >= 0)
    return rows.astype(np.int64), partners[rows, lists, places].astype(np.int64)


@kernel
def _index(kept: np.ndarray, starts: np.ndarray, cells: np.ndarray) -> None:
    n_genes = starts.shape[1] - 1
    filled = np.empty(n_genes, dtype=np.int64)
    n_before = 0
    for block in range(starts.shape[0]):
        low, high = block * _BLOCK, min((block + 1) * _BLOCK, kept.shape[0])
        own = starts[block]
        for cell in range(low, high):
            for place in range(kept.shape[1]):
                if kept[cell, place] < n_genes:
                    own[kept[cell, place] + 1] += 1
        own[0] = n_before
        for gene in range(n_genes):
            own[gene + 1] += own[gene]
        filled[:] = own[:-1]
        for cell in range(low, high):
            for place in range(kept.shape[1]):
                gene = kept[cell, place]
                if gene < n_genes:
                    cells[filled[gene]] = cell - low
                    filled[gene] += 1
        n_before = own[n_genes]


@kernel
def _join_block(
    asked: tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int, int]],
    indexed: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Count the genes that each asking cell shares with the cells of a block, and keep those with most."""
    positions, after, allowed, limits = asked
    kept, groups, starts, cells = indexed
    block, n_joined, least_joined, least_kept = limits
    partners, best, n_best = out
    n_genes = starts.shape[1] - 1
    origin = block * _BLOCK
    # Counters are never put back to 0: each asking cell counts from a floor that none before it went beyond, and all
    # that ask at a time stay within 16 bits.
    shared = np.zeros(_BLOCK, dtype=np.uint16)
    reached = np.empty(_BLOCK + 1, dtype=np.uint16)
    floor = 0
    for query in range(len(positions)):
        own, group = kept[positions[query]], groups[positions[query]]
        lists = own[:n_joined], starts[block], cells, after[query] - origin
        for place in range(_reached(lists, (shared, reached), (floor, floor + least_joined))):
            cell = origin + int(reached[place])
            if cell != positions[query] and allowed[group, groups[cell]]:
                n_common = _n_common(own, kept[cell], n_genes)
                if n_common >= least_kept:
                    side = 0 if groups[cell] == group else 1
                    listed = partners[query, side], best[query, side]
                    n_best[query, side] = _ranked(listed, (cell, n_common), n_best[query, side])
        floor += n_joined


@kernel
def _reached(
    lists: tuple[np.ndarray, np.ndarray, np.ndarray, int],
    counters: tuple[np.ndarray, np.ndarray],
    limits: tuple[int, int],
) -> int:
    """Add one to the counter of each cell that is behind `after` in a list, and return how many came to be enough."""
    own, starts, cells, after = lists
    shared, reached = counters
    floor, enough = limits
    # Numbers without a sign: a place that could be negative is tested for it each time.
    n_reached = np.uintp(0)
    low, high = np.uint16(floor), np.uint16(enough)
    for place in range(len(own)):
        if own[place] >= len(starts) - 1:
            break
        first, stop = starts[own[place]], starts[own[place] + 1]
        if after >= 0:
            first += np.searchsorted(cells[first:stop], after, side="right")
        for cell in cells[first:stop]:
            n_shared = np.uint16(max(shared[cell], low) + 1)
            shared[cell] = n_shared
            # Written always and counted where it is one: a branch here would be guessed wrong too often.
            reached[n_reached] = cell
            n_reached += np.uintp(n_shared == high)
    return int(n_reached)


@kernel
def _n_common(one: np.ndarray, other: np.ndarray, n_genes: int) -> int:
    """Count what two ascending lists have in common, up to the first entry that is no gene."""
    place, against, n_common = 0, 0, 0
    while place < len(one) and against < len(other) and one[place] < n_genes and other[against] < n_genes:
        if one[place] == other[against]:
            n_common += 1
            place += 1
            against += 1
        elif one[place] < other[against]:
            place += 1
        else:
            against += 1
    return n_common


@kernel
def _ranked(kept: tuple[np.ndarray, np.ndarray], found: tuple[int, int], n_best: int) -> int:
    """Put a partner in its place, most in common first, then the smaller position; return how many there are."""
    partners, best = kept
    cell, n_common = found
    place = n_best
    while place > 0 and (best[place - 1] < n_common or (best[place - 1] == n_common and partners[place - 1] > cell)):
        if place < len(best):
            best[place], partners[place] = best[place - 1], partners[place - 1]
        place -= 1
    if place < len(best):
        best[place], partners[place] = n_common, cell
    return min(n_best + 1, len(best))
