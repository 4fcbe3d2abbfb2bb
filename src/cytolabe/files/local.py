"""Files on a local disk: stage, fsync, publish; every system call that writes goes through `operations`.

A reader sees a whole file or none: content goes to a temporary name in the same directory, is flushed to the disk, and
then takes its name by `rename` (replace) or by `link` (create, and fail if the name is taken). Directories are flushed
last, those that were made on the way included. A crash leaves at most a name that starts with `.staged-`, which nothing
reads. What fails while such a name is cleared away is not told: the error that led there is.

`operations` is one object, so that a test can let any one of these calls fail or end the process there.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cytolabe.errors import ConflictError

__all__ = [
    "STAGED_PREFIX",
    "GrowingFile",
    "Operations",
    "create_file",
    "make_directory",
    "operations",
    "published_directory",
    "published_file",
    "remove_tree",
    "replace_by_local_file",
    "replace_local_file",
    "staged_local_directory",
]

STAGED_PREFIX = ".staged-"


class Operations:
    """The system calls that change a disk."""

    def open(self, path: Path) -> int:
        """Open a new file for writing and return its handle."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, handle: int, content: memoryview) -> int:
        """Write some bytes and return how many went."""
        return os.write(handle, content)

    def fsync(self, handle: int) -> None:
        """Wait until a file or a directory is on the disk."""
        os.fsync(handle)

    def link(self, staged: Path, path: Path) -> None:
        """Give a file a second name that nobody has."""
        os.link(staged, path)

    def rename(self, staged: Path, path: Path) -> None:
        """Move a name; a file of that name is replaced."""
        staged.replace(path)

    def unlink(self, path: Path) -> None:
        """Remove the name of a file."""
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()


operations = Operations()


class GrowingFile:
    """A new file of work in progress: appended to, neither flushed nor published, gone after a crash or later removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_directory(path.parent)
        self._handle = operations.open(path)
        self._is_open = True

    def append(self, content: bytes) -> None:
        """Write behind what is there."""
        _write_all(self._handle, content)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._is_open:
            self._is_open = False
            os.close(self._handle)


def replace_local_file(path: Path, content: bytes) -> None:
    """Write `content` under `path`, replacing what was there, all or nothing."""
    make_directory(path.parent)
    _renamed(_stage(path, content), path)


def replace_by_local_file(path: Path, staged: Path) -> None:
    """Give a finished file of the same disk the name `path`, replacing what was there, all or nothing."""
    _flush(staged)
    make_directory(path.parent)
    _renamed(staged, path)


def _renamed(staged: Path, path: Path) -> None:
    """Give a flushed file its name for good; where that fails, nothing is left of it."""
    try:
        operations.rename(staged, path)
    except OSError:
        _clear_away(staged)
        raise
    _flush_directory(path.parent)


def create_file(path: Path, content: bytes) -> None:
    """Write `content` under a name that nobody has taken yet; equal bytes under that name count as success.

    Raises
    ------
    ConflictError
        If the name is taken by other bytes.
    """
    make_directory(path.parent)
    staged = _stage(path, content)
    try:
        operations.link(staged, path)
    except FileExistsError:
        if path.read_bytes() != content:
            msg = f"{path.name} was published by somebody else in the meantime; read it again and retry."
            raise ConflictError(msg) from None
    finally:
        _clear_away(staged)
    _flush_directory(path.parent)


@contextmanager
def staged_local_directory(parent: Path) -> Iterator[Path]:
    """Yield an empty directory inside `parent`; it is removed at the end unless it was published."""
    make_directory(parent)
    staged = parent / f"{STAGED_PREFIX}{secrets.token_hex(8)}"
    operations.mkdir(staged)
    try:
        yield staged
    finally:
        with contextlib.suppress(OSError):
            remove_tree(staged)


def published_directory(staged: Path, target: Path) -> bool:
    """Give a staged directory its name, unless there is one of that name; tell whether it took it."""
    for folder, _, names in os.walk(staged, topdown=False):
        for name in sorted(names):
            _flush(Path(folder, name))
        _flush_directory(Path(folder))
    make_directory(target.parent)
    is_mine = not target.exists()
    if is_mine:
        try:
            operations.rename(staged, target)
        except OSError:
            if not target.exists():
                raise
            is_mine = False
    _flush_directory(target.parent)
    return is_mine


def published_file(staged: Path, target: Path) -> bool:
    """Give a staged file its name, unless there is one of that name; tell whether it took it."""
    _flush(staged)
    make_directory(target.parent)
    try:
        operations.link(staged, target)
    except FileExistsError:
        return False
    operations.unlink(staged)
    _flush_directory(target.parent)
    return True


def make_directory(path: Path) -> None:
    """Make a directory and those above it, each flushed into the one that holds it; one that is there is kept."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            operations.mkdir(folder)
        except FileExistsError:
            if not folder.is_dir():
                raise
        _flush_directory(folder.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it; links are removed, not followed. A missing one is fine."""
    for folder, folders, names in os.walk(path, topdown=False):
        for name in sorted(names):
            operations.unlink(Path(folder, name))
        for name in sorted(folders):
            below = Path(folder, name)
            if below.is_symlink():
                operations.unlink(below)
            else:
                operations.rmdir(below)
    if path.is_dir():
        operations.rmdir(path)


def _stage(path: Path, content: bytes) -> Path:
    """Write `content` durably under a temporary name beside `path`."""
    staged = path.parent / f"{STAGED_PREFIX}{secrets.token_hex(8)}"
    handle = operations.open(staged)
    try:
        try:
            _write_all(handle, content)
            operations.fsync(handle)
        finally:
            os.close(handle)
    except OSError:
        _clear_away(staged)
        raise
    return staged


def _write_all(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[operations.write(handle, rest) :]


def _clear_away(staged: Path) -> None:
    with contextlib.suppress(OSError):
        operations.unlink(staged)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        operations.fsync(handle)
    finally:
        os.close(handle)


def _flush_directory(path: Path) -> None:
    """Make a rename or link durable; without this a power cut can lose the name although the data are there."""
    try:
        _flush(path)
    except OSError as error:
        # Some network file systems cannot flush a directory and say so; their names are durable when made, or never.
        if error.errno != errno.EINVAL:
            raise
