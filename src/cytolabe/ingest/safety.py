"""Refuse a file before any reader touches it.

First its first bytes: missing, empty, a web page, compressed, cut off - said in plain words. Then its structure,
without reading a value and without following a link: whatever reaches outside the file (external links and storage,
virtual data sets), whatever needs code that is not here (filter plug-ins), and whatever declares more than it holds.
A standard reader follows an external link silently and returns the content of the file that it names.

Filters allowed: deflate, shuffle, fletcher32 and lzf, which is what AnnData writes. Scale-offset, n-bit and szip are
refused although HDF5 has them: they are lossy or rarely exercised decoders, and no writer of counts needs them.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
from h5py import h5d, h5o, h5pl, h5z

from cytolabe.errors import HostileInputError, UnreadableInputError
from cytolabe.ingest.hdf5_files import bound_metadata
from cytolabe.ingest.refusals import refusal
from cytolabe.ingest.trios import Trio
from cytolabe.records import Finding, Severity

__all__ = ["denied", "raise_if_unsafe", "scan_h5", "scan_trio", "sniff"]

MAX_RATIO = 2_000
"""Declared over stored bytes. Deflate cannot do better than 1,032, so a larger ratio means chunks that are absent."""
MAX_CHUNK_BYTES = 1 << 30
"""A chunk is decoded whole, however little of it is asked for."""
MAX_TABLE_BYTES = 4 << 30
"""Columns of tables and pointers of matrices are held whole; this is room for 500 million rows."""
_HELD_WHOLE = re.compile(
    r"/(obs|var|raw/var|raw\.var|uns|features|barcodes|genes|gene_names|row_attrs|col_attrs)(/|\Z)|/indptr\Z"
)
SMALL_BYTES = 1 << 20
"""Below this a ratio says nothing: a few constant values compress to almost nothing."""
MAX_OBJECTS = 100_000
MAX_DEPTH = 32
_LZF = 32_000
_ALLOWED_FILTERS = frozenset({h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, _LZF})
_OTHER_FORMATS: Sequence[tuple[bytes, str]] = (
    (b"\x1f\x8b", "gzip-compressed; decompress it first (gunzip)"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"BZh", "bzip2-compressed; decompress it first"),
    (b"\xfd7zXZ", "xz-compressed; decompress it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run 'git lfs pull'"),
    (b"RDX", "an R object; export it as .h5ad first"),
)


def scan_h5(path: Path, *, max_declared_bytes: int = 64 << 30) -> tuple[Finding, ...]:
    """Look for what makes a file unreadable or hostile, without reading any value of it.

    Parameters
    ----------
    max_declared_bytes
        Limit on the bytes that all data sets of the file declare together, uncompressed.

    Returns
    -------
    findings
        Empty where the file may be read. `E-FILE-..` = nothing in it could be read, `E-SEC-..` = hostile.
    """
    _forget_plugins()
    sniffed = sniff(path)
    if sniffed is not None:
        return (sniffed,)
    try:
        with h5py.File(path, "r", locking=False) as file:
            bound_metadata(file)
            walk = _Walk(max_declared_bytes=max_declared_bytes)
            walk.visit(file)
    except (OSError, RuntimeError, KeyError, ValueError, RecursionError) as error:
        return (_unopenable(path, error),)
    return tuple(sorted(walk.findings, key=lambda finding: (finding.code, finding.where)))


def scan_trio(trio: Trio) -> tuple[Finding, ...]:
    """Look at the three files of a 10x matrix: plain files, with content, that lie where their names say."""
    found = []
    for path in trio.files:
        if path.is_symlink():
            message = f"{path.name} is a link to {str(path.readlink())!r}: what is read would lie elsewhere."
            remedy = "Copy the file itself into the folder."
            found.append(_unreadable("E-SEC-02", path, message=message, remedy=remedy))
        elif path.stat().st_size == 0:
            message = "The file is empty (0 bytes)."
            found.append(_unreadable("E-FILE-03", path, message=message, remedy="Download or copy it again."))
    return tuple(found)


def denied(path: Path) -> Finding | None:
    """Say that the system lets nobody like this process read a source; None where it may be read, or is not there."""
    if not path.exists() or os.access(path, os.R_OK):
        return None
    message = "The system denies reading it (permission denied)."
    return _unreadable(
        "E-FILE-11", path, message=message, remedy="Have its owner let you read it, or copy it: chmod u+r."
    )


def raise_if_unsafe(findings: Sequence[Finding]) -> None:
    """Stop if a scan found anything.

    Raises
    ------
    HostileInputError
        If the file reaches outside itself, or declares more than it holds.
    UnreadableInputError
        If nothing in it can be read.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if any(finding.code.startswith("E-SEC-") for finding in errors):
        raise refusal(HostileInputError, errors)
    if errors:
        raise refusal(UnreadableInputError, errors)


