"""Reading training caches (`snapshot.training_cache`): their cells, pool by pool, checked before they are used.

A packed cache is read by the block of sixteen cells, each with a crc32c that is checked whenever the block is read. A raw
one is mapped into memory; every mebibyte has a crc32c that is checked before it is used first.
"""

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from cytolabe.errors import IntegrityError
from cytolabe.files import read_verified
from cytolabe.snapshot.epoch import CellLayout
from cytolabe.snapshot.layout import CACHE_FORMAT
from cytolabe.snapshot.packed_cells import read_blocks, unpack_cells
from cytolabe.snapshot.pools import DecodedPool, Entries, Pool, cell_keys
from cytolabe.snapshot.stream_kernels import IDENTITY
from cytolabe.store.native import is_native

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["CELLS", "CHECKED_BYTES", "CHECKED_CELLS", "ENTRIES", "PackedPool", "PackedPools", "RawPools", "crc_of"]

CELLS, ENTRIES = "cells.bin", "entries.bin"
CHECKED_BYTES = 1 << 20
"""What of a raw cache has one crc32c."""
CHECKED_CELLS = 16
"""Cells of a packed cache that have one crc32c, and are read together."""
_UNIT_CELLS = 64
_REMEDY = "remove the directory of the cache, and it is written again."


def crc_of(content: bytes) -> int:
    """Return the crc32c of bytes."""
    return int(google_crc32c.value(content))


class _CachePools:
    """What both kinds share: which cells they hold, in which order."""

    def __init__(self, snapshot: "Snapshot", directory: Path) -> None:
        self._snapshot = snapshot
        self._directory = directory
        self._name = directory.name[:12]
        self.genes, files = _described(directory)
        self._content = {name: read_verified(directory / name, sha256) for name, sha256 in files.items()}
        self._rows = self._array("rows.bin")
        self._totals = self._array("totals.bin")
        self._indptr = self._array("indptr.bin")
        self._checks = np.frombuffer(self._content["crc32c.bin"], dtype="<u4")
        n_cells = len(self._rows)
        if len(self._indptr) != n_cells + 1:
            msg = f"cache {self._name} holds {len(self._indptr) - 1} cells and names {n_cells}; {_REMEDY}"
            raise IntegrityError(msg)
        units = np.unique(np.arange(0, n_cells + _UNIT_CELLS, _UNIT_CELLS).clip(max=n_cells))
        self.layout = CellLayout(self._rows, units, np.diff(self._indptr))
        self.dataset_of_cell = snapshot.locate(self._rows)[0]

    def keys_of(self, positions: np.ndarray) -> np.ndarray:
        """Return a 64-bit key of each cell."""
        return cell_keys(self._snapshot, positions)

    def _array(self, name: str) -> np.ndarray:
        return np.frombuffer(self._content[name], dtype="<i8").astype(np.int64)

    def _require_size(self, name: str, n_bytes: int) -> None:
        path = self._directory / name
        if not path.is_file() or path.stat().st_size != n_bytes:
            msg = f"{name} of cache {self._name} is missing or cut off; {_REMEDY}"
            raise IntegrityError(msg)


