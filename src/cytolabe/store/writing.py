"""Writing a partition: blocks in, one published directory out.

Everything streams: at most one block and one shard of each array are held. What is staged takes its name only when it
is whole, so an interrupted write leaves nothing that a reader could mistake for counts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.errors import NotRawCountsError, UsageError
from cytolabe.files import publish_directory, replace_file, sha256_of_file, staged_directory
from cytolabe.provenance import canonical_json
from cytolabe.records import Block
from cytolabe.store.arrays import GrowingArray, write_strings
from cytolabe.store.counts_digest import CountsDigest, feature_order, features_digest
from cytolabe.store.physical import PARTITION_FORMAT, ROOT_NAME, PartitionEntry, intact_files, partition_path

__all__ = ["MAX_CELLS", "PartitionWriter", "write_partitions"]

MAX_CELLS = 524_288
"""Cells of one partition; a data set is cut exactly there."""

_NARROW_FEATURES = 65_536
_MAX_COUNT = 1 << 63


def write_partitions(
    directory: Path,
    blocks: Iterable[Block],
    *,
    dataset_id: str,
    features: Sequence[str],
    max_cells: int = MAX_CELLS,
) -> tuple[PartitionEntry, ...]:
    """Write the cells of one data set, cut after every `max_cells` cells, wherever the blocks end."""
    entries: list[PartitionEntry] = []
    writer = PartitionWriter(directory, dataset_id=dataset_id, features=features)
    try:
        for block in blocks:
            start = 0
            while start < block.counts.shape[0]:
                if writer.n_cells == max_cells:
                    entries.append(writer.finish())
                    first_row = writer.next_row
                    writer = PartitionWriter(directory, dataset_id=dataset_id, features=features, first_row=first_row)
                stop = min(block.counts.shape[0], start + max_cells - writer.n_cells)
                writer.append(_slice_block(block, start, stop))
                start = stop
        entries.append(writer.finish())
    finally:
        writer.close()
    return tuple(entries)


class PartitionWriter:
    """Writes one partition from blocks in source order; `finish` publishes it, `close` throws away what is left.

    Parameters
    ----------
    directory
        Where partitions live; the new one becomes a directory in it, named by its digest.
    dataset_id
        The data set that the blocks must belong to. It names nothing inside: equal content is kept once.
    features
        The data set's own feature names in the order of the columns of the blocks.
    first_row
        Row in the source of the first cell.
    """

    def __init__(self, directory: Path, *, dataset_id: str, features: Sequence[str], first_row: int = 0) -> None:
        order = feature_order(features)
        self._directory = directory
        self._dataset_id = dataset_id
        self._features = [features[position] for position in order]
        self._features_digest = features_digest(self._features)
        self._column_of_feature = np.argsort(order).astype(np.int32)
        self._digest = CountsDigest(features_digest=self._features_digest)
        self._cell_names: list[str] = []
        self._n_nonzero = 0
        self._first_row = first_row
        self._staging = staged_directory(directory)
        self._staged = self._staging.__enter__()
        self._is_open = True
        narrow = len(features) <= _NARROW_FEATURES
        self._data = GrowingArray(self._staged / "X", "data", dtype="|u1", is_delta=False)
        self._indices = GrowingArray(self._staged / "X", "indices", dtype="<u2" if narrow else "<u4", is_delta=True)
        self._indptr = GrowingArray(self._staged / "X", "indptr", dtype="<i8", is_delta=False)
        self._indptr.append(np.zeros(1, dtype=np.int64))

    @property
    def n_cells(self) -> int:
        """Cells written so far."""
        return len(self._cell_names)

    @property
    def next_row(self) -> int:
        """Row in the source that the next block must start with."""
        return self._first_row + self.n_cells

    def append(self, block: Block) -> None:
        """Add a block of whole cells.

        Raises
        ------
        UsageError
            If the block belongs to another data set, does not follow the last one, or has other columns.
        NotRawCountsError
            If a value is negative, fractional or above 2^63.
        """
        self._check_block(block)
        counts = self._canonical(block)
        self._digest.append(block.cell_names, counts)
        self._data.append(counts.data)
        self._indices.append(counts.indices)
        self._indptr.append(counts.indptr[1:].astype(np.int64) + self._n_nonzero)
        self._n_nonzero += int(counts.nnz)
        self._cell_names.extend(block.cell_names)

    def finish(self) -> PartitionEntry:
        """Publish the partition under its digest and return its entry.

        A partition of the same content that is there already is kept, after its files were found intact.

        Raises
        ------
        UsageError
            If two cells have the same name.
        IntegrityError
            If a partition of this content is there already and is damaged.
        """
        self._check_names()
        for array in (self._data, self._indices, self._indptr):
            array.finish()
        digest = self._digest.finish()
        self._write_groups()
        self._write_root(digest)
        target = partition_path(self._directory, digest)
        publish_directory(self._staged, target)
        self.close()
        published = intact_files(target)
        return PartitionEntry(
            digest=digest,
            dataset_id=self._dataset_id,
            n_cells=self.n_cells,
            n_features=len(self._features),
            n_nonzero=self._n_nonzero,
            features_digest=self._features_digest,
            files=published,
        )

    def close(self) -> None:
        """Remove what was staged and not published."""
        if self._is_open:
            self._is_open = False
            self._staging.__exit__(None, None, None)

    def _check_block(self, block: Block) -> None:
        where = f"block at row {block.start} of {block.dataset_id}"
        if block.dataset_id != self._dataset_id:
            msg = f"{where}: this partition is of {self._dataset_id}."
            raise UsageError(msg)
        if block.start != self.next_row:
            msg = f"{where}: row {self.next_row} must come next; the digest is over the cells in source order."
            raise UsageError(msg)
        if block.counts.shape != (len(block.cell_names), len(self._features)):
            msg = (
                f"{where} is {block.counts.shape}, not {len(block.cell_names)} cells x {len(self._features)} features."
            )
            raise UsageError(msg)

    def _check_names(self) -> None:
        doubled = sorted(name for name, times in Counter(self._cell_names).items() if times > 1)
        if not doubled:
            return
        msg = (
            f"{self._dataset_id}: {len(doubled)} cell name(s) occur more than once: {', '.join(doubled[:5])}. "
            "A prediction could not be matched to its cell. Make the names unique in the source."
        )
        raise UsageError(msg)

    def _canonical(self, block: Block) -> csr_matrix:
        """Return the block in partition order: sorted, without zeros, each feature of a cell once."""
        data = _whole_counts(block)
        # Everything is a copy: scipy sorts in place, and the block belongs to the caller.
        indices = self._column_of_feature[block.counts.indices]
        counts = csr_matrix((data, indices, block.counts.indptr.copy()), shape=block.counts.shape)
        counts.sum_duplicates()
        counts.eliminate_zeros()
        counts.sort_indices()
        return counts

    def _write_groups(self) -> None:
        shape = [self.n_cells, len(self._features)]
        csr = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape}
        _write_group(self._staged / "X", csr)
        frame = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "column-order": [], "_index": "_index"}
        for name, values in (("obs", self._cell_names), ("var", self._features)):
            _write_group(self._staged / name, frame)
            write_strings(self._staged / name / "_index", values)

    def _write_root(self, digest: str) -> None:
        found = {
            path.relative_to(self._staged).as_posix(): sha256_of_file(path)
            for path in sorted(self._staged.rglob("*"))
            if path.is_file()
        }
        cytolabe = {"format": PARTITION_FORMAT, "digest": digest, "files": found}
        anndata = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
        _write_group(self._staged, {**anndata, "cytolabe": cytolabe})


def _write_group(path: Path, attributes: Mapping[str, object]) -> None:
    content = canonical_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})
    replace_file(path / ROOT_NAME, content)


def _slice_block(block: Block, start: int, stop: int) -> Block:
    if start == 0 and stop == block.counts.shape[0]:
        return block
    return Block(
        dataset_id=block.dataset_id,
        start=block.start + start,
        cell_names=block.cell_names[start:stop],
        counts=csr_matrix(block.counts[start:stop]),
    )


def _whole_counts(block: Block) -> np.ndarray:
    """Return the values of a block as uint64 after each was seen to be a whole number that is not negative."""
    data = block.counts.data
    if data.dtype.kind not in "iuf":
        wrong = data.size
    elif data.dtype.kind == "f":
        wrong = int((~((data >= 0) & (data < _MAX_COUNT) & (np.floor(data) == data))).sum())
    else:
        wrong = int((data < 0).sum()) if data.dtype.kind == "i" else int((data >= _MAX_COUNT).sum())
    if wrong:
        msg = (
            f"{block.dataset_id}, rows {block.start}-{block.start + len(block.cell_names) - 1}: {wrong} of {data.size} "
            "values are not counts (negative, fractional or too large). Only raw counts are stored; "
            "name the matrix of raw counts in the manifest: matrix = '...'."
        )
        raise NotRawCountsError(msg)
    return data.astype(np.uint64)
