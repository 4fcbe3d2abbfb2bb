"""Two countings of one droplet differ less than two samples of one profile; nothing else does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import chi2_contingency, pearsonr

from cytolabe.audit.dispersion import MAX_DISPERSION, dispersion
from cytolabe.audit.planted import thinned


def profile(rng, n_genes=2_000):
    return rng.gamma(0.3, 1.0, size=n_genes)


def pair(x, y):
    return dispersion(csr_matrix(np.atleast_2d(x)), csr_matrix(np.atleast_2d(y)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_statistic_is_the_chi_square_of_the_table_of_both_cells(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.poisson(rng.gamma(0.5, 2.0, size=(2, 60)))
    x[0], y[1] = x[0] + 1, y[1] + 1
    found = pair(x, y)
    either = (x + y) > 0
    expected = chi2_contingency(np.array([x[either], y[either]]), correction=False)
    assert found.ratio[0] * max(expected.dof, 1) == pytest.approx(expected.statistic)
    assert found.n_genes[0] == either.sum()
    assert found.n_common[0] == ((x > 0) & (y > 0)).sum()
    assert found.correlation[0] == pytest.approx(pearsonr(x, y).statistic)
    assert found.depth_ratio[0] == pytest.approx(min(x.sum(), y.sum()) / max(x.sum(), y.sum()))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_the_two_cells_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.poisson(1.0, size=(2, 50)) + np.eye(2, 50, dtype=int)
    one, other = pair(x, y), pair(y, x)
    assert one.ratio == pytest.approx(other.ratio)
    assert one.depth_ratio.tolist() == other.depth_ratio.tolist()


def test_two_samples_of_one_profile_are_not_near():
    rng = np.random.default_rng(0)
    rates = profile(rng)
    x, y = (rng.poisson(rates * depth / rates.sum(), size=(500, 2_000)) for depth in (3_000, 1_500))
    found = pair(x, y)
    assert np.median(found.ratio) == pytest.approx(1, abs=0.03)
    assert not found.is_near.any()


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.2])
def test_what_is_left_of_a_cell_at_a_fraction_of_its_counts_is_near_it(kept):
    rng = np.random.default_rng(1)
    rates = profile(rng)
    cells = csr_matrix(rng.poisson(rates * 3_000 / rates.sum(), size=(200, 2_000)))
    found = dispersion(cells, thinned(cells, kept, rng))
    assert found.is_near.all()
    assert found.ratio.max() < MAX_DISPERSION


def test_equal_cells_are_no_near_pair_and_a_doubled_cell_is():
    x = np.random.default_rng(2).poisson(3.0, size=400)
    assert (pair(x, x).is_equal[0], pair(x, x).is_near[0]) == (True, False)
    assert (pair(x, 2 * x).is_equal[0], pair(x, 2 * x).is_near[0]) == (False, True)
    assert pair(x, 2 * x).ratio[0] == pytest.approx(0)


def test_with_few_genes_chance_alone_is_not_called_a_copy():
    # 0.65 per degree of freedom is one and a half standard deviations at 30 genes, and eight at 1,000.
    rng = np.random.default_rng(3)
    x, y = rng.poisson(30.0, size=(2, 4_000, 30))
    found = pair(x, y)
    assert (found.ratio < MAX_DISPERSION).sum() > 100
    assert not found.is_near.any()


def test_a_shallow_cell_beside_a_giant_one_cannot_be_told():
    rng = np.random.default_rng(4)
    giant = rng.poisson(profile(rng) * 200)
    found = dispersion(csr_matrix(giant[None]), thinned(csr_matrix(giant[None]), 0.05, rng))
    assert found.depth_ratio[0] < 0.125
    assert not found.is_near[0]


def test_a_cell_without_counts_is_near_nothing():
    empty, x = np.zeros(100, dtype=int), np.arange(100)
    assert not pair(empty, x).is_near[0]
    assert not pair(empty, empty).is_near[0]