def _forget_plugins() -> None:
    """Leave HDF5 no folder from which a file could make it load a library."""
    os.environ.pop("HDF5_PLUGIN_PATH", None)
    while h5pl.size():
        h5pl.remove(0)


# --- the first bytes ----------------------------------------------------------------------------------------------


def sniff(path: Path) -> Finding | None:
    """Say in plain words why a file cannot be HDF5, or None."""
    code, message, remedy = "", "", "Download or copy it again."
    if not path.exists():
        code, message, remedy = "E-FILE-01", "The file does not exist.", "Correct the path."
    elif not path.is_file():
        code, message, remedy = "E-FILE-02", "This is no regular file.", "Give the path of an .h5ad file."
    elif path.stat().st_size == 0:
        code, message = "E-FILE-03", "The file is empty (0 bytes)."
    elif not h5py.is_hdf5(path):
        code, message, remedy = _sniff_content(path)
    return _unreadable(code, path, message=message, remedy=remedy) if code else None


def _sniff_content(path: Path) -> tuple[str, str, str]:
    with path.open("rb") as stream:
        head = stream.read(512)
    if re.match(rb"\s*(<!doctype|<html|<\?xml)", head.lower()):
        message = f"The file is a web page ({path.stat().st_size:,} bytes), probably the error message of a server."
        return "E-FILE-04", message, "Open it in a browser to see the message, then download again."
    for magic, what in _OTHER_FORMATS:
        if head.startswith(magic):
            return "E-FILE-05", f"The file is {what}.", "Then give the .h5ad file."
    message = f"The file does not begin as HDF5 does; its first bytes are {head[:8]!r}."
    return "E-FILE-06", message, "Give an .h5ad file; other formats are converted first."


def _unopenable(path: Path, error: Exception) -> Finding:
    text = " ".join(str(error).split())
    cut = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", text)
    if cut:
        message = f"The file is cut off: {int(cut[1]):,} of {int(cut[2]):,} bytes are there."
        remedy = "Download or copy it again and compare the sizes."
        return _unreadable("E-FILE-07", path, message=message, remedy=remedy)
    message = f"HDF5 cannot open the structure of the file: {text[:200]}."
    return _unreadable("E-FILE-08", path, message=message, remedy="Copy it again from its source, or write it anew.")


def _unreadable(code: str, path: Path, *, message: str, remedy: str) -> Finding:
    return Finding(
        code=code,
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        message=message,
        remedy=remedy,
        rule="cytolabe/readable",
    )


