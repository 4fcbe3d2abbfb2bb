"""Tables as Parquet files that are named by their rows.

The digest of a table is over its column names, logical types and values in row order, whatever Parquet makes of
them; the SHA-256 beside it is over the bytes of the file. Five logical types exist: string, int64, uint64 (only
where int64 is too small), double and bool, each with nulls; categories are stored as the words they stand for. A
column of mixed types is refused: it would come back as something else.

Pages carry checksums and the entry the SHA-256 of the footer, so that `store.scans` can read single columns and still
notice every changed byte.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import Place, read_verified, replace_file
from cytolabe.provenance import digest_of

__all__ = [
    "ROW_GROUP",
    "SCHEMA",
    "TableEntry",
    "footer_length",
    "read_table",
    "table_digest",
    "write_parquet",
    "write_table",
]

SCHEMA = "cytolabe/table/1"
ROW_GROUP = 1 << 17
"""Rows that are compressed together."""
_BATCH = 1024
"""Rows that Parquet takes at a time; a column that is cut there is written as the same bytes as one that is not."""


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """What names a table (`digest`, over its rows), and its file with the SHA-256 of its bytes and of its footer."""

    digest: str
    file: str
    sha256: str
    n_rows: int
    footer_sha256: str = ""


def write_table(frame: pd.DataFrame, directory: Place) -> TableEntry:
    """Write a table under the digest of its rows; the index is not part of a table. An equal table is kept.

    Raises
    ------
    UsageError
        If a column has mixed or unknown types, or two columns have one name.
    """
    table = _arrow_table(frame)
    digest = table_digest(table)
    path = directory / f"{digest.removeprefix('sha256:')}.parquet"
    content = _kept_table(path, digest)
    if content is None:
        content = _parquet_bytes(table)
        # A damaged file of this name is replaced: what the name stands for is at hand again.
        replace_file(path, content)
    return TableEntry(
        digest=digest,
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        n_rows=table.num_rows,
        footer_sha256=hashlib.sha256(content[-footer_length(content[-8:]) :]).hexdigest(),
    )


def read_table(directory: Place, entry: TableEntry, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table after its bytes and its rows matched what names them.

    Parameters
    ----------
    directory, entry
        The table.
    columns
        Only these, texts as categories: for one column a thirtieth of the time. The digest of the rows is over all
        columns and is then left out; the bytes are checked all the same.

    Raises
    ------
    IntegrityError
        If the file is missing or was changed.
    """
    content = read_verified(directory / entry.file, entry.sha256)
    try:
        if columns is not None:
            table = pq.read_table(io.BytesIO(content), columns=list(columns), read_dictionary=list(columns))
            return _frame(table)
        table = pq.read_table(io.BytesIO(content))
        found = table_digest(table)
    except (pa.ArrowException, OSError) as error:
        msg = f"{entry.file} is no table of Cytolabe: {error}"
        raise IntegrityError(msg) from error
    if found != entry.digest:
        msg = f"{entry.file} holds rows of digest {found[7:19]}, not {entry.digest[7:19]}: the table was rewritten."
        raise IntegrityError(msg)
    return _frame(table)


def footer_length(tail: bytes) -> int:
    """Return how many bytes at the end of a Parquet file are its footer, from the last 8 of them."""
    if len(tail) != 8 or tail[4:] != b"PAR1":
        msg = "the file does not end like a Parquet file: it was cut off or overwritten."
        raise IntegrityError(msg)
    return int.from_bytes(tail[:4], "little") + 8


def table_digest(table: pa.Table) -> str:
    """Return the digest of a table's columns in their order; one piece of a column at a time is spelled out."""
    return _digest(table.num_rows, zip(table.column_names, table.columns, strict=True))


def _digest(n_rows: int, columns: Iterable[tuple[str, pa.ChunkedArray]]) -> str:
    described = [[name, str(_plain_type(column)), _column_digest(column)] for name, column in columns]
    return digest_of({"schema": SCHEMA, "n_rows": n_rows, "columns": described})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Spell categories out as the words that they stand for."""
    if not pa.types.is_dictionary(column.type):
        return column
    return pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], type=_plain_type(column))


def _plain_type(column: pa.ChunkedArray) -> pa.DataType:
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _arrow_table(frame: pd.DataFrame) -> pa.Table:
    names = [str(name) for name in frame.columns]
    if len(set(names)) != len(names):
        msg = f"a table has columns of the same name: {', '.join(sorted({n for n in names if names.count(n) > 1}))}."
        raise UsageError(msg)
    columns = [_arrow_column(str(name), frame[name]) for name in frame.columns]
    metadata = {"cytolabe.schema": SCHEMA}
    return pa.table(columns, schema=pa.schema(list(zip(names, (c.type for c in columns), strict=True)), metadata))


def _arrow_column(name: str, series: pd.Series) -> pa.Array | pa.ChunkedArray:
    """Return a column in its logical type, but for categories of text, which stay so until they are written."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        levels = pd.Series(series.cat.categories, dtype=object)
        if all(isinstance(level, str) for level in levels):
            codes = pa.array(series.cat.codes.to_numpy(), mask=series.isna().to_numpy())
            return pa.DictionaryArray.from_arrays(codes, pa.array(levels, type=pa.string()))
        series = series.astype(object)
    try:
        column = pa.array(series, from_pandas=True)
        return column.cast(_logical_type(column.type))
    except (pa.ArrowException, TypeError, OverflowError) as error:
        msg = (
            f"column {name!r} has values that fit no single type ({error}). Stored as one of them, the others "
            "would come back changed. Make them all text, or all numbers, in the source."
        )
        raise UsageError(msg) from None


