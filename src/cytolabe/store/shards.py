"""Shard files of one array: encoded whole, read by the range, decoded chunk by chunk outside of the interpreter's lock.

A shard is its chunks one behind the other and, at the end, where each lies: 16 bytes a chunk and a crc32c. The reader
takes neighboring chunks in one range read, checks each crc32c, lets Blosc decode into a buffer that it uses again, and
hands the chunk to a kernel (`store.gaps`). A chunk that is missing is an error: zarr would read it as zeros.

Large reads are cut among a few threads; the result does not depend on how many there are.
"""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import google_crc32c
import numpy as np
from jaxtyping import Integer
from numcodecs import blosc

from cytolabe.errors import IntegrityError
from cytolabe.store.array_spec import ArraySpec
from cytolabe.store.gaps import place_gaps, place_values

__all__ = ["Pieces", "ShardedArray", "checked", "encode_shard", "sealed_frame", "shard_name"]

_ABSENT = np.uint64(2**64 - 1)
_CRC_BYTES = 4
_READ_CHUNKS = 64
"""Chunks of one range read; bounds what is held compressed."""
_PARALLEL_READS = 4
"""Below so many range reads a second thread costs more than it brings."""


def shard_name(number: int) -> str:
    """Return the name of a shard below its array."""
    return f"c/{number}"


def encode_shard(values: np.ndarray, spec: ArraySpec) -> bytes:
    """Encode the values of one shard; the last chunk is filled up with zeros, chunks beyond the end are left out."""
    values = np.ascontiguousarray(values, dtype=spec.dtype)
    index = np.full((spec.chunks_per_shard, 2), _ABSENT, dtype="<u8")
    frames = []
    offset = 0
    for number, start in enumerate(range(0, len(values), spec.chunk_values)):
        frame = sealed_frame(_chunk(values[start : start + spec.chunk_values], spec), spec.compressor)
        index[number] = offset, len(frame)
        offset += len(frame)
        frames.append(frame)
    content = index.tobytes()
    return b"".join([*frames, content, _crc(content)])


def sealed_frame(content: np.ndarray, compressor: str = "zstd") -> bytes:
    """Compress an array and put its crc32c behind it."""
    frame: bytes = blosc.compress(content, compressor.encode(), 1, blosc.SHUFFLE, 0)
    return frame + _crc(frame)


def checked(frame: bytes) -> bytes:
    """Return what stands before a crc32c, after it was found to be right.

    Raises
    ------
    IntegrityError
        If it is not.
    """
    content = frame[:-_CRC_BYTES]
    if len(frame) < _CRC_BYTES or _crc(content) != frame[-_CRC_BYTES:]:
        msg = "its crc32c is another than the stored one: its bytes were changed."
        raise IntegrityError(msg)
    return content


def _chunk(values: np.ndarray, spec: ArraySpec) -> np.ndarray:
    chunk = np.zeros(spec.chunk_values, dtype=spec.dtype)
    chunk[: len(values)] = values
    if spec.is_delta:
        chunk[1:] -= chunk[:-1].copy()
    return chunk


