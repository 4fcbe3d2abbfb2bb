"""What lies in a tar archive, and what must not.

Names are compared as a machine would that does not tell letters apart. The listing stops at limits on entries and on
what they declare; decompressing is bounded by the process that looks through the archive first.
"""

import tarfile
from pathlib import Path, PurePosixPath

from cytolabe.ingest.trios import MATRIX_NAME
from cytolabe.ingest.zarr_files import hostile
from cytolabe.records import Finding

__all__ = ["MAX_ENTRIES", "is_tar", "listed_tar", "opened_tar", "tables_of"]

MAX_ENTRIES = 100_000
_MAX_DECLARED_BYTES = 64 << 30
_MAX_RATIO = 2_000
_SMALL_BYTES = 1 << 20


def is_tar(path: Path) -> bool:
    """Tell whether a file is a tar archive, by its content."""
    return path.is_file() and tarfile.is_tarfile(path)


def opened_tar(path: Path) -> tarfile.TarFile:
    """Open an archive to list it, or to read a file out of it as a stream; nothing is ever unpacked by its name."""
    return tarfile.open(path, "r:*")


def listed_tar(path: Path) -> tuple[dict[str, int], tuple[Finding, ...]]:
    """Return name -> bytes of the files of an archive, and what is hostile about its entries."""
    sizes: dict[str, int] = {}
    findings: list[Finding] = []
    folded: set[str] = set()
    declared = n_entries = 0
    with opened_tar(path) as archive:
        for member in archive:
            n_entries += 1
            declared += member.size
            if n_entries > MAX_ENTRIES or declared > _MAX_DECLARED_BYTES:
                message = f"The archive holds over {MAX_ENTRIES:,} entries, or over {_MAX_DECLARED_BYTES:,} bytes."
                findings.append(
                    hostile("E-SEC-06", path.name, message=message, remedy="Pack only the three files of 10x.")
                )
                break
            why = _what_is_wrong(member)
            if why:
                findings.append(hostile("E-SEC-11", member.name[:200], message=why, remedy="Pack the files anew."))
            elif member.isreg():
                if member.name.casefold() in folded:
                    message = (
                        "The archive has this name twice (perhaps in other letters): which one counts is not said."
                    )
                    findings.append(
                        hostile("E-SEC-12", member.name[:200], message=message, remedy="Pack the files anew.")
                    )
                folded.add(member.name.casefold())
                sizes[member.name] = member.size
            # The library keeps every entry that it saw.
            archive.members = []  # type: ignore[attr-defined]
    stored = path.stat().st_size
    if declared > _SMALL_BYTES and declared > _MAX_RATIO * stored:
        message = f"The entries declare {declared:,} bytes, and the archive has {stored:,}."
        findings.append(hostile("E-SEC-07", path.name, message=message, remedy="Pack the files anew."))
    return sizes, tuple(findings)


def tables_of(sizes: dict[str, int]) -> tuple[str, str, str] | None:
    """Return the names of matrix, barcodes and features where the archive holds one of each that belong together."""
    matrices = [name for name in sizes if MATRIX_NAME.fullmatch(PurePosixPath(name).name)]
    if len(matrices) != 1:
        return None
    named = MATRIX_NAME.fullmatch(PurePosixPath(matrices[0]).name)
    prefix = named[1] if named is not None else ""
    beside = PurePosixPath(matrices[0]).parent
    found = []
    for words in (("barcodes.tsv",), ("features.tsv", "genes.tsv")):
        names = [str(beside / f"{prefix}{word}{end}") for word in words for end in ("", ".gz")]
        known = {str(PurePosixPath(name)): name for name in sizes}
        found += [known[name] for name in names if name in known][:1]
    return (matrices[0], found[0], found[1]) if len(found) == 2 else None


def _what_is_wrong(member: tarfile.TarInfo) -> str:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        return "The name leads out of the archive."
    if not (member.isreg() or member.isdir()) or member.issparse():
        return "The entry is a link, a device or a file with holes, no plain file."
    return ""
