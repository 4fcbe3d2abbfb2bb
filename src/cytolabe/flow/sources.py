"""Files as they are named on a command line: bring them in, or only check them."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolabe.errors import UsageError
from cytolabe.files import Place, place_of
from cytolabe.flow.apart import crashed, run_apart
from cytolabe.flow.contribute import SourceOutcome, contribute_with
from cytolabe.flow.meaning import donor_collisions
from cytolabe.flow.means import Means
from cytolabe.flow.recording import record_ingest
from cytolabe.flow.remote import gather_sources, is_remote
from cytolabe.genes.aliases import read_alias_table
from cytolabe.ingest.inspection import findings_in
from cytolabe.ingest.sources import SourceFile, slug_of
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.layout import Layout
from cytolabe.validate.check_meaning import colliding_donors

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
    atlas: Place,
    arguments: Sequence[str | Path],
    *,
    dataset_id: str = "",
    aliases: Path | None = None,
    means: Means | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[tuple[SourceOutcome, ...], tuple[Finding, ...], int | None]:
    """Bring files, folders and remote sources into an atlas, which is created where there is none and there is a file to read.

    `means` says who does the work and within what; without it, this process.

    Returns
    -------
    outcomes
        One per file, by data set id.
    findings
        What was found about the arguments themselves.
    revision
        Number of the revision in force afterwards; None where there is no atlas.

    Raises
    ------
    UsageError
        If the atlas is no directory, the id is none or stands for several files, or the aliases are no table.
    """
    if atlas.exists() and not atlas.is_dir():
        msg = f"{atlas} is a file; the atlas comes first and is a directory: cytolabe ingest ATLAS SOURCE..."
        raise UsageError(msg)
    if aliases is not None:
        read_alias_table(aliases)  # a table that cannot be read is told before hours of reading counts
    sources, findings = gather_sources(
        arguments, cache=means.cache if means is not None else None, on_progress=on_progress
    )
    if not sources and not Layout(atlas).marker.exists():
        return (), findings, None
    if dataset_id and sources:
        sources = (_renamed(sources, dataset_id),)
    opened = create_atlas(atlas)
    on_progress(f"reading {len(sources)} file(s)")
    with (means or Means()).work(atlas, on_progress) as work:
        outcomes = contribute_with(work, opened, sources, aliases=aliases, on_progress=on_progress)
    record_ingest(opened.layout, outcomes)
    # They speak of the files of this call, so that they are told and stay out of the records of data sets.
    readable = {outcome.dataset_id for outcome in outcomes if not outcome.unreadable}
    collisions = donor_collisions({s.dataset_id: s.path for s in sources if s.dataset_id in readable})
    outcomes = tuple(
        dataclasses.replace(outcome, findings=(*outcome.findings, *collisions.get(outcome.dataset_id, ())))
        for outcome in outcomes
    )
    return outcomes, findings, open_atlas(atlas).revision


def validate_paths(
    arguments: Sequence[str | Place],
    *,
    cache: Path | None = None,
    n_workers: int = 1,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[Validated, ...]:
    """Run every check on files and folders; for an atlas, return what was found when its data sets came in.

    What is wrong with an argument itself (a path that is not there, an id that two files claim) is a row of its own.
    No file is read in this process: one that crashes its reader twice is unreadable (`E-PARSE-03`), and the others go on.
    """
    rows: list[Validated] = []
    given: list[str | Path] = []
    for argument in arguments:
        # What is not on this machine and no remote source can only be an atlas.
        place = None if is_remote(argument) else place_of(argument) if isinstance(argument, str) else argument
        if place is not None and (not isinstance(place, Path) or Layout(place).marker.exists()):
            atlas = open_atlas(place)
            rows += [Validated(source=name, findings=atlas.findings(name)) for name in atlas.dataset_ids]
        else:
            given.append(str(argument) if place is None else place)
    sources, findings = gather_sources(given, cache=cache, on_progress=on_progress)
    rows += [
        Validated(source=where, findings=tuple(finding for finding in findings if finding.where == where))
        for where in dict.fromkeys(finding.where for finding in findings)
    ]

    def tell(n_done: int, n_total: int) -> None:
        on_progress(f"validate: {n_done} of {n_total} files")

    answers = run_apart([("examine", source) for source in sources], n_workers=n_workers, on_done=tell)
    rows += _with_collisions(sources, answers)
    return tuple(rows)


def _with_collisions(sources: Sequence[SourceFile], answers: Sequence[Any]) -> list[Validated]:
    """Put together what readers told of each file, None where they died over it, and the donors that several name."""
    named = {
        source.dataset_id: told["donors"]
        for source, told in zip(sources, answers, strict=True)
        if told is not None and told["donors"]
    }
    collisions = colliding_donors(named) if len(sources) > 1 else {}
    rows = []
    for source, told in zip(sources, answers, strict=True):
        found = (crashed(source.path),) if told is None else findings_in(told["findings"])
        rows.append(
            Validated(
                source=source.path.name,
                findings=(*found, *collisions.get(source.dataset_id, ())),
                unreadable=told is None or told["unreadable"],
            )
        )
    return rows


def _renamed(sources: Sequence[SourceFile], dataset_id: str) -> SourceFile:
    if len(sources) != 1:
        msg = f"--id {dataset_id!r} names one data set, but the arguments stand for {len(sources)} file(s). Ingest them one at a time."
        raise UsageError(msg)
    if slug_of(dataset_id) != dataset_id:
        msg = f"--id {dataset_id!r}: an id has only a-z, 0-9, '_' and '-'; {slug_of(dataset_id)!r} would do."
        raise UsageError(msg)
    return dataclasses.replace(sources[0], dataset_id=dataset_id)
