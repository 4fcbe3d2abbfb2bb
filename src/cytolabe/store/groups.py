"""The different rows of some text columns of tables, and how often each occurs: what a count needs, read as codes.

An atlas has few different combinations of tissue, assay and donor: counting them while a column is decoded costs a few
nanoseconds for each row, where a database that is handed all rows takes ten times as long. Nothing is kept on disk: the
tables are read again each time, with the checks of `scans`, some rows at a time: memory grows with the different rows
of a table, not with its rows.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from cytolabe.errors import IntegrityError
from cytolabe.store.scans import LOOKS_AT_ONCE, TablePart, opened_table, row_blocks

__all__ = ["N_ROWS", "count_groups"]

N_ROWS = "n_rows"
"""The column that says how many rows are alike."""

_FILES_AT_A_TIME = 64
_COUNTED_IN_ARRAY = 1 << 16
"""Possible combinations of codes that are counted in an array; more are sorted."""
_CODES_AT_ONCE = 1 << 17
"""Codes of all columns together that one file decodes at a time."""
_MERGED = 1 << 14
"""So many different rows of the blocks of one table wait before they are joined."""


def count_groups(
    parts: Sequence[TablePart],
    columns: Sequence[str],
    *,
    dropped: Sequence[np.ndarray],
    n_threads: int = 0,
    at_most: int = 1 << 21,
) -> pa.Table | None:
    """Return the different rows of tables with the number of rows like each (`N_ROWS`); several tables may have the same.

    Parameters
    ----------
    parts
        The tables.
    columns
        Columns of text; of those that a part knows (`TablePart.known`) nothing is read.
    dropped
        For each table the rows that do not count, ascending.
    n_threads
        0 = some files at a time: twice the cores, or 16 objects of a store.
    at_most
        So many different rows are worth it.

    Returns
    -------
    :
        None where there are more different rows than `at_most`, or a table lacks a column or holds no text in it.

    Raises
    ------
    IntegrityError
        If a table is missing, was changed, or has another number of rows than is recorded.
    """
    schema = pa.schema([*((name, pa.string()) for name in columns), (N_ROWS, pa.int64())])
    tables: list[pa.Table] = []
    with ThreadPoolExecutor(n_threads or _files_at_once(parts)) as pool:
        # Some files at a time, so that too many different rows are noticed early.
        for start in range(0, len(parts), _FILES_AT_A_TIME):
            some = slice(start, start + _FILES_AT_A_TIME)
            found = list(pool.map(lambda part, rows: _groups_of(part, schema, rows), parts[some], dropped[some]))
            tables += [table for table in found if table is not None]
            if None in found or sum(table.num_rows for table in tables) > at_most:
                return None
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _files_at_once(parts: Sequence[TablePart]) -> int:
    """Return how many tables are decoded together; an object in a store is waited for, a file on disk is not."""
    is_local = all(isinstance(part.place, Path) for part in parts)
    return min(LOOKS_AT_ONCE, 2 * len(os.sched_getaffinity(0))) if is_local else LOOKS_AT_ONCE


def _groups_of(part: TablePart, schema: pa.Schema, dropped: np.ndarray) -> pa.Table | None:
    """Return the different rows of one table; None where a column is lacking or is no text."""
    wanted = [name for name in schema.names if name != N_ROWS and name not in part.known]
    with opened_table(part, codes=wanted) as file:
        if file.metadata.num_rows != part.entry.n_rows:
            msg = f"{part.place.name} has {file.metadata.num_rows:,} rows where {part.entry.n_rows:,} are recorded."
            raise IntegrityError(msg)
        if not set(wanted) <= set(file.schema_arrow.names):
            return None
        if not wanted and part.entry.n_rows == len(dropped):
            return schema.empty_table()
        if not wanted:
            return _completed(pa.table({N_ROWS: [part.entry.n_rows - len(dropped)]}), part, schema)
        found: list[pa.Table] = []
        n_merged, first = 0, 0
        # A changed header of a page can hide rows, or leave codes without words: blocks are checked.
        for table in row_blocks(part, file, wanted, at_most=max(1, _CODES_AT_ONCE // len(wanted))):
            if not all(pa.types.is_dictionary(column.type) for column in table.columns):
                return None
            low, high = np.searchsorted(dropped, [first, first + table.num_rows])
            found.append(_counted(table, dropped[low:high] - first))
            first += table.num_rows
            if sum(one.num_rows for one in found) > 2 * n_merged + _MERGED:
                found = [_merged(found)]
                n_merged = found[0].num_rows
    return _completed(_merged(found), part, schema) if found else schema.empty_table()


def _merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Join the different rows of several blocks; those that are alike become one row."""
    if len(tables) == 1:
        return tables[0]
    joined = pa.concat_tables(tables).unify_dictionaries()
    return _counted(joined.drop_columns([N_ROWS]), np.zeros(0, dtype=np.int64), n_like=np.asarray(joined[N_ROWS]))


