"""Sampled entries: the size that was asked for, evenly, and by cell and gene alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode import keyed_uniforms, keys_of, sampled_entries

GENES = keys_of(f"G{number}" for number in range(40))


def kept_of(dense, n_kept, *, cells=None, genes=None, seed=3):
    cells = np.arange(len(dense)) if cells is None else cells
    matrix = csr_matrix(dense)
    genes = GENES[: dense.shape[1]] if genes is None else genes
    kept = sampled_entries(matrix, cell_keys=cells, gene_keys=genes, n_kept=n_kept, seed=seed)
    found = np.zeros(dense.shape, dtype=bool)
    found[np.repeat(np.arange(len(dense)), np.diff(matrix.indptr)), matrix.indices] = kept
    return found


@settings(deadline=None, max_examples=60)
@given(rng=st.integers(0, 2**32 - 1), n_kept=st.integers(0, 45), seed=st.integers(0, 2**62))
def test_each_cell_keeps_as_many_of_its_genes_as_asked_and_more_contains_fewer(rng, n_kept, seed):
    dense = np.random.default_rng(rng).poisson(0.7, (6, 40))
    kept, more = kept_of(dense, n_kept, seed=seed), kept_of(dense, n_kept + 3, seed=seed)
    np.testing.assert_array_equal(kept.sum(axis=1), np.minimum((dense > 0).sum(axis=1), n_kept))
    assert not (kept & (dense == 0)).any()
    assert not (kept & ~more).any()


def test_a_choice_knows_cell_and_gene_and_neither_order_nor_company():
    rng = np.random.default_rng(1)
    dense, cells = rng.poisson(3.0, (20, 40)), keys_of(f"cell{number}" for number in range(20))
    together = kept_of(dense, 12, cells=cells)
    order, columns = rng.permutation(20), rng.permutation(40)
    np.testing.assert_array_equal(kept_of(dense[order], 12, cells=cells[order]), together[order])
    np.testing.assert_array_equal(
        kept_of(dense[:, columns], 12, cells=cells, genes=GENES[columns]), together[:, columns]
    )
    np.testing.assert_array_equal(kept_of(dense[4:5], 12, cells=cells[4:5])[0], together[4])


def test_every_gene_is_as_likely_as_any_other_and_another_seed_is_another_draw():
    dense = np.ones((4000, 40), dtype=np.int64)
    kept = kept_of(dense, 10)
    assert (np.abs(kept.sum(axis=0) - 1000) < 6 * np.sqrt(750)).all()
    pairs = kept.T.astype(int) @ kept - np.diag(kept.sum(axis=0))
    expected = 4000 * 10 * 9 / (40 * 39)
    assert (np.abs(pairs[~np.eye(40, dtype=bool)] - expected) < 6 * np.sqrt(expected)).all()
    assert (kept_of(dense, 10, seed=4) != kept).mean() > 0.2


def test_keys_of_another_number_than_cells_are_refused():
    with pytest.raises(ValueError, match="3 cell keys"):
        kept_of(np.ones((2, 40), dtype=np.int64), 5, cells=np.arange(3))


def test_uniforms_are_those_of_seed_row_and_token_and_lie_evenly_in_the_unit_interval():
    rows, tokens = np.arange(300), np.tile(np.arange(200), (300, 1))
    draws = keyed_uniforms(rows, tokens, seed=1)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert (np.abs(counts - 3000) < 6 * np.sqrt(3000)).all()
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(keyed_uniforms(rows[5:6], tokens[5:6, ::-1], seed=1)[0], draws[5, ::-1])
    assert (keyed_uniforms(rows, tokens, seed=2) != draws).all()
