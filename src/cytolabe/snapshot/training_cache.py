"""A training cache: cells of a stream written once in shuffled order, over its genes, to be read faster again and again.

Derived, never the source of truth: its name is the digest of snapshot, cells, genes and seed, so another question finds
another cache, and one that is lost is written again. Because the order on disk is shuffled, reading is sequential and
small pools shuffle well.

`packed` holds gaps and counts in a code that is fast to read (`snapshot.packed_cells`): about one and a half bytes a count,
whatever columns and counts there are. `raw` holds 16-bit columns and counts as they are: four bytes a count, mapped into
memory. How both are read and checked is told in `snapshot.cache_pools`.
"""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import Place, publish_directory, replace_file, sha256_of_file, staged_directory
from cytolabe.provenance import canonical_json, digest_of
from cytolabe.snapshot.cache_pools import (
    CELLS,
    CHECKED_BYTES,
    CHECKED_CELLS,
    ENTRIES,
    PackedPools,
    RawPools,
    crc_of,
)
from cytolabe.snapshot.epoch import Reader
from cytolabe.snapshot.layout import CACHE_FORMAT
from cytolabe.snapshot.minibatch import Minibatch
from cytolabe.snapshot.packed_cells import pack_cells, packed_room
from cytolabe.snapshot.stream import CellStream

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["cached_stream"]

_KINDS = ("packed", "raw")
_WRITTEN_CELLS = 256 * CHECKED_CELLS
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
    pools = PackedPools(snapshot, directory) if kind == "packed" else RawPools(snapshot, directory)
    if pools.genes != stream.genes:
        msg = f"cache {directory.name[:12]} is of other genes than its name says; remove it."
        raise IntegrityError(msg)
    weights = None
    if stream.weights is not None:
        weights = stream.weights[np.searchsorted(np.sort(stream.cells), pools.layout.cells)]
    options = replace(stream.options, pool_entries=min(stream.options.pool_entries, _POOL_ENTRIES))
    return CellStream(pools, options=options, snapshot_id=stream.snapshot_id, weights=weights, panels=stream.panels)


def _write(stream: CellStream, directory: Path, *, kind: str) -> None:
    with staged_directory(directory.parent) as staged:
        arrays = (_write_packed if kind == "packed" else _write_raw)(stream, staged)
        for name, values in arrays.items():
            replace_file(staged / f"{name}.bin", values.tobytes())
        document = {
            "format": CACHE_FORMAT,
            "kind": kind,
            "snapshot_id": stream.snapshot_id,
            "genes": list(stream.genes),
            "n_cells": len(arrays["rows"]),
            "files": {f"{name}.bin": sha256_of_file(staged / f"{name}.bin") for name in arrays},
        }
        replace_file(staged / "cache.json", canonical_json(document))
        publish_directory(staged, directory)


def _shuffled(stream: CellStream) -> CellStream:
    """Return the stream that gives the order on disk: its own, whatever else was asked of it."""
    options = replace(
        stream.options, layout="csr", reader=Reader(), minibatch_size=_WRITTEN_CELLS, weights=None, n_draws=None,
        label_codes={}, reuse_buffers=False, rank_rule=None,
    )  # fmt: skip
    return stream.with_options(options)


class _Described:
    """What is kept of each cell beside its counts, collected minibatch by minibatch."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._totals: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []

    def add(self, minibatch: Minibatch) -> None:
        """Take the cells of a minibatch, which may be overwritten afterwards."""
        self._rows.append(minibatch.rows.copy())
        self._totals.append(minibatch.n_counts.copy())
        self._lengths.append(np.diff(minibatch.indptr))

    def arrays(self, checks: list[int]) -> dict[str, np.ndarray]:
        """Return the files that both kinds have."""
        return {
            "rows": np.concatenate(self._rows).astype("<i8"),
            "totals": np.concatenate(self._totals).astype("<i8"),
            "indptr": np.cumsum(np.concatenate([[0], *self._lengths])).astype("<i8"),
            "crc32c": np.array(checks, dtype="<u4"),
        }


def _write_packed(stream: CellStream, staged: Path) -> dict[str, np.ndarray]:
    described, checks, sizes = _Described(), list[int](), [np.zeros(1, dtype=np.int64)]
    with (staged / CELLS).open("wb") as out:
        for minibatch in _shuffled(stream):
            packed, offsets = _packed(minibatch)
            # Every minibatch but the last one has whole blocks: no block lies across two of them.
            borders = np.append(offsets[:-1:CHECKED_CELLS], offsets[-1]).tolist()
            checks += [crc_of(packed[low:high].tobytes()) for low, high in itertools.pairwise(borders)]
            out.write(packed.data)
            sizes.append(np.diff(offsets))
            described.add(minibatch)
    return {**described.arrays(checks), "offsets": np.cumsum(np.concatenate(sizes)).astype("<i8")}


def _packed(minibatch: Minibatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of the cells of a minibatch, and where each begins in them (one more than cells)."""
    offsets = np.empty(minibatch.n_cells + 1, dtype=np.int64)
    packed = np.empty(packed_room(len(minibatch.counts), minibatch.n_cells, minibatch.n_genes), dtype=np.uint8)
    failed = pack_cells((minibatch.indptr, minibatch.columns, minibatch.counts), packed, offsets)
    if failed >= 0:
        msg = f"the genes of cell {minibatch.rows[failed]} do not ascend; a packed cache holds gaps between genes."
        raise IntegrityError(msg)
    return packed[: offsets[-1]], offsets


def _write_raw(stream: CellStream, staged: Path) -> dict[str, np.ndarray]:
    if len(stream.genes) > _NARROW:
        msg = f"{len(stream.genes):,} genes need more than 16 bits; use a packed cache."
        raise UsageError(msg)
    described, checks = _Described(), list[int]()
    with (staged / ENTRIES).open("wb") as out:
        pending = b""
        for minibatch in _shuffled(stream):
            if minibatch.counts.max(initial=0) >= _NARROW:
                msg = f"a count is {minibatch.counts.max():,}; a raw cache holds 16 bits. Use a packed one."
                raise UsageError(msg)
            pairs = np.empty((len(minibatch.counts), 2), dtype="<u2")
            pairs[:, 0], pairs[:, 1] = minibatch.columns, minibatch.counts
            described.add(minibatch)
            pending += pairs.tobytes()
            whole = len(pending) // CHECKED_BYTES * CHECKED_BYTES
            checks += [crc_of(pending[low : low + CHECKED_BYTES]) for low in range(0, whole, CHECKED_BYTES)]
            out.write(pending[:whole])
            pending = pending[whole:]
        checks += [crc_of(pending)] if pending else []
        out.write(pending)
    return described.arrays(checks)
