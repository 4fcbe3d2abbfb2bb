"""The files of a partition: which belong to it, and whether their bytes are as they were written.

Physical digests guard bytes and never enter an id: compressors are not bit-stable across versions. The root
`zarr.json` of a partition lists every other file; what names the root itself is in the entry of the data set.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cytolabe.errors import IntegrityError
from cytolabe.files import Place, list_files, sha256_of_file
from cytolabe.records import Finding, Severity

__all__ = [
    "PARTITION_FORMAT",
    "ROOT_NAME",
    "PartitionEntry",
    "file_findings",
    "intact_files",
    "integrity_finding",
    "partition_path",
    "recorded_files",
]

PARTITION_FORMAT = "cytolabe/partition/2"
ROOT_NAME = "zarr.json"

_RESTORE = "restore the file from a copy, or remove the damaged object and ingest its source again"


@dataclass(frozen=True, kw_only=True)
class PartitionEntry:
    """What names a partition (`digest`, logical) and what its bytes were when it was written (`files`)."""

    digest: str
    dataset_id: str
    n_cells: int
    n_features: int
    n_nonzero: int
    features_digest: str
    files: Mapping[str, str] = field(default_factory=dict)


def partition_path(directory: Place, digest: str) -> Place:
    """Return the directory of the partition called `digest` among the partitions in `directory`."""
    return directory / digest.removeprefix("sha256:")


def integrity_finding(code: str, where: str, message: str, *, remedy: str = _RESTORE) -> Finding:
    """Return an error-finding about one stored object; `where` is its path inside the atlas."""
    return Finding(
        code=code,
        severity=Severity.ERROR,
        where=where,
        message=message,
        remedy=remedy,
        rule="cytolabe/integrity",
        n_affected=1,
        n_total=1,
    )


def recorded_files(directory: Place) -> dict[str, str]:
    """Return the files of a partition but its root `zarr.json`, which lists them: name -> SHA-256.

    Raises
    ------
    IntegrityError
        If the root is missing, is no root of a partition, names another digest than its directory, or is of another
        version of the format.
    """
    where = f"{ROOT_NAME} of partition {directory.name[:12]}"
    recorded: dict[str, str] = {}
    found = PARTITION_FORMAT
    try:
        cytolabe = json.loads((directory / ROOT_NAME).read_bytes())["attributes"]["cytolabe"]
        recorded = {str(name): str(sha256) for name, sha256 in cytolabe["files"].items()}
        known = cytolabe["digest"] == f"sha256:{directory.name}"
        found = str(cytolabe["format"])
    except FileNotFoundError:
        msg = f"{where} is missing; without it nothing says what belongs to the partition."
        raise IntegrityError(msg) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known or any(not name or name.startswith("/") or ".." in PurePosixPath(name).parts for name in recorded):
        msg = f"{where} was changed: it does not describe this partition."
        raise IntegrityError(msg)
    if found != PARTITION_FORMAT:
        msg = (
            f"partition {directory.name[:12]} has format {found}; this version of Cytolabe reads {PARTITION_FORMAT}. "
            "Its counts are not lost: open the atlas with the version that wrote it, or ingest its sources again."
        )
        raise IntegrityError(msg)
    return recorded


def file_findings(directory: Place, expected: Mapping[str, str], *, where: str) -> list[Finding]:
    """Compare the files of a directory with what was recorded: nothing missing, changed or added."""
    findings = []
    present = set(list_files(directory))
    for name, sha256 in sorted(expected.items()):
        if name not in present:
            message = "is missing; what it held is not read as zeros"
            findings.append(integrity_finding("E-INTEGRITY-01", f"{where}/{name}", message))
        elif (found := sha256_of_file(directory / name)) != sha256:
            message = f"has SHA-256 {found[:12]} where {sha256[:12]} is recorded: its bytes were changed"
            findings.append(integrity_finding("E-INTEGRITY-02", f"{where}/{name}", message))
    for name in sorted(present - set(expected) - {ROOT_NAME}):
        message = "is no part of what was written here"
        findings.append(integrity_finding("E-INTEGRITY-03", f"{where}/{name}", message, remedy="remove the file"))
    return findings


def intact_files(directory: Place) -> dict[str, str]:
    """Return all files of a partition with their SHA-256, after their bytes were found to be as recorded.

    Raises
    ------
    IntegrityError
        If something is missing, was changed or added.
    """
    recorded = recorded_files(directory)
    findings = file_findings(directory, recorded, where=directory.name[:12])
    if findings:
        msg = (
            f"partition {directory.name[:12]} is damaged: {findings[0].where} {findings[0].message}. "
            "The same counts cannot be published over it: remove the damaged directory, then ingest again."
        )
        raise IntegrityError(msg)
    return {**recorded, ROOT_NAME: sha256_of_file(directory / ROOT_NAME)}
