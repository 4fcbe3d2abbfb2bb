"""Which row of the label mappings was changed, and in which field.

A run writes the mappings twice: as an overlay of its atlas, and as a table beside its scores. Where one of the two is
not what was recorded, the other tells the row.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cytolabe.errors import CytolabeError
from cytolabe.reconcile import read_sssom
from cytolabe.snapshot.freezing import tables_of
from cytolabe.snapshot.layout import Layout
from cytolabe.store.documents import read_sealed

__all__ = ["MAPPING_TABLE", "ChangedRows", "DifferingRow", "changed_rows", "differing_rows"]

MAPPING_TABLE = "mappings.sssom.tsv"
_FIELDS = ("term", "predicate", "decision", "confidence")
_KEY = ("dataset_id", "contributor_label")


@dataclass(frozen=True, kw_only=True)
class ChangedRows:
    """Where rows differ between the table of a run and the overlay of its atlas, and which."""

    where: str
    message: str
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DifferingRow:
    """A field of the mapping of one label, in two tables."""

    dataset_id: str
    label: str
    field: str
    first: str
    second: str


def changed_rows(folder: Path, layout: Layout, snapshot_id: str) -> tuple[ChangedRows, ...]:
    """Compare both copies of the mappings row by row; nothing where they agree, or one cannot be read at all."""
    path = folder / MAPPING_TABLE
    try:
        overlays = tables_of(read_sealed(layout.document(layout.snapshots, snapshot_id))["overlays"])
        overlay = layout.overlay("mappings") / overlays["mappings"].file
        in_atlas = pq.read_table(io.BytesIO(overlay.read_bytes())).to_pandas()
        beside = pd.DataFrame([vars(mapping) for mapping in read_sssom(path)])
    except (CytolabeError, KeyError, OSError, pa.ArrowException):
        return ()
    told = [
        f"{row.label!r} of {row.dataset_id}: {row.field} is {row.first} in the atlas and {row.second} in the table of the run"
        for row in differing_rows(in_atlas, beside)
    ]
    if not told:
        return ()
    message = f"{len(told)} field(s) of rows differ between {MAPPING_TABLE} and {layout.name_of(overlay)}: {told[0]}"
    return (ChangedRows(where=f"mapping {MAPPING_TABLE}", message=message, examples=tuple(told)),)


def differing_rows(first: pd.DataFrame, second: pd.DataFrame) -> tuple[DifferingRow, ...]:
    """Return each field in which the mappings of two tables differ, by data set and label.

    The tables have the columns of `LabelMapping`; a row that only one has differs in the field `row`.
    """
    before, after = _rows(first), _rows(second)
    told = []
    for dataset_id, label in sorted({*before, *after}):
        one, other = before.get((dataset_id, label)), after.get((dataset_id, label))
        if one is None or other is None:
            words = ("absent", "there") if one is None else ("there", "absent")
            told.append(DifferingRow(dataset_id=dataset_id, label=label, field="row", first=words[0], second=words[1]))
            continue
        told += [
            DifferingRow(
                dataset_id=dataset_id, label=label, field=name, first=one[name] or "empty", second=other[name] or "empty"
            )
            for name in _FIELDS
            if one[name] != other[name]
        ]  # fmt: skip
    return tuple(told)


def _rows(frame: pd.DataFrame) -> dict[tuple[str, str], Mapping[str, str]]:
    rows = cast("list[dict[str, Any]]", frame.to_dict("records"))
    return {
        (str(row[_KEY[0]]), str(row[_KEY[1]])): {name: str(row[name]) for name in _FIELDS} for row in rows
    }  # fmt: skip
