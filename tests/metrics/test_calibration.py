"""A confidence is held to what it says; doubtful cells are left out in an order that ties do not decide."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from cytolabe.metrics import (
    area_under_risk_coverage,
    class_wise_calibration_error,
    expected_calibration_error,
    macro_f1,
    reliability_bins,
    risk_coverage,
    selective_macro_f1,
)

cells = st.lists(st.tuples(st.integers(0, 100).map(lambda x: x / 100), st.booleans()), min_size=1, max_size=60)


def arrays(rows):
    return np.array([one for one, _ in rows]), np.array([right for _, right in rows], dtype=bool)


@given(rows=cells)
def test_bins_count_every_cell_once(rows):
    confidence, is_right = arrays(rows)
    bins = reliability_bins(confidence, is_right)
    assert sum(one.n_cells for one in bins) == len(rows)
    assert all(one.low <= one.confidence + 1e-12 and one.confidence <= one.high + 1e-12 for one in bins)
    error = expected_calibration_error(confidence, is_right)
    assert 0 <= error <= 1


def test_bins_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.0001, 0.9999, 4000)
    is_right = rng.uniform(size=4000) < confidence**2
    bins = reliability_bins(confidence, is_right, n_bins=10)
    accuracy, claimed = calibration_curve(is_right, confidence, n_bins=10)
    assert np.allclose([one.accuracy for one in bins], accuracy)
    assert np.allclose([one.confidence for one in bins], claimed)


def test_an_overconfident_model_is_off_by_what_it_overclaims():
    is_right = np.arange(1000) % 10 < 7
    assert expected_calibration_error(np.full(1000, 0.95), is_right) == pytest.approx(0.25)
    assert expected_calibration_error(np.full(1000, 0.7), is_right) == pytest.approx(0.0)
    assert expected_calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) is None


def test_a_class_that_is_never_claimed_is_off_by_its_share():
    probability = np.tile([1.0, 0.0], (100, 1))
    truth = np.array(["a"] * 80 + ["b"] * 20)
    found = class_wise_calibration_error(probability, truth, classes=["a", "b"])
    assert found == {"a": pytest.approx(0.2), "b": pytest.approx(0.2)}


@given(rows=cells)
def test_risk_at_full_coverage_is_the_error_rate_and_order_of_cells_is_nothing(rows):
    confidence, is_right = arrays(rows)
    coverage, risk = risk_coverage(confidence, is_right)
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx(1 - is_right.mean())
    back = risk_coverage(confidence[::-1], is_right[::-1])
    assert np.array_equal(back[0], coverage)
    assert np.allclose(back[1], risk)


def test_the_area_is_the_mean_over_all_orders_of_ties():
    confidence, is_right = np.array([0.9, 0.5, 0.5, 0.5, 0.2]), np.array([True, False, True, True, False])
    orders = [(0, *middle, 4) for middle in itertools.permutations((1, 2, 3))]
    brute = np.mean([np.mean(np.cumsum(~is_right[list(o)]) / np.arange(1, 6)) for o in orders])
    assert area_under_risk_coverage(confidence, is_right) == pytest.approx(brute)


def test_leaving_out_doubtful_cells_raises_macro_f1_and_says_which_classes_are_left():
    truth = np.array(["a"] * 90 + ["b"] * 10)
    predicted = np.array(["a"] * 90 + ["a"] * 5 + ["b"] * 5)
    confidence = np.where(truth == predicted, 0.9, 0.3)
    whole, kept = selective_macro_f1(truth, predicted, confidence, coverages=(1.0, 0.95))
    assert whole.macro_f1 == pytest.approx(macro_f1(truth, predicted, classes=["a", "b"]))
    assert (kept.macro_f1, kept.n_cells, kept.n_classes) == (1.0, 95, 2)
    rare_lost = selective_macro_f1(truth, truth, np.where(truth == "a", 0.9, 0.3), coverages=(0.9,))[0]
    assert (rare_lost.n_classes, rare_lost.n_cells) == (1, 90)


def test_a_confidence_outside_of_its_range_is_no_confidence():
    with pytest.raises(ValueError, match="1 of 2 confidences"):
        risk_coverage(np.array([0.5, np.nan]), np.array([True, False]))
