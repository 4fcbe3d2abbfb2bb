"""A command in a process of its own, so that what crashes the process does not end the command.

HDF5 and the decoders of chunks are C code. A file can crash them although another process looked through it before
(`ingest.inspection`), and the system ends a process that takes too much memory. The process that the user started
therefore forks before anything heavy is loaded and only waits: for nothing but the pages of a bare interpreter. If the
fork crashes, the command is run once more; it then finds what the first one had in hand, and works so that the file is a
finding (`flow.means`). Signals go through to the fork, and the fork ends with its parent.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from cytolabe.errors import WorkerDiedError

__all__ = ["can_guard", "guarded"]

CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGKILL, signal.SIGSYS}
)
"""Ends of a process that nobody asks for. The system ends by SIGKILL whoever takes too much memory."""

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HEAVY = frozenset({"numpy", "pandas", "pyarrow", "torch"})


def can_guard() -> bool:
    """Tell whether this process may fork: it has one thread, and no library with threads or memory of its own."""
    return hasattr(signal, "sigwaitinfo") and threading.active_count() == 1 and _HEAVY.isdisjoint(sys.modules)


def guarded(command: Callable[[], NoReturn], *, tell: Callable[[str, bool], None]) -> int:
    """Run a command in a fork, and once more where that crashed; return its exit code.

    `command` leaves by `SystemExit`. `tell` is told by which signal a fork crashed, and whether that was the last try.
    Crashed twice, it is that of a `WorkerDiedError`; ended by a signal that was asked for, 128 and the signal.
    """
    code = _in_fork(command)
    if -code not in CRASHES:
        return _shell_code(code)
    tell(signal.Signals(-code).name, False)
    code = _in_fork(command)
    if -code not in CRASHES:
        return _shell_code(code)
    tell(signal.Signals(-code).name, True)
    return WorkerDiedError.exit_code


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _in_fork(command: Callable[[], NoReturn]) -> int:
    """Return how a fork ended: its exit code, or a signal as a negative number."""
    watched = {*_PASSED_ON, signal.SIGCHLD}
    # Held back from before the fork on: what comes in between is neither lost nor handled by this process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(writing)
        threading.Thread(target=_end_with_parent, args=(reading,), daemon=True).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        command()
    os.close(reading)
    try:
        return _waited(child, watched)
    finally:
        os.close(writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _waited(child: int, watched: set[signal.Signals]) -> int:
    while True:
        came = signal.sigwaitinfo(watched)
        if came.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif came.si_pid:
            # What a terminal sends has no sender, and reaches the fork by itself.
            os.kill(child, came.si_signo)


def _end_with_parent(reading: int) -> None:
    """End this process when its parent is gone: the pipe has no writer any more."""
    os.read(reading, 1)
    os._exit(128 + signal.SIGKILL)
