"""The cells of a snapshot as few rows that differ, and for each cell the number of its row.

An atlas of 20 million cells has some thousand different combinations of data set, donor, batch and label. Whatever
treats like cells alike (splits above all) needs these rows with their numbers of cells, and four bytes for each cell:
never a table of all cells. Tables are read row group by row group, as codes; persons and terms are joined to the
rows that differ, not to the cells.

`extra` names columns of the contributors' own tables: what a lab calls its perturbation or its date of collection
stands there verbatim.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Integer

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.overlays import decided_terms
from cytolabe.snapshot.view import CELL_COLUMNS, SnapshotView
from cytolabe.store.scans import TablePart, opened_table, require_whole

__all__ = ["CHUNK_CELLS", "N_CELLS", "Strata", "contributed_columns", "strata_of"]

N_CELLS = "n_cells"
"""Column of a table of strata: how many cells are like this row."""

CHUNK_CELLS = 1 << 20
"""Cells that are looked at together wherever something is done for each cell."""

_PERSONS = ("person_id", "person_state")
_TERMS = tuple(column for column in OVERLAY_COLUMNS if column not in _PERSONS)

_MOST_COMBINATIONS = 1 << 62
_LOOKED_UP = 1 << 22

Extra = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Strata:
    """The different rows of some columns, sorted, with their numbers of cells, and the row of each cell."""

    table: pd.DataFrame
    number_of_row: Integer[np.ndarray, " cells"]


def strata_of(snapshot: SnapshotView, columns: Sequence[str], *, extra: Extra | None = None) -> Strata:
    """Return the different combinations of some columns of the cells of a snapshot.

    Parameters
    ----------
    snapshot
        Any snapshot; of a frozen one no table of all cells is made.
    columns
        Among `CELL_COLUMNS`, texts only.
    extra
        Name of a further column -> data set -> the contributor's column behind it; `unknown` in other data sets.

    Raises
    ------
    UsageError
        If a column is unknown, or a data set has no such contributor's column.
    IntegrityError
        If a table is missing or was changed.
    """
    unknown = [name for name in columns if name not in CELL_COLUMNS]
    if unknown:
        msg = f"{', '.join(unknown)}: name columns among {', '.join(CELL_COLUMNS)}."
        raise UsageError(msg)
    if not isinstance(snapshot, Snapshot):
        return _of_memory(snapshot, columns, extra or {})
    return _of_frozen(snapshot, columns, extra or {})


def contributed_columns(snapshot: Snapshot, dataset_id: str) -> tuple[str, ...]:
    """Return the names of the contributor's own columns of a data set."""
    with opened_table(_contributed_part(snapshot, dataset_id), codes=[]) as file:
        return tuple(file.schema_arrow.names)


def _contributed_part(snapshot: Snapshot, dataset_id: str) -> TablePart:
    entry = snapshot.entries[dataset_id].tables["contributed"]
    return TablePart(place=snapshot.relations.layout.tables / entry.file, entry=entry)


def _of_memory(snapshot: SnapshotView, columns: Sequence[str], extra: Extra) -> Strata:
    """Group the table that is in memory anyway; it has no contributor's columns but those of `cells`."""
    cells = snapshot.cells
    frame = cells[list(columns)].astype(str)
    names = cells["dataset_id"].to_numpy(dtype=object)
    for name, by_dataset in extra.items():
        values = np.full(len(cells), UNKNOWN, dtype=object)
        for dataset_id, column in by_dataset.items():
            own = names == dataset_id
            values[own] = _own_column(cells, column, dataset_id)[own]
        frame = frame.assign(**{name: values})
    numbers = frame.groupby(list(frame.columns), sort=True, observed=True).ngroup().to_numpy(dtype=np.int32)
    first = pd.Series(numbers).drop_duplicates().sort_values().index
    table = frame.iloc[first].reset_index(drop=True)
    return Strata(table=table.assign(**{N_CELLS: np.bincount(numbers, minlength=len(table))}), number_of_row=numbers)


def _own_column(table: pd.DataFrame, column: str, dataset_id: str) -> np.ndarray:
    if column not in table:
        msg = f"{dataset_id} has no column {column!r}; it has {', '.join(map(str, table.columns[:12]))}."
        raise UsageError(msg)
    return np.asarray(table[column].astype(str), dtype=object)


def _of_frozen(snapshot: Snapshot, columns: Sequence[str], extra: Extra) -> Strata:
    facts = {"dataset_id", *columns} - set(OVERLAY_COLUMNS)
    facts |= {"donor_id"} if not set(_PERSONS).isdisjoint(columns) else set()
    facts |= {"contributor_label"} if not set(_TERMS).isdisjoint(columns) else set()
    names = (*sorted(facts), *extra)
    known: dict[tuple[str, ...], int] = {}
    # One array of four bytes for each cell, filled and renumbered in place: copies of it would be most of the memory.
    number_of_row, n_seen = np.empty(snapshot.n_cells, dtype=np.int32), 0
    for keys, codes in _groups(snapshot, sorted(facts), extra):
        number_of_row[n_seen : n_seen + len(codes)] = _numbered(keys, codes, known)
        n_seen += len(codes)
    rows = pd.DataFrame(list(known), columns=list(names), dtype=object)
    joined = _with_overlays(rows, snapshot, columns)[[*columns, *extra]]
    if joined.empty:
        return Strata(table=joined.assign(**{N_CELLS: np.zeros(0, dtype=np.int64)}), number_of_row=number_of_row)
    merged = joined.groupby(list(joined.columns), sort=True, observed=True).ngroup().to_numpy(dtype=np.int32)
    first = pd.Series(merged).drop_duplicates().sort_values().index
    table = joined.iloc[first].reset_index(drop=True)
    n_cells = np.zeros(len(table), dtype=np.int64)
    for start in range(0, len(number_of_row), CHUNK_CELLS):
        chunk = number_of_row[start : start + CHUNK_CELLS]
        chunk[:] = merged[chunk]
        n_cells += np.bincount(chunk, minlength=len(table))
    return Strata(table=table.assign(**{N_CELLS: n_cells}), number_of_row=number_of_row)


