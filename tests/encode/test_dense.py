"""A dense block over a panel is what plain indexing of the dense matrix gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode import dense_panel


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n_cells=st.integers(0, 6), n_genes=st.integers(1, 30))
def test_a_panel_is_the_columns_in_their_order(seed, n_cells, n_genes):
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 100_000, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < 0.5)
    panel = rng.permutation(n_genes)[: rng.integers(0, n_genes + 1)].tolist()
    np.testing.assert_array_equal(dense_panel(csr_matrix(dense), panel), dense[:, panel])


def test_a_column_twice_or_beyond_the_genes_is_refused():
    counts = csr_matrix(np.array([[1, 2]]))
    with pytest.raises(ValueError, match="a column twice"):
        dense_panel(counts, [0, 0])
    with pytest.raises(ValueError, match="outside of the 2 genes"):
        dense_panel(counts, [2])
