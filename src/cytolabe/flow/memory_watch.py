"""Who looks that a run as a whole stays within `--memory`: the process that leads, with the workers below it.

A task asks between its blocks whether it is over its share (`flow.budget.require_within`); whoever leads has no blocks,
and shares may add up. A thread reads the proportional memory of all processes some times a second, and ends the work in
the thread that began it by an error. The work may be ended anywhere: what is published is whole, and what was finished
waits in the scratch. Where the system tells no such size (it has no `/proc`) nothing is watched.
"""

import ctypes
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


def held_by_family(pid: int | str = "self") -> int:
    """Return the bytes that a process and those below it hold together; pages that they share count once."""
    total, waiting = 0, [str(pid)]
    while waiting:
        home = _PROC / waiting.pop()
        try:
            total += _held(home.name)
            for children in home.glob("task/*/children"):
                waiting += children.read_text(encoding="ascii").split()
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile, or belongs to somebody else
    return total


def held_by_leader() -> int:
    """Return the bytes that this process holds, its share of pages that others hold as well."""
    try:
        return _held("self")
    except (OSError, ValueError, IndexError):
        return 0  # not on this system: nothing can be measured


def _held(pid: str) -> int:
    lines = (_PROC / pid / "smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


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
