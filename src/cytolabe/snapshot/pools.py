"""Cells of a snapshot decoded a pool at a time, wherever they lie: the partitions behind a stream."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from cytolabe.errors import UsageError
from cytolabe.snapshot.epoch import CellLayout
from cytolabe.snapshot.stream_kernels import ASCENDING, IDENTITY, SCATTERED, assemble, room_of, totals_of
from cytolabe.store.partitions import Partition

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["DecodedPool", "Entries", "Pool", "PoolReader", "Pools", "cell_keys"]

_LARGEST_TOTAL = 2**31 - 1
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


Entries = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""Arrays of a minibatch that is being made: number of its next cell, indptr, columns, counts."""


@dataclass(frozen=True, kw_only=True)
class Pool(ABC):
    """Cells that were read together, decoded or not.

    `cell_of_draw` and `rows_of_draw` give for each draw its cell in the pool and its position in `snapshot.cells`;
    `totals` the counts of each cell; `arrays` are filled again when the pool is given back.
    """

    arrays: tuple[np.ndarray, ...]
    totals: np.ndarray
    cell_of_draw: np.ndarray
    rows_of_draw: np.ndarray

    @abstractmethod
    def room(self, picked: np.ndarray) -> int:
        """Return how many entries some cells have, before features of one gene are added up."""

    @abstractmethod
    def append(self, picked: np.ndarray, into: Entries, scratch: tuple[np.ndarray, np.ndarray]) -> int:
        """Append cells to a minibatch, and return how many entries it has then; see `Buffers.gene_scratch`."""


@dataclass(frozen=True, kw_only=True)
class DecodedPool(Pool):
    """Decoded cells. `starts` and `stops` bound each in `columns` (own features) and `counts`.

    `maps` is (columns of features, map of each cell, how each map is applied).
    """

    columns: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    maps: tuple[np.ndarray, np.ndarray, np.ndarray]

    def room(self, picked: np.ndarray) -> int:
        """Return how many entries some cells have, before features of one gene are added up."""
        return int(room_of((self.starts, self.stops), picked))

    def append(self, picked: np.ndarray, into: Entries, scratch: tuple[np.ndarray, np.ndarray]) -> int:
        """Append cells to a minibatch, features turned into genes."""
        own = self.columns, self.counts, self.starts, self.stops, picked
        return int(assemble(own, (*self.maps, *scratch), into))


@runtime_checkable
class Pools(Protocol):
    """Where a stream takes its cells from: an atlas, or a cache of it."""

    genes: tuple[str, ...]
    layout: CellLayout
    dataset_of_cell: np.ndarray

    def read(self, draws: np.ndarray) -> Pool:
        """Read the cells behind draws (places in the layout, in any order, repeated at will)."""
        ...

    def give_back(self, pool: Pool) -> None:
        """Let the arrays of a pool be filled again."""
        ...

    def keys_of(self, positions: np.ndarray) -> np.ndarray:
        """Return a 64-bit key of each cell."""
        ...


