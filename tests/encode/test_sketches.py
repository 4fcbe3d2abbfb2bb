"""Cells that are equal on the genes that two data sets share always agree in their sketches."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.audit.duplicates import additive_hash
from cytolabe.encode.sketches import SKETCH_GENES, agree_below_threshold, gene_hashes, priorities_of, sketch_cells
from cytolabe.genes.reference import load_reference, shipped_organisms

GENES = tuple(f"ENSG{number:011d}" for number in range(120))


def sketched(row, genes=GENES):
    return sketch_cells(csr_matrix(np.asarray(row, dtype=np.int64)[None, :]), genes)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_shared=st.integers(1, 120),
    density=st.sampled_from([0.05, 0.3, 0.9]),
)
def test_cells_that_are_equal_on_shared_genes_agree_whatever_else_they_hold(seed, n_shared, density):
    rng = np.random.default_rng(seed)
    one = rng.poisson(2, 120) * (rng.random(120) < density)
    other = rng.poisson(2, 120) * (rng.random(120) < rng.choice([0.05, 0.3, 0.9]))
    shared = rng.choice(120, n_shared, replace=False)
    other[shared] = one[shared]
    priorities = priorities_of([GENES[place] for place in shared])
    assert agree_below_threshold(sketched(one)[1], sketched(other)[1], priorities).all()


def test_cells_of_a_lab_rarely_agree_by_chance():
    rng = np.random.default_rng(3)
    genes = tuple(f"ENSG{number:011d}" for number in range(3_000))
    counts = csr_matrix(rng.poisson(0.15, size=(200, 3_000)))
    _, entries, _ = sketch_cells(counts, genes)
    shared = priorities_of(genes[::2])
    agreeing = sum(int(agree_below_threshold(entries[:-step], entries[step:], shared).sum()) for step in range(1, 20))
    assert agreeing == 0


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_features_and_split_of_a_gene_over_features_change_nothing(seed):
    rng = np.random.default_rng(seed)
    row = rng.poisson(1, 120)
    order = rng.permutation(120)
    expected = sketched(row)
    found = sketched(row[order], [GENES[place] for place in order])
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].tolist() == expected[1].tolist()
    # One gene in two features, and a feature without a gene.
    part = rng.binomial(row, 0.5)
    split = sketched([*part, *(row - part), 7], [*GENES, *GENES, ""])
    assert split[0].tolist() == expected[0].tolist()
    assert split[1].tolist() == expected[1].tolist()


def test_the_entries_are_the_lowest_priorities_with_their_counts():
    rng = np.random.default_rng(1)
    row = rng.poisson(2, 120)
    _, entries, _ = sketched(row)
    naive = sorted(
        (int.from_bytes(hashlib.sha256(gene.encode()).digest()[:8], "little") >> 17 << 16) + int(count)
        for gene, count in zip(GENES, row, strict=True)
        if count
    )
    assert entries[0].tolist() == naive[:SKETCH_GENES]


def test_a_cell_with_few_genes_is_known_completely_and_an_empty_one_is_blank():
    row = np.zeros(120, dtype=np.int64)
    hashes, entries, totals = sketched(row)
    assert (hashes[0], entries.max(), totals.tolist()) == (0, -1, [[0, 0]])
    row[5], row[6] = 3, 70_000
    _, entries, totals = sketched(row)
    assert totals.tolist() == [[2, 70_003]]
    assert np.count_nonzero(entries >= 0) == 2
    assert sorted((entries[entries >= 0] & 0xFFFF).tolist()) == [3, 65_535]
    changed = row.copy()
    changed[5] = 4
    assert not agree_below_threshold(entries, sketched(changed)[1], priorities_of(GENES)).any()


def test_the_hash_over_all_genes_is_the_one_that_the_audit_sums():
    rng = np.random.default_rng(2)
    counts = csr_matrix(rng.poisson(1, size=(6, 120)))
    hashed = additive_hash(counts, gene_hashes(GENES))
    expected = np.add.reduceat(hashed, counts.indptr[:-1])
    assert sketch_cells(counts, GENES)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("organism", shipped_organisms())
def test_no_two_genes_of_a_reference_have_one_priority(organism):
    genes = load_reference(organism).ids
    assert len(set(priorities_of(tuple(genes)).tolist())) == len(set(genes))
