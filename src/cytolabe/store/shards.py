"""Shard files of one array: encoded whole, read by the range, decoded chunk by chunk outside of the interpreter's lock.

A shard is its chunks one behind the other and, at the end, where each lies: 16 bytes a chunk and a crc32c. The reader
finds the chunks that hold what is wanted, and a kernel reads neighboring ones together, checks each crc32c, decodes and
places (`store.gaps`). What the kernel does not do - 64-bit values, other compressors, other places than a local disk -
goes through Blosc, chunk by chunk. A chunk that is missing is an error: zarr would read it as zeros.

Large reads are cut among a few threads; the result does not depend on how many there are.
"""

import itertools
import os
import threading
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
from cytolabe.files import Place, read_range, size_of
from cytolabe.store.array_spec import ArraySpec
from cytolabe.store.gaps import place_gaps, place_values, read_chunks
from cytolabe.store.handles import AT_ONCE, OpenFile, OpenFiles
from cytolabe.store.native import decoder, is_native
from cytolabe.store.ranges import fetched

__all__ = ["Pieces", "ShardedArray", "checked", "encode_shard", "is_native_type", "sealed_frame", "shard_name"]

_ABSENT = np.uint64(2**64 - 1)
_CRC_BYTES = 4
_READ_BYTES = 1 << 20
"""What is read together; bounds what is held compressed."""
_CHUNKS_PER_TASK = 4
"""With fewer chunks for each, a second thread costs more than it brings."""


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
        frame = sealed_frame(_chunk(values[start : start + spec.chunk_values], spec), spec.compressor, spec.level)
        index[number] = offset, len(frame)
        offset += len(frame)
        frames.append(frame)
    content = index.tobytes()
    return b"".join([*frames, content, _crc(content)])


