"""The rarest genes of a cell are the same list whatever the order of its features, and survive a loss of depth."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode.rare_genes import RARE_GENES, rarest_genes, rarity_order


def test_the_rarest_gene_comes_first_and_counts_as_often_as_where_it_is_detected_most():
    genes = ("ENSG1", "ENSG2", "ENSG3")
    detection = np.array([[0.9, 0.01, 0.2], [0.9, 0.5, 0.2]])
    assert rarity_order(detection, genes).tolist() == [2, 1, 0]


def test_ties_do_not_follow_the_alphabet():
    genes = tuple(f"ENSG{n:011d}" for n in range(200))
    order = rarity_order(np.zeros((1, 200)), genes)
    assert sorted(order.tolist()) == list(range(200))
    assert np.corrcoef(order, np.arange(200))[0, 1] < 0.3
    shuffled = np.random.default_rng(0).permutation(200)
    again = rarity_order(np.zeros((1, 200)), tuple(genes[n] for n in shuffled))
    assert again.tolist() == order[shuffled].tolist()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_kept_genes_are_the_first_of_the_cell_in_the_order_of_rarity(seed):
    rng = np.random.default_rng(seed)
    n_genes = int(rng.integers(1, 300))
    counts = rng.poisson(rng.choice([0.2, 1.0]), size=(5, n_genes))
    order = rng.permutation(n_genes).astype(np.int64)
    matrix = csr_matrix(counts)
    kept, totals = rarest_genes(matrix, order)
    for cell in range(5):
        expected = sorted(order[counts[cell] > 0].tolist())[:RARE_GENES]
        assert kept[cell].tolist() == expected + [n_genes] * (RARE_GENES - len(expected))
    assert totals.tolist() == np.stack([(counts > 0).sum(axis=1), counts.sum(axis=1)], axis=1).tolist()


def test_what_is_left_of_a_thinned_cell_stands_in_the_same_order():
    rng = np.random.default_rng(0)
    whole = csr_matrix(rng.poisson(0.3, size=(50, 3_000)))
    left = whole.copy()
    left.data = rng.binomial(whole.data, 0.5)
    left.eliminate_zeros()
    order = rng.permutation(3_000).astype(np.int64)
    for one, other in zip(rarest_genes(whole, order)[0], rarest_genes(left, order)[0], strict=True):
        last = one[-1]
        assert [gene for gene in other if gene <= last] == [gene for gene in one if gene in set(other.tolist())]
