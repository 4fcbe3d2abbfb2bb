"""Which files of an ingest are tasks as a whole, side by side, and which are cut into tasks for all workers.

A file that one worker reads from end to end wastes nothing: its tables, its proof and its shards keep one processor
busy while other files keep the others. Only where too few files are left to go round is a file worth cutting, and a
very large one is always cut, because whoever reads it whole also holds its tables whole. What comes of a file depends
on neither.
"""

import heapq
from collections.abc import Sequence

__all__ = ["files_to_cut"]

SMALL_BYTES = 64 << 20
"""A smaller file is never cut."""
LARGE_BYTES = 4 << 30
"""A file from here on is always cut."""
_CUT_COST = 1.3
"""What the work of a cut file takes over that of a whole one: its tables are made by one process while others wait."""


def files_to_cut(sizes: Sequence[int], n_workers: int) -> frozenset[int]:
    """Return the positions of the files to cut, given the bytes of each: those that make all of it end soonest.

    The files that are cut are the largest ones; how many of them is tried out. One worker makes the tasks of a file
    itself and tells how far it is, which costs nothing.
    """
    largest_first = sorted(range(len(sizes)), key=lambda place: (-sizes[place], place))
    most = sum(size >= SMALL_BYTES for size in sizes)
    always = LARGE_BYTES if n_workers > 1 else min(SMALL_BYTES, LARGE_BYTES)
    least = sum(size >= always for size in sizes)

    def ends(n_cut: int) -> tuple[float, int]:
        cut, whole = largest_first[:n_cut], largest_first[n_cut:]
        alone = _CUT_COST * sum(sizes[place] for place in cut) / n_workers
        return alone + _side_by_side([sizes[place] for place in whole], n_workers), n_cut

    return frozenset(largest_first[: min(map(ends, range(least, max(least, most) + 1)))[1]])


def _side_by_side(sizes: Sequence[int], n_workers: int) -> float:
    """Return when the last of `n_workers` is done if each takes the next of the files, the largest first."""
    busy_until = [0] * n_workers
    for size in sizes:
        heapq.heapreplace(busy_until, busy_until[0] + size)
    return float(max(busy_until))
