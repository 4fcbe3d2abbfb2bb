"""A disk that fails, or takes the process with it, at the call that a test chooses."""

import errno
import os
import signal
from pathlib import Path

from cytolabe.files.local import Operations

__all__ = ["KILLED", "FailingOperations"]

KILLED = 86
"""Exit code of a process that `error="KILL"` ended."""


class FailingOperations(Operations):
    """System calls of which the `n_th` (from 0) fails, and no other; `calls` are the names of all that were made.

    Put it in the place of `files.local.operations`. `error` is the name of an errno (`ENOSPC`), or `KILL`: then the
    process ends there and then, without any cleanup, as it does when the power goes; `SIGKILL` does that by the signal.
    """

    def __init__(self, n_th: int, *, error: str = "EIO") -> None:
        self.calls: list[str] = []
        self._n_th = n_th
        self._error = error

    @property
    def errno(self) -> int:
        """The number of the error."""
        return int(getattr(errno, self._error))

    def open(self, path: Path) -> int:
        """Open a new file."""
        self._count("open", path)
        return super().open(path)

    def write(self, handle: int, content: memoryview) -> int:
        """Write half of the content before failing, as a disk does that fills up."""
        if len(self.calls) == self._n_th:
            super().write(handle, content[: len(content) // 2])
        self._count("write")
        return super().write(handle, content)

    def fsync(self, handle: int) -> None:  # noqa: ARG002 - nothing is flushed
        """Count, and do not flush: who reads on a machine that runs sees what was written without it, and sooner."""
        self._count("fsync")

    def link(self, staged: Path, path: Path) -> None:
        """Give a second name."""
        self._count("link", path)
        super().link(staged, path)

    def rename(self, staged: Path, path: Path) -> None:
        """Move a name."""
        self._count("rename", path)
        super().rename(staged, path)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        self._count("unlink", path)
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        self._count("mkdir", path)
        super().mkdir(path)

    def rmdir(self, path: Path) -> None:
        """Remove a directory."""
        self._count("rmdir", path)
        super().rmdir(path)

    def _count(self, name: str, path: Path | None = None) -> None:
        self.calls.append(name)
        if len(self.calls) != self._n_th + 1:
            return
        if self._error == "KILL":
            os._exit(KILLED)
        if self._error == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.errno, os.strerror(self.errno), None if path is None else str(path))
