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

__all__ = ["MAPPING_TABLE", "ChangedRows", "changed_rows"]

MAPPING_TABLE = "mappings.sssom.tsv"
_FIELDS = ("term", "predicate", "decision", "confidence")
_KEY = ("dataset_id", "contributor_label")


@dataclass(frozen=True, kw_only=True)
class ChangedRows:
    """Where rows differ between the table of a run and the overlay of its atlas, and which."""

    where: str
    message: str
    examples: tuple[str, ...]


def changed_rows(folder: Path, layout: Layout, snapshot_id: str) -> tuple[ChangedRows, ...]:
    """Compare both copies of the mappings row by row; nothing where they agree, or one cannot be read at all."""
    path = folder / MAPPING_TABLE
    try:
        overlays = tables_of(read_sealed(layout.document(layout.snapshots, snapshot_id))["overlays"])
        overlay = layout.overlay("mappings") / overlays["mappings"].file
        in_atlas = _rows(pq.read_table(io.BytesIO(overlay.read_bytes())).to_pandas())
        beside = _rows(pd.DataFrame([vars(mapping) for mapping in read_sssom(path)]))
    except (CytolabeError, KeyError, OSError, pa.ArrowException):
        return ()
    told = []
    for key in sorted({*in_atlas, *beside}):
        lead = f"{key[1]!r} of {key[0]}"
        one, other = in_atlas.get(key), beside.get(key)
        if one is None or other is None:
            told.append(f"{lead}: only in the {'table of the run' if one is None else 'atlas'}")
            continue
        told += [
            f"{lead}: {name} is {one[name] or 'empty'} in the atlas and {other[name] or 'empty'} in the table of the run"
            for name in _FIELDS
            if one[name] != other[name]
        ]
    if not told:
        return ()
    message = f"{len(told)} field(s) of rows differ between {MAPPING_TABLE} and {layout.name_of(overlay)}: {told[0]}"
    return (ChangedRows(where=f"mapping {MAPPING_TABLE}", message=message, examples=tuple(told)),)


def _rows(frame: pd.DataFrame) -> dict[tuple[str, str], Mapping[str, str]]:
    rows = cast("list[dict[str, Any]]", frame.to_dict("records"))
    return {
        (str(row[_KEY[0]]), str(row[_KEY[1]])): {name: str(row[name]) for name in _FIELDS} for row in rows
    }  # fmt: skip
