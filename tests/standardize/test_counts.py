import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix

from cytolabe.records import Block
from cytolabe.standardize.counts import standardize_block


def block_of(counts):
    names = tuple(f"c{i}" for i in range(counts.shape[0]))
    return Block(dataset_id="d", start=7, cell_names=names, counts=counts)


@settings(deadline=None)
@given(
    values=hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 300)),
    seed=st.integers(0, 9),
)
def test_only_the_form_of_counts_changes(values, seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(values.shape)
    # Every value is stored, zeros too, and the features of each cell are in a random order.
    order = np.argsort(rng.random(values.shape), axis=1)
    data = np.take_along_axis(values, order, axis=1).ravel().astype(np.float32)
    indptr = np.arange(0, values.size + 1, values.shape[1])
    messy = csr_matrix((data, order.ravel(), indptr), shape=values.shape)
    standard, n_zeros = standardize_block(block_of(messy))
    np.testing.assert_array_equal(standard.counts.toarray(), values)
    assert n_zeros == np.count_nonzero(values == 0)
    assert standard.counts.nnz == np.count_nonzero(values)
    assert all((np.diff(standard.counts[row].indices) > 0).all() for row in range(values.shape[0]))
    assert (standard.start, standard.cell_names) == (7, block_of(messy).cell_names)
    del rows, columns


@pytest.mark.parametrize(
    ("largest", "dtype"), [(255, np.uint8), (256, np.uint16), (65_536, np.uint32), (2**33, np.uint64)]
)
def test_the_narrowest_type_that_loses_nothing_is_used(largest, dtype):
    standard, _ = standardize_block(block_of(csr_matrix(np.array([[0, largest]], dtype=np.float64))))
    assert standard.counts.dtype == dtype
    assert int(standard.counts[0, 1]) == largest


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_values_that_were_never_proven_are_refused(value):
    with pytest.raises(ValueError, match="prove them"):
        standardize_block(block_of(csr_matrix(np.array([[1.0, value]]))))


def test_an_empty_block_stays_empty():
    standard, n_zeros = standardize_block(block_of(csr_matrix((3, 4), dtype=np.float32)))
    assert (standard.counts.shape, standard.counts.nnz, n_zeros) == ((3, 4), 0, 0)
