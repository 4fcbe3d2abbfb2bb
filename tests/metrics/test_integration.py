"""Mixing of batches is told inside types, exactly, and shuffles and collapses get what they deserve."""

import pathlib

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics.pairwise import cosine_distances

from cytolabe.metrics.integration import batch_variance, bras, cilisi, lisi

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
