import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.baselines import probes
from cytolabe.models.baselines.probes import N_NEIGHBORS, PROBE_NAMES, fit_probe
from cytolabe.provenance import cells_digest


def _cells(n_cells: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = np.concatenate([np.arange(3), rng.integers(0, 3, n_cells - 3)])
    return rng.normal(size=(n_cells, 4)) + 2.0 * np.eye(3, 4)[kind], np.array(["T", "B", "M"], dtype=object)[kind]


def test_neighbors_equal_those_of_scikit_learn():
    (embedding, labels), (query, _) = _cells(), _cells(40, seed=1)
    ours = fit_probe("knn", embedding, labels, seed=0).predict_probability(query)
    theirs = KNeighborsClassifier(N_NEIGHBORS, weights="distance", algorithm="brute").fit(embedding, labels.astype(str))
    assert ours.classes == tuple(theirs.classes_)
    np.testing.assert_allclose(ours.probability, theirs.predict_proba(query), atol=1e-7)


def test_logistic_equals_that_of_scikit_learn():
    (embedding, labels), (query, _) = _cells(), _cells(40, seed=1)
    ours = fit_probe("logistic", embedding, labels, seed=0).predict_probability(query)
    scaler = StandardScaler().fit(embedding)
    theirs = LogisticRegression(class_weight="balanced", max_iter=2000).fit(
        scaler.transform(embedding), labels.astype(str)
    )
    np.testing.assert_allclose(ours.probability, theirs.predict_proba(scaler.transform(query)), atol=1e-4)


@pytest.mark.parametrize("name", PROBE_NAMES)
@given(seed=st.integers(0, 30))
def test_order_of_the_training_cells_does_not_matter(name, seed):
    (embedding, labels), (query, _) = _cells(seed=seed), _cells(10, seed=seed + 1)
    # Rounded, so that many distances are equal: a tie must not be decided by the order.
    embedding, query = np.round(embedding), np.round(query)
    order = np.random.default_rng(seed).permutation(len(labels))
    first = fit_probe(name, embedding, labels, seed=0).predict_probability(query)
    second = fit_probe(name, embedding[order], labels[order], seed=0).predict_probability(query)
    np.testing.assert_allclose(first.probability, second.probability, atol=2e-3)


@pytest.mark.parametrize("name", PROBE_NAMES)
@given(seed=st.integers(0, 30))
def test_probabilities_sum_to_one_over_sorted_classes(name, seed):
    embedding, labels = _cells(30, seed)
    output = fit_probe(name, embedding, labels, seed=0).predict_probability(embedding + 0.1)
    np.testing.assert_allclose(output.probability.sum(axis=1), 1.0)
    assert list(output.classes) == sorted(output.classes)


def test_cell_on_top_of_training_cells_is_decided_by_them_alone():
    embedding, labels = _cells()
    output = fit_probe("knn", embedding, labels, seed=0).predict_probability(embedding[:5])
    assert [output.classes[k] for k in output.probability.argmax(axis=1)] == labels[:5].tolist()
    np.testing.assert_allclose(output.probability.max(axis=1), 1.0)


def test_constant_embedding_gives_the_class_shares():
    """A model whose embedding collapsed must not look like one that works."""
    labels = np.array(["A"] * 30 + ["B"] * 10, dtype=object)
    output = fit_probe("knn", np.zeros((40, 3)), labels, seed=0).predict_probability(np.zeros((2, 3)))
    np.testing.assert_allclose(output.probability, [[0.75, 0.25]] * 2)


def test_rare_class_weighs_as_much_as_a_frequent_one():
    rng = np.random.default_rng(0)
    embedding = np.concatenate([rng.normal(0, 1, (200, 1)), rng.normal(2, 1, (10, 1))])
    labels = np.array(["common"] * 200 + ["rare"] * 10, dtype=object)
    output = fit_probe("logistic", embedding, labels, seed=0).predict_probability(np.array([[1.2]]))
    assert output.probability[0, output.classes.index("rare")] > 0.5


def test_missing_convergence_is_reported(monkeypatch):
    monkeypatch.setattr(probes, "_MAX_ITERATIONS", 2)
    fitted = fit_probe("logistic", *_cells(), seed=0)
    assert fitted.notes == ("not converged: logistic regression in 2 iterations",)


def test_converged_fit_has_no_note():
    assert fit_probe("logistic", *_cells(), seed=0).notes == ()


@pytest.mark.parametrize("name", PROBE_NAMES)
def test_one_class_in_training_is_said(name):
    embedding, _ = _cells(20)
    fitted = fit_probe(name, embedding, np.full(20, "A", dtype=object), seed=0)
    assert fitted.predict_probability(embedding).probability.tolist() == [[1.0]] * 20
    assert any("one class in training" in note for note in fitted.notes)


def test_fewer_cells_than_neighbors_are_said():
    fitted = fit_probe("knn", *_cells(6), seed=0)
    assert fitted.notes == ("6 neighbors instead of 15: no more cells",)
    np.testing.assert_allclose(fitted.predict_probability(np.ones((3, 4))).probability.sum(axis=1), 1.0)


@pytest.mark.parametrize("name", PROBE_NAMES)
def test_scope_names_the_labelled_cells(name):
    embedding, labels = _cells(20)
    cell_ids = np.array([f"d:{cell}" for cell in range(20)], dtype=object)
    fitted = fit_probe(name, embedding, labels, seed=0, cell_ids=cell_ids)
    assert fitted.scopes[0].cells_digest == cells_digest(cell_ids)
    assert fitted.scope_n == 20


def test_unlabelled_cell_is_refused_as_a_class():
    embedding, labels = _cells(20)
    labels[3] = ""
    with pytest.raises(RefusedError, match="1 of 20 labels are empty"):
        fit_probe("knn", embedding, labels, seed=0)


def test_embedding_that_is_not_finite_is_refused_on_both_sides():
    embedding, labels = _cells(20)
    fitted = fit_probe("knn", embedding, labels, seed=0)
    embedding[2, 1] = np.nan
    with pytest.raises(RefusedError, match="1 of 20 embedded cells"):
        fit_probe("knn", embedding, labels, seed=0)
    with pytest.raises(RefusedError, match="1 of 20 embedded cells"):
        fitted.predict_probability(embedding)


def test_misuse_is_refused():
    embedding, labels = _cells(20)
    with pytest.raises(UsageError, match="no probe 'svm'"):
        fit_probe("svm", embedding, labels, seed=0)
    with pytest.raises(UsageError, match="one per cell"):
        fit_probe("knn", embedding, labels[:-1], seed=0)
    with pytest.raises(UsageError, match="2 dims where the probe was fitted on 4"):
        fit_probe("knn", embedding, labels, seed=0).predict_probability(embedding[:, :2])


@pytest.mark.parametrize("name", PROBE_NAMES)
def test_empty_query_has_an_empty_answer(name):
    assert fit_probe(name, *_cells(20), seed=0).predict_probability(np.zeros((0, 4))).probability.shape == (0, 3)
