"""Who looks that a run as a whole stays within `--memory`: the process that leads, with the workers below it.

A task asks between its blocks whether it is over its share (`flow.budget.require_within`); whoever leads has no blocks,
and shares may add up. A thread reads the memory of all processes some times a second, and ends the work in
the thread that began it by an error. The work may be ended anywhere: what is published is whole, and what was finished
waits in the scratch. Where the system tells no such size (it has no `/proc`) nothing is watched.
"""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cytolabe.errors import UsageError

__all__ = ["held_by_family", "held_by_leader", "memory_watched"]

_PROC = Path("/proc")
_INTERVAL = 0.25
_PATIENCE = 30.0
"""Seconds until the leader is told again, if it still works: more than ending the workers takes, which a second word would
interrupt."""


class _OverBudgetError(BaseException):
    """Ends the work in the thread that leads. No handler of errors on its way takes it for one of the file in hand."""


def held_by_family(pid: int | str = "self", *, below: int = 0) -> int:
    """Return the bytes that a process and those below it hold together; pages that they share count once.

    Where what is resident in each, shared pages counted in all, is together less than `below`, that sum is returned: it is
    never the smaller one, and takes the system some hundred times less than to look whose each page is.
    """
    family = _family(str(pid))
    resident = sum(_told(_resident, member) for member in family)
    return resident if resident < below else sum(_told(_held, member) for member in family)


def held_by_leader() -> int:
    """Return the bytes that this process holds, its share of pages that others hold as well."""
    return _told(_held, "self")


def _family(pid: str) -> list[str]:
    """Return a process and those below it."""
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError):
            for children in (_PROC / member).glob("task/*/children"):
                found += children.read_text(encoding="ascii").split()
    return found


def _told(ask: Callable[[str], int], pid: str) -> int:
    """Return what the system says of a process; 0 where it ended meanwhile, is somebody else's, or nothing is told."""
    try:
        return ask(pid)
    except (OSError, ValueError, IndexError):
        return 0


def _held(pid: str) -> int:
    lines = (_PROC / pid / "smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _resident(pid: str) -> int:
    return int((_PROC / pid / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def memory_watched(
    limit: int, *, interval: float = _INTERVAL, held: Callable[[], int] = held_by_family
) -> Iterator[None]:
    """End the work inside where this process and those below it hold more than `limit` bytes.

    Raises
    ------
    UsageError
        In the thread that entered, wherever it is.
    """
    watch = _Watch(limit, interval=interval, held=held)
    try:
        try:
            watch.start()
            yield
        finally:
            watch.stop()
    except _OverBudgetError:
        watch.stop()
        raise UsageError(_message(watch.found, limit)) from None


class _Watch:
    """The thread that looks, and the end of its looking."""

    def __init__(self, limit: int, *, interval: float, held: Callable[[], int]) -> None:
        self.found = 0
        self._limit, self._interval, self._held = limit, interval, held
        self._leader = threading.get_ident()
        self._finished, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._look, name="cytolabe-memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the looking; a word that came too late is taken back, and one that comes just now does not prevent it."""
        while True:
            try:
                with self._lock:
                    self._finished.set()
                if self._thread.ident is not None:
                    self._thread.join()
                _raise_in(self._leader, None)
            except _OverBudgetError:
                continue
            return

    def _look(self) -> None:
        patience = self._interval
        while not self._finished.wait(patience):
            held = self._held()
            patience = self._interval
            if held > self._limit:
                with self._lock:
                    if self._finished.is_set():
                        return
                    self.found = held
                    _raise_in(self._leader, _OverBudgetError)
                patience = _PATIENCE


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in a thread at its next step, or take back what waits to be raised there."""
    given = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)


def _message(held: int, limit: int) -> str:
    return (
        f"all processes together hold {held / 1e6:,.0f} MB, over the {limit / 1e6:,.0f} MB of --memory; the work was ended. "
        "Nothing that was published is touched, and the same command goes on where this one stopped: give more memory or "
        "fewer workers."
    )
