"""Which files are meant, what is declared about each, and under which id it enters the atlas.

A folder stands for the sources directly inside it: files of a known suffix, matrices of 10x with their tables, and
folders that are one source each (10x, zarr). A `manifest.toml` given by itself stands for the files that it names.
Suffixes only say what is looked at; what a file is shows in its content. Nothing that was pointed at is passed over in silence: a file that is not read, a name that is not there and
an id that two files claim all become findings. The order is that of the ids, so that the order of the arguments
changes nothing. An id is never a path: it is a slug of the file's name, with a hash where the name is unusual.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolabe.config.manifest import MANIFEST_NAME, Manifest, read_manifests
from cytolabe.errors import UsageError
from cytolabe.ingest.trios import MATRIX_NAME, is_zarr_folder, trio_of
from cytolabe.records import Finding, Severity

__all__ = ["SourceFile", "find_sources", "folder_of_manifest", "slug_of", "without_clashes"]

_SUFFIXES = (".h5ad", ".h5", ".hdf5", ".loom", ".h5mu", ".zarr.zip", ".tar", ".tar.gz", ".tgz")
"""Longer ones first where one ends like another; `_stem` takes them off."""
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_USUAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()+-]{0,63}")
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
"""Device names of one operating system: a file of that name cannot be made there, with any suffix."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file, or folder that is one source, to read, what was declared about it, and its id in the atlas."""

    path: Path
    manifest: Manifest
    dataset_id: str


def slug_of(stem: str) -> str:
    """Return an id of the alphabet a-z, 0-9, `_` and `-` for a file name without its suffix.

    Usual names are lower-cased with other characters as `_`. An unusual name (control or non-ASCII characters, a
    leading dash or dot, a device name, over 64 characters) keeps what is readable and gets eight digits of its hash,
    so that two such names stay apart.
    """
    plain = re.sub(r"[^a-z0-9_-]+", "_", stem.lower()).strip("_-")
    if _USUAL.fullmatch(stem) and ".." not in stem and plain not in _RESERVED and plain:
        return plain
    digest = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:40].strip('_-') or 'dataset'}-{digest}"


def find_sources(paths: Sequence[Path]) -> tuple[tuple[SourceFile, ...], tuple[Finding, ...]]:
    """List the files that `paths` stand for, with their manifests, in the order of their ids.

    Parameters
    ----------
    paths
        Files, folders, or `manifest.toml` files.

    Returns
    -------
    sources
        Only those whose id is valid and their own; the others are error findings.
    findings
        Errors for what is not there or not clear, notes for what is not read.

    Raises
    ------
    UsageError
        If a manifest cannot be read.
    """
    findings: list[Finding] = []
    chosen: dict[Path, Path] = {}
    for path in paths:
        for file in _files_of(path, findings):
            # The resolved path decides whether two arguments mean one file; the given one is what people recognize.
            chosen.setdefault(file.resolve(), file)
    manifests = {
        folder: _manifests(folder) for folder in sorted({folder_of_manifest(file) for file in chosen.values()})
    }
    sources = []
    for file in _named_by_text(chosen.values(), findings):
        declared = manifests[folder_of_manifest(file)]
        manifest = declared.get(file.name, declared[""])
        source = _with_id(file, manifest, findings)
        if source is not None:
            sources.append(source)
    kept = without_clashes(sorted(sources, key=lambda s: (s.dataset_id, s.path.as_posix())), findings)
    return kept, tuple(sorted(findings, key=lambda f: (f.code, f.where, f.message)))


def _named_by_text(files: Iterable[Path], findings: list[Finding]) -> Iterator[Path]:
    """Yield the files that findings and records can name; what bytes of another alphabet mean nobody could say later."""
    for file in files:
        shown = os.fsencode(file.name).decode("utf-8", "backslashreplace")
        if shown == file.name:
            yield file
            continue
        findings.append(
            Finding(
                code="E-SOURCE-08",
                severity=Severity.ERROR,
                where=shown,
                n_affected=1,
                n_total=1,
                message="The name of the file has bytes that are no UTF-8, so that no record could name it.",
                remedy="Rename it, and ingest it again.",
                rule="cytolabe/sources",
            )
        )


def folder_of_manifest(source: Path) -> Path:
    """Return the folder whose manifest speaks of a source: a folder of 10x may have one of its own."""
    has_own = source.is_dir() and trio_of(source) is not None and (source / MANIFEST_NAME).is_file()
    return source if has_own else source.parent


def _manifests(folder: Path) -> dict[str, Manifest]:
    """Read the manifest of a folder; one that cannot be opened at all is a wrong call, like one that cannot be parsed."""
    try:
        return read_manifests(folder)
    except OSError as error:
        msg = f"{folder / MANIFEST_NAME}: cannot be opened ({error.strerror}). Make it a readable file, or remove it."
        raise UsageError(msg) from None


def _files_of(path: Path, findings: list[Finding]) -> list[Path]:
    if is_zarr_folder(path):
        return [path]
    if path.is_dir():
        return _files_of_folder(path, findings)
    if path.name == MANIFEST_NAME and path.is_file():
        return _files_of_manifest(path, findings)
    if not path.exists():
        findings.append(
            Finding(
                code="E-SOURCE-01",
                severity=Severity.ERROR,
                where=str(path),
                n_affected=1,
                n_total=1,
                message="This path does not exist.",
                remedy="Correct the path; sources are files, folders of them, or a manifest.toml.",
                rule="cytolabe/sources",
            )
        )
        return []
    return [path]


