"""One-axis zarr arrays that grow while they are written and never answer with made-up zeros.

zarr reads a missing chunk as its fill value. For counts that would be a wrong number with a straight face, so
`StrictStore` turns a missing chunk into an error, every chunk carries a crc32c, and chunks that hold only zeros are
written like all others. The width of a value is not known before the last cell, so `GrowingArray` starts at one byte
and copies what it has, shard by shard, when a larger value comes; this happens at most three times.
"""

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec
from zarr.codecs.numcodecs import Delta
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from cytolabe.errors import IntegrityError

__all__ = ["GrowingArray", "StoredArray", "StrictStore", "quiet_zarr", "write_strings"]

CHUNK_VALUES = 1 << 16
SHARD_VALUES = 1 << 22


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence zarr's notes that the delta codec is an extension of the format: it is, by decision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        yield


class StrictStore(LocalStore):  # type: ignore[misc]
    """A directory in which a missing chunk is an error."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes under `key`; None only for metadata, whose absence zarr itself reports."""
        value = await super().get(key, prototype, byte_range)
        if value is None and not key.endswith((".json", ".zarray", ".zgroup", ".zattrs")):
            msg = f"{key} is missing in {self.root.name}; a missing chunk is never read as zeros."
            raise IntegrityError(msg)
        return value


class StoredArray:
    """A one-axis array that is read in runs; damage raises `IntegrityError`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._where = f"{name} of partition {directory.name[:12]}"
        with quiet_zarr(), self._damage_named():
            self._array = zarr.open_array(StrictStore(directory, read_only=True), path=name, mode="r")

    def __len__(self) -> int:
        """Return the number of values."""
        return int(self._array.shape[0])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` up to `stop`."""
        with quiet_zarr(), self._damage_named():
            return np.asarray(self._array[start:stop])

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            msg = f"{self._where}: {error} Run `cytolabe verify`, then restore the file or ingest the source again."
            raise IntegrityError(msg) from None
        except (ValueError, RuntimeError, TypeError, KeyError, OSError) as error:
            reason = str(error).split(". Stored", maxsplit=1)[0]
            msg = (
                f"{self._where} cannot be decoded ({reason}): its bytes were changed. "
                "Run `cytolabe verify`, then restore the file or ingest the source again."
            )
            raise IntegrityError(msg) from error


class GrowingArray:
    """Collects values and writes whole shards; holds at most one shard and what was appended last."""

    def __init__(self, group: Path, name: str, *, dtype: str, is_delta: bool) -> None:
        self._group = group
        self._name = name
        self._is_delta = is_delta
        self._pending: list[np.ndarray] = []
        self._n_pending = 0
        self._n_written = 0
        self._dtype = np.dtype(dtype)
        self._array = self._create(name)

    def append(self, values: np.ndarray) -> None:
        """Add values; unsigned values wider than the array so far widen it, without loss."""
        if values.size and self._dtype.kind == "u":
            # By name: numpy has two types of 8 bytes here, and zarr knows one.
            needed = np.dtype(f"<u{np.min_scalar_type(int(values.max())).itemsize}")
            if needed.itemsize > self._dtype.itemsize:
                self._widen(needed)
        self._pending.append(values.astype(self._dtype, casting="unsafe"))
        self._n_pending += values.size
        if self._n_pending >= SHARD_VALUES:
            self._flush(self._n_pending - self._n_pending % SHARD_VALUES)

    def finish(self) -> None:
        """Write what is left."""
        self._flush(self._n_pending)

    def _flush(self, n_values: int) -> None:
        if n_values == 0:
            return
        values = np.concatenate(self._pending)
        stop = self._n_written + n_values
        with quiet_zarr():
            self._array.resize((stop,))
            self._array[self._n_written : stop] = values[:n_values]
        self._n_written = stop
        # A copy, so that the tail does not keep the whole shard alive.
        self._pending = [values[n_values:].copy()]
        self._n_pending -= n_values

    def _widen(self, dtype: np.dtype) -> None:
        narrow, self._dtype = self._array, dtype
        wide = self._create(f"{self._name}-wide")
        with quiet_zarr():
            wide.resize((self._n_written,))
            for start in range(0, self._n_written, SHARD_VALUES):
                stop = min(start + SHARD_VALUES, self._n_written)
                wide[start:stop] = np.asarray(narrow[start:stop]).astype(dtype)
        shutil.rmtree(self._group / self._name)
        (self._group / f"{self._name}-wide").rename(self._group / self._name)
        with quiet_zarr():
            self._array = zarr.open_array(self._group / self._name, mode="r+", config={"write_empty_chunks": True})
        self._pending = [values.astype(dtype) for values in self._pending]

    def _create(self, name: str) -> zarr.Array:
        with quiet_zarr():
            return zarr.create_array(
                self._group / name,
                shape=(0,),
                dtype=self._dtype,
                chunks=(CHUNK_VALUES,),
                shards=(SHARD_VALUES,),
                filters=[Delta(dtype=self._dtype.str)] if self._is_delta else None,
                compressors=_compressors(),
                fill_value=0,
                zarr_format=3,
                config={"write_empty_chunks": True},
            )


def write_strings(path: Path, values: list[str]) -> None:
    """Write a list of strings as AnnData's `string-array`."""
    content = np.array(values, dtype=np.dtypes.StringDType())
    with quiet_zarr():
        array = zarr.create_array(
            path,
            shape=content.shape,
            dtype=content.dtype,
            chunks=(max(1, min(len(values), CHUNK_VALUES)),),
            compressors=_compressors(),
            zarr_format=3,
            attributes={"encoding-type": "string-array", "encoding-version": "0.2.0"},
            config={"write_empty_chunks": True},
        )
        if values:
            array[:] = content


def _compressors() -> list[object]:
    return [BloscCodec(cname="zstd", clevel=1, shuffle=BloscShuffle.shuffle), Crc32cCodec()]
