"""Tables of numbers that are written slice by slice: one row group is in memory, and the rest in a file of work in progress.

The file and its digest are the same as if `tables.write_table` had been given all rows at once.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cytolabe.errors import IntegrityError
from cytolabe.files import STAGED_PREFIX, GrowingFile, Place, replace_by_file
from cytolabe.provenance import digest_of
from cytolabe.store.tables import ROW_GROUP, SCHEMA, TableEntry, footer_length

__all__ = ["TableStream"]

_TYPES = {np.dtype(np.int64): pa.int64(), np.dtype(np.uint64): pa.uint64()}


class _HashedFile:
    """What Parquet writes to: it goes to the disk as it comes, and is hashed on the way."""

    def __init__(self, path: Path) -> None:
        self._hash = hashlib.sha256()
        self._n_bytes = 0
        self.closed = True
        self._file = GrowingFile(path)
        self.closed = False

    def __del__(self) -> None:
        """Close the file of a table that was not finished."""
        if not self.closed:
            self.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, content: bytes) -> int:
        self._file.append(content)
        self._hash.update(content)
        self._n_bytes += len(content)
        return len(content)

    def tell(self) -> int:
        return self._n_bytes

    def flush(self) -> None:
        """Nothing waits here."""

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._file.close()


class TableStream:
    """A table of 64-bit integers without nulls, of a number of rows that is known beforehand.

    What was written waits in `folder`, on the disk of the place where the table goes where that is a disk.
    """

    def __init__(self, columns: Mapping[str, np.dtype], *, n_rows: int, folder: Path) -> None:
        self._dtypes = dict(columns)
        self._n_rows = n_rows
        self._n_seen = 0
        self._waiting: list[dict[str, np.ndarray]] = []
        self._n_waiting = 0
        nulls = hashlib.sha256(bytes(n_rows))
        self._digests = {name: nulls.copy() for name in columns}
        self._staged = folder / f"{STAGED_PREFIX}{secrets.token_hex(8)}"
        self._sink = _HashedFile(self._staged)
        fields = [(name, _TYPES[dtype]) for name, dtype in self._dtypes.items()]
        self._schema = pa.schema(fields, metadata={"cytolabe.schema": SCHEMA})
        self._writer = pq.ParquetWriter(
            self._sink, self._schema, compression="zstd", compression_level=3, write_page_checksum=True
        )

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add the next rows; every column has one value for each of them."""
        n_rows = len(next(iter(rows.values())))
        self._waiting.append({name: np.ascontiguousarray(rows[name], dtype) for name, dtype in self._dtypes.items()})
        self._n_waiting += n_rows
        self._n_seen += n_rows
        if self._n_waiting >= ROW_GROUP:
            self._write_groups(last=False)

    def close(self, directory: Place) -> TableEntry:
        """Write the table under the digest of its rows.

        Raises
        ------
        IntegrityError
            If other rows came than were announced.
        """
        if self._n_seen != self._n_rows:
            msg = f"{self._n_seen} rows were written to a table of {self._n_rows}: cells are missing or came twice."
            raise IntegrityError(msg)
        self._write_groups(last=True)
        self._writer.close()
        described = [
            [name, str(self._schema.field(name).type), self._digests[name].hexdigest()] for name in self._dtypes
        ]
        digest = digest_of({"schema": SCHEMA, "n_rows": self._n_rows, "columns": described})
        self._sink.close()
        path = directory / f"{digest.removeprefix('sha256:')}.parquet"
        footer_sha256 = hashlib.sha256(_footer_of(self._staged)).hexdigest()
        replace_by_file(path, self._staged)
        return TableEntry(
            digest=digest,
            file=path.name,
            sha256=self._sink.sha256,
            n_rows=self._n_rows,
            footer_sha256=footer_sha256,
        )

    def _write_groups(self, *, last: bool) -> None:
        """Write the full row groups that wait; at the end also the one that is not full, or an empty one."""
        # A column leaves the pieces when it is joined: both together are twice a row group.
        joined = {name: np.concatenate([piece.pop(name) for piece in self._waiting] or [np.zeros(0, dtype)])
                  for name, dtype in self._dtypes.items()}  # fmt: skip
        n_rows, start = self._n_waiting, 0
        while n_rows - start >= ROW_GROUP or (last and (start < n_rows or not self._n_rows)):
            part = {name: values[start : start + ROW_GROUP] for name, values in joined.items()}
            for name, values in part.items():
                self._digests[name].update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
            self._writer.write_table(pa.table(part, schema=self._schema))
            # Parquet looks each value of a column up in a table of up to 30 MB, which the allocator would keep.
            pa.default_memory_pool().release_unused()
            start += ROW_GROUP
            if not self._n_rows:
                break
        # A view would keep the rows that were written.
        self._waiting = [{name: values[start:].copy() for name, values in joined.items()}]
        self._n_waiting = max(0, n_rows - start)


def _footer_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        file.seek(-footer_length(file.read()), os.SEEK_END)
        return file.read()
