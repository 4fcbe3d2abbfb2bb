"""The files of a zarr hierarchy, in a folder or in a zip archive, by their names inside it.

An archive is read in place and nothing of it is unpacked, so that no name in it can be a path on this machine. What
must not be there at all is refused: links, names that lead out, names that mean one file on some machines and two on
others.
"""

import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cytolabe.records import Finding, Severity

__all__ = ["MAX_FILES", "ROOT_NAMES", "ZarrFiles", "hostile", "list_zarr", "nothing_to_read"]

MAX_FILES = 1_000_000
ROOT_NAMES = ("zarr.json", ".zgroup", ".zarray")
_MAX_ZIP_RATIO = 2_000
_SMALL_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ZarrFiles:
    """Names of files below the root of the hierarchy -> bytes; `prefix` is where the root lies in an archive."""

    path: Path
    sizes: Mapping[str, int]
    prefix: str = ""
    findings: tuple[Finding, ...] = field(default=())

    def read(self, name: str, *, start: int = 0, n_bytes: int = -1) -> bytes:
        """Read a file, or a part of it; a negative `start` counts from its end."""
        start = max(0, self.sizes[name] + start) if start < 0 else start
        if self.path.is_dir():
            with (self.path / name).open("rb") as stream:
                stream.seek(start)
                return stream.read(n_bytes)
        with zipfile.ZipFile(self.path) as archive, archive.open(self.prefix + name) as packed:
            packed.seek(start)
            return packed.read(n_bytes)


def list_zarr(path: Path) -> ZarrFiles:
    """List the files of a hierarchy with what is hostile about their names.

    Raises
    ------
    OSError, zipfile.BadZipFile
        If the archive cannot be read.
    """
    return _list_folder(path) if path.is_dir() else _list_archive(path)


def hostile(code: str, where: str, *, message: str, remedy: str) -> Finding:
    """Return the finding for something that makes a source unsafe."""
    return Finding(
        code=code,
        severity=Severity.ERROR,
        where=where or "/",
        n_affected=1,
        n_total=1,
        message=message,
        remedy=remedy,
        rule="cytolabe/safety",
    )


def nothing_to_read(where: str, names: Sequence[str]) -> Finding:
    """Return the finding for an archive of something that is read only when it is unpacked."""
    shown = ", ".join(repr(name[:60]) for name in sorted(names)[:3]) or "nothing"
    return Finding(
        code="E-ARCHIVE-01",
        severity=Severity.ERROR,
        where=where,
        n_affected=len(names),
        n_total=len(names),
        message=f"The archive holds neither AnnData in zarr (zip) nor one 10x matrix with its tables (tar), but {shown}.",
        remedy="Unpack it, and give the file or folder that was in it.",
        rule="cytolabe/readable",
    )


def _list_folder(path: Path) -> ZarrFiles:
    sizes: dict[str, int] = {}
    findings = []
    for entry in path.rglob("*"):
        name = entry.relative_to(path).as_posix()
        status = entry.lstat()
        if stat.S_ISLNK(status.st_mode):
            message = f"A link to {str(entry.readlink())!r}: what is read would lie elsewhere."
            findings.append(
                hostile("E-SEC-02", name, message=message, remedy="Copy the content itself into the folder.")
            )
        elif stat.S_ISREG(status.st_mode):
            sizes[name] = status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            findings.append(hostile("E-SEC-11", name, message="This is no file and no folder.", remedy="Remove it."))
        if len(sizes) > MAX_FILES:
            findings.append(_too_many(name))
            break
    return ZarrFiles(path=path, sizes=sizes, findings=tuple(findings))


def _list_archive(path: Path) -> ZarrFiles:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if len(entries) > MAX_FILES:
        return ZarrFiles(path=path, sizes={}, findings=(_too_many(path.name),))
    findings: list[Finding] = []
    sizes: dict[str, int] = {}
    folded: set[str] = set()
    for entry in entries:
        why = _what_is_wrong(entry)
        if why:
            findings.append(
                hostile("E-SEC-11", entry.filename[:200], message=why, remedy="Pack the folder anew with zip -r.")
            )
        elif entry.filename.casefold() in folded:
            message = "The archive has this name twice (perhaps in other letters): which content counts is not said."
            findings.append(hostile("E-SEC-12", entry.filename[:200], message=message, remedy="Pack the folder anew."))
        folded.add(entry.filename.casefold())
        if not entry.is_dir():
            sizes[entry.filename] = entry.file_size
    prefix = _prefix_of(sizes)
    inside = {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}
    return ZarrFiles(path=path, sizes=inside, prefix=prefix, findings=tuple(findings))


def _what_is_wrong(entry: zipfile.ZipInfo) -> str:
    name = PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or "\0" in entry.orig_filename:
        return "The name leads out of the archive."
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "The entry is a link or a device, no file."
    if entry.flag_bits & 1:
        return "The entry is encrypted."
    if entry.file_size > _SMALL_BYTES and entry.file_size > _MAX_ZIP_RATIO * max(1, entry.compress_size):
        return f"The entry declares {entry.file_size:,} bytes and stores {entry.compress_size:,}."
    return ""


def _prefix_of(sizes: Mapping[str, int]) -> str:
    """Return where the root of the hierarchy lies: at the top, or in the one folder there is."""
    if any(name in sizes for name in ROOT_NAMES):
        return ""
    tops = {name.split("/", 1)[0] for name in sizes if "/" in name}
    return f"{tops.pop()}/" if len(tops) == 1 else ""


def _too_many(where: str) -> Finding:
    message = f"The source holds over {MAX_FILES:,} files."
    return hostile("E-SEC-09", where, message=message, remedy="Write it anew with larger chunks, or as shards.")
