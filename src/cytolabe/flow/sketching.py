"""Sketches of cells on their way from the tasks of the second pass into the table of a data set.

A task sketches the cells that it reads and leaves the result in the ledger beside what it wrote; cells that straddle
two tasks come twice and are the same, cells without counts belong to no shard and come never. The genes of the features
lie in the ledger, too: every task needs them, and none should carry them.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from cytolabe.provenance.ledger import Ledger
from cytolabe.records import Block
from cytolabe.snapshot.sketches import CellSketches, SketchTable, sketched

__all__ = ["TaskSketches", "append_tasks", "genes_in", "put_genes"]

_GENES = "genes"


def put_genes(ledger: Ledger, gene_ids: Sequence[str]) -> None:
    """Leave the gene of each feature, in the order of the source, for the tasks of the second pass."""
    ledger.put(_GENES, {"gene_ids": list(gene_ids)}, {})


def genes_in(ledger: Ledger) -> tuple[str, ...]:
    """Return what `put_genes` left."""
    known = ledger.get(_GENES)
    if known is None:
        msg = "the ledger holds no genes: the second pass starts with them"
        raise ValueError(msg)
    return tuple(cast("list[str]", known[0]["gene_ids"]))


class TaskSketches:
    """The sketches of the cells of one task, block by block; `start` is its first cell in the partition."""

    def __init__(self, gene_ids: Sequence[str], *, start: int) -> None:
        self._gene_ids = gene_ids
        self._start = start
        self._pieces: list[CellSketches] = []

    def add(self, block: Block) -> None:
        """Sketch the next cells."""
        self._pieces.append(sketched(block.counts, self._gene_ids))

    @property
    def n_cells(self) -> int:
        """Number of cells so far."""
        return sum(len(piece.hashes) for piece in self._pieces)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the result as it is kept in a ledger."""
        pieces = [CellSketches.blank(0), *self._pieces]
        return {
            "first_cell": np.array(self._start, dtype=np.int64),
            **{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in _FIELDS},
        }


_FIELDS = ("hashes", "entries", "totals")


def append_tasks(table: SketchTable, ledger: Ledger, names: Sequence[str], *, n_cells: int) -> None:
    """Append the sketches of the cells of a partition, from the results of its tasks in order."""
    done = 0
    for name in names:
        known = ledger.get(name)
        if known is None:
            msg = f"the result of {name} is gone from the ledger while its run goes on"
            raise ValueError(msg)
        arrays = known[1]
        start = int(arrays["first_cell"])
        if start > done:
            table.append(CellSketches.blank(start - done))
            done = start
        fresh = {field: arrays[field][done - start :] for field in _FIELDS}
        table.append(CellSketches(**fresh))
        done += len(fresh["hashes"])
    if done < n_cells:
        table.append(CellSketches.blank(n_cells - done))
