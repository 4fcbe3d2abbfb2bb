"""Lay out what a study found, and write it down: tables, report, and the run record that names them by digest.

`run.json` is written last, so that a folder with one is whole. Neither it nor any file that it names holds a time, a
host or a path: two runs of the same study are equal byte for byte. What the run cost stands beside them (`flow.costs`).
With the record the fits that were kept for a run that goes on are removed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cytolabe.audit import cell_type_claim, donor_claim, exposure_to_ledger, person_table
from cytolabe.evaluate.documents import write_scores
from cytolabe.evaluate.gene_space import gene_spaces_table
from cytolabe.evaluate.kept_fits import KEPT_FITS, remove_kept_fits
from cytolabe.evaluate.rare_types import rare_types
from cytolabe.files import replace_file
from cytolabe.flow.certificates import labels_of_levels, write_grounds
from cytolabe.flow.claims import simulated_claim
from cytolabe.flow.costs import write_costs
from cytolabe.flow.ladder import LADDER_FILE, Ladder, write_ladder
from cytolabe.flow.quality import quality_document
from cytolabe.flow.recording import Step, model_parents, parameters_of, step_record
from cytolabe.flow.study import StudyEvidence
from cytolabe.flow.verify import RUN_RECORD
from cytolabe.ontology.graph import load_ontology
from cytolabe.provenance import artifact_of, canonical_json, code_identity, jsonable
from cytolabe.reconcile import write_sssom
from cytolabe.records import UNKNOWN, Artifact, NamedDigest
from cytolabe.report import PlantedFault, ReportContent, RunFacts, SourceRow, write_report
from cytolabe.snapshot.access import access_of, declared_access
from cytolabe.snapshot.run_ledger import body_of, record_id_of, write_run
from cytolabe.split import write_split
from cytolabe.store.tables import write_parquet

__all__ = ["claims_table", "evidence_document", "publish_run", "report_content"]

SPLIT = "split.json"
_DONOR_FACTORS = ("disease", "sex")
_OUTPUTS = (
    "cells.tsv", "certificate.json", "evidence.json", "mappings.sssom.tsv", "predictions.parquet", "report.html", "scores.json", "scores.parquet",
    "split.json", "verify_certificate.py",
)  # fmt: skip


def publish_run(
    evidence: StudyEvidence,
    out: Path,
    *,
    planted: Sequence[PlantedFault] = (),
    ladder: Ladder | None = None,
    asked: Mapping[str, object] | None = None,
) -> ReportContent:
    """Write every output of a study into `out` and return what the report says.

    `asked` is what was asked for beside the study, for the record of the run: how a demonstration was simulated.
    """
    write_split(evidence.split, out / SPLIT, access=declared_access(evidence.snapshot))
    write_sssom(evidence.snapshot.mappings, out / "mappings.sssom.tsv", ontology=load_ontology("CL"))
    write_scores(evidence.result, out)
    certificates = [jsonable(certificate) for certificate in evidence.result.certificates]
    replace_file(out / "certificate.json", canonical_json({"certificates": certificates}))
    labels = labels_of_levels(evidence.snapshot, evidence.resolutions)
    write_grounds(evidence.snapshot, evidence.split.folds, out, labels=labels)
    write_parquet(evidence.result.predictions, out / "predictions.parquet")
    content = report_content(evidence, planted=planted)
    if ladder is not None:
        write_ladder(ladder, out, snapshot_id=evidence.snapshot.snapshot_id)
        content = dataclasses.replace(content, ladder=ladder.table, rungs=ladder.rung_table())
    quality = quality_document(evidence.snapshot, evidence.quality)["datasets"]
    replace_file(out / "evidence.json", canonical_json({**evidence_document(content), "quality": jsonable(quality)}))
    outputs = (*_OUTPUTS, *((LADDER_FILE,) if ladder is not None else ()))
    before = [artifact_of(out / name, "output") for name in outputs if name != "report.html"]
    content = dataclasses.replace(content, artifacts=[(artifact.name, artifact.sha256) for artifact in before])
    write_report(content, out / "report.html")
    if evidence.result.costs is not None:
        write_costs(content, evidence.result.costs, out)
    _write_run_record(evidence, out, outputs=outputs, asked=asked or {})
    # The record names all outputs by digest: with it a withdrawal finds the scores and predictions of the run.
    evidence.atlas.register_artifact("run", out / RUN_RECORD, evidence.snapshot.snapshot_id)
    remove_kept_fits(out / KEPT_FITS)
    return content


def report_content(evidence: StudyEvidence, *, planted: Sequence[PlantedFault] = ()) -> ReportContent:
    """Gather what a report may say; nothing is computed here that a stage did not find."""
    study, snapshot, result = evidence.study, evidence.snapshot, evidence.result
    ontology = load_ontology("CL")
    exposures = {(e.model, e.dataset_id, e.status): e for audit in result.audits for e in audit.exposures}
    sizes = snapshot.cells["dataset_id"].value_counts()
    published = exposure_to_ledger({str(name): int(n) for name, n in sizes.items()}, snapshot.datasets)
    return ReportContent(
        title=study.title or study.name,
        claims=(*simulated_claim(snapshot), *study.claims),
        snapshot_id=snapshot.snapshot_id,
        facts=RunFacts(
            cytolabe_version=code_identity()["version"],
            ontology_release=snapshot.ontology_release,
            gene_reference=snapshot.gene_reference,
            seed=study.seed,
            split_rule=f"leave one {' + '.join(study.by)} out",
        ),
        decision_level=study.decision_level,
        gene_policy=study.gene_policies[0],
        datasets=tuple(snapshot.datasets.values()),
        sources=tuple(
            SourceRow(
                source=outcome.source,
                dataset_id=outcome.dataset_id,
                status=outcome.status,
                n_cells=outcome.n_cells,
                n_genes=outcome.n_genes,
                genes_mapped_fraction_of_counts=outcome.genes_mapped_fraction_of_counts,
                findings=outcome.findings,
            )
            for outcome in evidence.outcomes
        ),
        findings=evidence.findings,
        mappings=snapshot.mappings,
        levels={
            level.name: [(term, ontology.name(term)) for term in level.terms] for level in evidence.resolutions.levels
        },
        support=result.support,
        gene_spaces=gene_spaces_table(result.gene_spaces),
        folds=evidence.split.folds,
        persons=person_table(snapshot),
        duplicates=evidence.duplicates.pairs,
        duplicates_not_testable=evidence.duplicates.not_testable,
        confounding=pd.DataFrame([jsonable(row) for row in evidence.confounding]),
        claims_refused=claims_table(evidence),
        exposure=tuple(exposures[key] for key in sorted(exposures)),
        exposure_published=published,
        scores=result.scores,
        integration=result.integration,
        limited=result.limited,
        confusions=result.confusions,
        rare_types=rare_types(result.confusions, level=study.decision_level),
        certificates=result.certificates,
        planted_faults=planted,
    )


def evidence_document(content: ReportContent) -> dict[str, object]:
    """Return everything beside the scores that a report stands on, whole: the page may cut its tables."""
    frames = {
        "support": content.support,
        "gene_spaces": content.gene_spaces,
        "persons": content.persons,
        "duplicates": content.duplicates,
        "confounding": content.confounding,
        "claims": content.claims_refused,
    }
    return {
        "snapshot_id": content.snapshot_id,
        "access": {record.dataset_id: access_of(record) for record in content.datasets},
        "sources": jsonable(content.sources),
        "findings": jsonable(content.findings),
        **{name: _rows(frame) for name, frame in frames.items()},
        "duplicates_not_testable": dict(content.duplicates_not_testable),
        "exposure": jsonable(content.exposure),
        "exposure_published": jsonable(content.exposure_published),
        "planted_faults": jsonable(content.planted_faults),
    }


def claims_table(evidence: StudyEvidence) -> pd.DataFrame:
    """Judge the claims that people would like to make of these data, whether or not a score stands on them.

    One row for a split inside each labelled data set (every second cell held out), and one for each donor-level
    factor and fold.
    """
    cells = evidence.snapshot.cells
    terms = cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    labels = evidence.resolutions.project(evidence.study.decision_level, terms)
    rows = []
    for dataset_id in evidence.snapshot.datasets:
        inside = np.flatnonzero((cells["dataset_id"] == dataset_id).to_numpy() & (labels != ""))
        if len(inside) > 1:
            verdict = cell_type_claim(cells, labels, train_rows=inside[::2], test_rows=inside[1::2])
            rows.append(("cell types, split inside the data set", dataset_id, verdict))
    for factor in _DONOR_FACTORS:
        if cells.loc[cells[factor] != UNKNOWN, factor].nunique() > 1:
            rows += [
                (f"{factor} of a donor", fold.split_id, donor_claim(cells, factor=factor, train_rows=fold.train_rows, test_rows=fold.test_rows))
                for fold in evidence.split.folds
            ]  # fmt: skip
    return pd.DataFrame(
        [(claim, where, str(v.status), v.reason or "; ".join(v.notes)) for claim, where, v in rows],
        columns=["claim", "where", "status", "reason"],
    )


def _rows(frame: pd.DataFrame | None) -> list[object]:
    """Return the rows of a table as JSON knows them: what is missing is None, never NaN."""
    if frame is None:
        return []
    return [jsonable(row) for row in frame.astype(object).where(frame.notna(), None).to_dict("records")]


def _write_run_record(
    evidence: StudyEvidence, out: Path, *, outputs: Sequence[str], asked: Mapping[str, object]
) -> None:
    """Write the record of a run beside its outputs and into the ledger of its atlas; the folder's own comes last."""
    study, snapshot_id, layout = evidence.study, evidence.snapshot.snapshot_id, evidence.atlas.layout
    sources = [
        Artifact(role="source", name=outcome.source, sha256=outcome.source_sha256, n_bytes=outcome.n_bytes)
        for outcome in evidence.outcomes
    ]
    models = [artifact_of(model.path, "model") for model in study.models if model.path is not None]
    written = [artifact_of(out / name, "output") for name in sorted(outputs)]
    split = next(artifact.sha256 for artifact in written if artifact.name == SPLIT)
    certificates = evidence.result.certificates
    step = Step(
        kind="benchmark",
        parameters={**parameters_of(study), "levels_digest": evidence.resolutions.digest, **asked},
        inputs=[*sources, *models],
        outputs=written,
        parents=[
            NamedDigest(role="split", name=SPLIT, digest=f"sha256:{split}"),
            NamedDigest(role="levels", name="levels", digest=evidence.resolutions.digest),
            *model_parents(study.models),
        ],
        # Ids of folds may name persons; their number says as much.
        made=[
            NamedDigest(role="certificate", name=f"fold {number}", digest=certificate.digest)
            for number, certificate in enumerate(certificates, start=1)
        ],
    )
    record = step_record(layout, step, snapshot_id=snapshot_id)
    write_run(layout, record)
    body = body_of(record)
    replace_file(out / RUN_RECORD, canonical_json({**body, "record_id": record_id_of(body)}))
