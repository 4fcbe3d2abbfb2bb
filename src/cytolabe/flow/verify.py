"""Hash again what was recorded: an atlas, or the output folder of a run with the atlas inside.

The run record is read first, because it names everything else by digest; then the certificates that the scores quote;
then what the run rests on (`flow.walk`), and the atlas, which has to hold the snapshot that the run names. Damage never
stops the walk.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytolabe.audit.certificate import joint_digest
from cytolabe.errors import CytolabeError, UsageError
from cytolabe.evaluate.documents import score_id_of
from cytolabe.files import Place, sha256_of_file
from cytolabe.flow.damage import runs_on_damage
from cytolabe.flow.ledger_files import verify_ledger_files
from cytolabe.flow.run_folder import ATLAS, RUN_RECORD
from cytolabe.flow.walk import edited_fields, walk_parents
from cytolabe.provenance import digest_of
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.artifacts import read_artifacts
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import LedgerRun, read_runs
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.store.physical import integrity_finding

__all__ = ["RUN_RECORD", "verify_path"]

_OF_A_RUN = ("scores.json", "certificate.json", "report.html", "split.json")
"""What a run writes before its record: a folder with one of them and no record is no whole run."""


def verify_path(path: Place, *, data: Sequence[Path] = ()) -> tuple[int, tuple[Finding, ...]]:
    """Return how many objects were checked, and what was found; an intact folder has no findings but notes.

    `data` are folders in which the files that a run read are looked for by name, to be hashed as well.

    Raises
    ------
    UsageError
        If the folder is neither an atlas nor a run.
    """
    if _is_atlas(path):
        n_checked, findings = _verify_atlas(path)
        n_files, files = verify_ledger_files(Layout(path), data)
        return n_checked + n_files, (*findings, *files)
    if not isinstance(path, Path) or not any((path / name).exists() for name in (RUN_RECORD, *_OF_A_RUN)):
        marker = Layout(path).marker.name
        msg = f"{path} is neither an atlas nor the folder of a run: it has no {marker}, no {RUN_RECORD} and no {_OF_A_RUN[0]}."
        raise UsageError(msg)
    n_checked, findings, snapshot_id = _verify_run(path, data=data)
    if not _is_atlas(path / ATLAS):
        return n_checked, findings
    n_atlas, atlas_findings = _verify_atlas(path / ATLAS)
    # The log of a damaged atlas may not open; its own findings say more than this one could.
    if snapshot_id and not atlas_findings and snapshot_id not in open_atlas(path / ATLAS).snapshots():
        atlas_findings = (_finding(ATLAS, f"the snapshot {snapshot_id[:19]} that the run names is not in it"),)
    # A record that does not even agree with itself was told of already.
    if snapshot_id and not atlas_findings and all(finding.where != RUN_RECORD for finding in findings):
        findings = (*findings, *_unknown_to_the_atlas(path))
    return n_checked + n_atlas, (*findings, *atlas_findings)


def _is_atlas(path: Place) -> bool:
    return Layout(path).marker.exists() or Layout(path).revisions.is_dir()


def _verify_atlas(path: Place) -> tuple[int, tuple[Finding, ...]]:
    marker = Layout(path).marker
    if marker.exists():
        n_checked, findings = verify_atlas(path)
        return n_checked, (*findings, *runs_on_damage(Layout(path), findings))
    message = "is missing beside a log of revisions: it was removed, or the atlas was never made whole"
    return 1, (integrity_finding("E-INTEGRITY-01", marker.name, message),)


def _verify_run(path: Path, *, data: Sequence[Path]) -> tuple[int, tuple[Finding, ...], str]:
    """Return how many files were checked, what was found, and the snapshot that the record names."""
    try:
        document = json.loads((path / RUN_RECORD).read_bytes())
        recorded = document.pop("record_id")
        outputs = [(str(item["name"]), str(item["sha256"])) for item in document["outputs"]]
        snapshot_id = str(document["snapshot_id"])
        digest = digest_of(document)
    except FileNotFoundError:
        message = "the record is missing: the run did not end, or somebody removed it, and nothing names its files"
        return 1, (_finding(RUN_RECORD, message),), ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"this is no run record any more ({type(error).__name__}: {error})"
        return 1, (_finding(RUN_RECORD, message),), ""
    findings = []
    layout = Layout(path / ATLAS) if _is_atlas(path / ATLAS) else None
    runs = _ledger(layout)
    if digest != recorded:
        message = "the record does not have the digest that it states: it was edited"
        findings.append(_edited(message, edited_fields(document, runs, record_id=str(recorded))))
    for name, sha256 in outputs:
        findings += _file_findings(path, name, sha256)
    findings += _uncertified(path)
    try:
        n_walked, walked = walk_parents(path, document, layout=layout, data=data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"what it rests on cannot be read any more ({type(error).__name__}: {error}): it was edited"
        n_walked, walked = 0, (_finding(RUN_RECORD, message),)
    return 1 + len(outputs) + n_walked, (*findings, *walked), snapshot_id


def _ledger(layout: Layout | None) -> tuple[LedgerRun, ...]:
    """Return the runs that the atlas was told of; none where its ledger is damaged, which it tells itself."""
    try:
        return read_runs(layout) if layout is not None else ()
    except CytolabeError:
        return ()


def _edited(message: str, fields: Sequence[str]) -> Finding:
    """Tell of a record that was edited, and in which fields, where the ledger of the atlas still knows."""
    if not fields:
        return _finding(RUN_RECORD, message)
    found = _finding(RUN_RECORD, f"{message}; against the ledger of the atlas: {fields[0]}")
    return dataclasses.replace(found, n_affected=len(fields), n_total=len(fields), examples=tuple(fields[:5]))


def _unknown_to_the_atlas(path: Path) -> list[Finding]:
    """Compare the record with what the atlas was told when the run ended: a record that was forged as a whole agrees with itself."""
    runs = {run.digest for run in read_artifacts(Layout(path / ATLAS)) if run.kind == "run"}
    if f"sha256:{sha256_of_file(path / RUN_RECORD)}" in runs:
        return []
    message = (
        f"it agrees with itself and is none of the {len(runs)} run(s) that the atlas beside it was told of: it was written "
        f"anew after the run, perhaps with other files"
    )
    body = json.loads((path / RUN_RECORD).read_bytes())
    record_id = str(body.pop("record_id"))
    return [_edited(message, edited_fields(body, _ledger(Layout(path / ATLAS)), record_id=record_id))]


def _file_findings(path: Path, name: str, sha256: str) -> list[Finding]:
    file = path / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return [_finding(RUN_RECORD, f"it names {name!r}, which lies outside of the folder: it was edited")]
    if not file.is_file():
        return [_finding(name, "the file is missing")]
    if sha256_of_file(file) != sha256:
        return [_finding(name, f"its bytes are not those of digest {sha256[:12]}: it was changed after the run")]
    return []


def _uncertified(path: Path) -> list[Finding]:
    """Find certificates that do not have their digest, and scores that quote a certificate which is not there."""
    certificates, scores = _read(path / "certificate.json", "certificates"), _read(path / "scores.json", "scores")
    findings = [
        _finding("certificate.json", f"the certificate of {certificate.get('split_id')} was edited")
        for certificate in certificates
        if digest_of({key: value for key, value in certificate.items() if key != "digest"}) != certificate.get("digest")
    ]
    known = {certificate.get("digest") for certificate in certificates}
    known.add(joint_digest([str(certificate.get("digest")) for certificate in certificates]))
    unknown = {row.get("certificate") for row in scores} - known - {"", None}
    edited = [row for row in scores if "score_id" in row and row["score_id"] != score_id_of(row)]
    if edited:
        named = ("metric", "model", "resolution", "split", "stratum")
        told = tuple(" ".join(str(row.get(key)) for key in named) for row in edited)
        message = f"{len(edited)} score(s) do not have their id, first {told[0]}: the row was edited"
        found = _finding("scores.json", message)
        findings.append(dataclasses.replace(found, n_affected=len(edited), n_total=len(scores), examples=told[:5]))
    if unknown:
        findings.append(_finding("scores.json", f"{len(unknown)} certificate(s) that scores quote are not there"))
    return findings


def _read(file: Path, key: str) -> list[dict[str, Any]]:
    """Return the tables of a document, or none where it is missing or damaged: its digest has told that already."""
    try:
        rows = json.loads(file.read_bytes())[key]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _finding(where: str, message: str) -> Finding:
    return Finding(
        code="E-INTEGRITY-09",
        severity=Severity.ERROR,
        where=where,
        n_affected=1,
        n_total=1,
        message=message,
        remedy="Run the study again; do not use the numbers of this folder.",
        rule="cytolabe/integrity",
    )
