"""Writing a partition: shards in any order by anyone, then sealed and published as one directory.

`write_shards` writes some shards of a staged partition from a plan (`store.plan`), and `seal_partition` adds names and
metadata and publishes the whole. `PartitionWriter` is for who has only a stream: it spools the blocks to disk, makes
the plan of what it saw, and does the same. A staged partition takes its name only when it is whole, so an interrupted
write leaves nothing that a reader could mistake for counts; a shard takes its name when it is whole, so a repeated
write goes on where the first one stopped.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, NotRawCountsError, UsageError
from cytolabe.files import Place, publish_directory, replace_file, sha256_of_file, staged_directory
from cytolabe.records import Block
from cytolabe.store.arrays import write_group, write_metadata, write_strings
from cytolabe.store.canonical_rows import canonical_rows
from cytolabe.store.counts_digest import CountsDigest
from cytolabe.store.names import Names
from cytolabe.store.physical import PARTITION_FORMAT, PartitionEntry, intact_files, partition_path
from cytolabe.store.plan import PartitionPlan, clear_attempt
from cytolabe.store.shards import encode_shard, shard_name
from cytolabe.store.spool import Spool

__all__ = [
    "MAX_CELLS",
    "PartitionWriter",
    "canonical_block",
    "missing_shards",
    "seal_partition",
    "write_partitions",
    "write_shards",
]

MAX_CELLS = 524_288
"""Cells of one partition; a data set is cut exactly there."""

_MAX_COUNT = 1 << 63
_COUNTS = ("X/data", "X/indices")


# --- by tasks ---------------------------------------------------------------------------------------------------------


def missing_shards(staged: Path, plan: PartitionPlan) -> list[int]:
    """Return the shards of a staged partition that are not there yet."""
    return [
        number
        for number in range(plan.n_shards)
        if not all((staged / name / shard_name(number)).is_file() for name in _COUNTS)
    ]


def write_shards(
    staged: Path, plan: PartitionPlan, *, shards: tuple[int, int], blocks: Iterable[Block]
) -> dict[str, str]:
    """Write shards `shards[0]` up to `shards[1]` of a staged partition.

    Parameters
    ----------
    staged
        Directory of the partition that is being made.
    plan
        What the first pass found.
    shards
        First shard, and the one behind the last.
    blocks
        The cells `plan.cells_of_shards(*shards)` in source order, cut anywhere, with `start` as the row in the source.

    Returns
    -------
    :
        SHA-256 of each file, by its path in the partition.

    Raises
    ------
    IntegrityError
        If the blocks have other cells or numbers of entries than the plan, or a count above the largest one in it:
        the source changed since.
    NotRawCountsError
        If a value is no count.
    """
    low, high = plan.values_of_shards(*shards)
    row, stop = plan.cells_of_shards(*shards)
    specs = plan.arrays()
    pending: dict[str, list[np.ndarray]] = {name: [] for name in _COUNTS}
    n_pending, number = 0, shards[0]
    written: dict[str, str] = {}
    for block in blocks:
        _check_start(block, plan, row)
        indptr, columns, counts = canonical_block(block, plan)
        expected = plan.indptr[row : row + len(block.cell_names) + 1]
        if not np.array_equal(np.diff(expected), np.diff(indptr)) or counts.max(initial=0) > plan.largest:
            raise _changed(block)
        cut = slice(max(0, low - int(expected[0])), max(0, min(len(columns), high - int(expected[0]))))
        row += len(block.cell_names)
        for name, values in zip(_COUNTS, (counts, columns), strict=True):
            pending[name].append(values[cut].astype(specs[name].dtype))
        n_pending += cut.stop - cut.start
        while n_pending >= plan.shard_values or (row == stop and n_pending):
            n_values = min(n_pending, plan.shard_values)
            for name in _COUNTS:
                values = np.concatenate(pending[name])
                content = encode_shard(values[:n_values], specs[name])
                written[f"{name}/{shard_name(number)}"] = hashlib.sha256(content).hexdigest()
                replace_file(staged / name / shard_name(number), content)
                pending[name] = [values[n_values:].copy()]
            n_pending -= n_values
            number += 1
    if row != stop or number != shards[1]:
        msg = f"{plan.dataset_id}: the source ended at row {plan.first_row + row}; the first pass saw more. Ingest it again."
        raise IntegrityError(msg)
    return written


def canonical_block(block: Block, plan: PartitionPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (indptr, columns, counts) of a block in the order of the partition; see `canonical_rows`."""
    if block.counts.shape != (len(block.cell_names), len(plan.features)):
        msg = (
            f"block at row {block.start} of {block.dataset_id} is {block.counts.shape}, not {len(block.cell_names)} "
            f"cells x {len(plan.features)} features."
        )
        raise UsageError(msg)
    _require_counts(block)
    return canonical_rows(block.counts, plan.column_of_feature, n_columns=len(plan.features))