# --- the structure ------------------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """One pass over every object of a file. Links are looked at, never followed."""

    max_declared_bytes: int
    findings: list[Finding] = field(default_factory=list)
    declared_bytes: int = 0
    n_objects: int = 0

    def visit(self, file: h5py.File) -> None:
        """Collect the findings of the whole file."""
        seen = {self._address(file)}
        waiting: list[tuple[str, int, h5py.Group]] = [("", 0, file)]
        self._check_attributes(file)
        while waiting:
            where, depth, group = waiting.pop()
            if depth >= MAX_DEPTH:
                message = f"Groups are nested over {MAX_DEPTH} deep."
                self._hostile(
                    "E-SEC-10", where, message=message, remedy="Write the file anew; AnnData needs a few levels."
                )
                continue
            for place, child in self._children(where, group):
                self.n_objects += 1
                if self.n_objects > MAX_OBJECTS:
                    message = f"The file holds over {MAX_OBJECTS:,} objects."
                    self._hostile("E-SEC-09", place, message=message, remedy="Write it anew with what AnnData defines.")
                    return
                self._check_attributes(child)
                if isinstance(child, h5py.Dataset):
                    self._check_dataset(place, child)
                elif isinstance(child, h5py.Group):
                    address = self._address(child)
                    if address in seen:
                        message = (
                            "This group is reached by two names, or contains itself; a reader could go round for ever."
                        )
                        self._hostile(
                            "E-SEC-08",
                            place,
                            message=message,
                            remedy="Write the file anew with one name for each group.",
                        )
                        continue
                    seen.add(address)
                    waiting.append((place, depth + 1, child))
        if self.declared_bytes > self.max_declared_bytes:
            message = (
                f"The data sets declare {self.declared_bytes:,} bytes together, over the limit of "
                f"{self.max_declared_bytes:,}."
            )
            self._hostile("E-SEC-06", "/", message=message, remedy="If the file really is that large, raise the limit.")

    def _children(self, where: str, group: h5py.Group) -> Iterator[tuple[str, h5py.HLObject]]:
        for name in group:
            place = f"{where}/{name}"
            try:
                link = group.get(name, getlink=True)
            except (TypeError, ValueError, RuntimeError):
                link = None
            if isinstance(link, h5py.HardLink):
                yield place, group[name]
            elif isinstance(link, h5py.ExternalLink):
                message = f"An external link points into another file ({link.filename!r})."
                self._hostile(
                    "E-SEC-01",
                    place,
                    message=message,
                    remedy="Copy the linked content into the file, then give it again.",
                )
            else:
                target = f" to {link.path!r}" if isinstance(link, h5py.SoftLink) else ""
                message = f"A link that is no plain name{target}: AnnData writes none."
                self._hostile("E-SEC-02", place, message=message, remedy="Write the file anew with AnnData.")

    def _check_dataset(self, place: str, dataset: h5py.Dataset) -> None:
        properties = dataset.id.get_create_plist()
        if properties.get_external_count():
            name = properties.get_external(0)[0].decode("utf-8", "replace")
            message = f"The values are stored outside of the file, in {name!r}."
            self._hostile(
                "E-SEC-03", place, message=message, remedy="Copy the values into the file, then give it again."
            )
            return
        if properties.get_layout() == h5d.VIRTUAL:
            message = "A virtual data set takes its values from other files."
            self._hostile(
                "E-SEC-04", place, message=message, remedy="Copy the values into the file, then give it again."
            )
            return
        for position in range(properties.get_nfilters()):
            number = properties.get_filter(position)[0]
            if number not in _ALLOWED_FILTERS:
                message = f"The values need filter {number}; only gzip, shuffle, fletcher32 and lzf are read."
                self._hostile(
                    "E-SEC-05",
                    place,
                    message=message,
                    remedy="Write the file anew: write_h5ad(..., compression='gzip').",
                )
        declared = int(dataset.size or 0) * _item_bytes(dataset)
        self._check_held_whole(place, dataset, declared)
        self.declared_bytes += declared
        stored = dataset.id.get_storage_size()
        if declared > SMALL_BYTES and declared > MAX_RATIO * stored:
            message = f"It declares {declared:,} bytes but stores {stored:,}: what is absent would be read as zeros."
            self._hostile(
                "E-SEC-07", place, message=message, remedy="Write the file anew; if it was cut off, copy it again."
            )

    def _check_held_whole(self, place: str, dataset: h5py.Dataset, declared: int) -> None:
        """Bound what is decoded in one piece: a chunk, a column of a table, the pointers of a matrix."""
        chunk = _item_bytes(dataset)
        for length in dataset.chunks or (0,):
            chunk *= length
        for what, n_bytes, limit in (
            ("One chunk of it", chunk, MAX_CHUNK_BYTES),
            ("It is held as a whole and", declared if _HELD_WHOLE.search(place) else 0, MAX_TABLE_BYTES),
        ):
            if n_bytes > limit:
                message = f"{what} declares {n_bytes:,} bytes, over the limit of {limit:,}."
                self._hostile("E-SEC-06", place, message=message, remedy="Write the file anew in smaller chunks.")

    def _check_attributes(self, node: h5py.HLObject) -> None:
        for name in node.attrs:
            attribute = node.attrs.get_id(name)
            n_values = 1
            for length in attribute.shape or ():
                n_values *= length
            self.declared_bytes += n_values * max(1, attribute.dtype.itemsize)

    def _address(self, node: h5py.Group) -> object:
        return h5o.get_info(node.id).addr

    def _hostile(self, code: str, where: str, *, message: str, remedy: str) -> None:
        self.findings.append(
            Finding(
                code=code,
                severity=Severity.ERROR,
                where=where or "/",
                n_affected=1,
                n_total=1,
                message=message,
                remedy=remedy,
                rule="cytolabe/safety",
            )
        )


def _item_bytes(dataset: h5py.Dataset) -> int:
    """Bytes of one value in memory; text of variable length counts with its descriptor."""
    return max(16, dataset.dtype.itemsize) if dataset.dtype.kind == "O" else int(dataset.dtype.itemsize)
