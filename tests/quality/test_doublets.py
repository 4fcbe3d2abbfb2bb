"""Simulated doublets of known truth are told from cells, those of one type are not, and nothing depends on luck."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack
from sklearn.metrics import roc_auc_score

from cytolabe.quality.doublets import fit_doublets
from cytolabe.quality.thresholds import load_thresholds

SETTINGS = dataclasses.replace(load_thresholds().doublet, n_genes=400)


def library(rng, *, n_types, n_cells=400, n_genes=600, n_doublets=40):
    """Return counts, whether a cell is a doublet, and whether it is one of two types."""
    base = rng.lognormal(0.0, 1.2, n_genes)
    profiles = []
    for _ in range(n_types):
        profile = base.copy()
        own = rng.choice(n_genes, 40, replace=False)
        profile[own] *= rng.lognormal(0.0, 1.8, 40)
        profiles.append(profile / profile.sum())
    types = rng.integers(0, n_types, n_cells + 2 * n_doublets)
    depth = rng.lognormal(np.log(2000), 0.3, len(types))
    counts = csr_matrix(rng.poisson(np.array(profiles)[types] * depth[:, None]))
    pairs = np.arange(n_cells, len(types)).reshape(n_doublets, 2)
    joined = csr_matrix(vstack([counts[:n_cells], counts[pairs[:, 0]] + counts[pairs[:, 1]]]))
    is_doublet = np.arange(n_cells + n_doublets) >= n_cells
    is_mixed = np.concatenate([np.zeros(n_cells, bool), types[pairs[:, 0]] != types[pairs[:, 1]]])
    return joined, is_doublet, is_mixed


def scores(counts, *, settings=SETTINGS, seed=0):
    model = fit_doublets(counts, settings, rng=np.random.default_rng(seed))
    return model, model.scores(counts, own=np.arange(counts.shape[0]))


@pytest.fixture(scope="module")
def mixed():
    return library(np.random.default_rng(5), n_types=5)


def test_doublets_of_two_types_are_told_from_cells(mixed):
    counts, is_doublet, is_mixed = mixed
    _, found = scores(counts)
    asked = ~is_doublet | is_mixed
    assert roc_auc_score(is_doublet[asked], found[asked]) > 0.93
    assert found.min() >= 0.0
    assert found.max() <= 1.0


def test_the_control_whose_truth_is_shuffled_is_not_told(mixed):
    counts, is_doublet, _ = mixed
    _, found = scores(counts)
    shuffled = np.random.default_rng(0).permutation(is_doublet)
    assert 0.35 < roc_auc_score(shuffled, found) < 0.65


def test_doublets_of_one_type_hide_and_the_model_says_so(mixed):
    one, is_doublet, _ = library(np.random.default_rng(6), n_types=1)
    model, found = scores(one)
    several, found_of_several = scores(mixed[0])
    bound = SETTINGS.at_least
    assert (model.pair_scores() >= bound).mean() < 0.5 * (several.pair_scores() >= bound).mean()
    assert (found[is_doublet] >= bound).mean() < 0.6 * (found_of_several[mixed[2]] >= bound).mean()


def test_a_score_depends_on_the_cells_and_the_seed_alone(mixed):
    counts = mixed[0]
    _, found = scores(counts)
    _, again = scores(counts)
    np.testing.assert_array_equal(found, again)
    order = np.random.default_rng(1).permutation(counts.shape[0])
    model = fit_doublets(counts, SETTINGS, rng=np.random.default_rng(0))
    permuted = model.scores(csr_matrix(counts[order]), own=order)
    np.testing.assert_allclose(permuted, found[order], atol=0.02)


def test_cells_outside_of_the_model_score_like_those_inside(mixed):
    counts, is_doublet, is_mixed = mixed
    inside = np.sort(np.random.default_rng(2).choice(counts.shape[0], 200, replace=False))
    own = np.full(counts.shape[0], -1)
    own[inside] = np.arange(len(inside))
    model = fit_doublets(csr_matrix(counts[inside]), SETTINGS, rng=np.random.default_rng(0))
    found = model.scores(counts, own=own)
    asked = (~is_doublet | is_mixed) & (own < 0)
    assert roc_auc_score(is_doublet[asked], found[asked]) > 0.85


def test_a_cell_is_no_neighbor_of_its_own(mixed):
    model, found = scores(mixed[0])
    with_self = model.scores(mixed[0], own=np.full(mixed[0].shape[0], -1))
    assert (found >= with_self - 1e-12).mean() > 0.9
    assert not np.array_equal(found, with_self)


def test_cells_that_vary_in_nothing_have_no_model():
    equal = csr_matrix(np.ones((150, 40), dtype=np.int64))
    assert fit_doublets(equal, SETTINGS, rng=np.random.default_rng(0)) is None
