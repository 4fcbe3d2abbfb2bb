"""How the two passes over one file are handed to an engine, and what comes back merged.

`FirstPass` runs ranges and keeps what the store needs of them: leaves of the counts digest, the largest count of each
range, the digest of the file's bytes, which is computed beside the first ranges. `write_counts` runs the second pass.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from cytolabe.engine import Engine, LocalEngine
from cytolabe.files import Place
from cytolabe.flow.budget import release_unused
from cytolabe.flow.passes import ProofTask, ShardTask, cells_per_task, prove, shard_tasks, write_part
from cytolabe.flow.set_aside import CellsAside
from cytolabe.flow.sketching import append_tasks, put_genes
from cytolabe.ingest.identity import digest_of
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.tally import MatrixTally, merge_tallies
from cytolabe.provenance.ledger import Ledger
from cytolabe.snapshot.sketches import SketchTable
from cytolabe.store.counts_digest import RANGE_CELLS, combine_leaves, feature_order
from cytolabe.store.physical import ROOT_NAME, PartitionEntry, intact_files, partition_path
from cytolabe.store.plan import PartitionPlan, read_plan, write_plan
from cytolabe.store.writing import MAX_CELLS, seal_partition

__all__ = ["CountsToWrite", "FirstPass", "OnCells", "Work", "write_counts"]


@runtime_checkable
class OnCells(Protocol):
    """Is told how much of a stage is done."""

    def __call__(self, stage: str, n_done: int, n_total: int, /, *, unit: str = "cells") -> None:
        """Take in that `n_done` of `n_total` cells, or whatever the unit is, of a stage are done."""
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """Who does the work, within what, and where finished tasks are kept.

    `max_nonzero` bounds the entries that one task holds at a time and `task_memory` its bytes; `on_cells` is told the
    stage, and how many cells of how many are done; `tell` is told what a file is about to cost.
    """

    engine: Engine = field(default_factory=LocalEngine)
    ledger: Path | None = None
    max_nonzero: int = 2_000_000
    task_memory: int = 0
    on_cells: OnCells = lambda _stage, _done, _total, unit="cells": None  # noqa: ARG005
    tell: Callable[[str], None] = lambda _: None


class FirstPass:
    """The first pass over one file: call `tally_of` for each matrix that could be the counts."""

    def __init__(self, source: Path, work: Work) -> None:
        self._source = source
        self._work = work
        self._source_sha256 = ""
        self._leaves: dict[str, tuple[str, ...]] = {}
        self._largest: dict[str, list[tuple[int, float]]] = {}

    @property
    def source_sha256(self) -> str:
        """SHA-256 of the bytes of the file."""
        if not self._source_sha256:
            self._source_sha256 = digest_of(self._source)
        return self._source_sha256

    def tally_of(self, matrix: MatrixHandle) -> MatrixTally:
        """Prove a matrix range by range and return the tally of all of it.

        Raises
        ------
        CytolabeError
            What damaged bytes or structure raised, for the first range that has any.
        """
        n_cells, step = matrix.shape[0], cells_per_task(matrix)
        template = ProofTask(
            source=self._source,
            ledger=self._work.ledger,
            max_nonzero=self._work.max_nonzero,
            task_memory=self._work.task_memory,
        )
        tasks = [
            dataclasses.replace(template, matrix=matrix, first=first, last=min(n_cells, first + step))
            for first in range(0, n_cells, step)
        ]
        # The hash of a large file takes long: it goes first, beside the ranges.
        hashing = [] if self._source_sha256 else [template]
        found = self._work.engine.map(
            prove,
            [*hashing, *tasks],
            memory=self._work.task_memory,
            on_done=lambda done, _: self._tell(matrix, max(0, done - len(hashing)) * step),
        )
        if hashing:
            self._source_sha256 = found[0].source_sha256
        ranges = found[len(hashing) :]
        for proof in ranges:
            if proof.problem is not None:
                raise proof.problem
        tallies = [proof.tally for proof in ranges if proof.tally is not None]
        self._leaves[matrix.name] = tuple(leaf for proof in ranges for leaf in proof.leaves)
        self._largest[matrix.name] = [(tally.start, tally.largest) for tally in tallies]
        return merge_tallies(tallies)

    def leaves(self, matrix: str, start: int, stop: int) -> tuple[str, ...]:
        """Return the leaves of cells `start` to `stop`; `start` is a multiple of `RANGE_CELLS`."""
        return self._leaves[matrix][start // RANGE_CELLS : -(-stop // RANGE_CELLS)]

    def largest(self, matrix: str, start: int, stop: int) -> int:
        """Return a bound on the counts of cells `start` to `stop`: the largest one of the ranges that hold them."""
        ranges = self._largest[matrix]
        starts = [first for first, _ in ranges]
        low = int(np.searchsorted(starts, start, side="right")) - 1
        high = int(np.searchsorted(starts, stop, side="left"))
        return int(max((value for _, value in ranges[low:high]), default=0.0))

    def _tell(self, matrix: MatrixHandle, n_done: int) -> None:
        self._work.on_cells(f"proving {matrix.name}", min(n_done, matrix.shape[0]), matrix.shape[0])


@dataclass(frozen=True, kw_only=True)
class CountsToWrite:
    """What the second pass needs to know: the source, what was proven of it, and the first pass itself.

    `gene_ids` is the gene of each feature, empty where it has none; the sketches of all cells are appended to `sketches`.
    """

    source: Path
    dataset_id: str
    matrix: MatrixHandle
    features: tuple[str, ...]
    gene_ids: tuple[str, ...]
    sketches: SketchTable
    first_pass: FirstPass
    cells: CellsAside


def write_counts(partitions: Place, counts: CountsToWrite, work: Work) -> tuple[PartitionEntry, ...]:
    """Run the second pass: write the proven counts as partitions into the directory `partitions`.

    Raises
    ------
    IntegrityError
        If the source changed since the first pass.
    """
    n_cells = counts.matrix.shape[0]
    return tuple(
        _write_partition(partitions, counts, (start, min(n_cells, start + MAX_CELLS)), work=work)
        for start in range(0, n_cells, MAX_CELLS)
    )


def _write_partition(partitions: Place, counts: CountsToWrite, cells: tuple[int, int], *, work: Work) -> PartitionEntry:
    start, stop = cells
    name = counts.matrix.name
    plan = PartitionPlan(
        dataset_id=counts.dataset_id,
        features=counts.features,
        first_row=start,
        indptr=np.concatenate([[0], np.cumsum(counts.cells.genes_of(start, stop))]).astype(np.int64),
        largest=counts.first_pass.largest(name, start, stop),
    )
    leaves = counts.first_pass.leaves(name, start, stop)
    digest = combine_leaves(leaves, features_digest=plan.features_digest, n_cells=plan.n_cells)
    # On an object store a partition without its root is one that was not uploaded to the end.
    if (partition_path(partitions, digest) / ROOT_NAME).is_file():
        in_order = [counts.gene_ids[place] for place in feature_order(counts.features)]
        counts.sketches.append_partition(partition_path(partitions, digest), in_order)
        return _entry_of(partitions, plan, digest)
    if work.ledger is None:
        msg = "the second pass needs a ledger: its tasks meet there"
        raise ValueError(msg)
    staged = work.ledger / f"partition-{start}"
    write_plan(staged, plan)
    plan = dataclasses.replace(plan, indptr=read_plan(staged).indptr)
    put_genes(Ledger(work.ledger), counts.gene_ids)
    template = ShardTask(
        source=counts.source,
        dataset_id=counts.dataset_id,
        matrix=counts.matrix,
        staged=staged,
        first=0,
        last=0,
        ledger=work.ledger,
        fingerprints=counts.cells.fingerprints,
        max_nonzero=work.max_nonzero,
        task_memory=work.task_memory,
    )
    tasks = shard_tasks(plan, template)
    written = work.engine.map(
        write_part,
        tasks,
        memory=work.task_memory,
        on_done=lambda done, total: work.on_cells(
            "writing counts", start + (stop - start) * done // total, counts.matrix.shape[0]
        ),
    )
    # The blocks of the counts lie in a heap that would stay beside a row group of sketches.
    release_unused()
    append_tasks(counts.sketches, Ledger(work.ledger), [task.name for task in tasks], n_cells=plan.n_cells)
    return seal_partition(
        partitions,
        staged,
        plan,
        digest=digest,
        cell_names=counts.cells.names.part(start, stop),
        written={file: sha256 for files in written for file, sha256 in files.items()},
    )


def _entry_of(partitions: Place, plan: PartitionPlan, digest: str) -> PartitionEntry:
    """Return the entry of a partition that is there already: of equal content, or of a run that ended right after it."""
    return PartitionEntry(
        digest=digest,
        dataset_id=plan.dataset_id,
        n_cells=plan.n_cells,
        n_features=len(plan.features),
        n_nonzero=plan.n_nonzero,
        features_digest=plan.features_digest,
        files=intact_files(partition_path(partitions, digest)),
    )
