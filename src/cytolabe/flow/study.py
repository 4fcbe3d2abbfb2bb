"""A whole study: contributions in, one frozen atlas and one honest report out.

    contribute -> reconcile labels and persons -> freeze -> look for copies -> split -> quality -> evaluate -> confounding -> report

The output folder holds `atlas/`, `mappings.sssom.tsv`, `split.json`, `scores.json`, `scores.parquet`,
`certificate.json`, `predictions.parquet`, `report.html` and `run.json`, which names all of them by digest. Nothing in
`scores.json` depends on the order of the files or on the number of workers.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytolabe.audit import ConfoundingRow, DuplicateReport, audit_confounding, find_copies
from cytolabe.audit.confounding import BIOLOGICAL
from cytolabe.config.study import ModelSpec, Study
from cytolabe.errors import RefusedError, UsageError
from cytolabe.evaluate import EvaluationPlan, ModelPlan, StudyResult, annotator_plans, evaluate_study
from cytolabe.evaluate.collapse import collapse_findings, collapsed_embeddings
from cytolabe.evaluate.fitting import Models
from cytolabe.evaluate.kept_fits import KEPT_FITS
from cytolabe.evaluate.plan import NAMED_BY_PLAN, refuse_idle_probe
from cytolabe.flow.contribute import SourceOutcome, contribute
from cytolabe.flow.interpret import interpret_labels, interpret_persons, links_of, resolutions_of
from cytolabe.flow.quality import DatasetQuality, flagged_positions, quality_of_snapshot
from cytolabe.flow.recording import record_ingest
from cytolabe.flow.remote import fetch_sources
from cytolabe.ingest.sources import SourceFile, slug_of
from cytolabe.models.registry import model_options
from cytolabe.ontology.resolutions import Resolutions
from cytolabe.records import Finding, Severity, Split
from cytolabe.snapshot.atlas import Atlas, create_atlas
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.split import leave_one_group_out

__all__ = ["StudyEvidence", "plan_of_study", "run_study", "study_sources"]


@dataclass(frozen=True, kw_only=True)
class StudyEvidence:
    """Everything that a study found, before it is laid out."""

    study: Study
    outcomes: tuple[SourceOutcome, ...]
    findings: tuple[Finding, ...]
    atlas: Atlas
    snapshot: Snapshot
    duplicates: DuplicateReport
    confounding: tuple[ConfoundingRow, ...]
    resolutions: Resolutions
    split: Split
    quality: Mapping[str, DatasetQuality]
    flagged_rows: np.ndarray
    result: StudyResult

    @property
    def refused(self) -> bool:
        """Whether a source was refused: the run then ends with exit code 1."""
        return any(outcome.status == "refused" for outcome in self.outcomes)


def study_sources(
    study: Study, *, cache: Path | None = None, on_progress: Callable[[str], None] = lambda _: None
) -> tuple[SourceFile, ...]:
    """Return the files of a study with what the study says of them, after fetching those that lie elsewhere.

    Raises
    ------
    UsageError
        If a file is not there, or two have one id.
    UnreachableSourceError, IntegrityError
        If a remote contribution cannot be fetched: a study without it would be another study.
    """
    here = [(dataset.path, dataset.manifest) for dataset in study.datasets if dataset.path is not None]
    missing = [str(path) for path, _ in here if not path.exists()]
    if missing:
        msg = f"{len(missing)} file(s) of study {study.name} are not there: {', '.join(missing[:3])}. Name their folder with --data."
        raise UsageError(msg)
    sources = [
        SourceFile(path=path, manifest=manifest, dataset_id=manifest.id or slug_of(path.stem))
        for path, manifest in here
    ]
    for dataset in study.datasets:
        if dataset.source:
            sources += fetch_sources(dataset.source, declared=dataset.manifest, cache=cache, on_progress=on_progress)
    ids = [source.dataset_id for source in sources]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        msg = f"Study {study.name} has two data sets with id {', '.join(twice)}; give one an id = '...'."
        raise UsageError(msg)
    return tuple(sources)


def run_study(
    study: Study,
    out: Path,
    *,
    sources: Sequence[SourceFile],
    n_workers: int = 1,
    on_progress: Callable[[str], None] = lambda _: None,
) -> StudyEvidence:
    """Build the atlas of a study under `out` and evaluate its models.

    Parameters
    ----------
    study
        What to run.
    out
        Folder of the results; the atlas goes into `out/atlas`. Fits are kept in `out/fits`, until whoever writes the
        results removes them: the same study into the same folder goes on with those of a run that was killed.
    sources
        The contributions, in any order.
    n_workers
        Processes that share the files and then the folds; no result depends on it.
    on_progress
        Gets one line per step.

    Raises
    ------
    UsageError
        If `out` holds the atlas of another study, or there is no model of a name; this is told before a file is read.
    RefusedError
        If no contribution was accepted, or no label was mapped: there is nothing to evaluate then.
    """
    _refuse_unknown_models(study)
    atlas = create_atlas(out / "atlas")
    _refuse_other_atlas(out, set(atlas.dataset_ids) - {source.dataset_id for source in sources})
    outcomes = contribute(atlas, sources, n_workers=n_workers, on_progress=on_progress)
    record_ingest(atlas.layout, outcomes)
    if not any(outcome.status != "refused" for outcome in outcomes):
        raise RefusedError(_nothing_accepted(outcomes))
    on_progress("reconcile: labels and persons")
    mappings, label_findings = interpret_labels(atlas, study=study)
    person_findings = interpret_persons(atlas, study=study)
    snapshot = atlas.freeze(tag=study.name)
    if not any(mapping.term for mapping in mappings):
        msg = "No label of any accepted file could be mapped to the Cell Ontology, so there is nothing to score. Name the label column in manifest.toml, or review the mappings: cytolabe reconcile ATLAS --export review.tsv."
        raise RefusedError(msg)
    on_progress(f"snapshot {snapshot.snapshot_id[:19]}: {len(snapshot.cells):,} cells; looking for copies")
    duplicates = find_copies(snapshot)
    split = leave_one_group_out(snapshot, by=study.by, links=links_of(study), duplicates=duplicates.pairs)
    resolutions = resolutions_of(snapshot, study=study)
    quality = quality_of_snapshot(atlas.layout, snapshot, on_progress=on_progress)
    flagged = np.flatnonzero(flagged_positions(snapshot, quality))
    result = evaluate_study(
        snapshot,
        split=split,
        plan=dataclasses.replace(
            plan_of_study(study, n_workers=n_workers), flagged_rows=flagged, kept_fits=out / KEPT_FITS
        ),
        resolutions=resolutions,
        duplicates=duplicates,
        on_progress=on_progress,
    )
    confounding, confounding_findings = _confounding(snapshot, resolutions)
    return StudyEvidence(
        study=study,
        outcomes=outcomes,
        findings=(
            *label_findings, *person_findings, *duplicates.findings, *split.findings, *confounding_findings,
            *collapse_findings(result.confusions),
            *collapsed_embeddings((*result.scores, *result.integration, *result.limited)),
        ),
        atlas=atlas,
        snapshot=snapshot,
        duplicates=duplicates,
        confounding=confounding,
        resolutions=resolutions,
        split=split,
        quality=quality,
        flagged_rows=flagged,
        result=result,
    )  # fmt: skip


def _confounding(
    snapshot: Snapshot, resolutions: Resolutions
) -> tuple[tuple[ConfoundingRow, ...], tuple[Finding, ...]]:
    """Look for confounding of the labels as they were mapped, and as each level sees them."""
    terms = snapshot.cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    levels = {f"cell_type_{level.name}": resolutions.project(level.name, terms) for level in resolutions.levels}
    return audit_confounding(snapshot.cells.assign(**levels), biological=(*BIOLOGICAL, *levels))


def _refuse_other_atlas(out: Path, others: set[str]) -> None:
    """Refuse to build a study on top of data sets that it does not name: they would enter its snapshot."""
    if others:
        msg = f"{out / 'atlas'} already holds {len(others)} data set(s) that this study does not name: {', '.join(sorted(others)[:5])}. They would enter its snapshot. Choose an empty folder for --out."
        raise UsageError(msg)


def _refuse_unknown_models(study: Study) -> None:
    models = Models()
    for annotator in annotator_plans(plan_of_study(study, n_workers=1)):
        model_options(annotator.component)
        # A file is read for it, and a program is asked nothing: only where a probe is named, which says that it embeds.
        if annotator.probe and annotator.component in NAMED_BY_PLAN:
            refuse_idle_probe(annotator.name, models.card(annotator))


def plan_of_study(study: Study, *, n_workers: int) -> EvaluationPlan:
    """Return what a study asks to be evaluated."""
    return EvaluationPlan(
        study=study.name,
        models=tuple(_model_plan(model) for model in study.models),
        gene_policies=study.gene_policies,
        decision_level=study.decision_level,
        seed=study.seed,
        n_seeds=study.n_seeds,
        ceilings=study.ceilings,
        n_workers=n_workers,
        override=study.override,
        limited_labels=study.limited_labels,
    )


def _model_plan(model: ModelSpec) -> ModelPlan:
    if model.kind == "precomputed":
        return ModelPlan(name=f"precomputed:{model.name}", options={"path": model.path, **model.options})
    return ModelPlan(name=model.name, options=model.options)


def _nothing_accepted(outcomes: Sequence[SourceOutcome]) -> str:
    causes = [
        f"{outcome.source}: "
        + "; ".join(f"{f.code} {f.message}" for f in outcome.findings if f.severity is Severity.ERROR)
        for outcome in outcomes
    ]
    return f"None of {len(outcomes)} file(s) was accepted. " + " | ".join(causes)