def _described(directory: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the genes of a cache and the SHA-256 of each file that is checked as a whole."""
    try:
        document = json.loads((directory / "cache.json").read_bytes())
        found, genes, files = document["format"], tuple(document["genes"]), dict(document["files"])
    except (OSError, ValueError, KeyError, TypeError):
        msg = f"cache {directory.name[:12]} has no readable cache.json; {_REMEDY}"
        raise IntegrityError(msg) from None
    if found != CACHE_FORMAT:
        msg = f"cache {directory.name[:12]} is of format {found!r}, and {CACHE_FORMAT} is read here; {_REMEDY}"
        raise IntegrityError(msg)
    return genes, files


class PackedPools(_CachePools):
    """Packed cells in shuffled order; a pool holds them packed, and they are decoded into the minibatch."""

    def __init__(self, snapshot: "Snapshot", directory: Path) -> None:
        super().__init__(snapshot, directory)
        self._offsets = self._array("offsets.bin")
        if len(self._offsets) != len(self._indptr) or len(self._checks) != -(-len(self._rows) // CHECKED_CELLS):
            msg = f"offsets or checks of cache {self._name} are not as many as its cells ask for; {_REMEDY}"
            raise IntegrityError(msg)
        self._require_size(CELLS, int(self._offsets[-1]))
        self._free: list[tuple[np.ndarray, ...]] = []

    def read(self, draws: np.ndarray) -> Pool:
        """Read the blocks in which the cells behind draws lie, and check each."""
        block_of_draw = draws // CHECKED_CELLS
        blocks, place_of_draw = np.unique(block_of_draw, return_inverse=True)
        starts = self._offsets[blocks * CHECKED_CELLS]
        stops = self._offsets[np.minimum((blocks + 1) * CHECKED_CELLS, len(self._rows))]
        targets = np.concatenate([[0], np.cumsum(stops - starts)])
        packed = self._buffer(int(targets[-1]))
        failed = self._fill((starts, stops, targets[:-1], self._checks[blocks]), packed)
        if failed >= 0:
            first = int(blocks[failed]) * CHECKED_CELLS
            msg = (
                f"cells {first} to {min(first + CHECKED_CELLS, len(self._rows)) - 1} of cache {self._name} cannot be read "
                f"or have another crc32c than was written: their bytes were changed; {_REMEDY}"
            )
            raise IntegrityError(msg)
        begins = self._offsets[draws] + (targets[:-1] - starts)[place_of_draw.ravel()]
        return PackedPool(
            arrays=(packed,),
            packed=packed,
            starts=begins,
            stops=begins + self._offsets[draws + 1] - self._offsets[draws],
            lengths=self.layout.entries[draws],
            n_genes=len(self.genes),
            cache_name=self._name,
            totals=self._totals[draws],
            cell_of_draw=np.arange(len(draws)),
            rows_of_draw=self._rows[draws],
        )

    def give_back(self, pool: Pool) -> None:
        """Let the array of a pool be filled again."""
        self._free.append(pool.arrays)

    def _fill(self, blocks: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], packed: np.ndarray) -> int:
        """Return -1, or which block could not be read or is not as written."""
        self._require_size(CELLS, int(self._offsets[-1]))
        handle = os.open(self._directory / CELLS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if is_native():
                return int(read_blocks(handle, blocks, packed))
            for number, (start, stop, target, check) in enumerate(
                zip(*(part.tolist() for part in blocks), strict=True)
            ):
                content = os.pread(handle, stop - start, start)
                if len(content) != stop - start or crc_of(content) != check:
                    return number
                packed[target : target + len(content)] = np.frombuffer(content, dtype=np.uint8)
        finally:
            os.close(handle)
        return -1

    def _buffer(self, n_bytes: int) -> np.ndarray:
        while self._free:
            (packed,) = self._free.pop()
            if len(packed) >= n_bytes:
                return packed
        return np.empty(n_bytes + n_bytes // 8, dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class PackedPool(Pool):
    """Packed cells. `starts` and `stops` bound each in `packed`, `lengths` are its entries; columns are genes."""

    packed: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    lengths: np.ndarray
    n_genes: int
    cache_name: str

    def room(self, picked: np.ndarray) -> int:
        """Return how many entries some cells have."""
        return int(self.lengths[picked].sum())

    def append(self, picked: np.ndarray, into: Entries, scratch: tuple[np.ndarray, np.ndarray]) -> int:
        """Append cells to a minibatch.

        Raises
        ------
        IntegrityError
            If the bytes of a cell are none, although they are as they were written.
        """
        del scratch  # no two features of a cache are one gene
        first, indptr, _, _ = into
        own = self.packed, self.starts, self.stops, self.lengths
        if unpack_cells(own, picked, (*into, self.n_genes)) >= 0:
            msg = f"a cell of cache {self.cache_name} is not packed as its format says; {_REMEDY}"
            raise IntegrityError(msg)
        return int(indptr[first + len(picked)])


class RawPools(_CachePools):
    """Pairs of column and count, mapped into memory."""

    def __init__(self, snapshot: "Snapshot", directory: Path) -> None:
        super().__init__(snapshot, directory)
        self._is_checked = np.zeros(len(self._checks), dtype=bool)
        self._lock = threading.Lock()
        n_bytes = 4 * int(self._indptr[-1])
        self._require_size(ENTRIES, n_bytes)
        shape = (int(self._indptr[-1]), 2)
        self._entries = (
            np.memmap(directory / ENTRIES, dtype="<u2", mode="r", shape=shape)
            if n_bytes
            else np.zeros((0, 2), dtype="<u2")
        )
        self._map = np.zeros((1, 1), dtype=np.int32), np.array([IDENTITY], dtype=np.int8)

    def read(self, draws: np.ndarray) -> Pool:
        """Return the cells behind draws where they lie; what is used for the first time is checked first."""
        self._check(np.unique(draws))
        flat = np.asarray(self._entries)
        return DecodedPool(
            arrays=(),
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
        low = 4 * self._indptr[places] // CHECKED_BYTES
        high = np.maximum(4 * self._indptr[places + 1] - 1, 0) // CHECKED_BYTES
        needed = np.unique(
            np.concatenate([low, high, *([np.arange(a, b) for a, b in zip(low, high, strict=True) if b > a + 1])])
        )
        flat = self._entries.reshape(-1).view(np.uint8)
        with self._lock:
            for number in needed[needed < len(self._checks)].tolist():
                if self._is_checked[number]:
                    continue
                if (
                    crc_of(flat[number * CHECKED_BYTES : (number + 1) * CHECKED_BYTES].tobytes())
                    != self._checks[number]
                ):
                    msg = (
                        f"mebibyte {number} of cache {self._name} has another crc32c than was written: its bytes "
                        f"were changed; {_REMEDY}"
                    )
                    raise IntegrityError(msg)
                self._is_checked[number] = True
