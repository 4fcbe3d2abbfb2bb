"""Read the folder that a pipeline left behind: known names only, within bounds, no link followed.

Text is read up to a limit; HDF5 matrices are looked through by a process that may die before their attributes are read;
where a `reference.json` of Cell Ranger has its FASTA and GTF beside it, their SHA-1s are computed and compared. A file that
cannot be read for what it is called is a finding, and the others still count.
"""

import gzip
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from cytolabe.files import sha256_of_file
from cytolabe.ingest.inspection import HDF5_CHILD, inspect
from cytolabe.ingest.pipelines import alevin, cellranger, nfcore, starsolo
from cytolabe.ingest.pipelines.agreement import Hop, finding_of, hops_of
from cytolabe.ingest.pipelines.claims import Document, FileReader, MalformedError, read_claims
from cytolabe.ingest.tenx_h5 import is_tenx
from cytolabe.records import Finding, HopEvidence, Severity

__all__ = ["READERS", "PipelineFacts", "claims_of_matrix", "known_files", "read_pipeline"]

READERS: Sequence[FileReader] = (*cellranger.READERS, *starsolo.READERS, *alevin.READERS, *nfcore.READERS)
"""Readers of text files; the first whose pattern matches a name reads it."""
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 8
_MAX_TEXT_BYTES = 32 << 20
_HASH_BYTES = 1 << 20
_REFERENCE = {"fasta_hash": ("fasta/genome.fa",), "gtf_hash": ("genes/genes.gtf", "genes/genes.gtf.gz")}
"""Digest in `reference.json`, of the plain bytes: where the file lies in a reference folder of Cell Ranger."""


@dataclass(frozen=True, kw_only=True)
class PipelineFacts:
    """What a folder says: its hops in order, how many files said something, and what is wrong or missing."""

    hops: tuple[Hop, ...]
    n_files: int
    findings: tuple[Finding, ...]

    @property
    def evidence(self) -> tuple[HopEvidence, ...]:
        """Every fact, hop by hop."""
        return tuple(said for hop in self.hops for said in hop.evidence)


def known_files(folder: Path) -> tuple[tuple[Path, ...], tuple[Finding, ...]]:
    """Return the files of a folder whose names are known, in order; links and hidden folders are passed by.

    The findings say where the folder is too large to be looked through.
    """
    found: list[Path] = []
    n_entries = 0
    for parent, folders, names in os.walk(folder):
        n_entries += len(folders) + len(names)
        depth = len(Path(parent).relative_to(folder).parts)
        if n_entries > _MAX_ENTRIES or depth > _MAX_DEPTH:
            message = f"The folder has over {_MAX_ENTRIES:,} entries, or lies over {_MAX_DEPTH} folders deep; not all of it was read."
            remedy = "Name the folder of the results themselves, such as outs/ or pipeline_info/."
            return tuple(sorted(found)), (
                finding_of("W-PIPELINE-02", where=folder.name, message=message, remedy=remedy),
            )
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "work")
        paths = [Path(parent) / name for name in names]
        found += [path for path in paths if _is_known(path, folder) and path.is_file() and not path.is_symlink()]
    return tuple(sorted(found)), ()


def _is_known(path: Path, folder: Path) -> bool:
    name = path.relative_to(folder).as_posix()
    return path.suffix == ".h5" or any(reader.pattern.fullmatch(name) for reader in READERS)


