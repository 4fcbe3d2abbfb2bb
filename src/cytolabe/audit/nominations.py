"""Which cells could be identical, and which hold enough to tell, as far as sketches know it: no counts are read.

Cells are joined by `snapshot.sketch_join`. Totals bound what a cell holds on shared genes: where the bounds leave open whether it is
testable, its counts have to tell. A data set without sketches is open altogether.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64

from cytolabe.snapshot.sketch_join import may_hold, possibly_equal
from cytolabe.snapshot.sketches import CellSketches
from cytolabe.snapshot.view import SnapshotView

__all__ = ["Nominations", "nominate"]

_HELD_CELLS = 4_000_000
"""Cells of a snapshot up to which all sketches are held at once, 280 bytes for each; else those of two data sets."""


@runtime_checkable
class _Sketched(Protocol):
    def sketches(self, dataset_id: str) -> CellSketches | None: ...


@dataclass(frozen=True, kw_only=True)
class Nominations:
    """What is known of the cells of one data set without counts (arrays are partners x cells).

    `is_candidate`: may equal a cell of the partner. `is_open`: only counts tell whether it is testable; of the others
    `n_nonzero` and `n_counts` are bounds that decide it.
    """

    is_candidate: Bool[np.ndarray, "partners cells"]
    is_open: Bool[np.ndarray, "partners cells"]
    n_nonzero: Int64[np.ndarray, "partners cells"]
    n_counts: Int64[np.ndarray, "partners cells"]

    def to_read(self, *, candidates_only: bool) -> Int64[np.ndarray, " read"]:
        """Return the cells whose counts are needed: candidates, and cells that may be testable or not."""
        chosen = self.is_candidate if candidates_only else self.is_candidate | self.is_open
        return np.flatnonzero(chosen.any(axis=0)).astype(np.int64)


def nominate(
    snapshot: SnapshotView, genes: Mapping[str, Sequence[str]], sizes: Mapping[str, int], *, least: tuple[int, int]
) -> dict[str, Nominations]:
    """Nominate the cells of each data set; partners are all data sets, in the order of `genes`.

    Parameters
    ----------
    snapshot
        Its sketches are read, if it has any.
    genes
        The genes that each data set measures.
    sizes
        Its number of cells.
    least
        Genes with a count, and counts, on the shared genes from which on a cell is testable.
    """
    known = _Reader(snapshot, held=sum(sizes.values()) <= _HELD_CELLS)
    found = {name: _nothing_known(len(genes), sizes[name]) for name in genes}
    measured = {name: set(genes[name]) for name in genes}
    for number_a, name_a in enumerate(genes):
        sketches_a = known.of(name_a)
        for number_b, name_b in enumerate(genes):
            if number_b < number_a or sketches_a is None:
                continue
            sketches_b = sketches_a if name_a == name_b else known.of(name_b)
            if sketches_b is None:
                continue
            shared = sorted(measured[name_a] & measured[name_b])
            n_unshared = [len(measured[name]) - len(shared) for name in (name_a, name_b)]
            _bound(found[name_a], number_b, sketches_a, n_unshared=n_unshared[0], least=least)
            _bound(found[name_b], number_a, sketches_b, n_unshared=n_unshared[1], least=least)
            masks = possibly_equal((sketches_a, sketches_b), shared, is_whole=not any(n_unshared), least=least)
            found[name_a].is_candidate[number_b], found[name_b].is_candidate[number_a] = masks
    return found


class _Reader:
    """Reads the sketches of data sets; keeps them where all fit."""

    def __init__(self, snapshot: SnapshotView, *, held: bool) -> None:
        self._snapshot = snapshot
        self._is_held = held
        self._seen: dict[str, CellSketches | None] = {}

    def of(self, dataset_id: str) -> CellSketches | None:
        if dataset_id in self._seen:
            return self._seen[dataset_id]
        found = self._snapshot.sketches(dataset_id) if isinstance(self._snapshot, _Sketched) else None
        if self._is_held:
            self._seen[dataset_id] = found
        return found


def _nothing_known(n_partners: int, n_cells: int) -> Nominations:
    shape = (n_partners, n_cells)
    return Nominations(
        is_candidate=np.ones(shape, dtype=bool),
        is_open=np.ones(shape, dtype=bool),
        n_nonzero=np.zeros(shape, dtype=np.int64),
        n_counts=np.zeros(shape, dtype=np.int64),
    )


def _bound(found: Nominations, partner: int, cells: CellSketches, *, n_unshared: int, least: tuple[int, int]) -> None:
    """Write down what totals say about the shared genes, and where they leave it open."""
    most_genes, most_counts = cells.totals[:, 0], cells.totals[:, 1]
    least_genes = np.maximum(most_genes - n_unshared, 0)
    least_counts = least_genes if n_unshared else most_counts
    holds = (least_genes >= least[0]) & (least_counts >= least[1])
    fails = ~may_hold(cells, least)
    found.is_open[partner] = ~holds & ~fails
    found.n_nonzero[partner] = np.where(holds, least_genes, most_genes)
    found.n_counts[partner] = np.where(holds, least_counts, most_counts)
