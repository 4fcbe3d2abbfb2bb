"""Counts that are asked for again, kept in memory up to a budget.

A fold asks for the same cells over the same genes once for every model, seed, ceiling and gene table. Here they are
read once for each list of genes and handed out as copies, so that nothing a model does to its view reaches another
model. Values, order and types are those of the snapshot itself.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from cytolabe.records import DatasetRecord, LabelMapping
from cytolabe.snapshot.view import SnapshotView

__all__ = ["COUNTS_BUDGET_BYTES", "RememberedCounts"]

COUNTS_BUDGET_BYTES = 1 << 29
"""What is kept at most; a block that is larger alone is read, handed out and not kept."""


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Counts over one list of genes; `rows` ascend, one per row of `counts`."""

    rows: np.ndarray
    counts: csr_matrix

    @property
    def n_bytes(self) -> int:
        return int(self.counts.data.nbytes + self.counts.indices.nbytes + self.counts.indptr.nbytes)


class RememberedCounts:
    """A `SnapshotView` that remembers the counts over the gene lists that were used last.

    Parameters
    ----------
    snapshot
        Where everything is.
    budget_bytes
        What is kept at most.
    """

    def __init__(self, snapshot: SnapshotView, *, budget_bytes: int = COUNTS_BUDGET_BYTES) -> None:
        self._snapshot = snapshot
        self._budget_bytes = budget_bytes
        self._blocks: OrderedDict[tuple[str, ...], _Block] = OrderedDict()

    @property
    def snapshot_id(self) -> str:
        """As the snapshot."""
        return self._snapshot.snapshot_id

    @property
    def cells(self) -> pd.DataFrame:
        """As the snapshot."""
        return self._snapshot.cells

    @property
    def datasets(self) -> Mapping[str, DatasetRecord]:
        """As the snapshot."""
        return self._snapshot.datasets

    @property
    def mappings(self) -> tuple[LabelMapping, ...]:
        """As the snapshot."""
        return self._snapshot.mappings

    @property
    def gene_reference(self) -> str:
        """As the snapshot."""
        return self._snapshot.gene_reference

    @property
    def ontology_release(self) -> str:
        """As the snapshot."""
        return self._snapshot.ontology_release

    def measured_genes(self, dataset_id: str) -> tuple[str, ...]:
        """Return the reference genes that a data set measures, sorted."""
        return self._snapshot.measured_genes(dataset_id)

    def counts(self, rows: np.ndarray, genes: Sequence[str]) -> csr_matrix:
        """Return what `SnapshotView.counts` returns, as a fresh matrix; see there for errors.

        Without genes nothing is read: a model that looks at no expression is handed none.
        """
        names = tuple(genes)
        if not names:
            return csr_matrix(np.zeros((len(rows), 0), dtype=np.int64))
        wanted = np.unique(rows)
        block = self._blocks.get(names)
        missing = wanted if block is None else np.setdiff1d(wanted, block.rows, assume_unique=True)
        if len(missing) or block is None:
            block = _joined(block, _Block(rows=missing, counts=self._snapshot.counts(missing, names)))
            self._keep(names, block)
        else:
            self._blocks.move_to_end(names)
        return csr_matrix(block.counts[np.searchsorted(block.rows, rows)])

    def _keep(self, names: tuple[str, ...], block: _Block) -> None:
        self._blocks[names] = block
        self._blocks.move_to_end(names)
        while sum(kept.n_bytes for kept in self._blocks.values()) > self._budget_bytes:
            self._blocks.popitem(last=False)


def _joined(block: _Block | None, other: _Block) -> _Block:
    if block is None:
        return other
    rows = np.concatenate([block.rows, other.rows])
    order = np.argsort(rows, kind="stable")
    together = csr_matrix(vstack([block.counts, other.counts], format="csr"))
    return _Block(rows=rows[order], counts=csr_matrix(together[order]))
