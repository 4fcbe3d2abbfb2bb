import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from cytolabe.encode import log1p_cp10k
from cytolabe.errors import RefusedError, UnmeasuredGeneError
from cytolabe.models.baselines import pca
from cytolabe.models.baselines.pca import PcaEmbedder
from cytolabe.models.protocols import Embedder, FittedEmbedder
from cytolabe.provenance import cells_digest


def test_components_equal_those_of_scikit_learn_up_to_sign(make_train, make_query):
    train, query = make_train(), make_query()
    fitted = PcaEmbedder(n_dims=8).fit(train, query=None, seed=0)
    values = log1p_cp10k(train.counts).toarray().astype(np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0, ddof=1)
    scaled = np.clip((values - mean) / scale, -10, 10)
    theirs = PCA(8, svd_solver="full").fit(scaled)
    other = np.clip((log1p_cp10k(query.counts).toarray() - mean) / scale, -10, 10)
    np.testing.assert_allclose(np.abs(fitted.embed(train)), np.abs(theirs.transform(scaled)), atol=1e-6)
    np.testing.assert_allclose(np.abs(fitted.embed(query)), np.abs(theirs.transform(other)), atol=1e-6)


def test_two_fits_are_equal_to_the_last_bit_whatever_the_threads(make_train):
    train = make_train()
    with threadpool_limits(1):
        one = PcaEmbedder().fit(train, query=None, seed=0).embed(train)
    pca._REMEMBERED.clear()
    with threadpool_limits(2):
        two = PcaEmbedder().fit(train, query=None, seed=1).embed(train)
    assert one.tobytes() == two.tobytes()


def test_equal_counts_are_fitted_once_and_each_fit_keeps_its_own_scopes_and_notes(
    make_train, make_query, without_counts, monkeypatch
):
    n_fits = []
    real = pca._components
    monkeypatch.setattr(pca, "_components", lambda counts, **options: n_fits.append(1) or real(counts, **options))
    pca._REMEMBERED.clear()
    train = make_train()
    one = PcaEmbedder().fit(train, query=None, seed=0)
    renamed = dataclasses.replace(train, cell_ids=np.array([f"other:{c}" for c in range(150)], dtype=object))
    two = PcaEmbedder().fit(renamed, query=None, seed=0)
    assert len(n_fits) == 1
    assert one.embed(train).tobytes() == two.embed(train).tobytes()
    assert {scope.cells_digest for scope in two.scopes} == {cells_digest(renamed.cell_ids)}
    query = make_query()
    two.embed(dataclasses.replace(query, counts=without_counts(query.counts, [0])))
    assert len(two.notes) == len(one.notes) + 1
    with pytest.raises(ValueError, match="read-only"):
        one.loadings[:] = 0


def test_one_count_or_one_option_that_differs_is_another_fit(make_train):
    train = make_train()
    counts = train.counts.copy()
    counts.data[0] += 1
    others = [dataclasses.replace(train, counts=counts), dataclasses.replace(train, counts=train.counts[::-1])]
    loadings = PcaEmbedder(n_dims=5).fit(train, query=None, seed=0).loadings
    for other in others:
        changed = PcaEmbedder(n_dims=5).fit(other, query=None, seed=0)
        pca._REMEMBERED.clear()
        assert (
            PcaEmbedder(n_dims=5).fit(other, query=None, seed=0).embed(other).tobytes()
            == changed.embed(other).tobytes()
        )
    assert PcaEmbedder(n_dims=4).fit(train, query=None, seed=0).loadings.shape != loadings.shape
    assert len(PcaEmbedder(n_top_genes=7).fit(train, query=None, seed=0).columns) == 7


def test_largest_loading_of_each_component_is_positive(make_train):
    loadings = PcaEmbedder(n_dims=6).fit(make_train(), query=None, seed=0).loadings
    assert (loadings[np.abs(loadings).argmax(axis=0), np.arange(6)] > 0).all()


def test_labels_and_query_do_not_move_the_fit(make_train, make_query):
    train = make_train()
    unlabelled = dataclasses.replace(train, labels=np.full(150, "", dtype=object))
    first = PcaEmbedder().fit(train, query=None, seed=0).embed(train)
    second = PcaEmbedder().fit(unlabelled, query=make_query(), seed=0).embed(train)
    assert first.tobytes() == second.tobytes()


