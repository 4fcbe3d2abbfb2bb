"""A hard bound on memory: how many workers and how large blocks fit into it, and who looks that they stay there.

Estimates from a few runs on one machine, not bounds: a process with everything imported holds about 260 MB, the one
that leads about 60 bytes per cell more for names, facts and sums, and a task about 64 bytes per entry of its block,
beside one shard. A matrix by features is turned over as a whole, which this does not count. Blocks shrink
before workers do. A task that finds itself over its share stops with a message, which is better than being ended by
the system: the same command with more memory, or fewer workers, goes on where it stopped.
"""

import ctypes
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from cytolabe.errors import UsageError

__all__ = [
    "Budget",
    "beside_a_leader",
    "bytes_of",
    "default_memory",
    "expected_peak",
    "plan_within",
    "release_unused",
    "require_within",
]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_LEAST_BARE = 1_000_000
_PROCESS_BYTES = 260 * 10**6
_SHARD_BYTES = 120 * 10**6
_ENTRY_BYTES = 64
_CELL_BYTES = 60
_MOST_ENTRIES = 1_000_000
_FEWEST_ENTRIES = 250_000
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may use: `memory` in bytes for all of its processes, and what follows for each task."""

    memory: int
    n_workers: int
    max_nonzero: int
    task_memory: int


def bytes_of(text: str) -> int:
    """Return the number of bytes that a size such as `8GB`, `500 MB` or `2GiB` means.

    Raises
    ------
    UsageError
        If it is no size, or a number without a unit that can hardly mean bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        msg = f"--memory {text!r} is no size; write it like 8GB or 512MB."
        raise UsageError(msg)
    if not match[2] and float(match[1]) < _LEAST_BARE:
        msg = f"--memory {text.strip()} would be {match[1]} bytes. Say of what: --memory {match[1]}GB or {match[1]}MB."
        raise UsageError(msg)
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def default_memory() -> int:
    """Return half of what this machine, or its container, has."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP.read_text(encoding="ascii").strip() if _CGROUP.is_file() else "max"
    return min(installed, int(limit) if limit.isdigit() else installed) // 2


def plan_within(memory: int, n_workers: int) -> Budget:
    """Return how `n_workers` fit into `memory` bytes, or fewer of them.

    Raises
    ------
    UsageError
        If not even one worker with the smallest blocks does.
    """
    least = _task_bytes(_FEWEST_ENTRIES)
    needed = _PROCESS_BYTES + least
    if memory < needed:
        msg = (
            f"--memory {memory / 1e6:,.0f} MB is too little: one process with the smallest blocks needs "
            f"{needed / 1e6:,.0f} MB. Give at least --memory {-(-needed // 10**6)}MB, or leave it out for half of what there is."
        )
        raise UsageError(msg)
    if n_workers == 1:
        entries = _entries(memory - _PROCESS_BYTES)
        return Budget(memory=memory, n_workers=1, max_nonzero=entries, task_memory=memory)
    share = memory - _PROCESS_BYTES
    fitting = max(1, min(n_workers, share // (_PROCESS_BYTES + least)))
    if fitting == 1:
        return plan_within(memory, 1)
    each = share // fitting
    return Budget(memory=memory, n_workers=fitting, max_nonzero=_entries(each - _PROCESS_BYTES), task_memory=each)


def beside_a_leader(budget: Budget) -> Budget:
    """Return the budget of one worker that is not the process itself, so that two processes share the memory."""
    left = max(_task_bytes(_FEWEST_ENTRIES) + _PROCESS_BYTES, budget.memory - _PROCESS_BYTES)
    return replace(budget, max_nonzero=_entries(left - _PROCESS_BYTES), task_memory=left)


def expected_peak(n_workers: int, *, max_nonzero: int, n_cells: int) -> int:
    """Return the bytes that all processes together are expected to hold; the one that leads is one of them."""
    n_processes = 1 if n_workers == 1 else n_workers + 1
    return n_processes * _PROCESS_BYTES + n_workers * _task_bytes(max_nonzero) + _CELL_BYTES * n_cells


def require_within(task_memory: int) -> None:
    """Stop a task whose process holds more than its share; 0 is no limit.

    Raises
    ------
    UsageError
        If it does.
    """
    if not task_memory:
        return
    held = _resident_bytes()
    if held > task_memory:
        msg = (
            f"a process holds {held / 1e6:,.0f} MB, over its share of {task_memory / 1e6:,.0f} MB of --memory. "
            "Give more memory or fewer workers; the same command goes on where this one stopped."
        )
        raise UsageError(msg)


def release_unused() -> None:
    """Give the memory that this process has freed back to the system, where the C library can.

    Arrays of the size of a block are freed into a heap that keeps them for the next one; a worker between two files
    would hold them beside whoever looks through the next file.
    """
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _task_bytes(entries: int) -> int:
    return _SHARD_BYTES + _ENTRY_BYTES * entries


def _entries(n_bytes: int) -> int:
    return max(_FEWEST_ENTRIES, min(_MOST_ENTRIES, (n_bytes - _SHARD_BYTES) // _ENTRY_BYTES))


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0  # not on this system: nothing can be measured
    return pages * os.sysconf("SC_PAGE_SIZE")
