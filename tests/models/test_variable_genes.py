import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k
from cytolabe.models.variable_genes import normalized_dispersion, variable_genes


def _values(n_cells: int = 120, n_genes: int = 200, seed: int = 0) -> csr_matrix:
    rng = np.random.default_rng(seed)
    means = rng.gamma(0.6, 2.0, n_genes)
    counts = rng.negative_binomial(1.5, 1.5 / (1.5 + means), (n_cells, n_genes))
    counts[:, 0] += 1
    return log1p_cp10k(csr_matrix(counts, dtype=np.int64))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.models
def test_dispersion_equals_the_seurat_flavor_of_scanpy():
    scanpy = pytest.importorskip("scanpy")
    anndata = pytest.importorskip("anndata")
    values = _values()
    theirs = scanpy.pp.highly_variable_genes(
        anndata.AnnData(values.copy()), flavor="seurat", n_top_genes=50, inplace=False
    )
    ours = normalized_dispersion(values)
    expected = theirs["dispersions_norm"].to_numpy()
    finite = np.isfinite(ours) & np.isfinite(expected)
    assert finite.sum() > 150
    # scanpy sums the float32 values in float32.
    np.testing.assert_allclose(ours[finite], expected[finite], rtol=2e-3, atol=2e-3)
    chosen = set(variable_genes(values, n_top=50).tolist())
    assert len(chosen & set(np.flatnonzero(theirs["highly_variable"]).tolist())) >= 49


@given(seed=st.integers(0, 50), n_top=st.integers(1, 250))
def test_choice_has_the_size_asked_for_and_is_ascending(seed, n_top):
    chosen = variable_genes(_values(40, 100, seed), n_top=n_top)
    assert len(chosen) == min(n_top, 100)
    assert (np.diff(chosen) > 0).all()


@given(seed=st.integers(0, 20))
def test_order_of_the_cells_does_not_choose_other_genes(seed):
    values = _values(60, 120, seed)
    order = np.random.default_rng(seed).permutation(60)
    np.testing.assert_allclose(normalized_dispersion(values), normalized_dispersion(values[order]), rtol=1e-8)


def test_gene_without_counts_is_chosen_last():
    values = _values(40, 100).tolil()
    values[:, 5] = 0
    assert 5 not in variable_genes(csr_matrix(values), n_top=80)
