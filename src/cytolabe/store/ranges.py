"""Ranges of objects in an object store, fetched together and many at a time.

A request costs tens of milliseconds whatever it brings, and a connection brings some tens of megabytes a second; so
ranges that lie within half a megabyte of each other are one request, and sixteen requests are on their way at a time.
What is held is bounded: sixteen requests of up to eight megabytes.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from cytolabe.errors import IntegrityError
from cytolabe.files import Place, read_range

__all__ = ["fetched"]

_BRIDGED_BYTES = 1 << 19
_REQUEST_BYTES = 1 << 23
_IN_FLIGHT = 16

Range = tuple[Place, int, int]


def fetched(ranges: Sequence[Range]) -> Iterator[bytes]:
    """Yield the bytes of each (file, start, stop), in order; ascending starts in each file are fetched together.

    Raises
    ------
    IntegrityError
        If a file is missing, or ends before a range does.
    """
    requests = _merged(ranges)
    for first in range(0, len(requests), _IN_FLIGHT):
        window = requests[first : first + _IN_FLIGHT]
        contents = _threads().map(_fetch, window) if len(window) > 1 else map(_fetch, window)
        for (_, low, _, members), content in zip(window, contents, strict=True):
            for start, stop in members:
                yield content[start - low : stop - low]


def _merged(ranges: Sequence[Range]) -> list[tuple[Place, int, int, list[tuple[int, int]]]]:
    """Return requests: file, start, stop, and the ranges that each is for."""
    requests: list[tuple[Place, int, int, list[tuple[int, int]]]] = []
    for place, start, stop in ranges:
        if requests:
            last, low, high, members = requests[-1]
            if place == last and low <= start <= high + _BRIDGED_BYTES and stop - low <= _REQUEST_BYTES:
                requests[-1] = (last, low, max(high, stop), [*members, (start, stop)])
                continue
        requests.append((place, start, stop, [(start, stop)]))
    return requests


def _fetch(request: tuple[Place, int, int, list[tuple[int, int]]]) -> bytes:
    place, start, stop, _ = request
    try:
        content = read_range(place, start, stop - start)
    except FileNotFoundError:
        msg = f"{place.parent.name}/{place.name} is missing; a missing chunk is never read as zeros."
        raise IntegrityError(msg) from None
    if len(content) != stop - start:
        msg = f"{place.parent.name}/{place.name} is cut off."
        raise IntegrityError(msg)
    return content


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="cytolabe-fetch")


# Threads do not survive a fork: a loader's worker would wait forever for those of its parent.
os.register_at_fork(after_in_child=_threads.cache_clear)
