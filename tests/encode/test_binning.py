"""Value bins against the rule in plain numpy: the same edges, the same choices, and chance that knows only the cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode import keys_of, value_bins

GENES = [f"G{number}" for number in range(40)]
MASK = (1 << 64) - 1


def sides(values, n_bins):
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    return np.digitize(values, edges), np.digitize(values, edges, right=True)


def mixed(key):
    key = (key + 0x9E3779B97F4A7C15) & MASK
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & MASK
    return key ^ (key >> 31)


@st.composite
def cells(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = draw(st.sampled_from([2, 4, 50, 1100, 5000, 200_000]))
    shape = (draw(st.integers(0, 5)), draw(st.integers(1, len(GENES))))
    return rng.integers(0, top, shape) * (rng.random(shape) < draw(st.sampled_from([0.1, 0.6, 1.0])))


def bins_of(dense, **changes):
    keys = {"cell_keys": np.arange(len(dense)) + 7, "gene_keys": keys_of(GENES[: dense.shape[1]])}
    return value_bins(csr_matrix(dense), **{**keys, **changes}).toarray()


@settings(deadline=None, max_examples=150)
@given(dense=cells(), n_bins=st.integers(3, 256), seed=st.integers(0, 2**63 - 1))
def test_bins_are_those_of_the_rule_with_our_chance_in_it(dense, n_bins, seed):
    found = {ties: bins_of(dense, n_bins=n_bins, seed=seed, ties=ties) for ties in ("random", "lower", "mid")}
    keys = keys_of(GENES)
    for cell, row in enumerate(dense):
        genes = np.flatnonzero(row)
        if not len(genes):
            assert not any(bins[cell].any() for bins in found.values())
            continue
        left, right = sides(row[genes].astype(np.float64), n_bins)
        key = mixed(seed ^ mixed(cell + 7))
        uniform = np.array([mixed(key ^ int(keys[gene])) >> 11 for gene in genes]) / 2**53
        np.testing.assert_array_equal(found["random"][cell, genes], np.ceil(uniform * (right - left) + left))
        np.testing.assert_array_equal(found["lower"][cell, genes], np.minimum(right + 1, left))
        np.testing.assert_array_equal(found["mid"][cell, genes], (np.minimum(right + 1, left) + left) // 2)
        assert all((bins[cell] > 0).sum() == len(genes) and bins[cell].max() < n_bins for bins in found.values())


def test_a_cell_has_the_same_bins_in_any_order_and_company():
    rng = np.random.default_rng(1)
    dense, keys = rng.poisson(0.8, (20, 40)), np.arange(20) * 11
    together = bins_of(dense, cell_keys=keys, seed=5)
    order = rng.permutation(20)
    np.testing.assert_array_equal(bins_of(dense[order], cell_keys=keys[order], seed=5), together[order])
    columns = rng.permutation(40)
    moved = bins_of(dense[:, columns], cell_keys=keys, gene_keys=keys_of(GENES)[columns], seed=5)
    np.testing.assert_array_equal(moved, together[:, columns])


def test_chance_covers_all_bins_of_a_tie_evenly_and_differs_by_seed_and_cell():
    ones = np.ones((500, 40), dtype=np.int64)
    bins = bins_of(ones, seed=1)
    occurrences = np.bincount(bins.ravel(), minlength=51)
    assert occurrences[0] == 0
    assert (np.abs(occurrences[1:] - 400) < 6 * 20).all()
    assert (bins[0] != bins[1]).any()
    assert (bins_of(ones, seed=2) != bins).mean() > 0.9


def test_the_same_counts_in_another_depth_have_the_same_bins():
    rng = np.random.default_rng(4)
    dense = rng.poisson(2.0, (10, 40))
    np.testing.assert_array_equal(bins_of(dense, seed=3), bins_of(dense * 3, seed=3))


def test_keys_of_other_cells_and_a_number_of_bins_out_of_range_are_refused():
    dense = np.ones((2, 3), dtype=np.int64)
    with pytest.raises(ValueError, match="3 cell keys and 3 gene keys"):
        bins_of(dense, cell_keys=np.arange(3))
    for n_bins in (2, 257):
        with pytest.raises(ValueError, match="3 to 256"):
            bins_of(dense, n_bins=n_bins)
