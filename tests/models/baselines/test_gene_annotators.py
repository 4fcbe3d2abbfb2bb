import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from cytolabe.errors import RefusedError, UnmeasuredGeneError
from cytolabe.models.baselines.gene_annotators import Centroid, OneVsRest
from cytolabe.models.protocols import NOT_CONVERGED, Annotator, FittedAnnotator
from cytolabe.provenance import cells_digest

RULES = [OneVsRest(), Centroid()]
each_rule = pytest.mark.parametrize("rule", RULES, ids=["one_vs_rest", "centroid"])


def _log_normalized(counts):
    dense = counts.toarray().astype(np.float64)
    return np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4)


@each_rule
def test_types_of_other_labs_are_found(rule, make_train, make_query, query_truth):
    fitted = rule.fit(make_train(), query=None, seed=0)
    output = fitted.predict(make_query())
    found = np.array(output.classes)[output.probability.argmax(axis=1)]
    assert (found == query_truth(60)).mean() > 0.9
    np.testing.assert_allclose(output.probability.sum(axis=1), 1)
    assert isinstance(rule, Annotator)
    assert isinstance(fitted, FittedAnnotator)


def test_one_vs_rest_is_that_of_scikit_learn_on_genes_cut_at_ten(make_train, make_query):
    train, query = make_train(), make_query()
    # One gene in one training cell: standardized to sqrt(149), and cut.
    counts = train.counts.toarray()
    counts[:, 0] = 0
    counts[7, 0] = 30
    train = dataclasses.replace(train, counts=csr_matrix(counts))
    scaler = StandardScaler().fit(_log_normalized(train.counts))
    genes, query_genes = (scaler.transform(_log_normalized(view.counts)) for view in (train, query))
    assert genes.max() > 10
    oracle = OneVsRestClassifier(LogisticRegression(C=1.0, max_iter=1000, tol=1e-9))
    oracle.fit(np.minimum(genes, 10), train.labels.astype(str))
    output = OneVsRest().fit(train, query=None, seed=0).predict(query)
    assert output.classes == tuple(oracle.classes_.tolist())
    np.testing.assert_allclose(output.probability, oracle.predict_proba(np.minimum(query_genes, 10)), atol=2e-3)


def test_centroid_is_the_nearest_mean(make_train, make_query):
    train, query = make_train(), make_query()
    oracle = NearestCentroid().fit(_log_normalized(train.counts), train.labels.astype(str))
    output = Centroid().fit(train, query=None, seed=0).predict(query)
    found = np.array(output.classes)[output.probability.argmax(axis=1)]
    assert found.tolist() == oracle.predict(_log_normalized(query.counts)).tolist()


def test_probability_of_a_centroid_is_that_of_gaussians_of_one_variance(make_train, make_query):
    train, query = make_train(), make_query(5)
    genes, query_genes = _log_normalized(train.counts), _log_normalized(query.counts)
    labels = train.labels.astype(str)
    means = {term: genes[labels == term].mean(axis=0) for term in sorted(set(labels))}
    variance = np.mean([(genes[cell] - means[labels[cell]]) ** 2 for cell in range(len(genes))])
    logs = np.array([[-np.sum((cell - mean) ** 2) / (2 * variance) for mean in means.values()] for cell in query_genes])
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    output = Centroid().fit(train, query=None, seed=0).predict(query)
    np.testing.assert_allclose(output.probability, weights / weights.sum(axis=1, keepdims=True), atol=1e-4)


def test_regressions_that_were_cut_off_are_counted(make_train):
    fitted = OneVsRest(max_iterations=1).fit(make_train(), query=None, seed=0)
    assert f"{NOT_CONVERGED}: 3 of 3 regressions used all 1 iterations" in fitted.notes
    assert not any(note.startswith(NOT_CONVERGED) for note in OneVsRest().fit(make_train(), query=None, seed=0).notes)


@each_rule
def test_unlabelled_cells_move_no_class(rule, make_train, make_query):
    train = make_train(n_persons=1)
    labels = train.labels.copy()
    labels[::3] = ""
    part = rule.fit(dataclasses.replace(train, labels=labels), query=None, seed=0)
    kept = np.flatnonzero(labels != "")
    alone = dataclasses.replace(
        train,
        labels=labels[kept], counts=train.counts[kept], cell_ids=train.cell_ids[kept], persons=train.persons[kept],
        technical=train.technical.iloc[kept],
    )  # fmt: skip
    expected = rule.fit(alone, query=None, seed=0).predict(make_query())
    assert part.predict(make_query()).classes == expected.classes
    np.testing.assert_allclose(part.predict(make_query()).probability, expected.probability, atol=1e-9)


@each_rule
def test_cells_without_counts_get_the_class_shares_and_are_counted(rule, make_train, make_query, without_counts):
    train, query = make_train(), make_query(20)
    fitted = rule.fit(train, query=None, seed=0)
    output = fitted.predict(dataclasses.replace(query, counts=without_counts(query.counts, [3])))
    shares = [(train.labels == term).mean() for term in output.classes]
    np.testing.assert_allclose(output.probability[3], shares)
    assert any("1 of 20 cells have no counts" in note for note in fitted.notes)


@each_rule
def test_one_class_is_predicted_everywhere_and_said(rule, make_train, make_query):
    train = make_train()
    fitted = rule.fit(dataclasses.replace(train, labels=np.full(150, "CL:1", dtype=object)), query=None, seed=0)
    assert (fitted.predict(make_query()).probability == 1).all()
    assert any("one class in training (CL:1)" in note for note in fitted.notes)


@each_rule
def test_every_step_names_the_training_cells(rule, make_train):
    train = make_train()
    fitted = rule.fit(train, query=None, seed=0)
    assert [scope.step for scope in fitted.scopes] == ["hvg/genes", rule.card.name]
    assert {scope.cells_digest for scope in fitted.scopes} == {cells_digest(train.cell_ids)}


@each_rule
def test_too_few_labelled_cells_and_other_genes_are_refused(rule, make_train, make_query):
    train, query = make_train(), make_query()
    labels = np.full(150, "", dtype=object)
    labels[:2] = "CL:1"
    with pytest.raises(RefusedError, match="needs at least 3"):
        rule.fit(dataclasses.replace(train, labels=labels), query=None, seed=0)
    with pytest.raises(UnmeasuredGeneError):
        rule.fit(train, query=None, seed=0).predict(
            dataclasses.replace(query, genes=query.genes[1:], counts=query.counts[:, 1:])
        )


def test_only_the_most_variable_genes_are_read(make_train, make_query):
    few = OneVsRest(n_top_genes=10).fit(make_train(), query=None, seed=0)
    assert len(few.genes.columns) == 10
    query = make_query()
    unread = np.setdiff1d(np.arange(60), few.genes.columns)
    # Counts move between unread genes, so the total of each cell stays.
    shuffled = query.counts.toarray()
    shuffled[:, unread] = shuffled[:, unread[::-1]]
    moved = few.predict(dataclasses.replace(query, counts=csr_matrix(shuffled)))
    np.testing.assert_array_equal(moved.probability, few.predict(query).probability)
