"""The first look at one file: safe to read, its counts proven, its genes aligned, every rule checked.

All findings of a file are collected before anything is decided, so that a contributor goes round once.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.errors import RefusedError, UnreadableInputError
from cytolabe.flow.meaning import meaning_findings
from cytolabe.flow.preflight import expectation
from cytolabe.flow.work import FirstPass, Work
from cytolabe.genes.aliases import read_alias_table
from cytolabe.genes.alignment import align_features
from cytolabe.genes.organisms import canonical_organism, guess_organism
from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.ingest.columns import ColumnRoles, infer_columns
from cytolabe.ingest.counts import CountsProof, find_counts
from cytolabe.ingest.identity import n_bytes_of
from cytolabe.ingest.intron_layers import with_layer_counts
from cytolabe.ingest.label_origin import OriginEvidence, label_origin_evidence
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.pipelines import DeclaredHops, declared_hops
from cytolabe.ingest.refusals import findings_of
from cytolabe.ingest.safety import raise_if_unsafe
from cytolabe.ingest.simulated_stamp import SIMULATED, simulated_stamp
from cytolabe.ingest.source import Source, format_of, open_source, scan_source
from cytolabe.ingest.sources import SourceFile
from cytolabe.ingest.upstream import upstream_verdict
from cytolabe.records import UNKNOWN, DatasetRecord, FeatureAlignment, Finding, Severity
from cytolabe.snapshot.build import DatasetContent
from cytolabe.standardize.obs import CellFacts, standardize_cells
from cytolabe.validate.validator import validate_dataset

__all__ = ["Accepted", "Examination", "examine"]

_PUBLISHED = (
    "licence", "access", "citation", "doi", "collection", "version", "schema_version", "source_url", "date", "collected",
)  # fmt: skip
"""What is declared of the publication of a file; it goes into the record as it is said."""

_DEFAULT_ORGANISM = "Homo sapiens"
"""The reference that a file without a known organism is held against; validation then says what does not fit."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What the first pass made of a file whose counts were proven."""

    record: DatasetRecord
    matrix: MatrixHandle
    proof: CountsProof
    first_pass: FirstPass
    cell_names: Sequence[str]
    cells: pd.DataFrame
    contributed: pd.DataFrame
    alignment: FeatureAlignment

    def content(self, findings: tuple[Finding, ...]) -> DatasetContent:
        """Return what the file brings into an atlas, but for its counts."""
        return DatasetContent(
            record=self.record,
            features=self.alignment.features,
            blocks=(),
            cells=self.cells,
            contributed=self.contributed,
            alignment=self.alignment,
            findings=findings,
        )

    def without_cells(self) -> "Accepted":
        """Return the same without what is held of each cell."""
        none = np.zeros(0, dtype=np.int64)
        return dataclasses.replace(
            self,
            proof=dataclasses.replace(
                self.proof, cell_totals=none, cell_genes=none, fingerprints=none.astype(np.uint64), layer_counts={}
            ),
            cell_names=(),
            cells=self.cells[:0].copy(),
            contributed=self.contributed[:0].copy(),
        )


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What the first pass found of one file. `content` is None where nothing in it could be used."""

    source: SourceFile
    findings: tuple[Finding, ...]
    content: Accepted | None = None
    unreadable: bool = False
    source_sha256: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the file may enter an atlas: readable, and without an error finding."""
        return self.content is not None and all(f.severity is not Severity.ERROR for f in self.findings)


def examine(source: SourceFile, *, aliases: Path | None = None, work: Work | None = None) -> Examination:
    """Run the first pass over one file and collect every finding; nothing is written but the ledger of `work`."""
    scan = scan_source(source.path)
    try:
        raise_if_unsafe(scan)
    except UnreadableInputError:
        return Examination(source=source, findings=scan, unreadable=True)
    work = work or Work()
    first_pass = FirstPass(source.path, work)
    try:
        with open_source(source.path, part=source.manifest.part) as opened:
            work.tell(
                expectation(
                    opened, n_bytes_of(source.path), n_workers=work.engine.n_workers, max_nonzero=work.max_nonzero
                )
            )
            findings, content = _examine_opened(opened, source, aliases=aliases, first_pass=first_pass)
    except UnreadableInputError as error:
        return Examination(source=source, findings=(*scan, *findings_of(error)), unreadable=True)
    except RefusedError as error:
        return Examination(source=source, findings=(*scan, *findings_of(error)))
    told = (*scan, *findings)
    return Examination(
        source=source,
        # Warnings and notes alone: what a table does not mean refuses no file.
        findings=(*told, *meaning_findings(source.path, told)),
        content=content,
        source_sha256=first_pass.source_sha256,
    )


