"""Which cells and which genes leave a snapshot, and the table that goes with them.

A selection holds positions and one row of text codes per cell, never counts: these are read in blocks by whoever
writes them. Genes that were not named are those that every data set among the cells measures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

from cytolabe.errors import RefusedError
from cytolabe.records.access import strictest
from cytolabe.snapshot.access import access_by_dataset
from cytolabe.snapshot.query import select_cells, unknown_values
from cytolabe.snapshot.view import CELL_COLUMNS, SnapshotView

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["EXACT_FLOAT32", "Selection", "provenance_of", "select", "shared_genes", "simulated_mark"]

EXACT_FLOAT32 = 1 << 24
"""Counts above this are no longer all exact in float32."""

_BLOCK_CELLS = 2048
_SIMULATED = "simulated"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Cells by ascending position with their table (index: cell id), and genes in the order of the columns.

    `n_by_access` counts the cells of each access class; `called` are the names under which genes are written, where these
    are not their own.
    """

    snapshot: "Snapshot"
    positions: np.ndarray
    obs: pd.DataFrame
    genes: tuple[str, ...]
    provenance: dict[str, str]
    n_by_access: dict[str, int] = field(default_factory=dict)
    called: tuple[str, ...] = ()

    @property
    def var(self) -> pd.DataFrame:
        """The table of genes by the names under which they are written; `gene_of` then is what each is in the snapshot."""
        index = pd.Index(list(self.called or self.genes), name="gene_id")
        return pd.DataFrame({"gene_of": list(self.genes)} if self.called else {}, index=index)

    def blocks(self, n_cells: int = _BLOCK_CELLS) -> Iterator[csr_matrix]:
        """Yield the counts (int64) of the cells in order, so many at a time."""
        for start in range(0, len(self.positions), n_cells):
            counts = self.snapshot.counts(self.positions[start : start + n_cells], self.genes)
            counts.sort_indices()
            yield counts


def select(snapshot: "Snapshot", *, where: str = "", genes: Sequence[str] | None = None) -> Selection:
    """Choose cells by a filter and genes by name.

    Raises
    ------
    UsageError
        If the filter cannot be read.
    RefusedError
        If it matches no cell, or the data sets among the cells have no gene in common.
    """
    obs, positions = _table(snapshot, where)
    if not len(positions):
        remarks = " ".join(unknown_values(snapshot.relations, where)) if where.strip() else ""
        msg = f"0 cells match {where!r}, so there is nothing to take out. {remarks}".rstrip()
        raise RefusedError(msg)
    dataset_ids = [str(name) for name in obs["dataset_id"].cat.remove_unused_categories().cat.categories]
    chosen = tuple(shared_genes(snapshot, dataset_ids)) if genes is None else tuple(genes)
    if not chosen:
        msg = f"{len(dataset_ids)} data sets have no gene in common. Take out fewer of them, or name genes."
        raise RefusedError(msg)
    # One cell tells of a gene that is not measured or named twice before anything is written.
    for dataset_id in dataset_ids:
        first = int(np.flatnonzero((obs["dataset_id"] == dataset_id).to_numpy())[0])
        snapshot.counts(positions[first : first + 1], chosen)
    policy = "intersection" if genes is None else "as given"
    n_cells = _cells_by_access(snapshot, obs)
    access = {"access": strictest(n_cells), "access_cells": ", ".join(f"{n} {word}" for word, n in n_cells.items())}
    provenance = {
        **provenance_of(snapshot, gene_policy=policy),
        "where": where,
        **access,
        **simulated_mark(snapshot, obs),
    }
    return Selection(
        snapshot=snapshot, positions=positions, obs=obs, genes=chosen, provenance=provenance, n_by_access=n_cells
    )


def _cells_by_access(snapshot: "Snapshot", obs: pd.DataFrame) -> dict[str, int]:
    classes = access_by_dataset(snapshot)
    counts: dict[str, int] = {}
    for dataset_id, n_cells in obs["dataset_id"].value_counts().items():
        if n_cells:
            word = classes[str(dataset_id)]
            counts[word] = counts.get(word, 0) + int(n_cells)
    return dict(sorted(counts.items()))


def provenance_of(snapshot: SnapshotView, *, gene_policy: str) -> dict[str, str]:
    """Return what every file that leaves a snapshot says of its origin."""
    return {
        "snapshot_id": snapshot.snapshot_id,
        "gene_reference": snapshot.gene_reference,
        "ontology_release": snapshot.ontology_release,
        "gene_policy": gene_policy,
    }


def simulated_mark(snapshot: SnapshotView, obs: pd.DataFrame) -> dict[str, str]:
    """Return what a file has to say of simulated data sets among its cells, so that it is known for one when it comes back.

    Cells are simulated as was declared of their labels, or as the file said that they came in. A file with real cells
    beside them bears the mark as well: the two do not come apart again.
    """
    present = sorted({str(name) for name in obs["dataset_id"]})
    declared = {str(name) for name in obs.loc[(obs["label_origin"] == _SIMULATED).to_numpy(), "dataset_id"]}
    named = [
        name for name in present if name in declared or snapshot.datasets[name].label_origin_suspected == _SIMULATED
    ]
    return {_SIMULATED: ", ".join(named)} if named else {}


def shared_genes(snapshot: SnapshotView, dataset_ids: Sequence[str]) -> list[str]:
    """Return the reference genes that each of some data sets measures, sorted."""
    measured = [set(snapshot.measured_genes(dataset_id)) for dataset_id in dataset_ids]
    return sorted(set.intersection(*measured)) if measured else []


def _table(snapshot: "Snapshot", where: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the cells of a filter in canonical order, texts as categories."""
    answer = select_cells(snapshot.relations, [*CELL_COLUMNS, "position"], where)
    batches = [_coded(batch) for batch in answer.batches()]
    if not batches:
        return pd.DataFrame(index=pd.Index([], name="cell_id")), np.zeros(0, dtype=np.int64)
    table = pa.Table.from_batches(batches).unify_dictionaries()
    positions = table["position"].to_numpy().astype(np.int64)
    order = np.argsort(positions, kind="stable")
    frame = table.drop_columns(["position"]).take(pa.array(order)).to_pandas().set_index("cell_id")
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            words = sorted(frame[column].cat.categories)
            frame[column] = frame[column].cat.set_categories(words)
    return frame, positions[order]


def _coded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose texts are codes: the same words repeat over and over."""
    columns = [
        column.dictionary_encode() if pa.types.is_string(column.type) and name != "cell_id" else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
