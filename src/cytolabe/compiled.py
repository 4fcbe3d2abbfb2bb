"""One decorator for the kernels: loops that numba compiles, run without the GIL, and keeps compiled on disk.

A kernel takes arrays and numbers, allocates as little as it can, and knows no records. It is compiled for the types
of its first call; the result is cached beside the source, or in the user's cache directory where that is read-only,
or not at all where neither can be written (a container, say): then every process compiles again.
Kernels never run in parallel by themselves: threads of the caller do, which is safe from any thread and lets the
caller bound them.
"""

import inspect
from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["kernel"]

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile a function with numba: no Python objects, no GIL, cached on disk.

    A type checker that wraps functions for tests is taken off first: numba compiles the code as it is written.
    """
    plain = inspect.unwrap(function)
    try:
        compiled = numba.njit(nogil=True, cache=True)(plain)
    except RuntimeError:
        # Numba looks for a place for its cache here, and raises where it can write to none of them.
        compiled = numba.njit(nogil=True)(plain)
    return cast("F", compiled)