def _examine_opened(
    opened: Source, source: SourceFile, *, aliases: Path | None, first_pass: FirstPass
) -> tuple[tuple[Finding, ...], Accepted | None]:
    manifest = source.manifest
    proof = find_counts(
        opened, declared=manifest.matrix, declared_kind=manifest.matrix_kind, tally_of=first_pass.tally_of
    )
    roles = infer_columns(opened.cell_table, manifest)
    findings = (*opened.findings, *opened.feature_findings, *proof.findings, *roles.findings)
    if not proof.matrix:
        return findings, None
    matrix = next(found for found in opened.matrices if found.name == proof.matrix)
    features = opened.features(matrix)
    told = roles.constants.get("organism") or _one_organism(opened.cell_table, roles)
    organism = canonical_organism(told or guess_organism(features))
    alias_table = read_alias_table(aliases) if aliases is not None else None
    alignment, gene_findings = align_features(
        features,
        proof.feature_totals,
        reference=load_reference(organism if organism in shipped_organisms() else _DEFAULT_ORGANISM),
        aliases=alias_table.genes if alias_table is not None else None,
    )
    origin = _origin(opened, roles, declared=manifest.label_origin)
    upstream = upstream_verdict(opened.cell_table, proof.cell_totals, features, feature_totals=proof.feature_totals)
    hops = declared_hops(source, is_tenx_h5=format_of(source.path) == "10x-h5")
    cells, cell_findings = standardize_cells(
        opened.cell_table, opened.cell_names, facts=_cell_facts(source, roles, proof, organism=organism)
    )
    record = dataclasses.replace(
        _record(
            source,
            opened,
            proof,
            roles=roles,
            hops=hops,
            alias_digest=alias_table.digest if alias_table is not None else "",
        ),
        source_digest=f"sha256:{first_pass.source_sha256}",
        organism=organism,
        n_features=len(features),
        gene_reference=alignment.gene_reference,
        annotation=alignment.annotation,
        annotation_evidence=alignment.annotation_evidence,
        genes_mapped_fraction_of_counts=alignment.genes_mapped_fraction_of_counts,
        upstream_fraction_of_counts=upstream.fraction,
        label_origin_suspected=origin.suspected,
        label_origin_evidence=origin.evidence,
    )
    rules = validate_dataset(record, cells=cells, alignment=alignment, cell_totals=proof.cell_totals)
    content = Accepted(
        record=record,
        matrix=matrix,
        proof=proof,
        first_pass=first_pass,
        cell_names=opened.cell_names,
        cells=cells,
        contributed=with_layer_counts(opened.cell_table, proof.layer_counts),
        alignment=alignment,
    )
    beside = (*gene_findings, *upstream.findings, *origin.findings, *hops.findings, *cell_findings)
    return (*findings, *beside, *rules), content


def _origin(opened: Source, roles: ColumnRoles, *, declared: str) -> OriginEvidence:
    """Return where labels seem to come from; whether cells are made up is asked first, and of files without labels too."""
    stamp = simulated_stamp(opened.cell_table, opened.uns_keys, declared=declared)
    if stamp.is_simulated:
        return OriginEvidence(suspected=SIMULATED, evidence=stamp.evidence, findings=stamp.findings)
    found = label_origin_evidence(opened.cell_table, roles.columns, declared=declared)
    return dataclasses.replace(found, findings=(*stamp.findings, *found.findings))


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
    source: SourceFile, opened: Source, proof: CountsProof, *, roles: ColumnRoles, hops: DeclaredHops, alias_digest: str
) -> DatasetRecord:
    manifest = source.manifest
    published = {key: getattr(manifest, key) for key in _PUBLISHED}
    labelled_by = {key: getattr(manifest, key) for key in ("label_tool", "label_reference")}
    facts = {**hops.words, **published, **labelled_by, "gene_aliases": alias_digest}
    return DatasetRecord(
        dataset_id=source.dataset_id,
        title=manifest.title or opened.title or source.dataset_id,
        source_digest="",
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
        provenance={"matrix": proof.state, **hops.states},
        declared={key: text for key, text in facts.items() if text},
        evidence=hops.evidence,
    )
