"""Partitions: the counts of up to 524,288 cells of one data set, written once and named by what they mean.

A partition is a directory that plain `anndata.read_zarr` opens: `X` as CSR (`data`, `indices`, `indptr`), `obs` and
`var` with nothing but names. Features are the data set's own, verbatim, ordered by unversioned id. Values take the
narrowest lossless width, indices are stored as gaps; chunks are Blosc (zstd 1, byte shuffle) with a crc32c, in
shards. The directory is named by the counts digest (`store.counts_digest`). The root `zarr.json` holds the SHA-256 of
every other file, and the entry that the writer returns holds the SHA-256 of `zarr.json`.

Chunks are regular in entries, so cells straddle them; the reader decodes each chunk that it needs once and places what
it holds (`store.shards`). `decode` fills arrays of the caller, for loops that read for hours; `rows` returns a matrix.
"""

import itertools
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Int, Integer
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import Place, list_files, read_verified, sha256_of_file
from cytolabe.records import Block, Finding
from cytolabe.store.arrays import open_array, read_strings
from cytolabe.store.counts_digest import CountsDigest, features_digest
from cytolabe.store.physical import (
    ROOT_NAME,
    PartitionEntry,
    file_findings,
    integrity_finding,
    partition_path,
    recorded_files,
)
from cytolabe.store.plan import PartitionPlan, read_plan, write_plan
from cytolabe.store.shards import Pieces
from cytolabe.store.writing import (
    MAX_CELLS,
    PartitionWriter,
    missing_shards,
    seal_partition,
    write_partitions,
    write_shards,
)

__all__ = [
    "MAX_CELLS",
    "Partition",
    "PartitionEntry",
    "PartitionPlan",
    "PartitionWriter",
    "missing_shards",
    "partition_path",
    "read_plan",
    "seal_partition",
    "verify_partition",
    "write_partitions",
    "write_plan",
    "write_shards",
]


