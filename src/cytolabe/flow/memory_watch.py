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
_PATIENCE = 3.0
"""Seconds until the leader is told again: a library may have swallowed the first word, and cleaning up takes a while."""


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
    over: list[int] = []

    class _OverBudgetError(UsageError):
        """Python makes it of nothing but its class, in the thread that it ends."""

        def __init__(self) -> None:
            super().__init__(_message(over[0] if over else limit, limit))

    leader, finished = threading.get_ident(), threading.Event()

    def watch() -> None:
        while not finished.wait(interval):
            found = held()
            if found > limit and not finished.is_set():
                over.append(found)
                _raise_in(leader, _OverBudgetError)
                finished.wait(_PATIENCE)

    watcher = threading.Thread(target=watch, name="cytolabe-memory", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _message(held: int, limit: int) -> str:
    return (
        f"all processes together hold {held / 1e6:,.0f} MB, over the {limit / 1e6:,.0f} MB of --memory; the work was ended. "
        "Nothing that was published is touched, and the same command goes on where this one stopped: give more memory or "
        "fewer workers."
    )
