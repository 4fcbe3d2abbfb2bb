"""Mixing of batches is told inside types, exactly, and shuffles and collapses get what they deserve."""

import pathlib

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

from cytolabe.metrics.conservation import label_silhouette
from cytolabe.metrics.integration import batch_variance, bras, cilisi, ilisi, lisi, variance_removed

DATA = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"


def cells(rng, *, n=400, shift=0.0, n_types=3, n_batches=2, dims=8):
    labels, batches = rng.integers(0, n_types, n), rng.integers(0, n_batches, n)
    centers, moved = rng.normal(size=(n_types, dims)) * 3, rng.normal(size=(n_batches, dims)) * shift
    return centers[labels] + moved[batches] + rng.normal(size=(n, dims)), labels, batches


def naive_bras(embedding, labels, batches):
    found = []
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        batch = batches[here]
        if not 1 < len(np.unique(batch)) < len(here):
            continue
        distances = cosine_distances(embedding[here])
        values = []
        for cell in range(len(here)):
            own = (batch == batch[cell]) & (np.arange(len(here)) != cell)
            if not own.any():
                values.append(1.0)
                continue
            a, b = distances[cell, own].mean(), distances[cell, batch != batch[cell]].mean()
            values.append(1 - abs(b - a) / max(a, b))
        found.append(np.mean(values))
    return np.mean(found)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.sampled_from([0.0, 1.0, 5.0]))
def test_bras_in_one_pass_is_bras_over_all_pairs(seed, shift):
    embedding, labels, batches = cells(np.random.default_rng(seed), n=60, shift=shift, n_batches=4)
    value, per_label = bras(embedding, labels, batches)
    assert value == pytest.approx(naive_bras(embedding, labels, batches), abs=1e-9)
    assert all(0 <= one <= 1 for one in per_label.values())


def test_batches_that_lie_apart_mix_worse_than_batches_that_do_not():
    rng = np.random.default_rng(0)
    mixed, apart = cells(rng, shift=0.0), cells(rng, shift=4.0)
    assert bras(*mixed)[0] - bras(*apart)[0] > 0.2
    assert cilisi(*mixed)[0] - cilisi(*apart)[0] > 0.6
    assert batch_variance(apart[0], apart[2]) - batch_variance(mixed[0], mixed[2]) > 0.15


def test_a_type_of_one_batch_tells_nothing_of_mixing():
    embedding, labels, batches = cells(np.random.default_rng(1))
    batches[labels == 0] = 0
    assert "0" not in bras(embedding, labels, batches)[1]
    assert "0" not in cilisi(embedding, labels, batches)[1]
    assert bras(embedding, labels, np.zeros_like(batches)) == (None, {})
    assert cilisi(embedding, labels, np.zeros_like(batches)) == (None, {})


def test_batches_are_compared_inside_types_so_that_confounded_ones_are_not_blamed():
    # Two types, each in two batches but at other shares: over all cells the batches lie apart, inside a type they do not.
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 200)
    batches = (rng.random(400) < np.where(labels == 0, 0.75, 0.25)).astype(int)
    embedding = np.array([[5.0, 0, 0], [0, 5.0, 0]])[labels] + rng.normal(size=(400, 3))
    assert batch_variance(embedding, batches) > 0.1
    assert cilisi(embedding, labels, batches)[0] > 0.45
    assert bras(embedding, labels, batches)[0] > 0.9


def test_a_zero_vector_has_no_direction():
    with pytest.raises(ValueError, match="1 of 3 cells"):
        bras(np.array([[1.0, 0], [0, 0], [0, 1]]), np.zeros(3), np.array([0, 1, 0]))


def test_lisi_agrees_with_the_published_table():
    path = DATA / "lisi_reference_harmonypy.h5ad"
    if not path.is_file():
        pytest.skip("the real files of ../shared/data are not here")
    adata = anndata.read_h5ad(path)
    for name in ("label1", "label2"):
        found = lisi(np.asarray(adata.obsm["X_coords"], dtype=float), adata.obs[name].to_numpy(dtype=object))
        assert np.abs(found - adata.obs[f"lisi_ref_{name}"].to_numpy()).max() < 1e-4


def naive_lisi(embedding, groups, perplexity):
    """Cell by cell, each width by a root finder: entropy of the weights = log(perplexity)."""
    distances = euclidean_distances(embedding.astype(float))
    found = []
    for cell, row in enumerate(distances):
        others = [other for other in np.argsort(row, kind="stable") if other != cell][: 3 * perplexity - 1]
        own = row[others]

        def weights(log_beta, own=own):
            raw = np.exp(-(own - own.min()) * np.exp(log_beta))
            return raw / raw.sum()

        def excess(log_beta, weights=weights):
            share = weights(log_beta)
            return -(share[share > 0] * np.log(share[share > 0])).sum() - np.log(perplexity)

        share = weights(brentq(excess, -12, 12))
        found.append(1 / sum(share[groups[others] == group].sum() ** 2 for group in np.unique(groups)))
    return np.array(found)


