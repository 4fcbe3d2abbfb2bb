"""Rank tokens against the rule written in plain numpy: exact for every cell, ties decided by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.encode import RankRule
from cytolabe.encode import rank_tokens as ranked_by_default
from cytolabe.errors import RefusedError
from cytolabe.genes.panels import TRANSCRIPTOME_GENES


def rank_tokens(counts, rule, **options):
    """The rule itself, on fewer genes than a transcriptome has."""
    return ranked_by_default(counts, rule, on_panel="flagged", **options)


def by_the_rule(dense, rule, totals, *, by_token):
    """The rule of the reference, one cell at a time; with the original's own call where ties are left to it."""
    found = []
    for row, total in zip(dense.astype(np.float64), totals.astype(np.float64), strict=True):
        genes = np.flatnonzero((row > 0) & (rule.tokens >= 0))
        values = row[genes] / total * 10_000 / rule.medians[genes]
        order = np.lexsort([rule.tokens[genes], -values]) if by_token else np.argsort(-values)
        found.append(rule.tokens[genes][order][: rule.n_tokens])
    return found


def trimmed(tokens, lengths):
    return [row[:length] for row, length in zip(tokens, lengths, strict=True)]


def equal(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@st.composite
def cells_and_rules(draw):
    n_genes, n_cells = draw(st.integers(1, 40)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Few distinct medians and counts: many ties. Wide counts: many buckets, and more than 16 bits.
    medians = rng.choice([0.5, 1.0, 2.0, 3.7, 1e-3, 600.0], n_genes) if draw(st.booleans()) else rng.random(n_genes) + 1
    top = draw(st.sampled_from([2, 10, 300, 200_000]))
    dense = rng.integers(0, top, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < 0.6)
    tokens = rng.permutation(n_genes) + 3
    tokens[rng.random(n_genes) < 0.2] = -1
    rule = RankRule(tokens=tokens, medians=medians, n_tokens=draw(st.integers(1, 45)))
    return dense, rule, dense.sum(axis=1) + draw(st.integers(0, 50))


@settings(deadline=None, max_examples=150)
@given(given_cells=cells_and_rules())
def test_tokens_are_those_of_the_rule_with_ties_by_token(given_cells):
    dense, rule, totals = given_cells
    tokens, lengths = rank_tokens(csr_matrix(dense), rule, totals=totals)
    assert equal(trimmed(tokens, lengths), by_the_rule(dense, rule, totals, by_token=True))
    assert (tokens[np.arange(rule.n_tokens) >= lengths[:, None]] == rule.pad_token).all()


@settings(deadline=None, max_examples=100)
@given(given_cells=cells_and_rules())
def test_the_original_order_is_that_of_its_own_unstable_sort(given_cells):
    dense, rule, totals = given_cells
    tokens, lengths = rank_tokens(csr_matrix(dense), rule, totals=totals, tie_break="original")
    assert equal(trimmed(tokens, lengths), by_the_rule(dense, rule, totals, by_token=False))


@pytest.mark.parametrize("tie_break", ["token", "original"])
def test_deep_cells_with_many_ties_are_cut_as_the_rule_cuts_them(tie_break):
    rng = np.random.default_rng(3)
    dense = rng.poisson(0.9, (20, 6000)) + 0
    dense[0], dense[1] = 1, 0  # all genes tied, and a cell without counts
    dense[2] = np.arange(6000) + 70_000  # every value in a few buckets, in ascending order
    rule = RankRule(tokens=rng.permutation(6000), medians=rng.choice([1.0, 1.5, 2.0], 6000))
    tokens, lengths = rank_tokens(csr_matrix(dense), rule, tie_break=tie_break)
    expected = by_the_rule(dense, rule, np.maximum(dense.sum(axis=1), 1), by_token=tie_break == "token")
    assert equal(trimmed(tokens, lengths), expected)
    assert lengths[1] == 0


def ranked_as_the_rule(dense, rule, totals=None):
    """Whether both ways to break ties give the tokens of the plain rule."""
    counts = csr_matrix(np.asarray(dense))
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1) if totals is None else totals
    return all(
        equal(
            trimmed(*rank_tokens(counts, rule, totals=totals, tie_break=way)),
            by_the_rule(np.asarray(dense), rule, totals, by_token=way == "token"),
        )
        for way in ("token", "original")
    )


@pytest.mark.parametrize("n_genes", [1, 40, 5000])
@pytest.mark.parametrize("case", ["counts equal", "medians equal", "both equal", "neither"])
def test_cells_of_equal_counts_and_medians_are_ranked_as_the_rule_does(case, n_genes):
    rng = np.random.default_rng(n_genes)
    dense = np.full((3, n_genes), 7) if case in {"counts equal", "both equal"} else rng.integers(0, 90, (3, n_genes))
    dense[1] = 0
    medians = np.full(n_genes, 0.3) if case in {"medians equal", "both equal"} else np.exp(rng.normal(0, 1, n_genes))
    assert ranked_as_the_rule(dense, RankRule(tokens=rng.permutation(n_genes), medians=medians))


def test_huge_counts_are_ranked_as_the_rule_does():
    rng = np.random.default_rng(8)
    dense = np.floor(np.exp2(rng.uniform(0, 32, (12, 3000)))).astype(np.int64)
    dense[0] = 2**32 - 1 - np.arange(3000) // 2
    rule = RankRule(tokens=rng.permutation(3000), medians=np.exp(rng.normal(0, 2, 3000)))
    assert ranked_as_the_rule(dense, rule)
    assert ranked_as_the_rule(dense, rule, dense.sum(axis=1) + 2**61)


def nearly_equal_values(n_genes, *, step, seed):
    """Counts and medians of which all ratios are 1 but for a few steps: logarithms of both are rounded apart."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5000, n_genes)
    return counts, counts * (1 + step * rng.integers(-3, 4, n_genes))


@pytest.mark.parametrize("n_together", [2, 900])
@pytest.mark.parametrize("step", [0.0, 1e-16, 1e-9, 1e-7, 3e-7, 1e-6, 1e-5])
def test_values_closer_than_the_logarithms_that_are_sorted_are_told_apart(step, n_together):
    counts, medians = nearly_equal_values(900, step=step, seed=4)
    medians = medians * 1.01 ** (np.arange(900) // n_together)
    rule = RankRule(tokens=np.random.default_rng(5).permutation(900), medians=medians, n_tokens=500)
    assert ranked_as_the_rule(np.stack([counts, np.maximum(counts // 2, 1)]), rule)


@pytest.mark.parametrize("step", [0.0, 1e-9, 1e-7])
def test_nothing_is_cut_off_that_only_its_rounded_logarithm_puts_behind_the_cut(step):
    # One value of 2 and all others of 1, a whole number of buckets below: rounding puts them on both sides of a border.
    counts, medians = nearly_equal_values(900, step=step, seed=6)
    counts, medians = np.append(counts, 2), np.append(medians, 1.0)
    for n_tokens in (2, 100, 450, 899):
        rule = RankRule(tokens=np.random.default_rng(7).permutation(901), medians=medians, n_tokens=n_tokens)
        assert ranked_as_the_rule(counts[None, :], rule)


@pytest.mark.parametrize(("smallest", "largest"), [(-1074, -1000), (-1000, 1000), (900, 1023), (-890, 890)])
def test_medians_that_bring_values_out_of_the_range_of_floats_are_ranked_as_the_rule_does(smallest, largest):
    rng = np.random.default_rng(1)
    medians = np.exp2(rng.integers(smallest, largest + 1, 800).astype(float))
    dense = rng.integers(0, 4, (3, 800))
    with np.errstate(over="ignore"):
        assert ranked_as_the_rule(dense, RankRule(tokens=rng.permutation(800), medians=medians, n_tokens=300))


def test_what_is_cut_off_of_a_deep_cell_is_what_the_rule_cuts_off():
    # The cut lies among values that are nearly or wholly equal: what is left out unsorted must not reach over it.
    rng = np.random.default_rng(2)
    medians = np.concatenate([np.full(1000, 1.0), 1.1 + 1e-7 * rng.random(4000), np.full(1500, 1.2)])
    for n_tokens in (999, 1000, 1001, 4999, 5000, 5001, 6499, 6500, 6501):
        rule = RankRule(tokens=rng.permutation(6500), medians=medians, n_tokens=n_tokens)
        assert ranked_as_the_rule(np.stack([np.full(6500, 3), rng.integers(1, 3, 6500)]), rule)


def test_the_total_is_over_all_genes_of_the_cell():
    rule = RankRule(tokens=np.array([5, 6]), medians=np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="at least as large"):
        rank_tokens(csr_matrix(np.array([[3, 4]])), rule, totals=np.array([6]))


def test_a_cell_ranks_the_same_alone_and_in_company():
    rng = np.random.default_rng(0)
    counts = csr_matrix(rng.poisson(0.5, (30, 200)))
    rule = RankRule(tokens=np.arange(200), medians=rng.random(200) + 0.5, n_tokens=64)
    together, _ = rank_tokens(counts, rule)
    for cell in range(30):
        np.testing.assert_array_equal(rank_tokens(counts[cell], rule)[0][0], together[cell])


@pytest.mark.parametrize("median", [0.0, -1.0, np.inf, np.nan])
def test_medians_that_cannot_divide_are_refused(median):
    with pytest.raises(ValueError, match="positive and finite"):
        RankRule(tokens=np.array([1, 2]), medians=np.array([1.0, median]))
    RankRule(tokens=np.array([1, -1]), medians=np.array([1.0, median]))


def test_a_rule_for_other_genes_is_refused():
    rule = RankRule(tokens=np.array([1, 2]), medians=np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="3 columns, the rule 2 genes"):
        rank_tokens(csr_matrix(np.array([[1, 0, 3]])), rule)
    with pytest.raises(ValueError, match="1 medians were given for 2 tokens"):
        RankRule(tokens=np.array([1, 2]), medians=np.array([1.0]))
    with pytest.raises(ValueError, match="at least one token"):
        RankRule(tokens=np.array([1]), medians=np.array([1.0]), n_tokens=0)


def test_cells_of_a_panel_are_refused_unless_the_caller_carries_the_reason():
    def of(n_genes):
        rule = RankRule(tokens=np.arange(n_genes) + 3, medians=np.ones(n_genes), n_tokens=4)
        return csr_matrix(np.eye(1, n_genes, dtype=np.int64)), rule

    with pytest.raises(RefusedError, match="panel: it measures 4,999 genes"):
        ranked_by_default(*of(TRANSCRIPTOME_GENES - 1))
    assert ranked_by_default(*of(TRANSCRIPTOME_GENES))[1].tolist() == [1]
    assert ranked_by_default(*of(TRANSCRIPTOME_GENES - 1), on_panel="flagged")[1].tolist() == [1]