def read_pipeline(folder: Path) -> PipelineFacts:
    """Read what is known about each hop from the files of a folder.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    evidence: list[HopEvidence] = []
    paths, problems = known_files(folder)
    findings = list(problems)
    verified = set()
    n_files = 0
    for path in paths:
        said, wrong = _claims_of(path, folder)
        evidence += said
        findings += wrong
        n_files += bool(said)
        if path.name == "reference.json" and said:
            is_same, wrong = _same_reference(path, said)
            findings += wrong
            verified |= {"reference"} if is_same else set()
            evidence = evidence if not wrong else [claim for claim in evidence if claim not in said]
    if not evidence and not findings:
        findings.append(_nothing_known(folder))
    hops = hops_of(evidence, verified=verified)
    told = [finding for hop in hops for finding in hop.findings]
    return PipelineFacts(hops=hops, n_files=n_files, findings=tuple(sorted((*findings, *told), key=_order)))


def _order(finding: Finding) -> tuple[str, str, str]:
    return finding.code, finding.where, finding.message


def _claims_of(path: Path, folder: Path) -> tuple[tuple[HopEvidence, ...], tuple[Finding, ...]]:
    name = path.relative_to(folder).as_posix()
    try:
        if path.suffix == ".h5":
            scan = inspect(path, HDF5_CHILD)
            if any(finding.severity is Severity.ERROR for finding in scan):
                return (), (_malformed(name, f"{scan[0].code}: {scan[0].message}"),)
            return tuple(claims_of_matrix(path, name)), ()
        return read_claims(_document(path, name), READERS), ()
    except (MalformedError, OSError) as error:
        return (), (_malformed(name, str(error)),)


def claims_of_matrix(path: Path, name: str) -> Iterator[HopEvidence]:
    """Read the attributes of a scanned HDF5 file of Cell Ranger; of another HDF5 file, nothing.

    Raises
    ------
    MalformedError
        If they contradict what they are called.
    """
    with h5py.File(path, "r", locking=False) as file:
        if is_tenx(file):
            document = Document(file=name, text="", sha256=f"sha256:{sha256_of_file(path)}")
            yield from cellranger.matrix_claims(file, document)


def _document(path: Path, name: str) -> Document:
    n_bytes = path.stat().st_size
    if n_bytes > _MAX_TEXT_BYTES:
        msg = f"it has {n_bytes:,} bytes, and at most {_MAX_TEXT_BYTES:,} are read"
        raise MalformedError(msg)
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        msg = "no text in UTF-8"
        raise MalformedError(msg) from None
    return Document(file=name, text=text, sha256=f"sha256:{hashlib.sha256(raw).hexdigest()}")


def _same_reference(path: Path, said: Sequence[HopEvidence]) -> tuple[bool, tuple[Finding, ...]]:
    """Hash FASTA and GTF beside a `reference.json`: whether both are there and the same, and what differs."""
    recorded = {claim.place: claim.value for claim in said if claim.place in _REFERENCE}
    n_same, findings = 0, []
    for key, places in _REFERENCE.items():
        beside = next((path.parent / place for place in places if (path.parent / place).is_file()), None)
        if beside is None or key not in recorded:
            continue
        found = _sha1(beside)
        n_same += found == recorded[key]
        if found != recorded[key]:
            message = (
                f"{beside.name} has SHA-1 {found}, and {path.name} records {recorded[key]}: it is another reference."
            )
            remedy = "Restore the reference folder that was used; what this file says is not taken."
            findings.append(
                finding_of(
                    "W-PIPELINE-05", where=f"{path.name}: {key}", message=message, remedy=remedy, examples=(found,)
                )
            )
    return n_same == len(_REFERENCE), tuple(findings)


def _sha1(path: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    opening = gzip.open if path.suffix == ".gz" else Path.open
    with opening(path, "rb") as stream:
        while piece := stream.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _malformed(name: str, why: str) -> Finding:
    return finding_of(
        "W-PIPELINE-02",
        where=name,
        message=f"{name} cannot be read for what it is called: {why[:300]}. Nothing of it is used.",
        remedy="Copy the file again from the output of the pipeline, or remove it.",
        examples=(why[:200],),
    )


def _nothing_known(folder: Path) -> Finding:
    return finding_of(
        "W-PIPELINE-06",
        where=folder.name,
        message="No file of the folder is one that Cell Ranger, STARsolo, alevin-fry, simpleaf or nf-core/scrnaseq leaves behind.",
        remedy="Name the folder that holds metrics_summary.csv, Log.out, quant.json, cmd_info.json or pipeline_info/.",
    )