def _counted(table: pa.Table, dropped: np.ndarray, *, n_like: np.ndarray | None = None) -> pa.Table:
    """Return the different rows of a table of coded words, coded, and how many there are of each.

    `n_like` says for how many rows each row of the table stands, one by itself without it.
    """
    codes, words, n_words = [], [], []
    for column in table.columns:
        chunk = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
        known, indices = chunk.dictionary, chunk.indices
        has_nulls = indices.null_count > 0
        # A null is one more word.
        indices = np.asarray(indices.fill_null(len(known)) if has_nulls else indices)
        words.append(known)
        n_words.append(len(known) + has_nulls)
        codes.append(np.delete(indices, dropped) if len(dropped) else indices)
    groups, n_rows = _distinct(codes, n_words, n_like=n_like)
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(places, pa.int32(), mask=places == len(known)), known)
        for known, places in zip(words, groups, strict=True)
    ]
    return pa.table([*columns, pa.array(n_rows)], names=[*table.column_names, N_ROWS])


def _distinct(
    codes: Sequence[np.ndarray], n_words: Sequence[int], *, n_like: np.ndarray | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return for each column the codes of the different rows, and how often each row occurs.

    Codes of several columns are joined to one number, which is counted; where too many numbers would be possible, those
    that occur are numbered anew.
    """
    joined: np.ndarray = np.zeros(len(codes[0]), dtype=np.int32)
    groups: list[np.ndarray] = []
    sizes: list[int] = []
    n_groups = 1
    for own, n_own in zip(codes, n_words, strict=True):
        if n_groups * n_own > _COUNTED_IN_ARRAY:
            values, joined = np.unique(joined, return_inverse=True)
            groups, sizes, n_groups = _taken_apart(values, groups, sizes), [], len(values)
        if n_own > 1:
            joined = joined.astype(_width(n_groups * n_own), copy=False) * n_own + own if n_groups > 1 else own
        sizes.append(n_own)
        n_groups *= n_own
    if n_groups > _COUNTED_IN_ARRAY:
        values, joined = np.unique(joined, return_inverse=True)
        groups, sizes, n_groups = _taken_apart(values, groups, sizes), [], len(values)
    # Numbers of rows are whole in a float up to 2^53.
    occurs = np.bincount(joined, weights=n_like, minlength=n_groups).astype(np.int64)
    values = np.flatnonzero(occurs)
    return _taken_apart(values, groups, sizes), occurs[values]


def _taken_apart(values: np.ndarray, groups: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
    """Return the codes of the columns of joined numbers: the columns in `groups` first, then one for each of `sizes`."""
    codes = []
    for size in reversed(sizes):
        values, own = np.divmod(values, size)
        codes.append(own)
    return [*(before[values] for before in groups), *reversed(codes)]


def _width(size: int) -> type[np.integer]:
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _completed(table: pa.Table, part: TablePart, schema: pa.Schema) -> pa.Table:
    """Return the columns of `schema`, those that the part knows among them."""
    columns = [
        pa.repeat(pa.scalar(part.known[name], pa.string()), table.num_rows)
        if name in part.known
        else table[name].cast(schema.field(name).type)
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)
