"""The only place where a snapshot becomes what a model is handed.

A query view is built from the counts, the cell ids and the technical columns of its rows and of nothing else: no
label, no person and no cell of another row is reachable from it, because they were never copied into it. A train view
adds labels and persons of its own rows. (A cell id is `<dataset_id>:<obs name>` and some labs write the type into the
name; no model here reads it, ids only key the answer.)
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cytolabe.errors import UsageError
from cytolabe.models.protocols import TECHNICAL_COLUMNS, QueryView, TrainView
from cytolabe.snapshot.view import SnapshotView

__all__ = ["VIEW_COLUMNS", "query_view", "train_view"]

VIEW_COLUMNS = ("cell_id", *TECHNICAL_COLUMNS)
"""Columns of the cells that a query view is made of."""


def query_view(
    snapshot: SnapshotView, rows: np.ndarray, *, genes: Sequence[str], known: pd.DataFrame | None = None
) -> QueryView:
    """Make the view of cells to embed or annotate.

    Parameters
    ----------
    snapshot
        Where the cells are.
    rows
        Positions in `snapshot.cells`, each once, in the order of the answer.
    genes
        Reference genes, in the order of the columns; every data set among the rows has to measure them.
    known
        `VIEW_COLUMNS` of these rows, in their order, where somebody has read them already: the table of all cells is
        not looked at then.

    Raises
    ------
    UnmeasuredGeneError
        If a data set does not measure one of the genes.
    UsageError
        If a row is out of range or given twice, or a gene is given twice.
    """
    if known is None:
        _refuse_bad_rows(snapshot, rows, genes)
        known = snapshot.cells[list(VIEW_COLUMNS)].iloc[rows]
    every = np.arange(len(rows))
    return QueryView(
        cell_ids=_texts(known["cell_id"], every),
        counts=snapshot.counts(rows, tuple(genes)),
        genes=tuple(genes),
        technical=_technical(known, every),
    )


def train_view(snapshot: SnapshotView, rows: np.ndarray, *, genes: Sequence[str], labels: np.ndarray) -> TrainView:
    """Make the view of cells to fit on.

    Parameters
    ----------
    snapshot
        Where the cells are.
    rows
        Positions in `snapshot.cells` of the train side, each once.
    genes
        Reference genes, in the order of the columns.
    labels
        One term per entry of `rows` (not per cell of the snapshot); empty = unlabelled.

    Raises
    ------
    UnmeasuredGeneError
        If a data set does not measure one of the genes.
    UsageError
        If there is not one label per row, a row is out of range or given twice, or a gene is given twice.
    """
    _refuse_bad_rows(snapshot, rows, genes)
    if labels.shape != rows.shape:
        msg = f"{labels.size} labels were given for {rows.size} rows. Give one per row, empty where unlabelled."
        raise UsageError(msg)
    return TrainView(
        cell_ids=_texts(snapshot.cells["cell_id"], rows),
        counts=snapshot.counts(rows, tuple(genes)),
        genes=tuple(genes),
        technical=_technical(snapshot.cells, rows),
        labels=np.array([str(label) for label in labels.tolist()], dtype=object),
        persons=_texts(snapshot.cells["person_id"], rows),
    )


def _texts(column: pd.Series, rows: np.ndarray) -> np.ndarray:
    return np.array(column.to_numpy()[rows].tolist(), dtype=object)


def _technical(cells: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Copy the allow-list: a fresh frame, whose blocks hold no other column and no other row."""
    return pd.DataFrame({column: _texts(cells[column], rows) for column in TECHNICAL_COLUMNS})


def _refuse_bad_rows(snapshot: SnapshotView, rows: np.ndarray, genes: Sequence[str]) -> None:
    n_cells = len(snapshot.cells)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        msg = f"Rows are positions in the cell table, not {rows.dtype} of shape {rows.shape}."
        raise UsageError(msg)
    if rows.size and (rows.min() < 0 or rows.max() >= n_cells):
        msg = f"Rows reach from {rows.min()} to {rows.max()} where the snapshot has {n_cells} cells."
        raise UsageError(msg)
    n_twice = rows.size - np.unique(rows).size
    if n_twice:
        msg = f"{n_twice} of {rows.size} rows are given twice: a cell would count double in every fit and score."
        raise UsageError(msg)
    if len(set(genes)) != len(genes):
        msg = f"{len(genes) - len(set(genes))} gene(s) are given twice. Give each gene once."
        raise UsageError(msg)