def _logical_type(found: pa.DataType) -> pa.DataType:
    if pa.types.is_null(found) or pa.types.is_string(found) or pa.types.is_large_string(found):
        return pa.string()
    if pa.types.is_boolean(found):
        return pa.bool_()
    if pa.types.is_floating(found):
        return pa.float64()
    if pa.types.is_uint64(found):
        return pa.uint64()
    if pa.types.is_integer(found):
        return pa.int64()
    msg = f"{found} is none of string, integer, float, bool"
    raise TypeError(msg)


def _column_digest(column: pa.ChunkedArray) -> str:
    """Hash nulls, then values: strings as lengths and UTF-8, numbers as 8 little-endian bytes, a null as zero.

    The rows are gone through for each of these, a row group at a time: a copy of a column of all cells is never held.
    """
    digest = hashlib.sha256()
    for piece in _pieces(column):
        digest.update(np.asarray(piece.is_null()).astype("u1").tobytes())
    if pa.types.is_string(_plain_type(column)):
        for piece in _pieces(column):
            digest.update(np.asarray(pc.binary_length(piece.fill_null(""))).astype("<u8").tobytes())
        for piece in _pieces(column):
            digest.update(_text_of(piece.fill_null("")))
    else:
        for piece in _pieces(column):
            digest.update(_numbers_of(piece).tobytes())
    return digest.hexdigest()


def _pieces(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """Yield a column as arrays of plain values of at most a row group."""
    for start in range(0, len(column), ROW_GROUP):
        yield from _plain(column.slice(start, ROW_GROUP)).chunks


def _text_of(filled: pa.Array) -> memoryview:
    """Return the UTF-8 of all texts, which Arrow keeps in one buffer behind the offsets."""
    _, offsets, text = filled.buffers()
    if not len(filled) or text is None:
        return memoryview(b"")
    places = np.frombuffer(offsets, dtype=np.int32)
    return memoryview(text)[int(places[filled.offset]) : int(places[filled.offset + len(filled)])]


def _numbers_of(array: pa.Array) -> np.ndarray:
    if pa.types.is_boolean(array.type):
        return np.asarray(array.fill_null(pa.scalar(False))).astype("u1")  # noqa: FBT003
    kind = {pa.float64(): "<f8", pa.int64(): "<i8", pa.uint64(): "<u8"}[array.type]
    # Adding zero turns the negative zero into the one zero.
    return (np.asarray(array.fill_null(0)) + 0).astype(kind)


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    return frame


def _kept_table(path: Place, digest: str) -> bytes | None:
    """Return the bytes of a table that is there already; None where there is none, or it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with pq.ParquetFile(io.BytesIO(content)) as file:
            names = file.schema_arrow.names
            columns = ((name, file.read(columns=[name], use_threads=False).column(0)) for name in names)
            return content if _digest(file.metadata.num_rows, columns) == digest else None
    except (pa.ArrowException, OSError, KeyError):
        return None


def write_parquet(table: pa.Table | pd.DataFrame, path: Place) -> None:
    """Write a table of results under a name of its own, all or nothing; the index is not part of it."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    replace_file(path, _parquet_bytes(table))


def _spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as it is written; a word that all rows have is spelled out for one batch, which stands for all of them."""
    if not pa.types.is_dictionary(column.type) or column.num_chunks != 1 or len(column) <= _BATCH:
        return _plain(column)
    codes = column.chunk(0).indices
    bounds = pc.min_max(codes)
    if codes.null_count or bounds["min"] != bounds["max"]:
        return _plain(column)
    batch = column.chunk(0).slice(0, _BATCH).dictionary_decode()
    return pa.chunked_array([batch.slice(0, len(column) - start) for start in range(0, len(column), _BATCH)])


def _parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    fields = [(name, _plain_type(column)) for name, column in zip(table.column_names, table.columns, strict=True)]
    schema = pa.schema(fields, metadata=table.schema.metadata)
    with pq.ParquetWriter(sink, schema, compression="zstd", compression_level=3, write_page_checksum=True) as writer:
        # Row group by row group: categories are spelled out for one of them at a time.
        for start in range(0, max(1, table.num_rows), ROW_GROUP):
            part = table.slice(start, ROW_GROUP)
            writer.write_table(pa.table([_spelled(column) for column in part.columns], schema=schema))
            # Parquet looks each value of a column up in a table of up to 30 MB, which the allocator would keep.
            pa.default_memory_pool().release_unused()
    return sink.getvalue()
