"""A training cache: cells of a stream written once in shuffled order, over its genes, to be read faster again and again.

Derived, never the source of truth: its name is the digest of snapshot, cells, genes and seed, so another question finds
another cache, and one that is lost is written again. Because the order on disk is shuffled, reading is sequential and
small pools shuffle well.

`packed` holds partitions (`store.partitions`) whose features are the genes of the stream: about a byte a count, checked by
crc32c as it is read. `raw` holds 16-bit columns and counts as they are, four bytes a count, mapped into memory; every
mebibyte has a crc32c that is checked before it is used first.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import google_crc32c
import numpy as np

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import Place, publish_directory, read_verified, replace_file, sha256_of_file, staged_directory
from cytolabe.provenance import canonical_json, digest_of
from cytolabe.records import Block
from cytolabe.snapshot.epoch import CellLayout, Reader
from cytolabe.snapshot.pools import Pool, cell_keys
from cytolabe.snapshot.stream import CellStream
from cytolabe.snapshot.stream_kernels import ASCENDING, IDENTITY, SCATTERED
from cytolabe.store.partitions import Partition, partition_path, verify_partition, write_partitions

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["CACHE_FORMAT", "cached_stream"]

CACHE_FORMAT = "cytolabe/training-cache/1"
Kind = Literal["packed", "raw"]
_KINDS = ("packed", "raw")
_CRC_BYTES = 1 << 20
_UNIT_CELLS = 64
_WRITTEN_CELLS = 4096
_POOL_ENTRIES = 8_000_000
_NARROW = 1 << 16


def cached_stream(snapshot: "Snapshot", stream: CellStream, *, folder: Place, kind: str = "packed") -> CellStream:
    """Return a stream over the cells of another one that reads from a cache, which is written where there is none.

    Parameters
    ----------
    stream
        What is cached: its cells, genes and seed. Layout, weights, readers and sizes are those of the new stream, too.
    folder
        Where caches lie.
    kind
        `packed` or `raw`.

    Raises
    ------
    UsageError
        If the kind is unknown, the stream is of another snapshot, or `raw` is asked for counts or genes beyond 16 bits.
    IntegrityError
        If the cache is damaged; remove its directory, and it is written again.
    """
    if kind not in _KINDS or not isinstance(folder, Path):
        msg = f"a training cache is {' or '.join(_KINDS)} and lies on a local disk, not {kind!r} in {folder}."
        raise UsageError(msg)
    if stream.snapshot_id != snapshot.snapshot_id:
        msg = (
            f"the stream is of snapshot {stream.snapshot_id[:19]}, not of {snapshot.snapshot_id[:19]}: positions of the one "
            "are other cells in the other. Ask the snapshot that the stream was made from."
        )
        raise UsageError(msg)
    key = digest_of([CACHE_FORMAT, kind, stream.content_key()])
    directory = folder / key.removeprefix("sha256:")
    if not directory.exists():
        _write(stream, directory, kind=kind)
    pools = _PackedPools(snapshot, directory) if kind == "packed" else _RawPools(snapshot, directory)
    if pools.genes != stream.genes:
        msg = f"cache {directory.name[:12]} is of other genes than its name says; remove it."
        raise IntegrityError(msg)
    weights = None
    if stream.weights is not None:
        weights = stream.weights[np.searchsorted(np.sort(stream.cells), pools.layout.cells)]
    options = replace(stream.options, pool_entries=min(stream.options.pool_entries, _POOL_ENTRIES))
    return CellStream(pools, options=options, snapshot_id=stream.snapshot_id, weights=weights)


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(stream: CellStream, directory: Path, *, kind: str) -> None:
    with staged_directory(directory.parent) as staged:
        rows, totals = (_write_packed if kind == "packed" else _write_raw)(stream, staged)
        replace_file(staged / "rows.bin", rows.astype("<i8").tobytes())
        replace_file(staged / "totals.bin", totals.astype("<i8").tobytes())
        hashed = {name: sha256_of_file(staged / name) for name in ("rows.bin", "totals.bin")}
        if kind == "raw":
            hashed |= {name: sha256_of_file(staged / name) for name in ("indptr.bin", "crc32c.bin")}
        partitions = sorted(path.name for path in staged.iterdir() if path.is_dir())
        document = {
            "format": CACHE_FORMAT,
            "kind": kind,
            "snapshot_id": stream.snapshot_id,
            "genes": list(stream.genes),
            "n_cells": len(rows),
            "files": hashed,
            "partitions": [
                [name, sha256_of_file(staged / name / "zarr.json")] for name in _in_order(staged, partitions)
            ],
        }
        replace_file(staged / "cache.json", canonical_json(document))
        publish_directory(staged, directory)


def _in_order(staged: Path, partitions: Sequence[str]) -> list[str]:
    """Return the partitions by their first cell, whose name is its place in the cache."""
    first = {name: int(Partition(staged / name).cell_names[0]) for name in partitions}
    return sorted(partitions, key=first.__getitem__)


def _shuffled(stream: CellStream) -> CellStream:
    """Return the stream that gives the order on disk: its own, whatever else was asked of it."""
    options = replace(
        stream.options, layout="csr", reader=Reader(), minibatch_size=_WRITTEN_CELLS, weights=None, n_draws=None,
        label_codes={}, reuse_buffers=False, rank_rule=None,
    )  # fmt: skip
    return stream.with_options(options)


def _write_packed(stream: CellStream, staged: Path) -> tuple[np.ndarray, np.ndarray]:
    rows, totals = [], []

    def blocks() -> Iterator[Block]:
        start = 0
        for minibatch in _shuffled(stream):
            rows.append(minibatch.rows)
            totals.append(minibatch.n_counts)
            names = tuple(str(start + number) for number in range(minibatch.n_cells))
            yield Block(dataset_id="cache", start=start, cell_names=names, counts=minibatch.to_csr())
            start += minibatch.n_cells

    write_partitions(staged, blocks(), dataset_id="cache", features=stream.genes)
    return np.concatenate(rows), np.concatenate(totals)


def _write_raw(stream: CellStream, staged: Path) -> tuple[np.ndarray, np.ndarray]:
    if len(stream.genes) > _NARROW:
        msg = f"{len(stream.genes):,} genes need more than 16 bits; use a packed cache."
        raise UsageError(msg)
    rows, totals, lengths, checks = [], [], [], []
    with (staged / "entries.bin").open("wb") as out:
        pending = b""
        for minibatch in _shuffled(stream):
            if minibatch.counts.max(initial=0) >= _NARROW:
                msg = f"a count is {minibatch.counts.max():,}; a raw cache holds 16 bits. Use a packed one."
                raise UsageError(msg)
            pairs = np.empty((len(minibatch.counts), 2), dtype="<u2")
            pairs[:, 0], pairs[:, 1] = minibatch.columns, minibatch.counts
            rows.append(minibatch.rows)
            totals.append(minibatch.n_counts)
            lengths.append(np.diff(minibatch.indptr))
            pending += pairs.tobytes()
            whole = len(pending) // _CRC_BYTES * _CRC_BYTES
            checks += [_crc(pending[low : low + _CRC_BYTES]) for low in range(0, whole, _CRC_BYTES)]
            out.write(pending[:whole])
            pending = pending[whole:]
        checks += [_crc(pending)] if pending else []
        out.write(pending)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    replace_file(staged / "indptr.bin", indptr.astype("<i8").tobytes())
    replace_file(staged / "crc32c.bin", np.array(checks, dtype="<u4").tobytes())
    return np.concatenate(rows), np.concatenate(totals)


def _crc(content: bytes) -> int:
    return int(google_crc32c.value(content))


# --- reading ----------------------------------------------------------------------------------------------------------


class _CachePools:
    """What both kinds share: which cells they hold, in which order."""

    def __init__(self, snapshot: "Snapshot", directory: Path) -> None:
        self._snapshot = snapshot
        self._directory = directory
        try:
            self._document = json.loads((directory / "cache.json").read_bytes())
            is_known = self._document["format"] == CACHE_FORMAT
            self.genes = tuple(self._document["genes"])
            files: dict[str, str] = self._document["files"]
        except (OSError, ValueError, KeyError, TypeError):
            is_known, files = False, {}
        if not is_known:
            msg = f"cache {directory.name[:12]} has no readable cache.json; remove the directory, and it is written again."
            raise IntegrityError(msg)
        self._content = {name: read_verified(directory / name, sha256) for name, sha256 in files.items()}
        self._rows = self._array("rows.bin")
        self._totals = self._array("totals.bin")
        self.dataset_of_cell = snapshot.locate(self._rows)[0]

    def keys_of(self, positions: np.ndarray) -> np.ndarray:
        """Return a 64-bit key of each cell."""
        return cell_keys(self._snapshot, positions)

    def _array(self, name: str) -> np.ndarray:
        return np.frombuffer(self._content[name], dtype="<i8").astype(np.int64)


class _PackedPools(_CachePools):
    """Partitions in shuffled order."""

    def __init__(self, snapshot: "Snapshot", directory: Path) -> None:
        super().__init__(snapshot, directory)
        self._partitions = []
        for name, root_sha256 in self._document["partitions"]:
            path = partition_path(directory, name)
            read_verified(path / "zarr.json", root_sha256)
            self._partitions.append(Partition(path))
        lengths = [np.diff(partition.indptr) for partition in self._partitions]
        entries = np.concatenate(lengths)
        if len(entries) != len(self._rows):
            msg = f"cache {directory.name[:12]} holds {len(entries)} cells and names {len(self._rows)}; remove it."
            raise IntegrityError(msg)
        self._first = np.cumsum([0, *(partition.n_cells for partition in self._partitions)])
        units = np.arange(0, len(entries) + _UNIT_CELLS, _UNIT_CELLS).clip(max=len(entries))
        self.layout = CellLayout(self._rows, np.unique(np.concatenate([units, self._first])), entries)
        place_of = {gene: place for place, gene in enumerate(self.genes)}
        columns = np.array([place_of[gene] for gene in self._partitions[0].features], dtype=np.int32)
        is_same = np.array_equal(columns, np.arange(len(columns)))
        kind = IDENTITY if is_same else ASCENDING if (np.diff(columns) >= 0).all() else SCATTERED
        self._map = columns[None, :], np.array([kind], dtype=np.int8)
        self._free: list[tuple[np.ndarray, np.ndarray]] = []

    def read(self, draws: np.ndarray) -> Pool:
        """Decode the cells behind draws."""
        places, cell_of_draw = np.unique(draws, return_inverse=True)
        n_entries = int(self.layout.entries[places].sum())
        columns, counts = self._buffers(n_entries)
        starts = np.zeros(len(places) + 1, dtype=np.int64)
        cuts = np.searchsorted(places, self._first)
        for number, partition in enumerate(self._partitions):
            low, high = int(cuts[number]), int(cuts[number + 1])
            begin = int(starts[low])
            cells = places[low:high] - self._first[number]
            own = partition.decode_cells(cells, columns=columns[begin:], counts=counts[begin:])
            starts[low : high + 1] = begin + own
        return Pool(
            columns=columns,
            counts=counts,
            starts=starts[:-1],
            stops=starts[1:],
            totals=self._totals[places],
            maps=(self._map[0], np.zeros(len(places), dtype=np.int32), self._map[1]),
            cell_of_draw=cell_of_draw.ravel(),
            rows_of_draw=self._rows[draws],
        )

    def give_back(self, pool: Pool) -> None:
        """Let the arrays of a pool be filled again."""
        self._free.append((pool.columns, pool.counts))

    def verify(self) -> bool:
        """Tell whether every partition is what its name says."""
        return not any(verify_partition(partition.directory) for partition in self._partitions)

    def _buffers(self, n_entries: int) -> tuple[np.ndarray, np.ndarray]:
        while self._free:
            columns, counts = self._free.pop()
            if len(columns) >= n_entries:
                return columns, counts
        room = n_entries + n_entries // 8
        return np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.uint32)


class _RawPools(_CachePools):
    """Pairs of column and count, mapped into memory."""

    def __init__(self, snapshot: "Snapshot", directory: Path) -> None:
        super().__init__(snapshot, directory)
        self._indptr = self._array("indptr.bin")
        self._checks = np.frombuffer(self._content["crc32c.bin"], dtype="<u4")
        self._is_checked = np.zeros(len(self._checks), dtype=bool)
        self._lock = threading.Lock()
        path = directory / "entries.bin"
        n_bytes = 4 * int(self._indptr[-1])
        if not path.is_file() or path.stat().st_size != n_bytes or len(self._indptr) != len(self._rows) + 1:
            msg = f"entries of cache {directory.name[:12]} are missing or cut off; remove the cache, and it is written again."
            raise IntegrityError(msg)
        shape = (int(self._indptr[-1]), 2)
        self._entries = (
            np.memmap(path, dtype="<u2", mode="r", shape=shape) if n_bytes else np.zeros((0, 2), dtype="<u2")
        )
        n_cells = len(self._rows)
        units = np.unique(np.arange(0, n_cells + _UNIT_CELLS, _UNIT_CELLS).clip(max=n_cells))
        self.layout = CellLayout(self._rows, units, np.diff(self._indptr))
        self._map = np.zeros((1, 1), dtype=np.int32), np.array([IDENTITY], dtype=np.int8)

    def read(self, draws: np.ndarray) -> Pool:
        """Return the cells behind draws where they lie; what is used for the first time is checked first."""
        self._check(np.unique(draws))
        flat = np.asarray(self._entries)
        return Pool(
            columns=flat[:, 0],
            counts=flat[:, 1],
            starts=self._indptr[draws],
            stops=self._indptr[draws + 1],
            totals=self._totals[draws],
            maps=(self._map[0], np.zeros(len(draws), dtype=np.int32), self._map[1]),
            cell_of_draw=np.arange(len(draws)),
            rows_of_draw=self._rows[draws],
        )

    def give_back(self, pool: Pool) -> None:
        """Nothing was taken."""

    def _check(self, places: np.ndarray) -> None:
        low = 4 * self._indptr[places] // _CRC_BYTES
        high = np.maximum(4 * self._indptr[places + 1] - 1, 0) // _CRC_BYTES
        needed = np.unique(
            np.concatenate([low, high, *([np.arange(a, b) for a, b in zip(low, high, strict=True) if b > a + 1])])
        )
        flat = self._entries.reshape(-1).view(np.uint8)
        with self._lock:
            for number in needed[needed < len(self._checks)].tolist():
                if self._is_checked[number]:
                    continue
                if _crc(flat[number * _CRC_BYTES : (number + 1) * _CRC_BYTES].tobytes()) != self._checks[number]:
                    msg = (
                        f"mebibyte {number} of cache {self._directory.name[:12]} has another crc32c than was written: its "
                        "bytes were changed. Remove the cache, and it is written again."
                    )
                    raise IntegrityError(msg)
                self._is_checked[number] = True
