"""One thread for numerical libraries, so that two runs and two machines add up in the same order.

Finding the libraries costs 4 ms, and a study enters this block hundreds of times: they are looked for again only when
a module was imported since the last time.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

__all__ = ["single_thread"]


@contextmanager
def single_thread() -> Iterator[None]:
    """Run the block with BLAS and OpenMP on one thread, and put the numbers of threads back afterwards."""
    with _libraries(len(sys.modules)).limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """Find the loaded libraries; `n_modules` says whether new ones may have come."""
    del n_modules
    return ThreadpoolController()
