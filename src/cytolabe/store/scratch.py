"""Where a long ingest keeps what it finished: `.scratch/<key>/` inside the atlas, until it is over.

An atlas in an object store has its scratch on this machine (`scratch_root`).

The key stands for the source, what was declared of it, and the code; so a command that was killed finds its own work
again, and any other one does not. One process holds a scratch at a time. Nothing in `.scratch` belongs to the atlas:
removing all of it loses work, never data.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytolabe.errors import ConflictError, UsageError
from cytolabe.files import Place, make_directory, remove, remove_directory

__all__ = ["SCRATCH_VARIABLE", "abandoned_scratch", "died_before", "held_scratch", "remove_scratch", "scratch_root"]

SCRATCH_VARIABLE = "CYTOLABE_SCRATCH"
"""Names a directory for unfinished work on atlases in object stores; with several machines one that all of them see."""

_PATIENCE_SECONDS = 1.0
_IN_HAND = "in-hand"
"""Lies in a scratch while somebody holds it; where nobody does, its holder was ended and could remove nothing."""


def scratch_root(atlas: Place) -> Path:
    """Return the local directory of all scratches of an atlas.

    That of an atlas in an object store is `$CYTOLABE_SCRATCH/<digest of its URL>`, and without this variable in the
    directory for temporary files, below one that belongs to the user.

    Raises
    ------
    UsageError
        If that one belongs to somebody else, who could put results there.
    """
    if isinstance(atlas, Path):
        return atlas / ".scratch"
    name = hashlib.sha256(str(atlas).encode()).hexdigest()[:32]
    if chosen := os.environ.get(SCRATCH_VARIABLE):
        return Path(chosen) / name
    own = Path(tempfile.gettempdir()) / f"cytolabe-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        msg = f"{own} belongs to somebody else. Name a directory of your own: {SCRATCH_VARIABLE}=/path."
        raise UsageError(msg)
    return own / name


@contextmanager
def held_scratch(atlas: Place, key: str) -> Iterator[Path]:
    """Hold the scratch of one ingest; it is removed at the end, unless an error ends it: then it is kept to go on from.

    Raises
    ------
    ConflictError
        If another process holds it.
    """
    root = scratch_root(atlas)
    directory, lock = root / key, root / f"{key}.lock"
    make_directory(directory)
    handle = _locked_soon(lock)
    if handle is None:
        msg = f"another ingest of the same source into {atlas.name} is running ({lock.name} is held). Wait for it."
        raise ConflictError(msg)
    try:
        make_directory(directory)
        (directory / _IN_HAND).touch()
        try:
            yield directory
        finally:
            with contextlib.suppress(OSError):
                (directory / _IN_HAND).unlink(missing_ok=True)
        remove_scratch(directory)
    finally:
        os.close(handle)


def abandoned_scratch(atlas: Place) -> tuple[Path, ...]:
    """Return the scratches that no running process holds, sorted; they may be removed, or an ingest may go on from them."""
    found = []
    for directory in sorted(path for path in scratch_root(atlas).glob("*") if path.is_dir()):
        handle = _locked(directory.with_name(f"{directory.name}.lock"))
        if handle is not None:
            os.close(handle)
            found.append(directory)
    return tuple(found)


def died_before(atlas: Place) -> bool:
    """Tell whether a process was killed, or crashed, while it held a scratch of this atlas."""
    return any((directory / _IN_HAND).exists() for directory in abandoned_scratch(atlas))


def remove_scratch(directory: Path) -> None:
    """Remove an abandoned scratch and its lock."""
    # What cannot be removed is in nobody's way.
    with contextlib.suppress(OSError):
        remove_directory(directory)
        remove(directory.with_name(f"{directory.name}.lock"))


def _locked_soon(lock: Path) -> int | None:
    """Return `_locked`, after a moment if need be: workers of a command that was killed end right after it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (handle := _locked(lock)) is None and time.monotonic() < deadline:
        time.sleep(_PATIENCE_SECONDS / 20)
    return handle


def _locked(lock: Path) -> int | None:
    """Return a handle that holds the lock as long as it is open, or None where somebody else holds it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        # A lock that its last holder removed in the meantime would be held by two.
        if lock.exists() and os.fstat(handle).st_ino == lock.stat().st_ino:
            return handle
        os.close(handle)
