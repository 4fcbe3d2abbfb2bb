"""Want of memory: recognized whoever says it, and told with what was asked for and what makes it less.

Python raises MemoryError, NumPy a kind of it that knows shape and type, torch an error of its own for a GPU and a plain RuntimeError for main
memory. Nothing of theirs is imported to tell them apart: a command that uses no torch stays as fast to start as it was.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from cytolabe.errors import NotEnoughMemoryError

__all__ = ["memory_shortage", "naming_shortage", "shortage_told"]

_CUDA_NAME = "OutOfMemoryError"
_SAID_BY_RUNTIME = re.compile(
    r"DefaultCPUAllocator|not enough memory: you tried|CUDA (?:error: )?out of memory|CUBLAS_STATUS_ALLOC_FAILED|MPS backend out of memory"
)
_ASKED = re.compile(
    r"(?:Unable to|[Tt]ried to) allocate ([0-9.]+ (?:[KMGTPE]i?B|bytes))(?: for an array( with shape [^\n]*))?"
)
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def memory_shortage(error: BaseException) -> str | None:
    """Return what was asked for, empty where nobody says; None where the error is another and was not caused by want of memory."""
    met: BaseException | None = error
    for _ in range(8):
        if met is None:
            return None
        if _is_shortage(met):
            return _asked(str(met))
        met = met.__cause__
    return None


def shortage_told(step: str, asked: str, *, smaller: str) -> str:
    """Return the sentence: which step, what it asked for, and what makes it less."""
    size = f"it asked for {asked}" if asked else "how much it asked for, nobody says"
    return f"{step}: there was not enough memory; {size}. {smaller}"


@contextmanager
def naming_shortage(step: str, *, smaller: str) -> Iterator[None]:
    """Name the step, and what makes it smaller, where memory runs out inside.

    Raises
    ------
    NotEnoughMemoryError
        In place of whatever said that memory ran out; every other error goes on as it is.
    """
    try:
        yield
    except Exception as error:
        asked = memory_shortage(error)
        if asked is None or isinstance(error, NotEnoughMemoryError):
            raise
        raise NotEnoughMemoryError(shortage_told(step, asked, smaller=smaller)) from error


def _is_shortage(error: BaseException) -> bool:
    if isinstance(error, MemoryError | NotEnoughMemoryError):
        return True
    if any(one.__name__ == _CUDA_NAME and one.__module__.split(".")[0] == "torch" for one in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and _SAID_BY_RUNTIME.search(str(error)) is not None


def _asked(message: str) -> str:
    found = _ASKED.search(message)
    if found is None:
        return ""
    size, shape = found[1], found[2] or ""
    if size.endswith("bytes"):
        size = _readable(float(size.split()[0]))
    return f"{size} for an array{shape}" if shape else size


def _readable(n_bytes: float) -> str:
    power = 0
    while n_bytes >= 1024 and power < len(_UNITS) - 1:
        n_bytes, power = n_bytes / 1024, power + 1
    return f"{n_bytes:.4g} {_UNITS[power]}"
