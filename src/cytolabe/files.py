"""Every byte that Cytolabe writes goes through here: stage, fsync, publish.

A reader sees a whole file or none: content goes to a temporary name in the same directory, is flushed to the disk,
and then takes its name by `rename` (replace) or by `link` (create, and fail if the name is taken). The directory is
flushed last. A crash leaves at most a name that starts with `.staged-`, which nothing reads.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytolabe.errors import ConflictError, IntegrityError

__all__ = [
    "STAGED_PREFIX",
    "create_new",
    "publish_directory",
    "read_verified",
    "replace_file",
    "sha256_of_file",
    "staged_directory",
]

STAGED_PREFIX = ".staged-"
_READ_BYTES = 1 << 20


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_verified(path: Path, sha256: str) -> bytes:
    """Return a file's bytes after they matched their digest.

    Raises
    ------
    IntegrityError
        If the file is missing or its bytes have another digest.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        msg = f"{path.name} is missing; it is named by digest {sha256[:12]} and cannot be replaced by zeros."
        raise IntegrityError(msg) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        msg = f"{path.name} has digest {found[:12]} where {sha256[:12]} is recorded: its bytes were changed."
        raise IntegrityError(msg)
    return content


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` under `path`, replacing what was there, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = _stage(path, content)
    try:
        staged.replace(path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    _flush_directory(path.parent)


def create_new(path: Path, content: bytes) -> None:
    """Write `content` under a name that nobody has taken yet.

    Equal bytes under that name count as success, so that a repeated publish is harmless.

    Raises
    ------
    ConflictError
        If the name is taken by other bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = _stage(path, content)
    try:
        os.link(staged, path)
    except FileExistsError:
        if path.read_bytes() != content:
            msg = f"{path.name} was published by somebody else in the meantime; read it again and retry."
            raise ConflictError(msg) from None
    finally:
        staged.unlink(missing_ok=True)
    _flush_directory(path.parent)


@contextmanager
def staged_directory(parent: Path) -> Iterator[Path]:
    """Yield an empty directory inside `parent`; it is removed at the end unless it was published."""
    parent.mkdir(parents=True, exist_ok=True)
    staged = parent / f"{STAGED_PREFIX}{secrets.token_hex(8)}"
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def publish_directory(staged: Path, target: Path) -> None:
    """Give a staged directory its name. A target that exists already is kept: names are digests of the content."""
    for path in sorted(staged.rglob("*")):
        if path.is_file():
            _flush_file(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        try:
            staged.rename(target)
        except OSError:
            if not target.exists():
                raise
    _flush_directory(target.parent)


def _stage(path: Path, content: bytes) -> Path:
    """Write `content` durably under a temporary name beside `path`."""
    staged = path.parent / f"{STAGED_PREFIX}{secrets.token_hex(8)}"
    try:
        with staged.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    return staged


def _flush_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _flush_directory(path: Path) -> None:
    """Make a rename or link durable; without this a power cut can lose the name although the data are there."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