def sealed_frame(content: np.ndarray, compressor: str = "zstd", level: int = 1) -> bytes:
    """Compress an array and put its crc32c behind it."""
    frame: bytes = blosc.compress(content, compressor.encode(), level, blosc.SHUFFLE, 0)
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

    def __init__(self, directory: Place, spec: ArraySpec, *, where: str) -> None:
        self._directory = directory
        self.spec = spec
        self._where = where
        # Where each chunk starts and stops in its shard; filled for the shards whose index was read.
        self._bounds = np.empty((spec.n_chunks, 2), dtype=np.int64)
        self._indexed: set[int] = set()
        self._files = OpenFiles()

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
        chunks = self._needed(pieces)
        if not (is_native_type(self.spec.dtype) and out.dtype == np.uint32 and isinstance(self._directory, Path)):
            self._place_each(chunks, pieces, out)
            return
        n_tasks = max(1, min(_n_threads(), len(chunks) // _CHUNKS_PER_TASK))
        cuts = np.linspace(0, len(chunks), n_tasks + 1).astype(int).tolist()
        parts = [chunks[low:high] for low, high in itertools.pairwise(cuts)]
        tasks = [_threads().submit(self._place_native, part, pieces, out) for part in parts[1:]]
        self._place_native(parts[0], pieces, out)
        for task in tasks:
            task.result()

    def _needed(self, pieces: Pieces) -> np.ndarray:
        """Return the numbers of the chunks that hold what is wanted, ascending."""
        first = pieces.starts // self.spec.chunk_values
        stop = (pieces.stops - 1) // self.spec.chunk_values + 1
        if not len(first):
            return first
        # A piece begins in the chunk where the one before ends, or behind it: what is new of each piece.
        first = np.maximum(first, np.concatenate([[0], stop[:-1]]))
        lengths = np.maximum(stop - first, 0)
        offsets = np.cumsum(lengths) - lengths
        needed: np.ndarray = np.arange(int(lengths.sum())) + np.repeat(first - offsets, lengths)
        return needed

    def _place_native(self, chunks: np.ndarray, pieces: Pieces, out: np.ndarray) -> None:
        """Let the kernel read and decode, a number of files at a time that the process may open."""
        shards = chunks // self.spec.chunks_per_shard
        borders = np.flatnonzero(np.diff(shards, prepend=-1))[::AT_ONCE].tolist()
        for low, high in itertools.pairwise([*borders, len(chunks)]):
            self._place_open(chunks[low:high], pieces, out)

    def _place_open(self, chunks: np.ndarray, pieces: Pieces, out: np.ndarray) -> None:
        """Read and decode chunks of few files; what the kernel does not, Blosc does, or says what is wrong with it."""
        spec = self.spec
        mask = np.uint64(np.iinfo(spec.dtype).max if spec.is_delta else 0)
        wanted = mask, spec.n_values, pieces.starts, pieces.stops, pieces.targets, out
        starts, stops, files, file_of_chunk = self._located(chunks)
        handles = np.array([file.number for file in files], dtype=np.int64)[file_of_chunk]
        buffers = decoder(), *_buffers(spec.chunk_values)
        done = 0
        while done < len(chunks):
            left = chunks[done:], handles[done:], starts[done:], stops[done:]
            failed = read_chunks(left, buffers, wanted)
            if failed < 0:
                break
            self._place_each(chunks[done + failed : done + failed + 1], pieces, out)
            done += failed + 1

    def _located(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[OpenFile], np.ndarray]:
        """Return where chunks start and stop, the files that hold them, open, and the file of each chunk."""
        shards = chunks // self.spec.chunks_per_shard
        is_next = np.diff(shards, prepend=-1) > 0
        # Indexes first: what is wrong with a shard is told before it is opened.
        found = shards[is_next].tolist()
        for shard in found:
            self._read_index(shard)
        bounds = self._bounds[chunks]
        return bounds[:, 0], bounds[:, 1], [self._opened(shard) for shard in found], np.cumsum(is_next) - 1

    def _place_each(self, chunks: np.ndarray, pieces: Pieces, out: np.ndarray) -> None:
        """Decode chunk by chunk through Blosc: every type, every place, and damage with its name."""
        spec = self.spec
        chunk = np.empty(spec.chunk_values, dtype=spec.dtype)
        place = place_gaps if spec.is_delta and spec.dtype.kind == "u" else place_values
        for number, frame in zip(chunks.tolist(), self._frames(chunks), strict=True):
            self._inflate(frame, chunk, number)
            if spec.is_delta and spec.dtype.kind == "i":
                np.cumsum(chunk, out=chunk)
            origin = number * spec.chunk_values
            valid = chunk[: min(spec.chunk_values, spec.n_values - origin)]
            place(valid, (origin, pieces.starts, pieces.stops, pieces.targets), out)

    def _frames(self, chunks: np.ndarray) -> Iterator[bytes]:
        """Yield compressed chunks, each with its crc32c checked."""
        for number, content in zip(chunks.tolist(), self._contents(chunks), strict=True):
            try:
                frame = checked(content)
            except IntegrityError as error:
                msg = f"chunk {number} cannot be used, {error}"
                raise self._damaged(msg) from None
            yield frame

    def _contents(self, chunks: np.ndarray) -> Iterator[bytes]:
        """Yield the stored bytes of chunks; those of an object store are fetched together."""
        located = []
        for number in chunks.tolist():
            shard = number // self.spec.chunks_per_shard
            self._read_index(shard)
            start, stop = self._bounds[number].tolist()
            located.append((shard, start, stop))
        if isinstance(self._directory, Path):
            yield from (self._range(shard, start, stop - start) for shard, start, stop in located)
            return
        try:
            yield from fetched([(self._directory / shard_name(shard), start, stop) for shard, start, stop in located])
        except IntegrityError as error:
            raise self._damaged(str(error)) from None

    def _inflate(self, frame: bytes, chunk: np.ndarray, number: int) -> None:
        try:
            if int.from_bytes(frame[4:8], "little") != chunk.nbytes:
                msg = f"chunk {number} holds another number of bytes than a chunk does."
                raise self._damaged(msg)
            blosc.decompress(frame, chunk)
        except (ValueError, RuntimeError, TypeError) as error:
            msg = f"chunk {number} cannot be decoded ({error})."
            raise self._damaged(msg) from error

    def _read_index(self, shard: int) -> None:
        """Read where each chunk of a shard starts and stops, unless that is known."""
        if shard not in self._indexed:
            n_bytes = 16 * self.spec.chunks_per_shard + _CRC_BYTES
            size = self._size(shard)
            try:
                content = checked(self._range(shard, size - n_bytes, n_bytes) if size >= n_bytes else b"")
            except IntegrityError as error:
                msg = f"the index of shard {shard} cannot be used, {error}"
                raise self._damaged(msg) from None
            index = np.frombuffer(content, dtype="<u8").reshape(-1, 2)
            # Chunks behind the last value of the array are the only ones that may be absent.
            first = shard * self.spec.chunks_per_shard
            index = index[: self.spec.n_chunks - first]
            if (index[:, 0] == _ABSENT).any():
                number = first + int(np.argmax(index[:, 0] == _ABSENT))
                msg = f"chunk {number} is missing; a missing chunk is never read as zeros."
                raise self._damaged(msg)
            if (index > size).any() or (index.sum(axis=1) > size - n_bytes).any():
                msg = f"the index of shard {shard} points outside of it."
                raise self._damaged(msg)
            self._bounds[first : first + len(index)] = np.cumsum(index.astype(np.int64), axis=1)
            self._indexed.add(shard)

    def _size(self, shard: int) -> int:
        try:
            return size_of(self._directory / shard_name(shard))
        except FileNotFoundError:
            msg = f"shard {shard} is missing; a missing chunk is never read as zeros."
            raise self._damaged(msg) from None

    def _opened(self, shard: int) -> OpenFile:
        try:
            return self._files.opened(f"{self._directory}/{shard_name(shard)}")
        except FileNotFoundError:
            msg = f"shard {shard} is missing; a missing chunk is never read as zeros."
            raise self._damaged(msg) from None

    def _range(self, shard: int, offset: int, length: int) -> bytes:
        try:
            content = read_range(self._directory / shard_name(shard), offset, length)
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


_OWN = threading.local()


def _buffers(chunk_values: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return this thread's buffers: for what is read together, for the bytes of a chunk, and for its values."""
    if getattr(_OWN, "chunk_values", 0) != chunk_values:
        _OWN.chunk_values = chunk_values
        _OWN.buffers = (
            np.empty(_READ_BYTES + 8 * chunk_values, dtype=np.uint8),
            np.empty(4 * chunk_values, dtype=np.uint8),
            np.empty(chunk_values, dtype=np.uint32),
        )
    buffers: tuple[np.ndarray, np.ndarray, np.ndarray] = _OWN.buffers
    return buffers


def is_native_type(dtype: np.dtype) -> bool:
    """Tell whether chunks of a type are decoded by the kernel."""
    return dtype.kind == "u" and dtype.itemsize <= 4 and is_native()


def _n_threads() -> int:
    return min(8, len(os.sched_getaffinity(0)))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_n_threads(), thread_name_prefix="cytolabe-decode")


# A forked child, as a loader's worker is, has the object but none of its threads.
os.register_at_fork(after_in_child=_threads.cache_clear)
