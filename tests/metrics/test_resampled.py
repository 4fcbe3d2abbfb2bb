"""Scores of resamples of genes: as those of the repeated answers themselves, whole units, and paired."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from cytolabe.metrics import percentile_interval, resampled_auroc, resampled_macro_f1, unit_resamples


def answers(n=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    return truth, rng.integers(0, 3, n), np.round(rng.random(n), 1), rng.integers(0, 4, (5, n)).astype(np.int32)


def test_each_resample_has_the_scores_of_its_answers_repeated():
    truth, predicted, score, times = answers()
    found = resampled_macro_f1(truth, predicted, n_classes=3, times=times)
    areas = resampled_auroc(truth == 1, score, times=times)
    for row, many in enumerate(times):
        expected = f1_score(np.repeat(truth, many), np.repeat(predicted, many), average="macro")
        assert found[row] == pytest.approx(expected)
        assert areas[row] == pytest.approx(roc_auc_score(truth == 1, score, sample_weight=many))


def test_a_resample_without_a_side_has_no_area():
    times = np.array([[1, 1, 0], [1, 0, 1]], dtype=np.int32)
    areas = resampled_auroc(np.array([True, True, False]), np.array([0.2, 0.9, 0.2]), times=times)
    assert np.isnan(areas[0])
    assert areas[1] == 0.5


def test_answers_of_one_unit_are_drawn_together_and_few_units_have_no_interval():
    units = np.repeat([f"g{number}" for number in range(25)], 2).astype(object)
    times = unit_resamples(units, rng=np.random.default_rng(1))
    assert (times[:, ::2] == times[:, 1::2]).all()
    assert (times[:, ::2].sum(axis=1) == 25).all()
    assert len({tuple(row) for row in times[:10].tolist()}) == 10
    assert unit_resamples(units[:38], rng=np.random.default_rng(1)) is None


def test_an_interval_holds_the_middle_and_needs_half_of_the_resamples():
    found = percentile_interval(np.linspace(-1, 1, 2001), method="m", population="p")
    assert (found.low, found.high) == pytest.approx((-0.95, 0.95))
    assert percentile_interval(np.array([1.0, np.nan, np.nan]), method="m", population="p") is None