def _crc(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(_CRC_BYTES, "little")


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Ranges of positions of an array, ascending, not empty, apart from each other; `targets` is where each goes."""

    starts: Integer[np.ndarray, " pieces"]
    stops: Integer[np.ndarray, " pieces"]
    targets: Integer[np.ndarray, " pieces"]


class ShardedArray:
    """One stored array, read by ranges of positions.

    Parameters
    ----------
    directory
        Where the array lies: `zarr.json` and `c/<number>`.
    spec
        What its metadata say.
    where
        What errors call it.
    """

    def __init__(self, directory: Path, spec: ArraySpec, *, where: str) -> None:
        self._directory = directory
        self.spec = spec
        self._where = where
        self._indexes: dict[int, np.ndarray] = {}

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` up to `stop` in the stored type, gaps undone."""
        out = np.empty(stop - start, dtype=self.spec.dtype)
        if stop > start:
            ends = np.array([start]), np.array([stop]), np.array([0])
            self.gather(Pieces(starts=ends[0], stops=ends[1], targets=ends[2]), out)
        return out

    def gather(self, pieces: Pieces, out: np.ndarray) -> None:
        """Decode the chunks that the pieces touch, each once, and copy each piece to its place in `out`.

        Raises
        ------
        IntegrityError
            If a chunk is missing, or its bytes were changed.
        """
        reads = list(self._reads(pieces))
        n_tasks = min(_n_threads(), len(reads) // (_PARALLEL_READS // 2)) if len(reads) >= _PARALLEL_READS else 1
        if n_tasks <= 1:
            self._run(reads, pieces, out)
            return
        cuts = np.linspace(0, len(reads), n_tasks + 1).astype(int)
        tasks = [_threads().submit(self._run, reads[a:b], pieces, out) for a, b in itertools.pairwise(cuts)]
        for task in tasks:
            task.result()

    def _run(self, reads: list[tuple[int, int]], pieces: Pieces, out: np.ndarray) -> None:
        spec = self.spec
        chunk = np.empty(spec.chunk_values, dtype=spec.dtype)
        place = place_gaps if spec.is_delta and spec.dtype.kind == "u" else place_values
        for first, last in reads:
            for number, frame in enumerate(self._frames(first, last), start=first):
                origin = number * spec.chunk_values
                self._inflate(frame, chunk, number)
                if spec.is_delta and spec.dtype.kind == "i":
                    np.cumsum(chunk, out=chunk)
                valid = chunk[: min(spec.chunk_values, spec.n_values - origin)]
                place(valid, (origin, pieces.starts, pieces.stops, pieces.targets), out)

    def _reads(self, pieces: Pieces) -> Iterator[tuple[int, int]]:
        """Yield ranges of neighboring chunks, inside one shard each, that hold everything that is wanted."""
        first = pieces.starts // self.spec.chunk_values
        last = (pieces.stops - 1) // self.spec.chunk_values
        opens = np.flatnonzero(np.concatenate([[True], first[1:] > last[:-1] + 1])) if len(first) else np.zeros(0, int)
        closes = np.concatenate([opens[1:], [len(first)]]) - 1
        for low, high in zip(first[opens].tolist(), (last[closes] + 1).tolist() if len(opens) else [], strict=True):
            start = low
            while start < high:
                in_shard = (start // self.spec.chunks_per_shard + 1) * self.spec.chunks_per_shard
                stop = min(high, start + _READ_CHUNKS, in_shard)
                yield start, stop
                start = stop

    def _frames(self, first: int, last: int) -> list[bytes]:
        """Return the compressed chunks `first` to `last` of one shard, each with its crc32c checked."""
        shard, offset = divmod(first, self.spec.chunks_per_shard)
        entries = self._index(shard)[offset : offset + last - first]
        if (entries == _ABSENT).any():
            msg = f"chunk {first} is missing; a missing chunk is never read as zeros."
            raise self._damaged(msg)
        starts = entries[:, 0].astype(np.int64)
        stops = starts + entries[:, 1].astype(np.int64)
        low = int(starts.min())
        content = self._range(shard, low, int(stops.max()) - low)
        pairs = zip((starts - low).tolist(), (stops - low).tolist(), strict=True)
        try:
            return [checked(content[a:b]) for a, b in pairs]
        except IntegrityError as error:
            msg = f"a chunk of {first} to {last - 1} cannot be used, {error}"
            raise self._damaged(msg) from None

    def _inflate(self, frame: bytes, chunk: np.ndarray, number: int) -> None:
        try:
            if int.from_bytes(frame[4:8], "little") != chunk.nbytes:
                msg = f"chunk {number} holds another number of bytes than a chunk does."
                raise self._damaged(msg)
            blosc.decompress(frame, chunk)
        except (ValueError, RuntimeError, TypeError) as error:
            msg = f"chunk {number} cannot be decoded ({error})."
            raise self._damaged(msg) from error

    def _index(self, shard: int) -> np.ndarray:
        if shard not in self._indexes:
            n_bytes = 16 * self.spec.chunks_per_shard + _CRC_BYTES
            size = self._size(shard)
            try:
                content = checked(self._range(shard, size - n_bytes, n_bytes) if size >= n_bytes else b"")
            except IntegrityError as error:
                msg = f"the index of shard {shard} cannot be used, {error}"
                raise self._damaged(msg) from None
            index = np.frombuffer(content, dtype="<u8").reshape(-1, 2)
            present = index[index[:, 0] != _ABSENT]
            if (present > size).any() or (present.sum(axis=1) > size - n_bytes).any():
                msg = f"the index of shard {shard} points outside of it."
                raise self._damaged(msg)
            self._indexes[shard] = index
        return self._indexes[shard]

    def _size(self, shard: int) -> int:
        try:
            return (self._directory / shard_name(shard)).stat().st_size
        except FileNotFoundError:
            msg = f"shard {shard} is missing; a missing chunk is never read as zeros."
            raise self._damaged(msg) from None

    def _range(self, shard: int, offset: int, length: int) -> bytes:
        try:
            handle = os.open(self._directory / shard_name(shard), os.O_RDONLY)
            try:
                content = os.pread(handle, length, offset)
            finally:
                os.close(handle)
        except FileNotFoundError:
            msg = f"shard {shard} is missing; a missing chunk is never read as zeros."
            raise self._damaged(msg) from None
        if len(content) != length:
            msg = f"shard {shard} is cut off."
            raise self._damaged(msg)
        return content

    def _damaged(self, what: str) -> IntegrityError:
        msg = f"{self._where}: {what} Run `cytolabe verify`, then restore the file or ingest the source again."
        return IntegrityError(msg)


def _n_threads() -> int:
    return min(8, len(os.sched_getaffinity(0)))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_n_threads(), thread_name_prefix="cytolabe-decode")
