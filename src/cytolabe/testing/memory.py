"""A snapshot that lives in memory: for tests, and for trying an audit or a model on arrays at hand."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object
from scipy.sparse import csr_matrix, vstack

from cytolabe.errors import UnmeasuredGeneError
from cytolabe.provenance import digest_of
from cytolabe.records import UNKNOWN, DatasetRecord, LabelMapping, MatrixKind
from cytolabe.snapshot.view import CELL_COLUMNS

__all__ = ["MemorySnapshot", "memory_snapshot"]

_INTEGERS = {"row", "mapping_confidence", "n_counts", "n_genes"}


@dataclass(frozen=True, kw_only=True)
class MemorySnapshot:
    """A `SnapshotView` over arrays. Make it with `memory_snapshot`."""

    cells: pd.DataFrame
    matrices: Mapping[str, csr_matrix]
    genes: Mapping[str, tuple[str, ...]]
    datasets: Mapping[str, DatasetRecord]
    mappings: tuple[LabelMapping, ...] = ()
    gene_reference: str = "test-genes"
    ontology_release: str = "test-ontology"
    snapshot_id: str = field(default="")

    def measured_genes(self, dataset_id: str) -> tuple[str, ...]:
        """Return the genes that a data set measures, sorted."""
        return tuple(sorted(self.genes[dataset_id]))

    def counts(self, rows: np.ndarray, genes: Sequence[str]) -> csr_matrix:
        """Return raw counts for positions in `cells`, in the order given."""
        chosen = self.cells.iloc[rows]
        pieces, order = [], []
        for dataset_id, part in chosen.reset_index(drop=True).groupby("dataset_id", sort=True):
            column_of = {gene: column for column, gene in enumerate(self.genes[str(dataset_id)])}
            missing = [gene for gene in genes if gene not in column_of]
            if missing:
                msg = f"{dataset_id} does not measure {len(missing)} gene(s): {', '.join(missing[:5])}."
                raise UnmeasuredGeneError(msg)
            matrix = self.matrices[str(dataset_id)][part["row"].to_numpy()]
            pieces.append(matrix[:, [column_of[gene] for gene in genes]])
            order.append(part.index.to_numpy())
        if not pieces:
            return csr_matrix(np.zeros((0, len(genes)), dtype=np.int64))
        back = np.argsort(np.concatenate(order), kind="stable")
        return csr_matrix(vstack(pieces, format="csr")[back], dtype=np.int64)


def memory_snapshot(
    cells: pd.DataFrame,
    matrices: Mapping[str, csr_matrix],
    *,
    genes: Mapping[str, tuple[str, ...]],
    mappings: tuple[LabelMapping, ...] = (),
) -> MemorySnapshot:
    """Make a snapshot from a table of cells and one matrix (cells x genes) per data set.

    Columns of `cells` that are not given become `unknown` (`batch`: the data set, `study`: the data set); rows of a
    data set are in the order of its matrix.
    """
    table = cells.copy().sort_values("dataset_id", kind="stable").reset_index(drop=True)
    table["row"] = table.groupby("dataset_id").cumcount()
    for column in ("study", "batch"):
        if column not in table:
            table[column] = table["dataset_id"]
    if "cell_id" not in table:
        table["cell_id"] = table["dataset_id"] + ":cell" + table["row"].astype(str)
    if "person_id" in table and "person_state" not in table:
        table["person_state"] = np.where(table["person_id"] == UNKNOWN, "unknown", "resolved")
    for column in CELL_COLUMNS:
        if column not in table:
            empty = {"contributor_label", "label_parent", "mapping_decision"}
            table[column] = 0 if column in _INTEGERS else "" if column in empty else UNKNOWN
    table = table[list(CELL_COLUMNS)]
    totals = {name: np.asarray(matrix.sum(axis=1)).ravel() for name, matrix in matrices.items()}
    table["n_counts"] = np.concatenate([totals[name] for name in sorted(matrices)]).astype(np.int64)
    table["n_genes"] = np.concatenate([np.diff(matrices[name].indptr) for name in sorted(matrices)]).astype(np.int64)
    records = {name: _record(name, matrices[name], table[table["dataset_id"] == name]) for name in sorted(matrices)}
    digests = {name: record.source_digest for name, record in records.items()}
    return MemorySnapshot(
        cells=table,
        matrices=dict(matrices),
        genes=dict(genes),
        datasets=records,
        mappings=mappings,
        snapshot_id=digest_of({"counts": digests, "cells": hash_pandas_object(table).to_numpy().tobytes().hex()}),
    )


def _record(dataset_id: str, matrix: csr_matrix, cells: pd.DataFrame) -> DatasetRecord:
    return DatasetRecord(
        dataset_id=dataset_id,
        title=dataset_id,
        source_digest="sha256:" + _bytes_digest(matrix),
        matrix="X",
        matrix_kind=MatrixKind.UMI,
        n_cells=matrix.shape[0],
        n_features=matrix.shape[1],
        n_nonzero=int(matrix.nnz),
        organism="Homo sapiens",
        study=str(cells["study"].iloc[0]),
    )


def _bytes_digest(matrix: csr_matrix) -> str:
    digest = hashlib.sha256()
    for array in (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data.astype(np.float64)):
        digest.update(array.tobytes())
    return digest.hexdigest()
