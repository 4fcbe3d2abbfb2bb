"""Which bytes a source is: the digest that names them, and how many there are.

A file is named by the SHA-256 of its bytes. A folder that is one source (10x matrices, zarr) is named by the SHA-256
of a list of its files: one line of relative name and digest each, by name. Hidden files are no part of it but for the
metadata of zarr 2; a viewer that leaves `.DS_Store` behind changes nothing.
"""

import hashlib
from pathlib import Path

from cytolabe import files
from cytolabe.ingest.trios import trio_of

__all__ = ["digest_of", "files_of", "n_bytes_of"]

_ZARR_2 = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata"})


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that make up a source, by their relative names."""
    trio = trio_of(path)
    if trio is not None:
        return trio.files
    if not path.is_dir():
        return (path,)
    found = [
        entry
        for entry in path.rglob("*")
        if entry.is_file()
        and all(not part.startswith(".") or part in _ZARR_2 for part in entry.relative_to(path).parts)
    ]
    return tuple(sorted(found, key=lambda entry: entry.relative_to(path).as_posix()))


def digest_of(path: Path) -> str:
    """Return 64 hexadecimal digits that name the bytes of a source."""
    parts = files_of(path)
    if parts == (path,):
        return files.sha256_of_file(path)
    digest = hashlib.sha256()
    for entry in parts:
        name = entry.relative_to(path).as_posix() if path.is_dir() else entry.name
        digest.update(f"{name}\0{files.sha256_of_file(entry)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def n_bytes_of(path: Path) -> int:
    """Return how many bytes a source has."""
    return sum(entry.stat().st_size for entry in files_of(path))
