"""Tables as Arrow data sets: only the columns and rows that a question needs are read, and they are still checked.

`read_table` hashes a whole file, which a question about two columns of 170 million rows cannot afford. Here a file of
up to 1 MiB is hashed whole when it is opened; of a larger one the footer is hashed (a changed footer could hide rows
behind wrong statistics), and every page is checked against its CRC when it is read. What remains are the headers of
pages in large files, some 40 bytes for each MiB, which only `verify` covers.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from cytolabe.errors import IntegrityError
from cytolabe.files import Place, read_range, read_verified, sha256_of_file, size_of
from cytolabe.store.tables import TableEntry, footer_length

__all__ = ["LOOKS_AT_ONCE", "TablePart", "opened_table", "require_whole", "row_blocks", "scan_tables"]

_READ_OPTIONS = ds.ParquetFragmentScanOptions(page_checksum_verification=True)

LOOKS_AT_ONCE = 16
"""Files that are opened at a time."""

_HASHED_WHOLE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TablePart:
    """One table of a data set; `known` are columns that hold one value in all of its rows, so that it can be skipped."""

    place: Place
    entry: TableEntry
    known: Mapping[str, str | int] = field(default_factory=dict)


def scan_tables(parts: Sequence[TablePart], schema: pa.Schema | None = None) -> ds.Dataset:
    """Return tables as one Arrow data set with the columns of `schema`; a column that a file lacks is null there.

    Without a schema the columns are those of the first table.

    Raises
    ------
    IntegrityError
        If a file is missing or its footer was changed.
    """
    dictionaries = [column.name for column in schema or () if pa.types.is_dictionary(column.type)]
    # Words stay codes from the page to the group: four times less work than texts.
    options = ds.ParquetReadOptions(dictionary_columns=dictionaries)
    layout = ds.ParquetFileFormat(read_options=options, default_fragment_scan_options=_READ_OPTIONS)
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        fragments = list(pool.map(lambda part: _fragment(part, layout), parts))
    return ds.FileSystemDataset(fragments, schema or fragments[0].physical_schema, layout, filesystem=LocalFileSystem())


@contextmanager
def opened_table(part: TablePart, *, codes: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Open one table to read some of its columns, checked like a scan; texts of `codes` come as dictionaries.

    A scan of many files costs half a millisecond for each; this a fifth of it. The footer, or the whole of a small
    file, is read once: what was checked is what is used.

    Raises
    ------
    IntegrityError
        If the file is missing or was changed; also if that is only seen while it is read.
    """
    with _told(part):
        is_small = not part.entry.footer_sha256 or size_of(part.place) <= _HASHED_WHOLE
        content = read_verified(part.place, part.entry.sha256) if is_small else _checked_footer(part)
        metadata = pq.read_metadata(pa.BufferReader(content))
        source: object = part.place
        if is_small:
            source = pa.BufferReader(content)
        elif not isinstance(part.place, Path):
            source = pa.PythonFile(_RangeReader(part.place), mode="r")
        names = {metadata.schema.column(number).name for number in range(metadata.num_columns)}
        with pq.ParquetFile(
            source,
            metadata=metadata,
            read_dictionary=[name for name in codes if name in names],
            page_checksum_verification=True,
        ) as file:
            yield file


def row_blocks(part: TablePart, file: pq.ParquetFile, columns: Sequence[str], *, at_most: int) -> Iterator[pa.Table]:
    """Yield columns of an opened table, `at_most` rows at a time and no block over a row group; each is checked.

    Raises
    ------
    IntegrityError
        If a row group gives other rows than it says: see `require_whole`.
    """
    for number in range(file.num_row_groups):
        n_rows, n_seen = file.metadata.row_group(number).num_rows, 0
        for batch in file.iter_batches(at_most, row_groups=[number], columns=list(columns), use_threads=False):
            table = pa.Table.from_batches([batch])
            require_whole(part, table, n_rows=batch.num_rows)
            n_seen += batch.num_rows
            yield table
        _require_rows(part, n_seen, n_rows=n_rows)


def require_whole(part: TablePart, table: pa.Table, *, n_rows: int) -> None:
    """Refuse columns that were read with other rows, or with codes that stand for no word.

    Raises
    ------
    IntegrityError
        If so: the header of a page was changed, which no checksum of a large file covers.
    """
    with _told(part):
        table.validate(full=True)
    _require_rows(part, table.num_rows, n_rows=n_rows)


def _require_rows(part: TablePart, n_seen: int, *, n_rows: int) -> None:
    if n_seen != n_rows:
        msg = f"{part.place.name} gave {n_seen:,} of {n_rows:,} rows: its bytes were changed. Run `cytolabe verify`."
        raise IntegrityError(msg)


@contextmanager
def _told(part: TablePart) -> Iterator[None]:
    """Turn what a missing or damaged file raises into an error of ours."""
    name = part.place.name
    try:
        yield
    except FileNotFoundError:
        msg = f"{name} is missing; rows that are not there cannot be answered for. Run `cytolabe verify`."
        raise IntegrityError(msg) from None
    except (pa.ArrowException, OSError) as error:
        msg = f"{name} cannot be read: {error} Its bytes were changed. Run `cytolabe verify`."
        raise IntegrityError(msg) from error


def _fragment(part: TablePart, layout: ds.ParquetFileFormat) -> ds.Fragment:
    """Return one file as a fragment after its footer was seen to be the one that was written."""
    _require_footer(part)
    expression = ds.scalar(True)  # noqa: FBT003 - Arrow's own signature
    for column, value in part.known.items():
        expression &= ds.field(column) == value
    if isinstance(part.place, Path):
        return layout.make_fragment(str(part.place), filesystem=LocalFileSystem(), partition_expression=expression)
    file = pa.PythonFile(_RangeReader(part.place), mode="r")
    return layout.make_fragment(file, partition_expression=expression)


def _require_footer(part: TablePart) -> None:
    with _told(part):
        if not part.entry.footer_sha256 or size_of(part.place) <= _HASHED_WHOLE:
            _require_digest(part, sha256_of_file(part.place), recorded=part.entry.sha256)
        else:
            _checked_footer(part)


def _checked_footer(part: TablePart) -> bytes:
    """Return the footer after it matched what is recorded of it."""
    place = part.place
    size = size_of(place)
    length = min(size, footer_length(read_range(place, max(0, size - 8), min(size, 8))))
    footer = read_range(place, size - length, length)
    _require_digest(part, hashlib.sha256(footer).hexdigest(), recorded=part.entry.footer_sha256)
    return footer


def _require_digest(part: TablePart, found: str, *, recorded: str) -> None:
    if found != recorded:
        msg = f"{part.place.name} has another digest than is recorded: its bytes were changed. Run `cytolabe verify`."
        raise IntegrityError(msg)


class _RangeReader(io.RawIOBase):
    """An object in a store as a file that can be read from any place; Arrow asks for whole column chunks."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place
        self._size = size_of(place)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        length = max(0, self._size - self._position)
        if size >= 0:
            length = min(length, size)
        content = read_range(self._place, self._position, length) if length else b""
        self._position += len(content)
        return content