class PoolReader:
    """Reads pools of the cells of one stream.

    Raises
    ------
    UsageError
        If there are no cells, or a position is named twice or is none.
    UnmeasuredGeneError
        If a data set among the cells does not measure one of the genes.
    """

    def __init__(
        self,
        snapshot: "Snapshot",
        cells: Int[np.ndarray, " cells"] | None,
        *,
        genes: Sequence[str] | None,
        unmeasured: str,
        unit_chunks: int,
    ) -> None:
        positions = _positions(snapshot, cells)
        datasets, rows = snapshot.locate(positions)
        names = list(snapshot.entries)
        present = [names[number] for number in np.unique(datasets).tolist()]
        self.genes = tuple(_shared_genes(snapshot, present) if genes is None else genes)
        self.dataset_of_cell = datasets
        self._rows = rows
        self._snapshot = snapshot
        self._maps, map_of_dataset, self._is_ascending = _gene_maps(
            snapshot, present, self.genes, unmeasured=unmeasured
        )
        maps = np.zeros(len(names), dtype=np.int32)
        maps[[names.index(name) for name in present]] = map_of_dataset
        self._map_of_cell = maps[datasets]
        self._parts, part_of_cell, units, entries = _parts(snapshot, names, (datasets, rows), unit_chunks=unit_chunks)
        self._part_starts = np.searchsorted(part_of_cell, np.arange(len(self._parts) + 1))
        borders = np.flatnonzero((np.diff(units) != 0) | (np.diff(part_of_cell) != 0)) + 1
        self.layout = CellLayout(positions, np.concatenate([[0], borders, [len(positions)]]), entries)
        self._free: list[tuple[np.ndarray, ...]] = []

    def read(self, draws: Int[np.ndarray, " draws"]) -> Pool:
        """Decode the cells behind draws (places in the layout, in any order, repeated at will)."""
        places, cell_of_draw = np.unique(draws, return_inverse=True)
        n_entries = int(self.layout.entries[places].sum())
        columns, counts = self._buffers(n_entries)
        starts = np.empty(len(places) + 1, dtype=np.int64)
        starts[0] = 0
        cuts = np.searchsorted(places, self._part_starts)
        for number, (low, high) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)):
            if low == high:
                continue
            partition, first_row = self._parts[number]
            begin = int(starts[low])
            rows = self._rows[places[low:high]] - first_row
            own = _decoded(partition, rows, columns=columns[begin:], counts=counts[begin:])
            starts[low : high + 1] = begin + own
        totals = np.empty(len(places), dtype=np.int64)
        # Of the whole cell, because several features of one gene are added up: no sum can be larger.
        if totals_of((starts[:-1], starts[1:]), counts, totals) > _LARGEST_TOTAL:
            worst = self.layout.cells[places[int(np.argmax(totals))]]
            msg = (
                f"a cell has over {_LARGEST_TOTAL:,} counts ({self._snapshot.cells['cell_id'].iloc[worst]}); streams hold "
                f"32 bits. Leave such cells out (n_counts <= {_LARGEST_TOTAL}), or read them with `snapshot.counts`."
            )
            raise UsageError(msg)
        return DecodedPool(
            arrays=(columns, counts),
            columns=columns,
            counts=counts,
            starts=starts[:-1],
            stops=starts[1:],
            totals=totals,
            maps=(self._maps, self._map_of_cell[places], self._is_ascending),
            cell_of_draw=cell_of_draw.ravel(),
            rows_of_draw=self.layout.cells[draws],
        )

    def give_back(self, pool: Pool) -> None:
        """Let the arrays of a pool be filled again."""
        self._free.append(pool.arrays)

    def keys_of(self, positions: Int[np.ndarray, " cells"]) -> np.ndarray:
        """Return a 64-bit key of each cell that depends on its data set and row in the source alone."""
        return cell_keys(self._snapshot, positions)

    def _buffers(self, n_entries: int) -> tuple[np.ndarray, np.ndarray]:
        while self._free:
            columns, counts = self._free.pop()
            if len(columns) >= n_entries:
                return columns, counts
        room = n_entries + n_entries // 8
        return np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.uint32)


