"""Partitions: the counts of up to 524,288 cells of one data set, written once and named by what they mean.

A partition is a directory that plain `anndata.read_zarr` opens: `X` as CSR (`data`, `indices`, `indptr`), `obs` and
`var` with nothing but names. Features are the data set's own, verbatim, ordered by unversioned id. Values take the
narrowest lossless width, indices are stored as gaps; chunks are Blosc (zstd 1, byte shuffle) with a crc32c, in
shards. The directory is named by the counts digest (`store.counts_digest`). The root `zarr.json` holds the SHA-256 of
every other file, and the entry that the writer returns holds the SHA-256 of `zarr.json`.

Everything streams: the writer holds one block and one shard of each array, the reader what it was asked for.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import read_verified, sha256_of_file
from cytolabe.records import Block, Finding
from cytolabe.store.arrays import StoredArray
from cytolabe.store.counts_digest import CountsDigest, features_digest
from cytolabe.store.physical import (
    ROOT_NAME,
    PartitionEntry,
    file_findings,
    integrity_finding,
    partition_path,
    recorded_files,
)
from cytolabe.store.writing import MAX_CELLS, PartitionWriter, write_partitions

__all__ = [
    "MAX_CELLS",
    "Partition",
    "PartitionEntry",
    "PartitionWriter",
    "partition_path",
    "verify_partition",
    "write_partitions",
]

_WINDOW_VALUES = 8_000_000
_BRIDGED_VALUES = 1 << 16


class Partition:
    """A published partition, read in runs of cells.

    Opening checks that every file is there and that the metadata are as written; reading checks the crc32c of what is
    read; `verify` checks everything.

    Raises
    ------
    IntegrityError
        If something is missing or was changed: a missing chunk is never read as zeros.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name, sha256 in recorded_files(directory).items():
            if name.endswith(".json"):
                read_verified(directory / name, sha256)
            elif not (directory / name).exists():
                msg = f"{name} of partition {directory.name[:12]} is missing; run `cytolabe verify`."
                raise IntegrityError(msg)
        self._data = StoredArray(directory, "X/data")
        self._indices = StoredArray(directory, "X/indices")
        indptr = StoredArray(directory, "X/indptr")
        self._indptr = indptr.read(0, len(indptr))
        self._features: tuple[str, ...] | None = None
        self._cell_names: np.ndarray | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self._indptr) - 1

    @property
    def features(self) -> tuple[str, ...]:
        """The data set's own feature names, verbatim, ordered by unversioned id."""
        if self._features is None:
            self._features = tuple(self._names("var").tolist())
        return self._features

    @property
    def cell_names(self) -> np.ndarray:
        """The cell names in source order, as an array of str."""
        if self._cell_names is None:
            self._cell_names = self._names("obs")
        return self._cell_names

    def rows(self, rows: Integer[np.ndarray, " cells"]) -> csr_matrix:
        """Return the counts (len(rows) x features, int64) of rows of this partition, in the order given."""
        if rows.size and not (rows.min() >= 0 and rows.max() < self.n_cells):
            msg = f"rows {rows.min()}..{rows.max()} are outside of the {self.n_cells} cells of a partition."
            raise UsageError(msg)
        wanted, back = np.unique(rows, return_inverse=True)
        lengths = self._indptr[wanted + 1] - self._indptr[wanted]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        data = np.empty(indptr[-1], dtype=np.int64)
        indices = np.empty(indptr[-1], dtype=np.int32)
        for first, last in self._runs(wanted):
            start, stop = int(self._indptr[wanted[first]]), int(self._indptr[wanted[last - 1] + 1])
            shift = self._indptr[wanted[first:last]] - indptr[first:last]
            source = np.arange(indptr[first], indptr[last]) + np.repeat(shift, lengths[first:last]) - start
            data[indptr[first] : indptr[last]] = self._data.read(start, stop)[source]
            indices[indptr[first] : indptr[last]] = self._indices.read(start, stop)[source]
        counts = csr_matrix((data, indices, indptr), shape=(len(wanted), len(self.features)))
        return counts if np.array_equal(wanted, rows) else csr_matrix(counts[back.ravel()])

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

    def _names(self, axis: str) -> np.ndarray:
        array = StoredArray(self.directory, f"{axis}/_index")
        return array.read(0, len(array)).astype(object)

    def _runs(self, wanted: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield ranges of `wanted` that are read in one go: near each other, and bounded in values."""
        first = 0
        for position in range(1, len(wanted) + 1):
            if position < len(wanted):
                gap = self._indptr[wanted[position]] - self._indptr[wanted[position - 1] + 1]
                total = self._indptr[wanted[position] + 1] - self._indptr[wanted[first]]
                if gap <= _BRIDGED_VALUES and total <= _WINDOW_VALUES:
                    continue
            yield first, position
            first = position


def verify_partition(directory: Path, *, root_sha256: str = "", where: str = "") -> tuple[Finding, ...]:
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
