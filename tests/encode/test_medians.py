"""Streaming medians against numpy, within the error that they state."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode.medians import RELATIVE_ERROR, MedianDigest, gene_medians
from cytolabe.errors import NotRawCountsError


def minibatch(dense, totals):
    counts = csr_matrix(dense)
    return SimpleNamespace(indptr=counts.indptr, columns=counts.indices, counts=counts.data, n_counts=totals)


def exact(dense, totals):
    values = dense / totals[:, None] * 10_000
    return np.array([np.median(row[row > 0]) if (row > 0).any() else np.nan for row in values.T])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n_cells=st.integers(1, 40), top=st.sampled_from([2, 30, 100_000]))
def test_a_streamed_median_is_that_of_all_cells_within_the_stated_error(seed, n_cells, top):
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, top, (n_cells, 7)) * (rng.random((n_cells, 7)) < 0.5)
    totals = dense.sum(axis=1) + rng.integers(1, 1_000_000, n_cells)
    cut = rng.integers(0, n_cells + 1)
    parts = [minibatch(dense[:cut], totals[:cut]), minibatch(dense[cut:], totals[cut:])]
    np.testing.assert_allclose(gene_medians(parts, 7), exact(dense, totals), rtol=RELATIVE_ERROR * 1.0001)


def test_digests_of_parts_add_up_to_that_of_the_whole():
    rng = np.random.default_rng(1)
    dense = rng.poisson(1.0, (50, 9))
    totals = dense.sum(axis=1) + 1
    whole, first, second = MedianDigest(9), MedianDigest(9), MedianDigest(9)
    whole.add(minibatch(dense, totals))
    first.add(minibatch(dense[:20], totals[:20]))
    second.add(minibatch(dense[20:], totals[20:]))
    first.merge(second)
    np.testing.assert_array_equal(first.medians(), whole.medians())
    np.testing.assert_array_equal(first.n_cells_of_gene, (dense > 0).sum(axis=0))


@pytest.mark.parametrize("n_genes", [1, 3])
def test_a_gene_that_no_cell_has_has_no_median(n_genes):
    assert np.isnan(gene_medians([minibatch(np.zeros((4, n_genes), dtype=int), np.ones(4))], n_genes)).all()


@pytest.mark.parametrize("total", [0, 4, float("nan")])
def test_a_total_below_a_count_is_refused_and_counted_into_no_other_gene(total):
    dense = np.array([[1, 2, 3], [5, 0, 1]])
    digest = MedianDigest(3)
    with pytest.raises(NotRawCountsError, match=r"1 of 2 cells .*cell 1 of the minibatch: count 5"):
        digest.add(minibatch(dense, np.array([6, total])))
    assert digest.n_cells_of_gene.sum() == 0
