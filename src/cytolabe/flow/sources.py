"""Files as they are named on a command line: bring them in, or only check them."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolabe.engine.local import run_tasks
from cytolabe.errors import UsageError
from cytolabe.flow.contribute import Examination, SourceOutcome, contribute, examine
from cytolabe.ingest.sources import SourceFile, find_sources, slug_of
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.layout import Layout

__all__ = ["Validated", "ingest_sources", "validate_paths"]


@dataclass(frozen=True, kw_only=True)
class Validated:
    """What validation says of one source."""

    source: str
    findings: tuple[Finding, ...]
    unreadable: bool = False

    @property
    def valid(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


def ingest_sources(
    atlas: Path,
    paths: Sequence[Path],
    *,
    dataset_id: str = "",
    aliases: Path | None = None,
    n_workers: int = 1,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[tuple[SourceOutcome, ...], tuple[Finding, ...], int]:
    """Bring files and folders into an atlas, which is created where there is none.

    Returns
    -------
    outcomes
        One per file, by data set id.
    findings
        What was found about the arguments themselves.
    revision
        Number of the revision in force afterwards.
    """
    sources, findings = find_sources(paths)
    if dataset_id:
        sources = (_renamed(sources, dataset_id),)
    opened = create_atlas(atlas)
    outcomes = contribute(opened, sources, n_workers=n_workers, aliases=aliases, on_progress=on_progress)
    return outcomes, findings, open_atlas(atlas).revision


def validate_paths(paths: Sequence[Path], *, n_workers: int = 1) -> tuple[Validated, ...]:
    """Run every check on files and folders; for an atlas, return what was found when its data sets came in."""
    rows: list[Validated] = []
    files: list[Path] = []
    for path in paths:
        if Layout(path).marker.exists():
            atlas = open_atlas(path)
            rows += [Validated(source=name, findings=atlas.findings(name)) for name in atlas.dataset_ids]
        else:
            files.append(path)
    sources, findings = find_sources(files)
    if findings:
        rows.append(Validated(source="arguments", findings=findings))
    examined: list[Examination] = run_tasks(examine, sources, n_workers=n_workers)
    rows += [Validated(source=e.source.path.name, findings=e.findings, unreadable=e.unreadable) for e in examined]
    return tuple(rows)


def _renamed(sources: Sequence[SourceFile], dataset_id: str) -> SourceFile:
    if len(sources) != 1:
        msg = f"--id {dataset_id!r} names one data set, but the arguments stand for {len(sources)} file(s). Ingest them one at a time."
        raise UsageError(msg)
    if slug_of(dataset_id) != dataset_id:
        msg = f"--id {dataset_id!r}: an id has only a-z, 0-9, '_' and '-'; {slug_of(dataset_id)!r} would do."
        raise UsageError(msg)
    return dataclasses.replace(sources[0], dataset_id=dataset_id)
