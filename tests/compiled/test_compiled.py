"""Kernels are compiled, release the GIL, and survive the type checker of the tests."""

import functools

import numpy as np

from cytolabe.compiled import kernel


@kernel
def total(values: np.ndarray) -> int:
    found = 0
    for value in values:
        found += value
    return found


def test_a_kernel_computes_what_its_source_says():
    assert total(np.arange(10)) == 45


def test_a_kernel_releases_the_lock_of_the_interpreter():
    assert total.targetoptions["nogil"]


def test_a_wrapped_function_is_compiled_as_it_was_written():
    @functools.wraps(total.py_func)
    def checked(*args):
        return NotImplemented

    assert kernel(checked)(np.arange(4)) == 6


def test_a_kernel_runs_where_nothing_can_be_cached(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file"
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(nowhere))

    def doubled(value):
        return 2 * value

    doubled.__code__ = doubled.__code__.replace(co_filename=str(nowhere / "kernels.py"))
    assert kernel(doubled)(21) == 42
