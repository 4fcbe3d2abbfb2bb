"""What is known of the hops of one source: its manifest, the folder of its pipeline, and the attributes it carries.

The manifest's words win where they name something and the files do not contradict them; where they do, the hop is
unknown and both are named. The folder lies beside the manifest or below: a path elsewhere would bring in whatever lies
on this machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cytolabe.ingest.pipelines.agreement import Hop, contradiction_with, finding_of, hops_of
from cytolabe.ingest.pipelines.claims import MalformedError
from cytolabe.ingest.pipelines.folder import claims_of_matrix, known_files, read_pipeline
from cytolabe.ingest.sources import SourceFile, folder_of_manifest
from cytolabe.records import Finding, HopEvidence, HopState

__all__ = ["DeclaredHops", "declared_hops", "pipeline_state"]


@dataclass(frozen=True, kw_only=True)
class DeclaredHops:
    """State and words of every hop, the facts behind them, and what does not fit."""

    states: Mapping[str, HopState]
    words: Mapping[str, str]
    evidence: tuple[HopEvidence, ...]
    findings: tuple[Finding, ...]


def declared_hops(source: SourceFile, *, is_tenx_h5: bool = False) -> DeclaredHops:
    """Return what is known of the hops of a source that was scanned; `is_tenx_h5` where it carries attributes of 10x."""
    hops, findings = _hops_from_files(source, is_tenx_h5=is_tenx_h5)
    states, words = {}, {}
    for hop in hops:
        said = str(getattr(source.manifest, hop.hop))
        against = contradiction_with(hop, said)
        if against is not None:
            findings = (*findings, against)
            states[hop.hop] = HopState.UNKNOWN
        elif hop.state is HopState.UNKNOWN and hop.findings and said:
            # Files that contradict each other are not settled by a word that one of them may have been written from.
            contradicts = any(finding.code == "W-PIPELINE-03" for finding in hop.findings)
            states[hop.hop] = HopState.UNKNOWN if contradicts else HopState.DECLARED
        else:
            states[hop.hop] = HopState.DECLARED if said and hop.state is HopState.UNKNOWN else hop.state
        if states[hop.hop] is not HopState.UNKNOWN:
            words[hop.hop] = said or hop.value
    evidence = tuple(claim for hop in hops for claim in hop.evidence)
    return DeclaredHops(states=states, words=words, evidence=evidence, findings=findings)


def _hops_from_files(source: SourceFile, *, is_tenx_h5: bool) -> tuple[tuple[Hop, ...], tuple[Finding, ...]]:
    if source.manifest.pipeline:
        folder = _folder(source)
        if isinstance(folder, Finding):
            return hops_of(()), (folder,)
        facts = read_pipeline(folder)
        return facts.hops, facts.findings
    if not is_tenx_h5:
        return hops_of(()), ()
    try:
        hops = hops_of(tuple(claims_of_matrix(source.path, source.path.name)))
    except MalformedError as error:
        message = f"An attribute of the file cannot be read for what it is called: {error}. Nothing of them is used."
        remedy = "Say alignment = '...' in the manifest where the version is known."
        return hops_of(()), (finding_of("W-PIPELINE-02", where=source.path.name, message=message, remedy=remedy),)
    return hops, tuple(finding for hop in hops for finding in hop.findings)


def _folder(source: SourceFile) -> Path | Finding:
    """Return the folder that the manifest names, or why it is not read."""
    name, beside = source.manifest.pipeline, folder_of_manifest(source.path)
    folder = (beside / name).resolve()
    if folder.is_relative_to(beside.resolve()) and folder.is_dir():
        return folder
    why = "is no folder there" if folder.is_relative_to(beside.resolve()) else "leads out of the folder of the manifest"
    return finding_of(
        "E-PIPELINE-01",
        where=f"manifest: pipeline = {name!r}",
        message=f"The manifest names {name!r} as what the pipeline left behind, but it {why}.",
        remedy="Put the folder beside the manifest and name it by its relative path, or remove the key.",
        examples=(name,),
    )


def pipeline_state(source: SourceFile) -> list[list[str]]:
    """Return what tells the files of a pipeline from their state after a change: name, size and time of each."""
    folder = _folder(source) if source.manifest.pipeline else None
    if not isinstance(folder, Path):
        return []
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in known_files(folder)[0]]
    return [[name, str(found.st_size), str(found.st_mtime_ns)] for name, found in stats]