def _files_of_folder(folder: Path, findings: list[Finding]) -> list[Path]:
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    trios = [trio for entry in entries if entry.is_file() and (trio := trio_of(entry)) is not None]
    parts = {part for trio in trios for part in trio.files}
    files = [entry for entry in entries if entry not in parts and _is_source(entry)]
    others = [entry.name for entry in entries if entry not in parts | {*files} and entry.name != MANIFEST_NAME]
    if len(trios) == 1 and not files:
        # Cell Ranger gives the folder the name, and its three files always the same.
        files = [folder if trio_of(folder) is not None else trios[0].matrix]
    else:
        files = sorted([*files, *(trio.matrix for trio in trios)], key=lambda entry: entry.name)
    findings.extend(_unread(folder, files, others, n_entries=len(entries)))
    present = {file.name for file in files}
    findings.extend(_absent(folder, sorted(set(_manifests(folder)) - {""} - present)))
    return files


def _is_source(entry: Path) -> bool:
    if entry.is_dir():
        return is_zarr_folder(entry) or trio_of(entry) is not None
    return entry.is_file() and entry.name.lower().endswith(_SUFFIXES)


def _unread(folder: Path, files: list[Path], others: list[str], *, n_entries: int) -> Iterator[Finding]:
    if not files:
        yield Finding(
            code="E-SOURCE-02",
            severity=Severity.ERROR,
            where=str(folder),
            n_total=n_entries,
            examples=tuple(others[:5]),
            message=f"The folder holds no source ({', '.join(_SUFFIXES[:5])}, 10x or zarr folders); what lies deeper is not searched.",
            remedy="Name the folder that holds the files, or the files themselves.",
            rule="cytolabe/sources",
        )
    if others:
        yield Finding(
            code="N-SOURCE-03",
            severity=Severity.NOTE,
            where=str(folder),
            n_affected=len(others),
            n_total=n_entries,
            examples=tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in others[:5]),
            message=f"{len(others)} entries of the folder are no sources and are not read.",
            remedy="Nothing to do, unless one of them was meant: name it itself, or convert it to .h5ad.",
            rule="cytolabe/sources",
        )


def _files_of_manifest(path: Path, findings: list[Finding]) -> list[Path]:
    named = sorted(set(_manifests(path.parent)) - {""})
    if not named:
        return _files_of_folder(path.parent, findings)
    # A manifest speaks of the files beside it: a path in it would bring in whatever lies elsewhere on this machine.
    present = [name for name in named if Path(name).name == name and _is_there(path.parent / name)]
    findings.extend(_absent(path.parent, [name for name in named if name not in present]))
    return [path.parent / name for name in present]


def _is_there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and _is_source(path))


def _absent(folder: Path, names: Iterable[str]) -> list[Finding]:
    return [
        Finding(
            code="E-SOURCE-04",
            severity=Severity.ERROR,
            where=f"{folder / MANIFEST_NAME}: [[dataset]] file = {name!r}",
            n_affected=1,
            n_total=1,
            examples=(name,),
            message=f"The manifest declares {name!r}, but no such file lies in the folder.",
            remedy="Add the file, correct its name in the manifest, or remove its [[dataset]] table.",
            rule="cytolabe/sources",
        )
        for name in names
    ]


def _with_id(file: Path, manifest: Manifest, findings: list[Finding]) -> SourceFile | None:
    if manifest.id and not _SLUG.fullmatch(manifest.id):
        findings.append(
            Finding(
                code="E-SOURCE-05",
                severity=Severity.ERROR,
                where=f"{file.name}: manifest id",
                n_affected=1,
                n_total=1,
                examples=(manifest.id[:80],),
                message=f"{manifest.id[:80]!r} cannot be an id: lower-case letters, digits, '_' and '-', at most 64.",
                remedy=f"Write id = '{slug_of(manifest.id)}', or leave it out.",
                rule="cytolabe/sources",
            )
        )
        return None
    return SourceFile(path=file, manifest=manifest, dataset_id=manifest.id or slug_of(_stem(file)))


def _stem(source: Path) -> str:
    """Return the name that a source has without its suffix: for a matrix of 10x its prefix, or the name of its folder."""
    named = None if source.is_dir() else MATRIX_NAME.fullmatch(source.name)
    if named is not None:
        return named[1].strip("._-") or source.resolve().parent.name
    name = source.resolve().name if source.is_dir() else source.name
    ends = [suffix for suffix in (*_SUFFIXES, ".zarr") if name.lower().endswith(suffix) and len(name) > len(suffix)]
    return name[: -max(map(len, ends))] if ends else source.stem if source.is_file() else name


def without_clashes(sources: Sequence[SourceFile], findings: list[Finding]) -> tuple[SourceFile, ...]:
    """Return the sources whose id is their own; an id that several claim is added to `findings`."""
    by_id: dict[str, list[SourceFile]] = {}
    for source in sources:
        by_id.setdefault(source.dataset_id, []).append(source)
    for dataset_id, claimants in by_id.items():
        if len(claimants) > 1:
            findings.append(
                Finding(
                    code="E-SOURCE-06",
                    severity=Severity.ERROR,
                    where=f"dataset id {dataset_id!r}",
                    n_affected=len(claimants),
                    n_total=len(sources),
                    examples=tuple(str(claimant.path) for claimant in claimants[:5]),
                    message=f"{len(claimants)} files claim the id {dataset_id!r}; their cells could not be told apart.",
                    remedy="Give each its own id: --id for a single file, or id = '...' in its [[dataset]] table.",
                    rule="cytolabe/sources",
                )
            )
    return tuple(claimants[0] for claimants in by_id.values() if len(claimants) == 1)
