"""One contribution, from the file to the atlas: ingest, standardize, align genes, validate, write.

Two passes over the counts. The first proves them and sums them per cell and per feature; genes are aligned and every
rule is checked on what it found. Only a file without an error finding gets the second pass, which streams the same
blocks into immutable partitions. All findings of a file are collected before anything is decided, so that a
contributor goes round once.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cytolabe.engine.local import run_tasks
from cytolabe.errors import RefusedError, UnreadableInputError
from cytolabe.files import sha256_of_file
from cytolabe.genes.aliases import read_alias_table
from cytolabe.genes.alignment import align_features
from cytolabe.genes.organisms import canonical_organism, guess_organism
from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.ingest.columns import ColumnRoles, infer_columns
from cytolabe.ingest.counts import CountsProof, find_counts
from cytolabe.ingest.h5ad import H5adSource, MatrixHandle, open_h5ad
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.safety import raise_if_unsafe, scan_h5
from cytolabe.ingest.sources import SourceFile
from cytolabe.ingest.upstream import upstream_verdict
from cytolabe.records import UNKNOWN, Block, DatasetRecord, FeatureAlignment, Finding, HopState, Severity
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.build import DatasetContent, write_dataset
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.standardize.counts import standardize_block
from cytolabe.standardize.obs import CellFacts, standardize_cells
from cytolabe.validate.validator import validate_dataset

__all__ = ["Accepted", "Contribution", "Examination", "SourceOutcome", "contribute", "examine"]

_DEFAULT_ORGANISM = "Homo sapiens"
"""The reference that a file without a known organism is held against; validation then says what does not fit."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """The task of ingesting one file; small, so that it travels to a worker process."""

    atlas: Path
    source: SourceFile
    aliases: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What the first pass made of a file whose counts were proven."""

    record: DatasetRecord
    cells: pd.DataFrame
    contributed: pd.DataFrame
    alignment: FeatureAlignment


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What the first pass found of one file. `content` is None where nothing in it could be used."""

    source: SourceFile
    findings: tuple[Finding, ...]
    content: Accepted | None = None
    unreadable: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the file may enter an atlas: readable, and without an error finding."""
        return self.content is not None and all(f.severity is not Severity.ERROR for f in self.findings)


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


