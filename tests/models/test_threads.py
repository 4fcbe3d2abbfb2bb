import numpy as np
from threadpoolctl import threadpool_info

from cytolabe.models import threads
from cytolabe.models.threads import single_thread


def n_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_inside_there_is_one_thread_and_afterwards_as_many_as_before():
    np.ones((8, 8)) @ np.ones((8, 8))
    before = n_threads()
    with single_thread():
        assert set(n_threads()) == {1}
    assert n_threads() == before


def test_libraries_are_looked_for_again_only_when_something_was_imported(monkeypatch):
    found = []
    real = threads.ThreadpoolController

    def watched():
        found.append(1)
        return real()

    monkeypatch.setattr(threads, "ThreadpoolController", watched)
    threads._libraries.cache_clear()
    for _ in range(3):
        with single_thread():
            pass
    assert len(found) == 1
    monkeypatch.setitem(threads.sys.modules, "a_module_that_was_just_imported", threads)
    with single_thread():
        pass
    assert len(found) == 2
