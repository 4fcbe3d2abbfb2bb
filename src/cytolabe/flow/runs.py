"""Whole runs as the command line starts them: a study file, or a folder of a person's own files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cytolabe.config.study import Study
from cytolabe.errors import UsageError
from cytolabe.evaluate.documents import scores_document
from cytolabe.flow.ladder import run_ladder
from cytolabe.flow.publish import publish_run
from cytolabe.flow.study import StudyEvidence, run_study, study_sources
from cytolabe.ingest.sources import find_sources, slug_of
from cytolabe.provenance import jsonable
from cytolabe.records import Severity
from cytolabe.report import ReportContent

__all__ = ["FinishedRun", "climbed", "evidence_of_study", "finished_run", "published", "run_on_folder"]

Progress = Callable[[str], None]
_FOLDER_CLAIMS = (
    "No study file says what these data may show: levels are chosen from the labels, and persons are known only as far as the files name donors.",
)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that is written: its JSON document, what its report says, and the exit code."""

    document: dict[str, object]
    content: ReportContent
    exit_code: int


def evidence_of_study(
    study: Study,
    out: Path,
    *,
    cache: Path | None = None,
    n_workers: int = 1,
    on_progress: Progress = lambda _: None,
) -> StudyEvidence:
    """Return what a study finds; remote contributions are fetched into `cache` first, and only the atlas is written."""
    sources = study_sources(study, cache=cache, on_progress=on_progress)
    return run_study(study, out, sources=sources, n_workers=n_workers, on_progress=on_progress)


def published(evidence: StudyEvidence, out: Path) -> FinishedRun:
    """Write everything about a study into `out`."""
    return finished_run(evidence, publish_run(evidence, out))


def climbed(
    evidence: StudyEvidence, out: Path, *, n_workers: int = 1, on_progress: Progress = lambda _: None
) -> FinishedRun:
    """Run the models of a study again on ever harder splits (`flow.ladder`), and write that as well."""
    ladder = run_ladder(evidence, n_workers=n_workers, on_progress=on_progress)
    return finished_run(evidence, publish_run(evidence, out, ladder=ladder))


def run_on_folder(
    folder: Path, out: Path, *, seed: int = 0, n_workers: int = 1, on_progress: Progress = lambda _: None
) -> FinishedRun:
    """Run the main job on a folder of files, with what a `manifest.toml` there says.

    Raises
    ------
    UsageError
        If the folder holds no file to read.
    """
    sources, findings = find_sources([folder])
    if not sources:
        told = " ".join(f"{f.code} {f.message}" for f in findings)
        msg = f"{folder} holds no .h5ad file. {told}".strip()
        raise UsageError(msg)
    study = Study(
        name=slug_of(folder.resolve().name),
        title=f"Contributions in {folder.resolve().name}",
        seed=seed,
        claims=_FOLDER_CLAIMS,
    )
    evidence = run_study(study, out, sources=sources, n_workers=n_workers, on_progress=on_progress)
    finished = published(evidence, out)
    failed = any(finding.severity is Severity.ERROR for finding in findings)
    return FinishedRun(
        document={**finished.document, "source_findings": jsonable(findings)},
        content=finished.content,
        exit_code=1 if failed else finished.exit_code,
    )


def finished_run(evidence: StudyEvidence, content: ReportContent) -> FinishedRun:
    """Return the document and exit code of a run: 1 if a source was refused."""
    return FinishedRun(
        document={
            **scores_document(evidence.result, evidence.snapshot.snapshot_id),
            "refused": [outcome.source for outcome in evidence.outcomes if outcome.status == "refused"],
            "findings": jsonable(evidence.findings),
        },
        content=content,
        exit_code=1 if evidence.refused else 0,
    )
