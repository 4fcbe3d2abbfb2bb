"""Data frames of other rooms as tables: any columns, in their order."""

from collections.abc import Callable

import pandas as pd

from cytolabe.report.tables import Cell, Column, Table, toned
from cytolabe.report.text import anything, fraction, inert

__all__ = ["frame_table"]


def frame_table(
    frame: pd.DataFrame,
    *,
    key: str,
    caption: str,
    note: str = "",
    source: str = "evidence.json",
    is_grouped: bool = False,
) -> Table:
    """Return any data frame as a table: its columns in their order, a status column toned, numbers to the right."""
    names = [str(name) for name in frame.columns]
    columns = tuple(Column(_heading(name), _kind(frame, name)) for name in names)
    cells = [_frame_cell(name, column) for name, column in zip(names, columns, strict=True)]
    rows = tuple(
        tuple(cell(value) for cell, value in zip(cells, values, strict=True))
        for values in frame.itertuples(index=False, name=None)
    )
    return Table(key=key, caption=caption, columns=columns, rows=rows, note=note, source=source, is_grouped=is_grouped)


def _frame_cell(name: str, column: Column) -> Callable[[object], Cell]:
    if column.kind == "status":
        return lambda value: toned(anything(value))
    if column.kind == "number" and name.endswith("_fraction"):
        return lambda value: Cell(fraction(float(str(value))))
    if column.kind == "prose":
        return lambda value: Cell(inert(value, 600) if isinstance(value, str) and value else anything(value))
    return lambda value: Cell(anything(value))


def _kind(frame: pd.DataFrame, name: str) -> str:
    if name in {"status", "decision"}:
        return "status"
    if name in {"reason", "message"}:
        return "prose"
    column = frame[name]
    return "number" if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) else "text"


_HEADINGS = {
    "dataset_id": "Data set",
    "dataset_a": "Data set A",
    "dataset_b": "Data set B",
    "cell_a": "Cell A",
    "cell_b": "Cell B",
    "n_cells": "Cells",
    "n_donors": "Donors",
    "n_genes": "Genes",
    "n_genes_measured": "Genes measured",
    "train_datasets": "Trained on",
    "test_datasets": "Tested on",
    "counts_kept_fraction": "Counts kept",
    "median_counts_left": "Median counts left per cell",
    "cramers_v": "Cramér's V",
    "theils_u": "Theil's U",
    "person_id": "Person",
    "donor_id": "Donor",
}


def _heading(name: str) -> str:
    if name in _HEADINGS:
        return _HEADINGS[name]
    words = name.removeprefix("n_").replace("_", " ").strip()
    return inert(words[:1].upper() + words[1:], 60)
