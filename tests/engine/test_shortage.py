"""Want of memory is recognized whoever says it, by what the libraries really raise, and told with the size and the remedy."""

import subprocess
import sys

import numpy as np
import pytest

from cytolabe.engine import memory_shortage, naming_shortage
from cytolabe.errors import NotEnoughMemoryError

ABSURD = 2**58
"""Numbers that no machine has room for, and that still have a size in bytes."""


def caught(work):
    with pytest.raises((MemoryError, RuntimeError)) as error:
        work()
    return error.value


def test_numpy_says_size_and_shape():
    error = caught(lambda: np.empty((2**30, 2**28)))
    assert memory_shortage(error) == "2.00 EiB for an array with shape (1073741824, 268435456) and data type float64"


def test_torch_says_bytes_in_a_plain_error_of_the_runtime():
    torch = pytest.importorskip("torch")
    error = caught(lambda: torch.empty(ABSURD))
    assert not isinstance(error, MemoryError)
    assert memory_shortage(error) == "1 EiB"


def test_a_full_gpu_is_an_error_of_torch_by_its_name():
    torch = pytest.importorskip("torch")
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
    )
    assert memory_shortage(error) == "20.00 GiB"
    assert memory_shortage(torch.OutOfMemoryError("no word of it")) == ""


def test_python_says_nothing_and_a_cause_is_looked_at():
    assert memory_shortage(MemoryError()) == ""
    wrapped = RuntimeError("training failed")
    wrapped.__cause__ = MemoryError()
    assert memory_shortage(wrapped) == ""


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), ValueError("unable to read memory"), RecursionError("deep")], ids=repr
)
def test_other_errors_are_none_and_go_on_as_they_are(error):
    assert memory_shortage(error) is None
    with pytest.raises(type(error)), naming_shortage("a step", smaller="Less."):
        raise error


def test_the_step_the_size_and_the_remedy_are_told():
    with pytest.raises(NotEnoughMemoryError) as told, naming_shortage("embedding by pca", smaller="Less: n_top_genes."):
        np.empty((2**30, 2**28))
    assert str(told.value).startswith(
        "embedding by pca: there was not enough memory; it asked for 2.00 EiB for an array with shape"
    )
    assert str(told.value).endswith("Less: n_top_genes.")
    assert told.value.exit_code == 3
    nested = NotEnoughMemoryError("the inner")
    with pytest.raises(NotEnoughMemoryError, match="the inner"), naming_shortage("the outer", smaller="Less."):
        raise nested


def test_torch_is_not_loaded_to_tell():
    code = "import sys; from cytolabe.engine import memory_shortage as m; m(MemoryError()); m(RuntimeError('x')); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
