"""The different rows of some text columns of tables, and how often each occurs: what a count needs, read as codes.

An atlas has few different combinations of tissue, assay and donor: counting them while a column is decoded costs a few
nanoseconds for each row, where a database that is handed all rows takes ten times as long. Nothing is kept on disk: the
tables are read again each time, with the checks of `scans`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from cytolabe.errors import IntegrityError
from cytolabe.store.scans import LOOKS_AT_ONCE, TablePart, opened_table, require_whole

__all__ = ["N_ROWS", "count_groups"]

N_ROWS = "n_rows"
"""The column that says how many rows are alike."""

_FILES_AT_A_TIME = 64
_COUNTED_IN_ARRAY = 1 << 16
"""Possible combinations of codes that are counted in an array; more are sorted."""


def count_groups(
    parts: Sequence[TablePart],
    columns: Sequence[str],
    *,
    dropped: Sequence[np.ndarray],
    n_threads: int = 0,
    at_most: int = 1 << 21,
) -> pa.Table | None:
    """Return the different rows of tables with the number of rows like each (`N_ROWS`); one may come several times.

    Parameters
    ----------
    parts
        The tables.
    columns
        Columns of text; of those that a part knows (`TablePart.known`) nothing is read.
    dropped
        For each table the rows that do not count, ascending.
    n_threads
        0 = some files at a time.
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
    with ThreadPoolExecutor(n_threads or LOOKS_AT_ONCE) as pool:
        # Some files at a time, so that too many different rows are noticed early.
        for start in range(0, len(parts), _FILES_AT_A_TIME):
            some = slice(start, start + _FILES_AT_A_TIME)
            found = list(pool.map(lambda part, rows: _groups_of(part, schema, rows), parts[some], dropped[some]))
            tables += [table for table in found if table is not None]
            if None in found or sum(table.num_rows for table in tables) > at_most:
                return None
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _groups_of(part: TablePart, schema: pa.Schema, dropped: np.ndarray) -> pa.Table | None:
    """Return the different rows of one table, those of each row group for themselves."""
    wanted = [name for name in schema.names if name != N_ROWS and name not in part.known]
    with opened_table(part, codes=wanted) as file:
        if file.metadata.num_rows != part.entry.n_rows:
            msg = f"{part.place.name} has {file.metadata.num_rows:,} rows where {part.entry.n_rows:,} are recorded."
            raise IntegrityError(msg)
        if not set(wanted) <= set(file.schema_arrow.names):
            return None
        if not wanted:
            return _completed(pa.table({N_ROWS: [part.entry.n_rows - len(dropped)]}), part, schema)
        found, first = [], 0
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns=wanted, use_threads=False)
            # A changed header of a page can hide rows, or leave codes without words.
            require_whole(part, table, n_rows=file.metadata.row_group(number).num_rows)
            if not table.num_rows:
                continue
            low, high = np.searchsorted(dropped, [first, first + table.num_rows])
            counted = _counted(table, dropped[low:high] - first)
            first += table.num_rows
            if counted is None:
                return None
            found.append(counted)
    return pa.concat_tables(_completed(table, part, schema) for table in found) if found else schema.empty_table()


def _counted(table: pa.Table, dropped: np.ndarray) -> pa.Table | None:
    """Return the different rows of one row group, and how many there are of each; None where a column is no text."""
    codes, words = [], []
    for column in table.columns:
        if not pa.types.is_dictionary(column.type):
            return None
        chunk = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
        known = chunk.dictionary
        indices = chunk.indices
        if indices.null_count:
            # A null is one more word.
            indices = indices.fill_null(len(known))
            known = pa.concat_arrays([known, pa.nulls(1, known.type)])
        words.append(known)
        codes.append(np.delete(indices, dropped) if len(dropped) else np.asarray(indices))
    groups, n_rows = _distinct(codes, [len(known) for known in words])
    columns = [known.take(pa.array(places)) for known, places in zip(words, groups, strict=True)]
    return pa.table([*columns, pa.array(n_rows)], names=[*table.column_names, N_ROWS])


def _distinct(codes: Sequence[np.ndarray], n_words: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return for each column the codes of the different rows, and how often each row occurs.

    Codes of several columns are joined to one number, which is counted; where too many numbers would be possible, those
    that occur are numbered anew.
    """
    joined: np.ndarray = np.zeros(len(codes[0]), dtype=np.int32)
    groups: list[np.ndarray] = []
    n_groups = 1
    for own, n_own in zip(codes, n_words, strict=True):
        if n_groups * n_own > _COUNTED_IN_ARRAY:
            values, joined = np.unique(joined, return_inverse=True)
            groups, n_groups = [before[values] for before in groups], len(values)
        if n_own > 1:
            joined = joined.astype(_width(n_groups * n_own), copy=False) * n_own + own if n_groups > 1 else own
        groups = [np.repeat(before, n_own) for before in groups] + [np.tile(np.arange(n_own), n_groups)]
        n_groups *= n_own
    if n_groups > _COUNTED_IN_ARRAY:
        values, n_rows = np.unique(joined, return_counts=True)
    else:
        occurs = np.bincount(joined, minlength=n_groups) if n_groups > 1 else np.array([len(joined)])
        values = np.flatnonzero(occurs)
        n_rows = occurs[values]
    return [before[values] for before in groups], n_rows


def _width(size: int) -> type[np.integer]:
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _completed(table: pa.Table, part: TablePart, schema: pa.Schema) -> pa.Table:
    """Return the columns of `schema`, those that the part knows among them."""
    columns = [
        pa.repeat(pa.scalar(part.known[name], pa.string()), table.num_rows) if name in part.known else table[name]
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)