def _numbered(keys: list[tuple[str, ...]], codes: np.ndarray, known: dict[tuple[str, ...], int]) -> np.ndarray:
    """Give the groups of one piece their numbers among all groups, in order of first sight."""
    numbers = np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int32)
    return np.asarray(numbers[codes])


def _groups(
    snapshot: Snapshot, facts: Sequence[str], extra: Extra
) -> Iterator[tuple[list[tuple[str, ...]], np.ndarray]]:
    """Yield for each row group its different rows and the number of each cell among them, in canonical order."""
    relations = snapshot.relations
    for dataset_id, part in zip(relations.entries, relations.parts, strict=True):
        dropped = relations.excluded.get(dataset_id, np.zeros(0, dtype=np.int64))
        own = _contributed(snapshot, dataset_id, extra)
        wanted = [name for name in facts if name != "dataset_id"]
        first = 0
        for table in _row_groups(part, wanted):
            kept = np.setdiff1d(np.arange(first, first + table.num_rows), dropped)
            places = pa.array(kept - first)
            columns = {name: table[name].combine_chunks().take(places) for name in wanted}
            columns["dataset_id"] = pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(len(kept), dtype=np.int32)), [dataset_id]
            )
            columns |= {name: column.take(pa.array(kept)) for name, column in own.items()}
            yield _distinct([columns[name] for name in (*facts, *extra)])
            first += table.num_rows


def _row_groups(part: TablePart, names: Sequence[str]) -> Iterator[pa.Table]:
    with opened_table(part, codes=list(names)) as file:
        if file.metadata.num_rows != part.entry.n_rows:
            msg = f"{part.place.name} has {file.metadata.num_rows:,} rows where {part.entry.n_rows:,} are recorded."
            raise IntegrityError(msg)
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns=list(names), use_threads=False)
            n_rows = file.metadata.row_group(number).num_rows
            if names:
                require_whole(part, table, n_rows=n_rows)
            yield table if names else pa.table({"": np.zeros(n_rows, dtype=np.int8)})


def _contributed(snapshot: Snapshot, dataset_id: str, extra: Extra) -> dict[str, pa.DictionaryArray]:
    """Return the contributor's columns of one data set as coded words; `unknown` where it has none."""
    entry = snapshot.entries[dataset_id]
    found = {}
    for name, by_dataset in extra.items():
        column = by_dataset.get(dataset_id)
        if column is None:
            codes = pa.array(np.zeros(entry.n_cells, dtype=np.int32))
            found[name] = pa.DictionaryArray.from_arrays(codes, [UNKNOWN])
            continue
        with opened_table(_contributed_part(snapshot, dataset_id), codes=[]) as file:
            if column not in file.schema_arrow.names:
                msg = f"{dataset_id} has no column {column!r}; it has {', '.join(file.schema_arrow.names[:12])}."
                raise UsageError(msg)
            values = file.read(columns=[column], use_threads=False)[column].combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        found[name] = pc.fill_null(values.cast(pa.string()), UNKNOWN).dictionary_encode()
    return found


def _distinct(columns: Sequence[pa.DictionaryArray]) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Return the different rows of coded columns as words, and for each row the number of its words."""
    combined, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    words = []
    for column in columns:
        known = [*column.dictionary.to_pylist(), UNKNOWN]
        codes = np.asarray(column.indices.fill_null(len(known) - 1), dtype=np.int64)
        words.append((known, codes))
        if len(known) > 2 or column.null_count:
            if size > _MOST_COMBINATIONS // len(known):
                combined, size = _small(combined, size)
            combined, size = combined * len(known) + codes, size * len(known)
    numbers, n_groups = _small(combined, size)
    first = np.zeros(n_groups, dtype=np.int64)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]
    picked = [[str(known[code]) for code in codes[first]] for known, codes in words]
    return list(zip(*picked, strict=True)), numbers


def _small(values: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Give values below `size` numbers without gaps; few possible values are looked up in an array."""
    if not len(values):
        return values, 0
    if size > _LOOKED_UP:
        numbers, found = pd.factorize(values)
        return numbers.astype(np.int64), len(found)
    seen = np.zeros(size, dtype=np.int64)
    seen[values] = 1
    place = np.cumsum(seen) - 1
    return place[values], int(place[-1]) + 1


def _with_overlays(rows: pd.DataFrame, snapshot: Snapshot, columns: Sequence[str]) -> pd.DataFrame:
    """Join persons and terms to the rows that differ; texts everywhere."""
    if not set(_PERSONS).isdisjoint(columns):
        persons = snapshot.persons[["dataset_id", "donor_id", *_PERSONS]]
        rows = rows.merge(persons, how="left", on=["dataset_id", "donor_id"])
        for name in _PERSONS:
            rows[name] = rows[name].where(rows[name].notna(), UNKNOWN)
    if not set(_TERMS).isdisjoint(columns):
        rows = rows.merge(decided_terms(snapshot.mappings), how="left", on=["dataset_id", "contributor_label"])
        missing = {"mapping_decision": "", "mapping_confidence": "0"}
        for name in _TERMS:
            rows[name] = rows[name].astype(object).where(rows[name].notna(), missing.get(name, UNKNOWN))
    return rows.astype(str)
