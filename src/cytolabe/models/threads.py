"""One thread for numerical libraries, so that two runs and two machines add up in the same order.

Networks are no exception where a study fits them (`fit_threads`): processes that share the work would else start as many
threads each as there are cores, and wait for each other (on two cores, a training of some seconds took minutes).

Finding the libraries costs 4 ms, and a study enters this block hundreds of times: they are looked for again only when
a module was imported since the last time.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

__all__ = ["fit_threads", "single_thread"]


@contextmanager
def single_thread() -> Iterator[None]:
    """Run the block with BLAS and OpenMP on one thread, and put the numbers of threads back afterwards."""
    with _libraries(len(sys.modules)).limit(limits=1):
        yield


@contextmanager
def fit_threads() -> Iterator[None]:
    """Run the block on one thread, unless `OMP_NUM_THREADS` is set: then whoever set it has said how many.

    Libraries that the block uses have to be loaded before: one that is loaded inside takes as many threads as there are cores.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        yield
    else:
        with single_thread():
            yield


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """Find the loaded libraries; `n_modules` says whether new ones may have come."""
    del n_modules
    return ThreadpoolController()