class Partition:
    """A published partition, read in runs of cells or cell by cell, from any thread.

    Opening checks that every file is there and that the metadata are as written; reading checks the crc32c of what is
    read; `verify` checks everything.

    Raises
    ------
    IntegrityError
        If something is missing or was changed: a missing chunk is never read as zeros.
    """

    def __init__(self, directory: Place) -> None:
        self.directory = directory
        recorded = recorded_files(directory)
        missing = sorted(set(recorded) - set(list_files(directory)))
        if missing:
            msg = f"{missing[0]} of partition {directory.name[:12]} is missing; run `cytolabe verify`."
            raise IntegrityError(msg)
        for name, sha256 in recorded.items():
            if name.endswith(".json"):
                read_verified(directory / name, sha256)
        self._data = open_array(directory, "X/data")
        self._indices = open_array(directory, "X/indices")
        pointers = open_array(directory, "X/indptr")
        self.indptr: Int[np.ndarray, " pointers"] = pointers.read(0, pointers.spec.n_values)
        """Entries before each cell (one more than cells). Do not modify."""
        if np.diff(self.indptr).min(initial=0) < 0 or self.indptr[-1] != self._data.spec.n_values:
            msg = f"X/indptr of partition {directory.name[:12]} contradicts its data; run `cytolabe verify`."
            raise IntegrityError(msg)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The data set's own feature names, verbatim, ordered by unversioned id."""
        return tuple(read_strings(self.directory, "var/_index").tolist())

    @cached_property
    def cell_names(self) -> np.ndarray:
        """The cell names in source order, as an array of str."""
        return read_strings(self.directory, "obs/_index")

    @property
    def counts_dtype(self) -> np.dtype:
        """The width in which counts are stored: the narrowest one that holds the largest."""
        return self._data.spec.dtype

    @property
    def chunk_values(self) -> int:
        """Entries of a chunk."""
        return self._data.spec.chunk_values

    def runs(self, n_chunks: int) -> list[tuple[int, int]]:
        """Cut the cells into runs that start in the same `n_chunks` consecutive chunks, the unit of shuffled reading.

        A cell that lies across a border belongs to the chunk where it starts. Every cell is in one run; cells without
        counts are with the cell behind them.
        """
        unit = n_chunks * self.chunk_values
        borders = np.arange(0, int(self.indptr[-1]) + unit, unit)
        starts = np.unique(np.searchsorted(self.indptr[:-1], borders, side="left"))
        cuts = np.unique(np.concatenate([[0], starts, [self.n_cells]])).tolist()
        return list(itertools.pairwise(cuts))

    def decode(self, first: int, last: int, *, columns: np.ndarray, counts: np.ndarray) -> int:
        """Fill arrays of the caller with the entries of cells `first` to `last`, and return how many these are.

        Parameters
        ----------
        columns
            One axis, uint32: the own feature of each entry, ascending inside a cell.
        counts
            One axis, uint32: its count.

        Raises
        ------
        UsageError
            If the cells are not there, the arrays are too short, or counts need 64 bits.
        IntegrityError
            If what is needed is missing or was changed.
        """
        if not 0 <= first <= last <= self.n_cells:
            msg = f"cells {first} to {last} are outside of the {self.n_cells} cells of a partition."
            raise UsageError(msg)
        start, stop = int(self.indptr[first]), int(self.indptr[last])
        self._require_room(stop - start, columns, counts)
        if stop > start:
            pieces = Pieces(starts=np.array([start]), stops=np.array([stop]), targets=np.array([0]))
            self._indices.gather(pieces, columns)
            self._data.gather(pieces, counts)
        return stop - start

    def decode_cells(self, cells: Int[np.ndarray, " cells"], *, columns: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Fill arrays of the caller with the entries of some cells, and return where each begins (one more than cells).

        Chunks are decoded once, however the cells lie in them.

        Parameters
        ----------
        cells
            Rows of this partition, ascending, each once.
        columns, counts
            As in `decode`.
        """
        if len(cells) and not (cells[0] >= 0 and cells[-1] < self.n_cells and np.diff(cells).min(initial=1) > 0):
            msg = f"cells must be rows 0..{self.n_cells - 1} of the partition, ascending, each once."
            raise UsageError(msg)
        starts, stops = self.indptr[cells], self.indptr[cells + 1]
        indptr = np.concatenate([[0], np.cumsum(stops - starts)])
        self._require_room(int(indptr[-1]), columns, counts)
        filled = np.flatnonzero(stops > starts)
        pieces = Pieces(starts=starts[filled], stops=stops[filled], targets=indptr[:-1][filled])
        self._indices.gather(pieces, columns)
        self._data.gather(pieces, counts)
        return indptr

    def _require_room(self, n_entries: int, columns: np.ndarray, counts: np.ndarray) -> None:
        if min(len(columns), len(counts)) < n_entries:
            msg = f"{n_entries} entries do not fit into arrays of {len(columns)} and {len(counts)}."
            raise UsageError(msg)
        if self.counts_dtype.itemsize > counts.dtype.itemsize:
            msg = f"counts of partition {self.directory.name[:12]} need 64 bits; read them with `rows`."
            raise UsageError(msg)

    def rows(self, rows: Integer[np.ndarray, " cells"]) -> csr_matrix:
        """Return the counts (len(rows) x features, int64) of rows of this partition, in the order given."""
        if rows.size and not (rows.min() >= 0 and rows.max() < self.n_cells):
            msg = f"rows {rows.min()}..{rows.max()} are outside of the {self.n_cells} cells of a partition."
            raise UsageError(msg)
        order = np.argsort(rows, kind="stable")
        wanted = rows[order].astype(np.int64)
        if (np.diff(wanted) == 0).any():
            # A piece goes to one place: cells that are asked for twice are read once and copied.
            wanted, back = np.unique(rows.astype(np.int64), return_inverse=True)
            return csr_matrix(self.rows(wanted)[back.ravel()])
        starts, stops = self.indptr[wanted], self.indptr[wanted + 1]
        lengths = np.empty(len(rows), dtype=np.int64)
        lengths[order] = stops - starts
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        filled = np.flatnonzero(stops > starts)
        pieces = Pieces(starts=starts[filled], stops=stops[filled], targets=indptr[:-1][order][filled])
        indices = np.empty(indptr[-1], dtype=np.uint32)
        counts = np.empty(indptr[-1], dtype=np.uint64 if self.counts_dtype.itemsize == 8 else np.uint32)
        self._indices.gather(pieces, indices)
        self._data.gather(pieces, counts)
        return csr_matrix(
            (counts.astype(np.int64), indices.view(np.int32), indptr), shape=(len(rows), len(self.features))
        )

    def iter_blocks(self, max_cells: int = 4096, *, dataset_id: str = "", first_row: int = 0) -> Iterator[Block]:
        """Yield all cells in source order; a partition does not know its data set, so the caller may name it."""
        for start in range(0, self.n_cells, max_cells):
            stop = min(start + max_cells, self.n_cells)
            names = tuple(self.cell_names[start:stop].tolist())
            counts = self.rows(np.arange(start, stop))
            yield Block(dataset_id=dataset_id, start=first_row + start, cell_names=names, counts=counts)

    def verify(self) -> tuple[Finding, ...]:
        """Re-hash every file and the counts themselves; an intact partition has no findings."""
        return verify_partition(self.directory)


def verify_partition(directory: Place, *, root_sha256: str = "", where: str = "") -> tuple[Finding, ...]:
    """Re-hash every file of a partition, and its counts against the digest that names it.

    Parameters
    ----------
    directory
        The directory of the partition.
    root_sha256
        SHA-256 of the root `zarr.json` as the entry of the data set records it; empty where no entry is at hand.
    where
        What the findings call the directory.
    """
    where = where or directory.name
    try:
        recorded = recorded_files(directory)
    except IntegrityError as error:
        code = "E-INTEGRITY-01" if not (directory / ROOT_NAME).exists() else "E-INTEGRITY-02"
        return (integrity_finding(code, f"{where}/{ROOT_NAME}", str(error)),)
    # The root first: a list that was changed would blame files that were not.
    if root_sha256 and sha256_of_file(directory / ROOT_NAME) != root_sha256:
        message = "its bytes were changed, so that nothing says what belongs to the partition"
        return (integrity_finding("E-INTEGRITY-02", f"{where}/{ROOT_NAME}", message),)
    findings = file_findings(directory, recorded, where=where)
    if findings:
        return tuple(findings)
    try:
        found = _recounted_digest(Partition(directory))
    except IntegrityError as error:
        return (integrity_finding("E-INTEGRITY-04", where, str(error)),)
    if found != f"sha256:{directory.name}":
        message = f"holds counts of digest {found[7:19]} under the name {directory.name[:12]}: it was rewritten"
        return (integrity_finding("E-INTEGRITY-04", where, message),)
    return ()


def _recounted_digest(partition: Partition) -> str:
    digest = CountsDigest(features_digest=features_digest(partition.features))
    for block in partition.iter_blocks():
        digest.append(block.cell_names, block.counts)
    return digest.finish()