def _decoded(partition: Partition, rows: np.ndarray, *, columns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Fill arrays with the entries of some cells; counts beyond 32 bits become the largest number, which is refused."""
    if partition.counts_dtype.itemsize <= counts.dtype.itemsize:
        return partition.decode_cells(rows, columns=columns, counts=counts)
    # One large count makes the whole partition wide; its other cells are as good as any.
    wide = partition.rows(rows)
    columns[: wide.nnz] = wide.indices
    counts[: wide.nnz] = np.minimum(wide.data, np.iinfo(counts.dtype).max)
    return np.asarray(wide.indptr, dtype=np.int64)


def _positions(snapshot: "Snapshot", cells: np.ndarray | None) -> np.ndarray:
    n_cells = snapshot.n_cells
    if cells is None:
        positions = np.arange(n_cells)
    else:
        positions = np.sort(cells.astype(np.int64))
        if len(positions) and (positions[0] < 0 or positions[-1] >= n_cells or not np.diff(positions).all()):
            msg = f"cells must be positions 0..{n_cells - 1} in `snapshot.cells`, each once."
            raise UsageError(msg)
    if not len(positions):
        msg = "there are no cells to stream: 0 cells match."
        raise UsageError(msg)
    return positions


def _shared_genes(snapshot: "Snapshot", dataset_ids: Sequence[str]) -> list[str]:
    return sorted(set.intersection(*(set(snapshot.measured_genes(name)) for name in dataset_ids)))


def _gene_maps(
    snapshot: "Snapshot", dataset_ids: Sequence[str], genes: Sequence[str], *, unmeasured: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct maps of own features to genes, the map of each data set, and how each map is applied."""
    distinct: dict[bytes, int] = {}
    maps: list[np.ndarray] = []
    numbers = []
    for dataset_id in dataset_ids:
        columns = snapshot.gene_columns(dataset_id, genes, skip_unmeasured=unmeasured == "skip").astype(np.int32)
        key = columns.tobytes()
        if key not in distinct:
            distinct[key] = len(maps)
            maps.append(columns)
        numbers.append(distinct[key])
    table = np.full((len(maps), max(len(columns) for columns in maps)), -1, dtype=np.int32)
    for number, columns in enumerate(maps):
        table[number, : len(columns)] = columns
    ascending = np.array([_kind_of(columns, len(genes)) for columns in maps], dtype=np.int8)
    return table, np.array(numbers, dtype=np.int32), ascending


def _kind_of(columns: np.ndarray, n_genes: int) -> int:
    """Return how a map is applied: a copy, entry by entry, or through a table (`stream_kernels`)."""
    if len(columns) == n_genes and np.array_equal(columns, np.arange(n_genes)):
        return IDENTITY
    return ASCENDING if (np.diff(columns[columns >= 0]) >= 0).all() else SCATTERED


def _parts(
    snapshot: "Snapshot", names: Sequence[str], place: tuple[np.ndarray, np.ndarray], *, unit_chunks: int
) -> tuple[list[tuple[Partition, int]], np.ndarray, np.ndarray, np.ndarray]:
    """Return the partitions with their first rows, and of each cell its partition, unit and number of entries."""
    datasets, rows = place
    parts: list[tuple[Partition, int]] = []
    part_of_cell, units, entries = (np.empty(len(rows), dtype=np.int64) for _ in range(3))
    borders = np.searchsorted(datasets, np.arange(len(names) + 1))
    for number, name in enumerate(names):
        low, high = int(borders[number]), int(borders[number + 1])
        for partition, first_row in snapshot.partitions(name) if low < high else ():
            own = low + np.searchsorted(rows[low:high], [first_row, first_row + partition.n_cells])
            inside = rows[own[0] : own[1]] - first_row
            part_of_cell[own[0] : own[1]] = len(parts)
            units[own[0] : own[1]] = partition.indptr[inside] // (unit_chunks * partition.chunk_values)
            entries[own[0] : own[1]] = partition.indptr[inside + 1] - partition.indptr[inside]
            parts.append((partition, first_row))
    return parts, part_of_cell, units, entries


def cell_keys(snapshot: "Snapshot", positions: Int[np.ndarray, " cells"]) -> np.ndarray:
    """Return a 64-bit key of each cell that depends on its data set and row in the source alone (splitmix64)."""
    names = [hashlib.sha256(name.encode()).digest()[:8] for name in snapshot.entries]
    keys_of_datasets = np.frombuffer(b"".join(names), dtype="<u8").astype(np.uint64)
    datasets, rows = snapshot.locate(positions)
    with np.errstate(over="ignore"):
        state = keys_of_datasets[datasets] + rows.astype(np.uint64)
        state = (state ^ (state >> np.uint64(30))) * _MIX[0]
        state = (state ^ (state >> np.uint64(27))) * _MIX[1]
        keys: np.ndarray = state ^ (state >> np.uint64(31))
    return keys
