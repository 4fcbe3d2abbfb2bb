"""One contribution, from the file to the atlas: ingest, standardize, align genes, validate, write.

Two passes over the counts. The first proves them and sums them per cell and per feature; genes are aligned and every
rule is checked on what it found (`flow.examine`). Only a file without an error finding gets the second pass, which
writes immutable partitions. Both passes are independent tasks of an engine (`flow.work`); their results are kept in a
scratch of the atlas until the data set is written, so that a run that was killed goes on where it was. Files of
which there are enough to go round are one task each (`flow.schedule`). The result depends on none of this.
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolabe.engine import LocalEngine
from cytolabe.errors import IntegrityError, WorkerDiedError
from cytolabe.files import Place, replace_file, staged_directory
from cytolabe.flow.apart import crashed
from cytolabe.flow.budget import release_unused
from cytolabe.flow.examine import Examination, examine
from cytolabe.flow.preflight import estimate, require_room
from cytolabe.flow.schedule import files_to_cut
from cytolabe.flow.set_aside import set_aside
from cytolabe.flow.work import CountsToWrite, Work, write_counts
from cytolabe.genes.aliases import read_alias_table
from cytolabe.ingest.census import is_census
from cytolabe.ingest.identity import digest_of, files_of, n_bytes_of
from cytolabe.ingest.pipelines import pipeline_state
from cytolabe.ingest.sources import SourceFile
from cytolabe.provenance import canonical_json
from cytolabe.provenance.ledger import ledger_key, source_state
from cytolabe.records import UNKNOWN, Finding, Severity
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.build import write_cells, write_dataset
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.purge import finish_purge
from cytolabe.snapshot.reach import stub_of
from cytolabe.snapshot.sketches import SketchTable
from cytolabe.store.scratch import held_scratch, scratch_root

__all__ = ["Contribution", "SourceOutcome", "contribute", "contribute_alone", "contribute_with"]


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """The task of ingesting one file; small, so that it travels to a worker process.

    `in_force` is the digest of the entry that its data set has now, if any.
    """

    atlas: Place
    source: SourceFile
    aliases: Path | None = None
    max_nonzero: int = 2_000_000
    task_memory: int = 0
    in_force: str = ""


@dataclass(frozen=True, kw_only=True)
class SourceOutcome:
    """What became of one file. `status` is accepted, refused or unchanged."""

    source: str
    dataset_id: str
    status: str
    findings: tuple[Finding, ...]
    n_cells: int = 0
    n_genes: int = 0
    genes_mapped_fraction_of_counts: float | None = None
    source_sha256: str = ""
    n_bytes: int = 0
    unreadable: bool = False
    entry: DatasetEntry | None = None

    @property
    def known(self) -> dict[str, object]:
        """What the record says beyond sizes: origin of the labels, and how much of each cell is left (rules R2, R7)."""
        record = None if self.entry is None else self.entry.record
        names = ("label_origin", "label_origin_suspected", "label_origin_evidence", "upstream_fraction_of_counts")
        return {name: getattr(record, name, None) for name in names}


def contribute(
    atlas: Atlas,
    sources: Sequence[SourceFile],
    *,
    n_workers: int = 1,
    aliases: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[SourceOutcome, ...]:
    """Ingest files into an atlas on this machine; see `contribute_with`."""
    with LocalEngine(n_workers) as engine:
        return contribute_with(Work(engine=engine), atlas, sources, aliases=aliases, on_progress=on_progress)


def contribute_with(
    work: Work,
    atlas: Atlas,
    sources: Sequence[SourceFile],
    *,
    aliases: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[SourceOutcome, ...]:
    """Ingest files into an atlas and publish one revision with all that were accepted.

    The result does not depend on the order of `sources` nor on who does the work.
    """
    ordered = sorted(sources, key=lambda source: source.dataset_id)
    tasks = [
        Contribution(
            atlas=atlas.path,
            source=source,
            aliases=aliases,
            max_nonzero=work.max_nonzero,
            task_memory=work.task_memory,
            in_force=_in_force(atlas, source.dataset_id),
        )
        for source in ordered
    ]
    remote = [source.path for source in ordered if is_census(source.path)]
    here = [source.path for source in ordered if source.path.exists() and source.path not in remote]
    on_progress(estimate(atlas.path, sum(map(n_bytes_of, here)), n_remote=len(remote)))
    outcomes = _of_one_organism(atlas, _run_all(tasks, work, on_progress))
    ended = tuple(_refused_as_purged(outcome) if _is_purged(atlas, outcome) else outcome for outcome in outcomes)
    try:
        return _published(atlas, ended)
    finally:
        if ended != outcomes:
            # What was written again of cells that are to be nowhere leaves at once.
            finish_purge(atlas.layout)


def _published(atlas: Atlas, outcomes: tuple[SourceOutcome, ...]) -> tuple[SourceOutcome, ...]:
    """Put the data sets that were accepted in force, and tell which of them were before."""
    entries = [outcome.entry for outcome in outcomes if outcome.entry is not None]
    if not entries:
        return outcomes
    named = ", ".join(outcome.dataset_id for outcome in outcomes if outcome.entry is not None)
    changes = atlas.publish(entries, message=f"ingest {named}").changes
    return tuple(
        dataclasses.replace(outcome, status="unchanged")
        if outcome.entry is not None and changes.get(f"datasets/{outcome.dataset_id}") == "unchanged"
        else outcome
        for outcome in outcomes
    )


def _run_all(
    tasks: Sequence[Contribution], work: Work, on_progress: Callable[[str], None]
) -> tuple[SourceOutcome, ...]:
    """Run most files side by side, the largest first, then each of the others with all workers on its parts."""
    sizes = [n_bytes_of(task.source.path) if task.source.path.exists() else 0 for task in tasks]
    cut = files_to_cut(sizes, work.engine.n_workers)
    ordered = sorted(range(len(tasks)), key=lambda place: (-sizes[place], place))
    whole = [tasks[place] for place in ordered if place not in cut]

    def tell(n_done: int, _: int) -> None:
        on_progress(f"ingest: {n_done} of {len(tasks)} files")
        work.on_cells("ingest", n_done, len(tasks), unit="files")

    done = dict(
        zip(
            (task.source.dataset_id for task in whole),
            work.engine.map(contribute_alone, whole, memory=work.task_memory, on_done=tell, on_crash=_crashed),
            strict=True,
        )
    )
    work = dataclasses.replace(work, tell=on_progress)
    for task in (tasks[place] for place in ordered if place in cut):
        done[task.source.dataset_id] = _contribute_twice(task, work)
        on_progress(f"ingest: {len(done)} of {len(tasks)} files")
    return tuple(done[task.source.dataset_id] for task in tasks)


def _contribute_twice(task: Contribution, work: Work) -> SourceOutcome:
    """Ingest a large file; where a worker dies over it, go on once from what was finished."""
    try:
        return _contribute_one(task, work)
    except WorkerDiedError:
        pass
    try:
        return _contribute_one(task, work)
    except WorkerDiedError:
        return _crashed(task)


def _crashed(task: Contribution) -> SourceOutcome:
    """Return what becomes of a file over which a worker died twice: it is refused, the others go on."""
    path = task.source.path
    return SourceOutcome(
        source=path.name,
        dataset_id=task.source.dataset_id,
        status="refused",
        findings=(crashed(path),),
        n_bytes=n_bytes_of(path),
        unreadable=True,
    )


def contribute_alone(task: Contribution) -> SourceOutcome:
    """Ingest one file in this process; nothing is published."""
    try:
        return _contribute_one(task, Work(max_nonzero=task.max_nonzero, task_memory=task.task_memory))
    finally:
        release_unused()


def _contribute_one(task: Contribution, work: Work) -> SourceOutcome:
    source = task.source
    if not _has_content(source.path):
        return _outcome(examine(source, aliases=task.aliases), "refused", None)
    state = source_state(source.path)
    aliases = read_alias_table(task.aliases).digest if task.aliases is not None else ""
    declared = dataclasses.asdict(source.manifest)
    said = {
        "dataset_id": source.dataset_id,
        "manifest": declared,
        "aliases": aliases,
        "pipeline": pipeline_state(source),
    }
    before = _unchanged(task, said)
    if before is not None:
        return before
    key = ledger_key(source=state, **said)
    with held_scratch(task.atlas, key) as scratch, staged_directory(scratch) as aside:
        work = dataclasses.replace(work, ledger=scratch)
        found = examine(source, aliases=task.aliases, work=work)
        if not found.accepted or found.content is None:
            return _outcome(found, "refused", None)
        made = found.content
        require_room(task.atlas, made.record.n_nonzero)
        release_unused()
        content = write_cells(task.atlas, content=made.content(found.findings))
        apart = set_aside(made.proof, made.cell_names, aside)
        # The rows of the cells are written: the counts get their memory.
        made = made.without_cells()
        found = dataclasses.replace(found, content=made)
        release_unused()
        sketches = SketchTable(n_cells=made.record.n_cells, folder=aside)
        partitions = write_counts(
            Layout(task.atlas).partitions,
            CountsToWrite(
                source=source.path,
                dataset_id=source.dataset_id,
                matrix=made.matrix,
                features=made.alignment.features,
                gene_ids=made.alignment.gene_ids,
                sketches=sketches,
                first_pass=made.first_pass,
                cells=apart,
            ),
            work,
        )
        if source_state(source.path) != state:
            msg = f"{source.path.name} was changed while it was read; nothing of it was taken. Ingest it again."
            raise IntegrityError(msg)
        content = dataclasses.replace(
            content, partitions=partitions, derived={"sketches": sketches.close(Layout(task.atlas).tables)}
        )
        entry = write_dataset(task.atlas, content=content)
        outcome = _outcome(found, "accepted", entry)
    remembered = {"key": ledger_key(source=outcome.source_sha256, **said), "entry": entry.digest}
    replace_file(_memory_of(task), canonical_json({**remembered, "n_genes": outcome.n_genes}))
    return outcome


# --- the same file again ------------------------------------------------------------------------------------------


def _in_force(atlas: Atlas, dataset_id: str) -> str:
    return atlas.entry(dataset_id).digest if dataset_id in atlas.dataset_ids else ""


def _memory_of(task: Contribution) -> Path:
    """Return the file that remembers what the entry of a data set was made of; without it, it is made again."""
    return scratch_root(task.atlas) / f"{task.source.dataset_id}.known.json"


def _unchanged(task: Contribution, said: Mapping[str, object]) -> SourceOutcome | None:
    """Return what became of the same bytes under the same declarations and code, where that is still in force."""
    try:
        known = json.loads(_memory_of(task).read_bytes())
    except (OSError, ValueError):
        return None
    path = task.source.path
    if not task.in_force or not isinstance(known, dict) or known.get("entry") != task.in_force:
        return None
    sha256 = digest_of(path)
    if known.get("key") != ledger_key(source=sha256, **said):
        return None
    entry = read_entry(Layout(task.atlas), task.in_force)
    return SourceOutcome(
        source=path.name,
        dataset_id=task.source.dataset_id,
        status="unchanged",
        findings=entry.findings,
        n_cells=entry.n_cells,
        n_genes=int(known["n_genes"]),
        genes_mapped_fraction_of_counts=entry.record.genes_mapped_fraction_of_counts,
        source_sha256=sha256,
        n_bytes=n_bytes_of(path),
        entry=entry,
    )


def _has_content(path: Path) -> bool:
    """Tell whether there are bytes to name: a pipe or a device may have no end, and the system may deny them."""
    if not (path.is_file() or path.is_dir()) or not os.access(path, os.R_OK):
        return False
    return all(os.access(part, os.R_OK) for part in files_of(path))


def _outcome(found: Examination, status: str, entry: DatasetEntry | None) -> SourceOutcome:
    path, content = found.source.path, found.content
    outcome = SourceOutcome(
        source=path.name,
        dataset_id=found.source.dataset_id,
        status=status,
        findings=found.findings,
        unreadable=found.unreadable,
        entry=entry,
    )
    if _has_content(path):
        sha256 = found.source_sha256 or digest_of(path)
        outcome = dataclasses.replace(outcome, source_sha256=sha256, n_bytes=n_bytes_of(path))
    if content is None:
        return outcome
    return dataclasses.replace(
        outcome,
        n_cells=content.record.n_cells,
        n_genes=len(content.alignment.measured_genes),
        genes_mapped_fraction_of_counts=content.record.genes_mapped_fraction_of_counts,
    )


def _of_one_organism(atlas: Atlas, outcomes: Sequence[SourceOutcome]) -> tuple[SourceOutcome, ...]:
    """Refuse the files of another organism: that of the atlas, or of most of the new cells (rule R3)."""
    n_cells: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.entry is not None:
            n_cells[outcome.entry.record.organism] += outcome.n_cells
    there = {atlas.entry(name).record.organism for name in atlas.dataset_ids}
    chosen = min(there) if there else min(n_cells, key=lambda name: (-n_cells[name], name), default="")
    return tuple(
        _refused_for_organism(outcome, chosen, n_cells)
        if outcome.entry is not None and outcome.entry.record.organism != chosen
        else outcome
        for outcome in outcomes
    )


def _refused_for_organism(outcome: SourceOutcome, chosen: str, n_cells: Counter[str]) -> SourceOutcome:
    own = outcome.entry.record.organism if outcome.entry is not None else UNKNOWN
    finding = Finding(
        code="E-ORGANISM-04",
        severity=Severity.ERROR,
        where="organism",
        n_affected=outcome.n_cells,
        n_total=sum(n_cells.values()),
        examples=(own,),
        message=f"The cells are {own}, the atlas is {chosen}; their genes are not the same genes.",
        remedy=f"Make an atlas of its own for {own}, or correct organism in the manifest.",
        rule="R3",
    )
    return dataclasses.replace(outcome, status="refused", entry=None, findings=(*outcome.findings, finding))


def _is_purged(atlas: Atlas, outcome: SourceOutcome) -> bool:
    layout, entry = atlas.layout, outcome.entry
    return entry is not None and stub_of(layout, layout.document(layout.datasets, entry.digest))


def _refused_as_purged(outcome: SourceOutcome) -> SourceOutcome:
    finding = Finding(
        code="E-PURGED-01",
        severity=Severity.ERROR,
        where=outcome.source,
        n_affected=outcome.n_cells,
        n_total=outcome.n_cells,
        message="This is the data set that was purged, with the cells of persons who withdrew in it.",
        remedy="Ingest a version without them. Nothing of this attempt was kept.",
        rule="cytolabe/withdrawals",
    )
    return dataclasses.replace(outcome, status="refused", entry=None, findings=(*outcome.findings, finding))