def seal_partition(
    directory: Place,
    staged: Path,
    plan: PartitionPlan,
    *,
    digest: str,
    cell_names: Sequence[str],
    written: Mapping[str, str] | None = None,
) -> PartitionEntry:
    """Give a staged partition its names and metadata, publish it under its digest, and return its entry.

    Parameters
    ----------
    directory
        Where partitions live.
    staged
        The directory that holds all shards of counts.
    plan
        What it was written from.
    digest
        The counts digest.
    cell_names
        The names of its cells in source order.
    written
        SHA-256 of shards as `write_shards` returned them; the others are hashed here.

    Raises
    ------
    UsageError
        If two cells have one name.
    IntegrityError
        If a shard is missing, or a partition of this content is there already and is damaged.
    """
    _check_names(plan, cell_names)
    missing = missing_shards(staged, plan)
    if missing:
        msg = f"{plan.dataset_id}: {len(missing)} of {plan.n_shards} shards are not written, first {missing[0]}."
        raise IntegrityError(msg)
    clear_attempt(staged)
    specs = plan.arrays()
    for name, spec in specs.items():
        write_metadata(staged / name, spec.metadata())
    pointers = specs["X/indptr"]
    for number in range(pointers.n_shards):
        part = plan.indptr[number * pointers.shard_values : (number + 1) * pointers.shard_values]
        replace_file(staged / "X/indptr" / shard_name(number), encode_shard(part, pointers))
    _write_groups(staged, plan, cell_names)
    files = _hashed(staged, dict(written or {}))
    described = {"format": PARTITION_FORMAT, "digest": digest, "files": files}
    write_group(staged, {"encoding-type": "anndata", "encoding-version": "0.1.0", "cytolabe": described})
    target = partition_path(directory, digest)
    root_sha256 = sha256_of_file(staged / "zarr.json")
    is_mine = publish_directory(staged, target)
    return PartitionEntry(
        digest=digest,
        dataset_id=plan.dataset_id,
        n_cells=plan.n_cells,
        n_features=len(plan.features),
        n_nonzero=plan.n_nonzero,
        features_digest=plan.features_digest,
        files={**files, "zarr.json": root_sha256} if is_mine else intact_files(target),
    )


