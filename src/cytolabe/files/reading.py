"""Reading from a place: bytes that matched what names them, ranges, lists; the same words for disk and object store."""

import hashlib
import os
from pathlib import Path

from cytolabe.errors import IntegrityError
from cytolabe.files.objects import object_modified_at, object_sha256
from cytolabe.files.places import Place

__all__ = ["list_files", "modified_at", "read_range", "read_verified", "sha256_of_file", "size_of"]

_READ_BYTES = 1 << 20


def sha256_of_file(place: Place) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    if not isinstance(place, Path):
        return object_sha256(place)
    digest = hashlib.sha256()
    with place.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_verified(place: Place, sha256: str) -> bytes:
    """Return a file's bytes after they matched their digest.

    Raises
    ------
    IntegrityError
        If the file is missing or its bytes have another digest.
    """
    try:
        content = place.read_bytes()
    except FileNotFoundError:
        msg = f"{place.name} is missing; it is named by digest {sha256[:12]} and cannot be replaced by zeros."
        raise IntegrityError(msg) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        msg = f"{place.name} has digest {found[:12]} where {sha256[:12]} is recorded: its bytes were changed."
        raise IntegrityError(msg)
    return content


def read_range(place: Place, offset: int, length: int) -> bytes:
    """Return `length` bytes from `offset` on; fewer only where the file ends.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if not isinstance(place, Path):
        return place.read_range(offset, length)
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.pread(handle, length, offset)
        # One call returns at most 2 GiB.
        while len(content) < length and (more := os.pread(handle, length - len(content), offset + len(content))):
            content += more
    finally:
        os.close(handle)
    return content


def size_of(place: Place) -> int:
    """Return the number of bytes of a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    return place.stat().st_size if isinstance(place, Path) else place.size()


def modified_at(place: Place) -> float:
    """Return when a file, or what is directly in a directory, was written last, in seconds since 1970.

    On an object store a directory is as old as the youngest object below it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    return place.stat().st_mtime if isinstance(place, Path) else object_modified_at(place)


def list_files(place: Place) -> dict[str, int]:
    """Return all files below a directory, however deep: path below it -> bytes. On an object store one list."""
    if not isinstance(place, Path):
        return {path.relative_to(place).as_posix(): path.size() for path in place.rglob("*")}
    paths = [path for path in sorted(place.rglob("*")) if path.is_file()]
    return {path.relative_to(place).as_posix(): path.stat().st_size for path in paths}
