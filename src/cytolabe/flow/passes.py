"""The two passes over the counts of one file, as tasks that know nothing of each other.

Pass 1 takes ranges of 16,384 cells: every non-zero is proven, cells and features are summed, and the leaves of the
counts digest are made on the way. Pass 2 takes runs of four shards: the cells that they cover are read again, seen to
be the same by their fingerprints, sketched, and encoded into the staged partition. Where tasks are cut depends on the file alone,
never on the number of workers, so that a run that was killed finds the results of its tasks in the ledger.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from cytolabe.errors import CytolabeError, IntegrityError
from cytolabe.flow.budget import require_within
from cytolabe.flow.set_aside import fingerprints_aside
from cytolabe.flow.sketching import TaskSketches, genes_in
from cytolabe.ingest.identity import digest_of
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.native import exact_below
from cytolabe.ingest.source import Source, open_source
from cytolabe.ingest.tally import MatrixTally, block_fingerprints
from cytolabe.ingest.tally_records import tally_arrays, tally_document, tally_from
from cytolabe.provenance.ledger import Ledger
from cytolabe.records import Block
from cytolabe.store.canonical_rows import canonical_rows
from cytolabe.store.counts_digest import RANGE_CELLS, CountsDigest, feature_order
from cytolabe.store.plan import PartitionPlan, read_plan
from cytolabe.store.writing import write_shards

__all__ = ["ProofTask", "RangeProof", "ShardTask", "cells_per_task", "prove", "shard_tasks", "write_part"]

_RANGES_PER_TASK = 4
_SHARDS_PER_TASK = 4
_CELLS_PER_TASK = 1 << 14
_COLUMNS: dict[tuple[str, int, int, str], np.ndarray] = {}
"""What `_columns_of` found last in this process."""


@dataclass(frozen=True, kw_only=True)
class ProofTask:
    """Prove cells `first` to `last` of a matrix; without a matrix, hash the bytes of the file.

    `ledger` is where the result is kept, if anywhere; `max_nonzero` bounds the entries held at a time, `task_memory` the
    bytes of the process.
    """

    source: Path
    matrix: MatrixHandle | None = None
    first: int = 0
    last: int = 0
    ledger: Path | None = None
    max_nonzero: int = 2_000_000
    task_memory: int = 0

    @property
    def name(self) -> str:
        """Name of the result in the ledger."""
        if self.matrix is None:
            return "source"
        return f"proof-{self.matrix.name.replace('/', '.').encode().hex()}-{self.first}-{self.last}"


@dataclass(frozen=True, kw_only=True)
class RangeProof:
    """What a `ProofTask` found: the digest of the file, or the tally of a range and its leaves of the counts digest.

    `leaves` is empty where a value is no count. `problem` is what damaged bytes or structure raised: it is told for
    the first range that has one, whichever task ended first.
    """

    source_sha256: str = ""
    tally: MatrixTally | None = None
    leaves: tuple[str, ...] = ()
    problem: CytolabeError | None = None


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """Write shards `first` to `last` of the partition that is staged in `staged`.

    `fingerprints` is the file with those of all cells, from the first pass (`flow.set_aside`).
    """

    source: Path
    dataset_id: str
    matrix: MatrixHandle
    staged: Path
    first: int
    last: int
    ledger: Path
    fingerprints: Path
    max_nonzero: int = 2_000_000
    task_memory: int = 0

    @property
    def name(self) -> str:
        """Name of the result in the ledger."""
        return f"shards-{self.staged.name}-{self.first}-{self.last}"


def cells_per_task(matrix: MatrixHandle) -> int:
    """Return how many cells a task of the first pass takes; a matrix that is turned over is one task."""
    return max(1, matrix.shape[0]) if matrix.is_turned else _RANGES_PER_TASK * RANGE_CELLS


# --- pass 1 -------------------------------------------------------------------------------------------------------


def prove(task: ProofTask) -> RangeProof:
    """Run one task of the first pass, or return what it found before."""
    ledger = Ledger(task.ledger) if task.ledger is not None else None
    known = ledger.get(task.name) if ledger is not None else None
    if known is not None:
        document, arrays = known
        if task.matrix is None:
            return RangeProof(source_sha256=str(document["sha256"]))
        return RangeProof(
            tally=tally_from(document["tally"], arrays), leaves=tuple(cast("list[str]", document["leaves"]))
        )
    if task.matrix is None:
        sha256 = digest_of(task.source)
        if ledger is not None:
            ledger.put(task.name, {"sha256": sha256}, {})
        return RangeProof(source_sha256=sha256)
    try:
        tally, leaves = _prove_range(task, task.matrix)
    except CytolabeError as error:
        return RangeProof(problem=error)
    if ledger is not None:
        ledger.put(task.name, {"tally": tally_document(tally), "leaves": list(leaves)}, tally_arrays(tally))
    return RangeProof(tally=tally, leaves=leaves)


def _prove_range(task: ProofTask, matrix: MatrixHandle) -> tuple[MatrixTally, tuple[str, ...]]:
    n_features = matrix.shape[1]
    tally = MatrixTally(
        n_cells=task.last - task.first,
        n_features=n_features,
        exact_below=exact_below(matrix.dtype),
        start=task.first,
    )
    digest = CountsDigest(features_digest="")
    with open_source(task.source, part=matrix.part, is_known=True) as opened:
        columns_of = _columns_of(opened, matrix)
        blocks = opened.iter_blocks(matrix, dataset_id="", cells=(task.first, task.last), max_nonzero=task.max_nonzero)
        for block in blocks:
            require_within(task.task_memory)
            tally.add(block)
            if not tally.broken:
                indptr, columns, counts = canonical_rows(block.counts, columns_of, n_columns=n_features)
                digest.append_entries(block.cell_names, indptr, (columns, counts))
    return tally, () if tally.broken else digest.leaves()


def _columns_of(opened: Source, matrix: MatrixHandle) -> np.ndarray:
    """Return the column in a partition of each feature of a matrix; kept, because every task of a file needs it."""
    state = opened.path.stat()
    key = (str(opened.path), state.st_size, state.st_mtime_ns, matrix.name)
    if key not in _COLUMNS:
        _COLUMNS.clear()
        _COLUMNS[key] = np.argsort(feature_order(opened.features(matrix))).astype(np.int32)
    return _COLUMNS[key]


# --- pass 2 -------------------------------------------------------------------------------------------------------


def shard_tasks(plan: PartitionPlan, template: ShardTask) -> list[ShardTask]:
    """Cut the shards of a partition into tasks like `template`."""
    per_task = max(1, plan.n_shards) if template.matrix.is_turned else _shards_per_task(plan)
    tasks = []
    for first in range(0, plan.n_shards, per_task):
        last = min(plan.n_shards, first + per_task)
        tasks.append(replace(template, first=first, last=last))
    return tasks


def _shards_per_task(plan: PartitionPlan) -> int:
    """Return fewer shards where cells are small: a task holds the sketches of its cells."""
    cells_of_a_shard = plan.n_cells * plan.shard_values // max(1, plan.n_nonzero)
    return max(1, min(_SHARDS_PER_TASK, _CELLS_PER_TASK // max(1, cells_of_a_shard)))


def write_part(task: ShardTask) -> dict[str, str]:
    """Write the shards of a task and return the SHA-256 of each file, or what was written before.

    Raises
    ------
    IntegrityError
        If a cell is another one than in the first pass.
    """
    ledger = Ledger(task.ledger)
    known = ledger.get(task.name)
    if known is not None:
        written = cast("dict[str, str]", known[0]["written"])
        if all((task.staged / file).is_file() for file in written):
            return written
    plan = read_plan(task.staged)
    start, stop = plan.cells_of_shards(task.first, task.last)
    sketches = TaskSketches(genes_in(ledger), start=start)
    with open_source(task.source, part=task.matrix.part, is_known=True) as opened:
        blocks = opened.iter_blocks(
            task.matrix,
            dataset_id=task.dataset_id,
            cells=(plan.first_row + start, plan.first_row + stop),
            max_nonzero=task.max_nonzero,
        )
        same = _sketched(_unchanged(blocks, task), sketches)
        written = write_shards(task.staged, plan, shards=(task.first, task.last), blocks=same)
    if sketches.n_cells != stop - start:
        msg = f"{sketches.n_cells} of {stop - start} cells were sketched"
        raise AssertionError(msg)
    ledger.put(task.name, {"written": written}, sketches.arrays())
    return written


def _sketched(blocks: Iterable[Block], sketches: TaskSketches) -> Iterator[Block]:
    for block in blocks:
        sketches.add(block)
        yield block


def _unchanged(blocks: Iterable[Block], task: ShardTask) -> Iterator[Block]:
    """Pass the blocks on after each cell was found to be the one of the first pass."""
    for block in blocks:
        require_within(task.task_memory)
        found = block_fingerprints(block.counts)
        wrong = np.flatnonzero(found != fingerprints_aside(task.fingerprints, block.start, block.start + len(found)))
        if len(wrong):
            msg = (
                f"{block.dataset_id}, row {block.start + wrong[0]}: {len(wrong)} of {len(found)} cells have other counts "
                "than the first pass saw. The source changed in between; ingest it again."
            )
            raise IntegrityError(msg)
        yield block
