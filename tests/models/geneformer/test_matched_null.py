"""Genes of like frequency and rank: counted as by hand, near where they should be, and p-values that keep their word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.models.geneformer.matched_null import (
    LEAST_MATCHED,
    empirical_p_value,
    matched_perturbations,
    occurrence_of,
)
from cytolabe.models.geneformer.tokenizer import TokenizedCells


@pytest.fixture
def cells(make_dictionaries):
    """Return cells of both generations in which low tokens stand often and high, later ones rarely and low."""

    def make(*, second=True):
        known, rng = make_dictionaries(second=second), np.random.default_rng(0)
        tokens, lengths = np.zeros((80, 48), dtype=np.int32), np.zeros(80, dtype=np.int64)
        first = 4 if second else 2
        for cell in range(80):
            genes = np.flatnonzero(rng.random(300) < np.linspace(0.25, 0.01, 300))[:40] + first
            one = [2, *genes, 3] if second else genes
            tokens[cell, : len(one)], lengths[cell] = one, len(one)
        lengths[7] = 2 if second else 0
        return known, TokenizedCells(tokens=tokens, lengths=lengths)

    return make


@pytest.mark.parametrize("second", [True, False])
def test_cells_and_ranks_are_counted_as_by_hand(cells, second):
    known, made = cells(second=second)
    found = occurrence_of(made, dictionaries=known)
    counts, shares = {}, {}
    for row, length in zip(made.tokens, made.lengths, strict=True):
        genes = row[1 : length - 1] if second else row[:length]
        for place, gene in enumerate(genes.tolist()):
            counts[gene] = counts.get(gene, 0) + 1
            shares.setdefault(gene, []).append(place / len(genes))
    assert found.n_cells.tolist() == [counts.get(token, 0) for token in found.tokens.tolist()]
    expected = [np.mean(shares[token]) if token in shares else 1 for token in found.tokens.tolist()]
    np.testing.assert_allclose(found.rank_share, expected)


def test_matched_genes_are_near_in_frequency_and_rank_and_never_those_that_are_asked(cells):
    known, made = cells()
    found = occurrence_of(made, dictionaries=known)
    for asked in (10, 250):
        drawn = [one for (one,) in matched_perturbations([asked], found, n=20, excluded=[11, 249], rng=np.random.default_rng(0))]  # fmt: skip
        assert len(set(drawn)) == len(drawn) == 40
        assert not {asked, 11, 249} & set(drawn)
        counts = dict(zip(found.tokens.tolist(), found.n_cells.tolist(), strict=True))
        near = np.abs(np.array([counts[one] for one in drawn]) - counts[asked])
        far = np.abs(found.n_cells - counts[asked])
        assert near.mean() < far.mean() / 2


def test_combinations_are_matched_gene_by_gene_and_drawn_once(cells):
    known, made = cells()
    found = occurrence_of(made, dictionaries=known)
    drawn = list(matched_perturbations([10, 250], found, n=10, excluded=[], rng=np.random.default_rng(1)))
    assert len({frozenset(one) for one in drawn}) == len(drawn) > 10
    counts = dict(zip(found.tokens.tolist(), found.n_cells.tolist(), strict=True))
    assert np.mean([counts[first] for first, _ in drawn]) > 3 * np.mean([counts[second] for _, second in drawn])
    assert all(first != second for first, second in drawn)


@given(seed=st.integers(0, 2**31), n=st.integers(LEAST_MATCHED, 60))
def test_a_p_value_is_never_zero_and_counts_the_perturbation_itself(seed, n):
    null = np.random.default_rng(seed).normal(size=n)
    assert empirical_p_value(-100.0, null, both_ends=False) == pytest.approx(1 / (n + 1))
    assert empirical_p_value(100.0, null, both_ends=True) == pytest.approx(2 / (n + 1))
    assert empirical_p_value(100.0, null, both_ends=False) == 1


def test_p_values_of_perturbations_that_are_no_different_are_uniform():
    rng = np.random.default_rng(3)
    for both_ends in (False, True):
        found = [empirical_p_value(float(rng.normal()), rng.normal(size=39), both_ends=both_ends) for _ in range(2000)]
        assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_too_few_matched_perturbations_give_no_p_value():
    assert empirical_p_value(0.0, np.zeros(LEAST_MATCHED - 1), both_ends=True) is None