def _write_groups(staged: Path, plan: PartitionPlan, cell_names: Sequence[str]) -> None:
    shape = [plan.n_cells, len(plan.features)]
    write_group(staged / "X", {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    frame = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "column-order": [], "_index": "_index"}
    for name, values in (("obs", cell_names), ("var", plan.ordered_features)):
        write_group(staged / name, frame)
        write_strings(staged / name / "_index", values)


def _hashed(staged: Path, known: dict[str, str]) -> dict[str, str]:
    found = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
    return {name: known.get(name) or sha256_of_file(path) for name, path in found.items()}


def _check_names(plan: PartitionPlan, cell_names: Sequence[str]) -> None:
    if len(cell_names) != plan.n_cells:
        msg = f"{plan.dataset_id}: {len(cell_names)} names were given for {plan.n_cells} cells."
        raise UsageError(msg)
    doubled = Names.of(cell_names).repeated()
    if not doubled:
        return
    msg = (
        f"{plan.dataset_id}: {len(doubled)} cell name(s) occur more than once: {', '.join(doubled[:5])}. "
        "A prediction could not be matched to its cell. Make the names unique in the source."
    )
    raise UsageError(msg)


def _check_start(block: Block, plan: PartitionPlan, row: int) -> None:
    where = f"block at row {block.start} of {block.dataset_id}"
    if block.dataset_id != plan.dataset_id:
        msg = f"{where}: this partition is of {plan.dataset_id}."
        raise UsageError(msg)
    if block.start != plan.first_row + row:
        msg = f"{where}: row {plan.first_row + row} must come next; the digest is over the cells in source order."
        raise UsageError(msg)


def _changed(block: Block) -> IntegrityError:
    msg = (
        f"{block.dataset_id}, rows {block.start}-{block.start + len(block.cell_names) - 1}: other counts than the first "
        "pass saw. The source changed in between; ingest it again."
    )
    return IntegrityError(msg)


# --- from a stream ----------------------------------------------------------------------------------------------------


def write_partitions(
    directory: Place,
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

    def __init__(self, directory: Place, *, dataset_id: str, features: Sequence[str], first_row: int = 0) -> None:
        self._directory = directory
        self._seen = PartitionPlan(
            dataset_id=dataset_id,
            features=tuple(features),
            first_row=first_row,
            indptr=np.zeros(1, dtype=np.int64),
            largest=0,
        )
        self._digest = CountsDigest(features_digest=self._seen.features_digest)
        self._cell_names: list[str] = []
        self._cleanup = ExitStack()
        self._staged = self._cleanup.enter_context(staged_directory(directory))
        self._spool = self._cleanup.enter_context(Spool(self._staged / ".spool"))

    @property
    def n_cells(self) -> int:
        """Cells written so far."""
        return len(self._cell_names)

    @property
    def next_row(self) -> int:
        """Row in the source that the next block must start with."""
        return self._seen.first_row + self.n_cells

    def append(self, block: Block) -> None:
        """Add a block of whole cells.

        Raises
        ------
        UsageError
            If the block belongs to another data set, does not follow the last one, or has other columns.
        NotRawCountsError
            If a value is negative, fractional or above 2^63.
        """
        _check_start(block, self._seen, self.n_cells)
        indptr, columns, counts = canonical_block(block, self._seen)
        self._digest.append_entries(block.cell_names, indptr, (columns, counts))
        self._spool.append(indptr, columns=columns, counts=counts)
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
        plan = PartitionPlan(
            dataset_id=self._seen.dataset_id,
            features=self._seen.features,
            first_row=self._seen.first_row,
            indptr=self._spool.indptr(),
            largest=self._spool.largest,
        )
        _check_names(plan, self._cell_names)
        blocks = self._spool.blocks(plan, self._cell_names)
        written = write_shards(self._staged, plan, shards=(0, plan.n_shards), blocks=blocks) if plan.n_nonzero else {}
        self._spool.remove()
        entry = seal_partition(
            self._directory,
            self._staged,
            plan,
            digest=self._digest.finish(),
            cell_names=self._cell_names,
            written=written,
        )
        self.close()
        return entry

    def close(self) -> None:
        """Remove what was staged and not published."""
        self._cleanup.close()


def _slice_block(block: Block, start: int, stop: int) -> Block:
    if start == 0 and stop == block.counts.shape[0]:
        return block
    return Block(
        dataset_id=block.dataset_id,
        start=block.start + start,
        cell_names=block.cell_names[start:stop],
        counts=csr_matrix(block.counts[start:stop]),
    )


def _require_counts(block: Block) -> None:
    """Refuse a block with a value that is not whole, negative, or too large."""
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
