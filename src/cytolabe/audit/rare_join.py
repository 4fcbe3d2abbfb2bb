"""Which cells share many of their rarest genes: a join through the lists of cells that keep each gene.

Nothing is drawn at random. Every cell asks for those with most in common, in its own data set and in others apart; a
shallow copy of a deep cell is among the first that the copy asks for, and may be hidden behind deep neighbors when the deep
cell asks, so that a pair counts if either asks for the other. The work grows with the square of the number of cells, divided
by how rare the genes are; above `_MANY_CELLS` fewer genes are joined, more have to be shared, and only the earlier cell asks.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from cytolabe.compiled import kernel

__all__ = ["RareIndex", "Strength", "nominated_pairs", "pairs_asked"]

_FEW_CELLS, _MANY_CELLS = 20_000, 100_000
_QUERIES = 1024


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

    `kept` as `encode.rare_genes.rarest_genes` gives it; `groups` is the number of the data set of each cell. `cells` lists, gene
    by gene from `starts`, the cells that keep it, ascending.
    """

    kept: Int32[np.ndarray, "cells kept"]
    groups: Int64[np.ndarray, " cells"]
    starts: Int64[np.ndarray, " genes1"]
    cells: Int32[np.ndarray, " entries"]
    strength: Strength

    @classmethod
    def of(
        cls, kept: Int32[np.ndarray, "cells kept"], groups: Int64[np.ndarray, " cells"], *, n_genes: int
    ) -> "RareIndex":
        """Index cells."""
        strength = Strength.for_cells(len(kept))
        starts = np.zeros(n_genes + 1, dtype=np.int64)
        cells = np.empty(int((kept[:, : strength.n_joined] < n_genes).sum()), dtype=np.int32)
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
    shared = np.zeros(len(index.kept), dtype=np.uint8)
    indexed = (index.kept, index.groups, index.starts, index.cells)
    _join((positions, after, allowed, limits), indexed, (partners, shared))
    rows, lists, places = np.nonzero(partners >= 0)
    return rows.astype(np.int64), partners[rows, lists, places].astype(np.int64)


@kernel
def _index(kept: np.ndarray, starts: np.ndarray, cells: np.ndarray) -> None:
    n_genes = len(starts) - 1
    for cell in range(kept.shape[0]):
        for place in range(kept.shape[1]):
            if kept[cell, place] < n_genes:
                starts[kept[cell, place] + 1] += 1
    for gene in range(n_genes):
        starts[gene + 1] += starts[gene]
    filled = starts[:-1].copy()
    for cell in range(kept.shape[0]):
        for place in range(kept.shape[1]):
            gene = kept[cell, place]
            if gene < n_genes:
                cells[filled[gene]] = cell
                filled[gene] += 1


@kernel
def _join(
    asked: tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int]],
    indexed: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    out: tuple[np.ndarray, np.ndarray],
) -> None:
    """Count shared genes of each asking cell with others, and keep those with most; `shared` is left all zero."""
    positions, after, allowed, limits = asked
    kept, groups, starts, cells = indexed
    n_joined, least_joined, least_kept = limits
    partners, shared = out
    n_genes = len(starts) - 1
    best = np.empty((2, partners.shape[2]), dtype=np.int64)
    n_best = np.zeros(2, dtype=np.int64)
    first = np.empty(n_joined, dtype=np.int64)
    for query in range(len(positions)):
        itself = positions[query]
        own, group = kept[itself], groups[itself]
        n_own = 0
        while n_own < n_joined and own[n_own] < n_genes:
            gene = own[n_own]
            low = starts[gene]
            first[n_own] = low + np.searchsorted(cells[low : starts[gene + 1]], after[query], side="right")
            for entry in range(first[n_own], starts[gene + 1]):
                shared[cells[entry]] += 1
            n_own += 1
        n_best[:] = 0
        for place in range(n_own):
            for entry in range(first[place], starts[own[place] + 1]):
                cell = cells[entry]
                n_shared = shared[cell]
                shared[cell] = 0
                if n_shared >= least_joined and cell != itself and allowed[group, groups[cell]]:
                    n_common = _n_common(own, kept[cell], n_genes)
                    if n_common >= least_kept:
                        side = 0 if groups[cell] == group else 1
                        n_best[side] = _ranked((partners[query, side], best[side]), (cell, n_common), n_best[side])


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
