"""log1p_cp10k: the definition, its laws, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k

counts_cg = arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 8)), elements=st.integers(0, 5000)).map(
    lambda dense: np.column_stack([dense, np.ones(len(dense), dtype=np.int64)])
)


@settings(deadline=None, max_examples=50)
@given(dense=counts_cg)
def test_it_is_normalize_total_then_log1p_of_dense_arithmetic(dense):
    # The formula of scanpy: normalize_total(target_sum=1e4), then log1p.
    expected = np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4)
    np.testing.assert_allclose(log1p_cp10k(csr_matrix(dense)).toarray(), expected, rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(dense=counts_cg)
def test_a_cell_sums_to_ten_thousand_on_the_linear_scale(dense):
    back = np.expm1(log1p_cp10k(csr_matrix(dense)).toarray().astype(np.float64))
    np.testing.assert_allclose(back.sum(axis=1), 1e4, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(dense=counts_cg, factor=st.integers(2, 9))
def test_depth_does_not_matter(dense, factor):
    shallow, deep = log1p_cp10k(csr_matrix(dense)), log1p_cp10k(csr_matrix(dense * factor))
    np.testing.assert_allclose(shallow.toarray(), deep.toarray(), rtol=1e-6)


def test_one_cell_by_hand():
    values = log1p_cp10k(csr_matrix(np.array([[1, 0, 3]]))).toarray()
    np.testing.assert_allclose(values, [[np.log(2501.0), 0.0, np.log(7501.0)]], rtol=1e-7)
    assert values.dtype == np.float32


def test_a_subset_of_genes_keeps_its_values_under_given_totals():
    dense = np.array([[5, 0, 3, 2], [1, 9, 0, 10]])
    whole = log1p_cp10k(csr_matrix(dense)).toarray()
    subset = log1p_cp10k(csr_matrix(dense[:, :2]), totals=dense.sum(axis=1)).toarray()
    np.testing.assert_array_equal(subset, whole[:, :2])


def test_the_counts_are_left_alone():
    counts = csr_matrix(np.array([[1, 0, 3]]))
    result = log1p_cp10k(counts)
    result.data[:] = 0
    result.indices[:] = 0
    np.testing.assert_array_equal(counts.toarray(), [[1, 0, 3]])


def test_a_cell_without_counts_is_refused_and_named():
    with pytest.raises(ValueError, match=r"1 of 3 cells have no counts.*first rows: 1"):
        log1p_cp10k(csr_matrix(np.array([[1, 2], [0, 0], [3, 0]])))


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match="not raw counts"):
        log1p_cp10k(csr_matrix(np.array([[1.0, -2.0]])))


def test_totals_of_other_cells_are_refused():
    counts = csr_matrix(np.array([[1, 2], [3, 4]]))
    with pytest.raises(ValueError, match="more counts than their given total"):
        log1p_cp10k(counts, totals=np.array([3, 3]))
    with pytest.raises(ValueError, match="3 totals were given for 2 cells"):
        log1p_cp10k(counts, totals=np.array([3, 7, 1]))
