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
