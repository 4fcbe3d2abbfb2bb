"""Metrics agree with scikit-learn, obey their laws, and give trivial methods their stated floor."""

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.metrics import (
    accuracy,
    auroc,
    balanced_accuracy,
    confusion_counts,
    confusion_f1,
    confusion_macro_f1,
    f1_per_class,
    macro_f1,
)

TERMS = ["CL:0000084", "CL:0000236", "CL:0000576", "CL:0000623"]
pairs = st.lists(st.tuples(st.sampled_from(TERMS), st.sampled_from(TERMS)), min_size=1, max_size=60)


def _arrays(cells):
    return np.array([cell[0] for cell in cells]), np.array([cell[1] for cell in cells])


@given(cells=pairs)
def test_every_metric_equals_scikit_learn(cells):
    truth, predicted = _arrays(cells)
    classes = sorted(set(truth.tolist()))
    expected = oracle.f1_score(truth, predicted, labels=classes, average=None, zero_division=0)
    assert accuracy(truth, predicted) == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert list(f1_per_class(truth, predicted, classes=classes).values()) == pytest.approx(expected.tolist())
    assert macro_f1(truth, predicted, classes=classes) == pytest.approx(expected.mean())
    assert balanced_accuracy(truth, predicted, classes=classes) == pytest.approx(
        oracle.recall_score(truth, predicted, labels=classes, average="macro", zero_division=0)
    )
    matrix = oracle.confusion_matrix(truth, predicted, labels=TERMS)
    assert np.array_equal(confusion_counts(truth, predicted, TERMS), matrix)


@given(cells=pairs, seed=st.integers(0, 1000))
def test_order_of_cells_and_names_of_classes_do_not_matter(cells, seed):
    truth, predicted = _arrays(cells)
    classes = sorted(set(truth.tolist()))
    value = macro_f1(truth, predicted, classes=classes)
    order = np.random.default_rng(seed).permutation(len(truth))
    assert macro_f1(truth[order], predicted[order], classes=classes) == pytest.approx(value)
    renamed = {term: f"Z{3 - k}" for k, term in enumerate(TERMS)}
    swap = np.vectorize(renamed.get)
    assert macro_f1(swap(truth), swap(predicted), classes=[renamed[c] for c in classes]) == pytest.approx(value)


@given(cells=pairs)
def test_a_perfect_prediction_scores_one(cells):
    truth, _ = _arrays(cells)
    classes = sorted(set(truth.tolist()))
    assert accuracy(truth, truth) == macro_f1(truth, truth, classes=classes) == 1.0
    assert balanced_accuracy(truth, truth, classes=classes) == 1.0


@given(cells=pairs)
def test_a_constant_predictor_gets_its_stated_floor(cells):
    truth, _ = _arrays(cells)
    classes = sorted(set(truth.tolist()))
    constant = np.full(len(truth), classes[0])
    share = float(np.mean(truth == classes[0]))
    assert accuracy(truth, constant) == pytest.approx(share)
    assert macro_f1(truth, constant, classes=classes) == pytest.approx(2 * share / (1 + share) / len(classes))
    assert balanced_accuracy(truth, constant, classes=classes) == pytest.approx(1 / len(classes))


def test_one_cell_predicted_as_a_class_without_truth_costs_one_cell_only():
    truth = np.array(["a"] * 100 + ["b"] * 100)
    predicted = truth.copy()
    predicted[0] = "c"
    assert macro_f1(truth, predicted, classes=["a", "b"]) == pytest.approx((2 * 99 / 199 + 1) / 2)
    assert oracle.f1_score(truth, predicted, average="macro", zero_division=0) < 0.67


def test_a_class_without_a_true_cell_is_none_and_never_zero():
    truth, predicted = np.array(["a", "a"]), np.array(["a", "b"])
    assert f1_per_class(truth, predicted, classes=["a", "b"]) == {"a": pytest.approx(2 / 3), "b": None}


def test_a_term_outside_of_the_classes_is_refused_by_name():
    with pytest.raises(ValueError, match=r"1 term.*classes: zz"):
        confusion_counts(np.array(["a"]), np.array(["zz"]), ["a"])


def test_no_cell_and_no_scored_class_are_refused():
    empty = np.array([], dtype=str)
    with pytest.raises(ValueError, match="No cell"):
        accuracy(empty, empty)
    with pytest.raises(ValueError, match="has a true cell"):
        macro_f1(np.array(["a"]), np.array(["a"]), classes=["b"])


def test_counts_of_many_donors_at_once_equal_those_one_by_one():
    rng = np.random.default_rng(3)
    tensor = rng.integers(0, 9, size=(7, 4, 4))
    alone = np.stack([confusion_f1(matrix) for matrix in tensor])
    assert np.allclose(confusion_f1(tensor), alone, equal_nan=True)
    assert np.allclose(confusion_macro_f1(tensor, [0, 2]), alone[:, [0, 2]].mean(axis=1))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_auroc_equals_scikit_learn_and_is_none_with_one_group(cells):
    is_positive = np.array([cell[0] for cell in cells])
    score = np.array([cell[1] for cell in cells], dtype=float)
    value = auroc(is_positive, score)
    if is_positive.all() or not is_positive.any():
        assert value is None
    else:
        assert value == pytest.approx(oracle.roc_auc_score(is_positive, score))