def test_cell_without_counts_lies_at_the_training_mean_and_is_counted(make_train, make_query, without_counts):
    fitted = PcaEmbedder(n_dims=5).fit(make_train(), query=None, seed=0)
    query = make_query(6)
    embedding = fitted.embed(dataclasses.replace(query, counts=without_counts(query.counts, [1, 4])))
    assert (embedding[[1, 4]] == 0).all()
    assert (embedding[[0, 2, 3, 5]] != 0).any(axis=1).all()
    assert "2 of 6 cells have no counts in these genes: at the training mean" in fitted.notes


def test_training_cell_without_counts_moves_nothing(make_train, without_counts):
    train = make_train()
    emptied = dataclasses.replace(train, counts=without_counts(train.counts, [0]))
    shorter = dataclasses.replace(
        train,
        counts=train.counts[1:],
        cell_ids=train.cell_ids[1:],
        technical=train.technical.iloc[1:],
        labels=train.labels[1:],
        persons=train.persons[1:],
    )
    first = PcaEmbedder().fit(emptied, query=None, seed=0)
    second = PcaEmbedder().fit(shorter, query=None, seed=0)
    assert first.loadings.tobytes() == second.loadings.tobytes()
    assert any("1 training cells have no counts" in note for note in first.notes)


def test_variable_genes_are_chosen_only_where_there_are_more(make_train):
    train = make_train()
    few = PcaEmbedder(n_top_genes=20, n_dims=5).fit(train, query=None, seed=0)
    assert len(few.columns) == 20
    every = PcaEmbedder(n_dims=5).fit(train, query=None, seed=0)
    assert len(every.columns) == 60
    assert any("all 60 genes used" in note for note in every.notes)


def test_fewer_components_than_asked_for_are_said(make_train):
    fitted = PcaEmbedder(n_dims=50).fit(make_train(12), query=None, seed=0)
    assert fitted.embed(make_train(12)).shape == (12, 11)
    assert any("11 components instead of 50" in note for note in fitted.notes)


def test_constant_gene_is_not_blown_up(make_train):
    train = make_train()
    dense = train.counts.toarray()
    dense[:, 3] = 0
    fitted = PcaEmbedder().fit(dataclasses.replace(train, counts=csr_matrix(dense)), query=None, seed=0)
    assert np.isfinite(fitted.loadings).all()
    assert fitted.scale[3] == 1


def test_every_step_leaves_a_scope_over_training_only(make_train):
    train = make_train()
    fitted = PcaEmbedder().fit(train, query=None, seed=0)
    assert {scope.step for scope in fitted.scopes} == {"pca/genes", "pca/scale", "pca/components"}
    assert {scope.cells_digest for scope in fitted.scopes} == {cells_digest(train.cell_ids)}
    assert isinstance(PcaEmbedder(), Embedder)
    assert isinstance(fitted, FittedEmbedder)


def test_query_with_other_genes_is_refused(make_train, make_query):
    query = make_query()
    fitted = PcaEmbedder().fit(make_train(), query=None, seed=0)
    with pytest.raises(UnmeasuredGeneError):
        fitted.embed(dataclasses.replace(query, genes=query.genes[:-1], counts=query.counts[:, :-1]))


def test_training_without_counts_is_refused(make_train, without_counts):
    train = make_train(5)
    with pytest.raises(RefusedError, match="needs at least 3"):
        PcaEmbedder().fit(dataclasses.replace(train, counts=without_counts(train.counts, range(5))), query=None, seed=0)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.permutations(range(20)))
def test_cell_is_embedded_alike_whatever_its_neighbors(make_train, make_query, rows):
    fitted = PcaEmbedder(n_dims=5).fit(make_train(), query=None, seed=0)
    query = make_query(20)
    moved = dataclasses.replace(
        query, counts=query.counts[rows], cell_ids=query.cell_ids[rows], technical=query.technical.iloc[rows]
    )
    np.testing.assert_allclose(fitted.embed(query)[rows], fitted.embed(moved), atol=1e-10)
