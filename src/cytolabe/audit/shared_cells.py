"""The cells of some data sets on the genes that all of them measure, ready to be searched for near-identical ones."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cytolabe.audit.rare_join import RareIndex
from cytolabe.encode.rare_genes import RARE_GENES, rarest_genes, rarity_order
from cytolabe.snapshot.view import SnapshotView

__all__ = ["SharedCells", "shared_cells"]

_BLOCK_CELLS = 4096
_SAMPLED_CELLS = 20_000
_LEAST_SAMPLED = 500
_SAMPLED_AT_ONCE = 250
_PRIOR_CELLS = 50


@dataclass(frozen=True, kw_only=True)
class SharedCells:
    """The cells that hold enough on some genes: their positions, their index, and the order of rarity of the genes.

    `names` are the data sets in the order of `index.groups`, `totals` the counts of each cell on these genes.
    """

    genes: tuple[str, ...]
    names: tuple[str, ...]
    rows: np.ndarray
    totals: np.ndarray
    index: RareIndex
    order: np.ndarray


def shared_cells(
    snapshot: SnapshotView, shared: Sequence[str], places: Mapping[str, range], *, least: tuple[int, int]
) -> SharedCells:
    """Read the cells of some data sets on some genes, and index the rarest genes of those that hold enough."""
    order = rarity_order(
        np.array([_detection(snapshot, place, shared) for place in places.values()]), genes=tuple(shared)
    )
    kept, rows, groups = [np.zeros((0, RARE_GENES), dtype=np.int32)], [np.zeros(0, dtype=np.int64)], []
    sizes = [np.zeros(0, dtype=np.int64)]
    blocks = [
        (number, np.arange(start, min(start + _BLOCK_CELLS, place.stop), dtype=np.int64))
        for number, place in enumerate(places.values())
        for start in range(place.start, place.stop, _BLOCK_CELLS)
    ]

    def rarest_of(block: tuple[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return rarest_genes(snapshot.counts(block[1], shared), order)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for (number, here), (rarest, totals) in zip(blocks, pool.map(rarest_of, blocks), strict=True):
            is_enough = (totals[:, 0] >= least[0]) & (totals[:, 1] >= least[1])
            kept.append(rarest[is_enough])
            rows.append(here[is_enough])
            sizes.append(totals[is_enough, 1])
            groups.append(np.full(len(rows[-1]), number, dtype=np.int64))
    index = RareIndex.of(
        np.concatenate(kept), np.concatenate([np.zeros(0, dtype=np.int64), *groups]), n_genes=len(shared)
    )
    return SharedCells(
        genes=tuple(shared), names=tuple(places), rows=np.concatenate(rows), totals=np.concatenate(sizes), index=index,
        order=order,
    )  # fmt: skip


def _detection(snapshot: SnapshotView, place: range, genes: Sequence[str]) -> np.ndarray:
    """Return in which part of the cells of a data set each gene has a count, from evenly placed runs of them."""
    n_runs = max(_LEAST_SAMPLED, min(_SAMPLED_CELLS, len(place) // 10)) // _SAMPLED_AT_ONCE
    starts = np.unique(
        np.linspace(place.start, max(place.stop - _SAMPLED_AT_ONCE, place.start), n_runs).astype(np.int64)
    )
    detected, n_cells = np.zeros(len(genes)), 0
    for start in starts.tolist():
        counts = snapshot.counts(np.arange(start, min(start + _SAMPLED_AT_ONCE, place.stop)), genes)
        detected += np.bincount(counts.indices[counts.data > 0], minlength=len(genes))
        n_cells += counts.shape[0]
    # A few cells would make each of their genes common: what one cell expresses says little of how rare a gene is.
    return np.asarray(detected / (n_cells + _PRIOR_CELLS))