@pytest.mark.parametrize(("seed", "shift"), [(0, 0.0), (1, 0.7), (2, 3.0)])
def test_cilisi_is_lisi_of_each_type_alone_put_on_zero_to_one(seed, shift):
    embedding, labels, batches = cells(np.random.default_rng(seed), n=230, shift=shift, n_batches=3)
    labels[:8] = 9  # too few to be told
    labels[8:40], batches[8:40] = 8, 0  # one batch: nothing to mix
    expected = {}
    for label in (0, 1, 2):
        here = labels == label
        perplexity = min(30, int(here.sum()) // 3)
        expected[str(label)] = ((naive_lisi(embedding[here], batches[here], perplexity) - 1) / 2).mean()
    value, per_label = cilisi(embedding, labels, batches)
    assert per_label == pytest.approx(expected, abs=1e-3)
    assert value == pytest.approx(np.mean(list(expected.values())), abs=1e-3)


# What scib-metrics 0.5.10 says of `cells(default_rng(seed), shift, n_batches)`: bras, ilisi_knn (90 neighbors with the cell itself),
# silhouette_label, and principal_component_regression (categorical) before and after halving with noise.
_SCIB = [
    (11, 0.0, 2, 0.9308109283, 0.9115110636, 0.7837680578, 0.0056711063, -0.0021676663),
    (12, 1.0, 3, 0.5188262463, 0.2015197277, 0.7895518541, 0.0856179371, -0.0229248554),
    (13, 4.0, 4, 0.0519524366, 0.0000666777, 0.5842134953, 0.7072025538, -0.1190843582),
]


@pytest.mark.parametrize(("seed", "shift", "n_batches", "bras_is", "ilisi_is", "asw", "variance", "difference"), _SCIB)
def test_all_of_it_agrees_with_what_scib_metrics_says(
    seed, shift, n_batches, bras_is, ilisi_is, asw, variance, difference
):
    embedding, labels, batches = cells(np.random.default_rng(seed), shift=shift, n_batches=n_batches)
    other = embedding / 2 + np.random.default_rng(seed + 100).normal(size=embedding.shape)
    assert bras(embedding, labels, batches)[0] == pytest.approx(bras_is, abs=1e-6)
    assert ilisi(embedding, batches) == pytest.approx(ilisi_is, abs=1e-5)
    assert label_silhouette(embedding, labels) == pytest.approx(asw, abs=1e-6)
    before, after = batch_variance(embedding, batches), batch_variance(other, batches)
    assert before == pytest.approx(variance, abs=1e-6)
    assert variance_removed(before, after) == pytest.approx(-difference / variance, rel=1e-3)


def test_ilisi_is_the_median_over_all_cells_and_sees_no_type():
    rng = np.random.default_rng(5)
    embedding, _, batches = cells(rng, n=120, shift=0.5, n_batches=3)
    expected = (np.median(naive_lisi(embedding, batches, 30)) - 1) / 2
    assert ilisi(embedding, batches) == pytest.approx(expected, abs=1e-3)
    assert ilisi(embedding, np.zeros(120)) is None
    assert ilisi(embedding[:89], batches[:89]) is None


def test_batch_variance_that_was_added_is_seen_and_none_before_is_no_comparison():
    assert variance_removed(0.4, 0.1) == pytest.approx(0.75)
    assert variance_removed(0.4, 0.6) == pytest.approx(-0.5)
    assert variance_removed(0.0, 0.6) is None


def test_lisi_lies_between_one_and_the_number_of_groups():
    embedding, _, batches = cells(np.random.default_rng(3), n_batches=4)
    found = lisi(embedding, batches)
    assert found.min() >= 1 - 1e-9
    assert found.max() <= 4 + 1e-9
    # Cells at one point: every neighbor weighs the same, and none is the cell itself.
    assert lisi(np.zeros((100, 2)), np.arange(100) % 2).max() <= 2
    with pytest.raises(ValueError, match="too few"):
        lisi(embedding[:89], batches[:89])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_variance_that_batches_explain_is_that_of_a_regression_on_all_components(seed):
    embedding, _, batches = cells(np.random.default_rng(seed), n=80, shift=1.0, n_batches=3)
    components = PCA().fit_transform(embedding)
    design = np.eye(3)[batches]
    scores = [LinearRegression().fit(design, column).score(design, column) for column in components.T]
    expected = np.average(scores, weights=components.var(axis=0))
    assert batch_variance(embedding, batches) == pytest.approx(expected)
    assert batch_variance(np.ones((10, 2)), np.arange(10)) == 0