def contribute(
    atlas: Atlas,
    sources: Sequence[SourceFile],
    *,
    n_workers: int = 1,
    aliases: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[SourceOutcome, ...]:
    """Ingest files into an atlas and publish one revision with all that were accepted.

    The result does not depend on the order of `sources` nor on `n_workers`.
    """
    ordered = sorted(sources, key=lambda source: source.dataset_id)
    tasks = [Contribution(atlas=atlas.path, source=source, aliases=aliases) for source in ordered]

    def tell(n_done: int, n_total: int) -> None:
        on_progress(f"ingest: {n_done} of {n_total} files")

    outcomes = _of_one_organism(atlas, run_tasks(_contribute_one, tasks, n_workers=n_workers, on_done=tell))
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


def examine(source: SourceFile, *, aliases: Path | None = None) -> Examination:
    """Run the first pass over one file and collect every finding; nothing is written."""
    scan = scan_h5(source.path)
    try:
        raise_if_unsafe(scan)
    except UnreadableInputError:
        return Examination(source=source, findings=scan, unreadable=True)
    try:
        with open_h5ad(source.path) as opened:
            findings, content = _examine_opened(opened, source, aliases)
    except UnreadableInputError as error:
        return Examination(source=source, findings=(*scan, *findings_of(error)), unreadable=True)
    except RefusedError as error:
        return Examination(source=source, findings=(*scan, *findings_of(error)))
    return Examination(source=source, findings=(*scan, *findings), content=content)


def _examine_opened(
    opened: H5adSource, source: SourceFile, aliases: Path | None
) -> tuple[tuple[Finding, ...], Accepted | None]:
    manifest = source.manifest
    proof = find_counts(opened, declared=manifest.matrix, declared_kind=manifest.matrix_kind)
    roles = infer_columns(opened.cell_table, manifest)
    findings = (*opened.findings, *opened.feature_findings, *proof.findings, *roles.findings)
    if not proof.matrix:
        return findings, None
    features = opened.features(_matrix_of(opened, proof.matrix))
    told = roles.constants.get("organism") or _one_organism(opened.cell_table, roles)
    organism = canonical_organism(told or guess_organism(features))
    alias_table, alias_digest = read_alias_table(aliases) if aliases is not None else (None, "")
    alignment, gene_findings = align_features(
        features,
        proof.feature_totals,
        reference=load_reference(organism if organism in shipped_organisms() else _DEFAULT_ORGANISM),
        aliases=alias_table,
    )
    upstream = upstream_verdict(opened.cell_table, proof.cell_totals, features)
    cells, cell_findings = standardize_cells(
        opened.cell_table, opened.cell_names, facts=_cell_facts(source, roles, proof, organism=organism)
    )
    record = dataclasses.replace(
        _record(source, opened, proof, roles=roles, alias_digest=alias_digest),
        organism=organism,
        n_features=len(features),
        gene_reference=alignment.gene_reference,
        genes_mapped_fraction_of_counts=alignment.genes_mapped_fraction_of_counts,
        upstream_fraction_of_counts=upstream.fraction,
    )
    rules = validate_dataset(record, cells=cells, alignment=alignment, cell_totals=proof.cell_totals)
    content = Accepted(record=record, cells=cells, contributed=opened.cell_table, alignment=alignment)
    return (*findings, *gene_findings, *upstream.findings, *cell_findings, *rules), content


def _contribute_one(task: Contribution) -> SourceOutcome:
    found = examine(task.source, aliases=task.aliases)
    if not found.accepted or found.content is None:
        return _outcome(found, "refused", None)
    made = found.content
    with open_h5ad(task.source.path) as opened:
        content = DatasetContent(
            record=made.record,
            features=made.alignment.features,
            blocks=_standard_blocks(opened, made.record),
            cells=made.cells,
            contributed=made.contributed,
            alignment=made.alignment,
            findings=found.findings,
        )
        entry = write_dataset(task.atlas, content=content)
    return _outcome(found, "accepted", entry)


def _standard_blocks(opened: H5adSource, record: DatasetRecord) -> Iterator[Block]:
    for block in opened.iter_blocks(_matrix_of(opened, record.matrix), dataset_id=record.dataset_id):
        yield standardize_block(block)[0]


def _matrix_of(opened: H5adSource, name: str) -> MatrixHandle:
    return next(matrix for matrix in opened.matrices if matrix.name == name)


def _one_organism(table: pd.DataFrame, roles: ColumnRoles) -> str:
    """Return the organism that a column gives for all cells, or nothing where it gives several."""
    column = roles.columns.get("organism")
    values = set() if column is None else set(table[column].dropna().astype(str))
    return values.pop() if len(values) == 1 else ""


def _cell_facts(source: SourceFile, roles: ColumnRoles, proof: CountsProof, *, organism: str) -> CellFacts:
    manifest = source.manifest
    return CellFacts(
        dataset_id=source.dataset_id,
        study=manifest.study or source.dataset_id,
        columns={role: column for role, column in roles.columns.items() if role != "organism"},
        constants={**roles.constants, "organism": organism},
        label_origin=manifest.label_origin or UNKNOWN,
        unlabelled=manifest.unlabelled,
        cell_totals=proof.cell_totals,
        cell_genes=proof.cell_genes,
    )


def _record(
    source: SourceFile, opened: H5adSource, proof: CountsProof, *, roles: ColumnRoles, alias_digest: str
) -> DatasetRecord:
    manifest = source.manifest
    said = {hop: getattr(manifest, hop) for hop in ("alignment", "reference", "kit", "reads")}
    states = {hop: HopState.DECLARED if text else HopState.UNKNOWN for hop, text in said.items()}
    facts = {**said, "licence": manifest.licence, "date": manifest.date, "gene_aliases": alias_digest}
    return DatasetRecord(
        dataset_id=source.dataset_id,
        title=manifest.title or opened.title or source.dataset_id,
        source_digest=opened.source_digest,
        matrix=proof.matrix,
        matrix_kind=proof.kind,
        n_cells=opened.n_cells,
        n_features=0,
        n_nonzero=proof.n_nonzero,
        organism=UNKNOWN,
        study=manifest.study or source.dataset_id,
        columns=dict(roles.columns),
        inferred=roles.inferred,
        label_origin=manifest.label_origin or UNKNOWN,
        provenance={"matrix": proof.state, **states},
        declared={key: text for key, text in facts.items() if text},
    )


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
    if path.is_file():
        outcome = dataclasses.replace(outcome, source_sha256=sha256_of_file(path), n_bytes=path.stat().st_size)
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
