import numpy as np
import pytest

from cytolabe.ingest.native import exact_below, native


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        pytest.param(">i4", "<i4", id="the other byte order is turned"),
        pytest.param("<f2", "<f4", id="half precision becomes single"),
        pytest.param("longdouble", "<f8", id="extended precision becomes double"),
        pytest.param("<u8", "<u8", id="what is native stays"),
        pytest.param("bool", "bool", id="truth values stay"),
    ],
)
def test_numbers_keep_their_value_in_a_form_that_matrices_know(dtype, expected):
    values = np.array([0, 1, 77]).astype(dtype)
    assert native(values).dtype == np.dtype(expected).newbyteorder("=")
    np.testing.assert_array_equal(native(values), values)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_float_skips_integers_from_its_limit_on_and_not_before(dtype):
    limit = int(exact_below(dtype))
    assert int(np.array(limit - 1).astype(dtype)) == limit - 1
    assert int(np.array(limit + 1).astype(dtype)) != limit + 1
    assert exact_below("int64") == exact_below("float64") == float("inf")
