"""Some columns of the cells of a snapshot, for whoever does not need `snapshot.cells` with all of them as words.

`cell_table` reads the named columns only, and texts that repeat stay codes: a few bytes for each cell and column. What
overlays join is looked up for each word of a data set, not for each cell. `cells_at` gives some cells, of which it holds
one data set at a time. `different_cells` gives rows that differ, of
which an atlas has few: whatever asks only which combinations there are (confounding, who is where) needs no more.

Bytes are checked as in `store.scans`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Integer

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.overlays import decided_terms
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.scans import TablePart, opened_table, require_whole

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["cell_table", "cells_at", "different_cells"]

_MISSING: Mapping[str, str | int] = {"mapping_decision": "", "mapping_confidence": 0}
_PLAIN = ("cell_id",)
"""Texts that do not repeat."""


def cell_table(snapshot: "Snapshot", columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of `snapshot.cells`, same rows in the same order; texts that repeat are categories.

    Raises
    ------
    UsageError
        If a column is none of `CELL_COLUMNS`.
    IntegrityError
        If a table is missing or was changed.
    """
    _require_columns(columns)
    relations = snapshot.relations
    overlays = _overlays(snapshot)
    parts = [
        _part(part, columns, overlays=overlays, excluded=relations.excluded.get(dataset_id))
        for dataset_id, part in zip(relations.entries, relations.parts, strict=True)
    ]
    table = pa.concat_tables(parts).unify_dictionaries() if parts else pa.table({name: [] for name in columns})
    frame: pd.DataFrame = table.to_pandas()
    return frame[list(columns)]


def cells_at(snapshot: "Snapshot", columns: Sequence[str], positions: Integer[np.ndarray, " some"]) -> pd.DataFrame:
    """Return columns of some rows of `snapshot.cells`, in the order of `positions`, as words.

    Raises
    ------
    UsageError
        If a column is none of `CELL_COLUMNS`.
    IntegrityError
        If a table is missing or was changed.
    """
    _require_columns(columns)
    relations = snapshot.relations
    overlays = _overlays(snapshot)
    found = {name: np.empty(len(positions), dtype=object) for name in columns}
    first = 0
    for dataset_id, part in zip(relations.entries, relations.parts, strict=True):
        excluded = relations.excluded.get(dataset_id)
        n_rows = part.entry.n_rows - (0 if excluded is None else len(excluded))
        own = np.flatnonzero((positions >= first) & (positions < first + n_rows))
        if len(own):
            table = _part(part, columns, overlays=overlays, excluded=excluded).take(pa.array(positions[own] - first))
            for name in columns:
                found[name][own] = table[name].to_pylist()
        first += n_rows
    return pd.DataFrame(found)


def different_cells(snapshot: "Snapshot", columns: Sequence[str]) -> pd.DataFrame:
    """Return the different rows of columns of `snapshot.cells`, sorted, as words."""
    _require_columns(columns)
    named = ", ".join(columns)
    found: pd.DataFrame = snapshot.query(" ".join(["SELECT DISTINCT", named, "FROM cells ORDER BY", named])).to_pandas()
    return found


def _overlays(snapshot: "Snapshot") -> dict[str, pd.DataFrame]:
    """Return what persons and terms say, by the column that they are joined by."""
    by_donor = snapshot.persons.set_index(["dataset_id", "donor_id"])[["person_id", "person_state"]]
    by_label = decided_terms(snapshot.mappings).set_index(["dataset_id", "contributor_label"])
    return {"donor_id": by_donor, "contributor_label": by_label}


def _require_columns(columns: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in CELL_COLUMNS]
    if unknown or not columns:
        msg = f"{', '.join(unknown) or 'nothing'}: name columns among {', '.join(CELL_COLUMNS)}."
        raise UsageError(msg)


def _part(
    part: TablePart,
    columns: Sequence[str],
    *,
    overlays: Mapping[str, pd.DataFrame],
    excluded: np.ndarray | None,
) -> pa.Table:
    """Return the columns of the cells of one data set."""
    dataset_id = str(part.known["dataset_id"])
    keys = [key for key, overlay in overlays.items() if not set(overlay.columns).isdisjoint(columns)]
    wanted = sorted({*keys, *columns} - {"dataset_id", *OVERLAY_COLUMNS})
    facts = _facts(part, wanted, excluded=excluded)
    n_rows = part.entry.n_rows - (0 if excluded is None else len(excluded))
    made = {name: facts[name].combine_chunks() for name in wanted}
    made["dataset_id"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, dtype=np.int32)), [dataset_id])
    for key in keys:
        known = overlays[key]
        of_key = known[known.index.get_level_values("dataset_id") == dataset_id].droplevel("dataset_id")
        for name in known.columns.intersection(list(columns)):
            made[name] = _looked_up(made[key], dict(of_key[name].items()), missing=_MISSING.get(name, UNKNOWN))
    return pa.table({name: made[name] for name in columns})


def _facts(part: TablePart, names: Sequence[str], *, excluded: np.ndarray | None) -> pa.Table:
    """Return columns as they are stored, of the rows that the snapshot holds."""
    with opened_table(part, codes=[name for name in names if name not in _PLAIN]) as file:
        if file.metadata.num_rows != part.entry.n_rows:
            msg = f"{part.place.name} has {file.metadata.num_rows:,} rows where {part.entry.n_rows:,} are recorded."
            raise IntegrityError(msg)
        table = file.read(columns=list(names), use_threads=False)
        if names:
            require_whole(part, table, n_rows=part.entry.n_rows)
    if excluded is None:
        return table
    return table.take(pa.array(np.setdiff1d(np.arange(part.entry.n_rows), excluded)))


def _looked_up(words: pa.DictionaryArray, known: Mapping[Any, str | int], *, missing: str | int) -> pa.Array:
    """Return for each coded word what is known of it."""
    found = [known.get(word, missing) for word in words.dictionary.to_pylist()]
    if isinstance(missing, int):
        return pa.array(np.array([*found, missing], dtype=np.int64)[np.asarray(words.indices.fill_null(len(found)))])
    values = pa.array([*found, missing], pa.string()).dictionary_encode()
    codes = values.indices.take(words.indices.fill_null(len(found)))
    return pa.DictionaryArray.from_arrays(codes, values.dictionary)
