"""Hash again what was recorded: an atlas, or the output folder of a run with the atlas inside."""

import json
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files import sha256_of_file
from cytolabe.provenance import digest_of
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.verify import verify_atlas

__all__ = ["RUN_RECORD", "verify_path"]

RUN_RECORD = "run.json"


def verify_path(path: Path) -> tuple[int, tuple[Finding, ...]]:
    """Return how many objects were checked, and what was found; an intact folder has no findings.

    Raises
    ------
    UsageError
        If the folder is neither an atlas nor a run.
    """
    if not (path / RUN_RECORD).exists():
        return verify_atlas(path)
    n_checked, findings = _verify_run(path)
    if (path / "atlas").is_dir():
        n_atlas, atlas_findings = verify_atlas(path / "atlas")
        return n_checked + n_atlas, (*findings, *atlas_findings)
    return n_checked, findings


def _verify_run(path: Path) -> tuple[int, tuple[Finding, ...]]:
    try:
        document = json.loads((path / RUN_RECORD).read_bytes())
        recorded = document.pop("record_id")
        outputs = [(item["name"], item["sha256"]) for item in document["outputs"]]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path / RUN_RECORD} is no run record ({type(error).__name__}: {error})."
        raise UsageError(msg) from None
    findings = []
    if digest_of(document) != recorded:
        findings.append(_finding(RUN_RECORD, "the record does not have the digest that it states: it was edited"))
    for name, sha256 in outputs:
        file = path / name
        if not file.is_file():
            findings.append(_finding(name, "the file is missing"))
        elif sha256_of_file(file) != sha256:
            findings.append(
                _finding(name, f"its bytes are not those of digest {sha256[:12]}: it was changed after the run")
            )
    findings += _uncertified(path)
    return 1 + len(outputs), tuple(findings)


def _uncertified(path: Path) -> list[Finding]:
    """Find certificates that do not have their digest, and scores that quote a certificate which is not there."""
    scores, certificates = path / "scores.json", path / "certificate.json"
    if not (scores.is_file() and certificates.is_file()):
        return []
    findings = []
    known = set()
    for certificate in json.loads(certificates.read_bytes())["certificates"]:
        stated = certificate.pop("digest")
        known.add(stated)
        if digest_of(certificate) != stated:
            findings.append(_finding("certificate.json", f"the certificate of {certificate['split_id']} was edited"))
    quoted = {row["certificate"] for row in json.loads(scores.read_bytes())["scores"] if row["certificate"]}
    if quoted - known:
        findings.append(
            _finding("scores.json", f"{len(quoted - known)} certificate(s) that scores quote are not there")
        )
    return findings


def _finding(where: str, message: str) -> Finding:
    return Finding(
        code="E-INTEGRITY-09",
        severity=Severity.ERROR,
        where=where,
        n_affected=1,
        n_total=1,
        message=message,
        remedy="Run the study again; do not use the numbers of this folder.",
        rule="design/identity",
    )
