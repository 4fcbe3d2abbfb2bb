"""Donors are the unit: too few give points, some a jackknife, many a bootstrap; coverage is checked."""

import numpy as np
import pytest

from cytolabe.metrics import confusion_accuracy, confusion_macro_f1, donor_interval, donor_intervals
from cytolabe.randomness import rng_for


def _macro(confusion):
    return confusion_macro_f1(confusion, [0, 1])


def _donors(n_donors, rng, *, n_cells=60):
    """Two balanced classes; each donor has its own accuracy around 0.8."""
    tensor = np.zeros((n_donors, 2, 2), dtype=np.int64)
    for donor, own in enumerate(rng.beta(16, 4, size=n_donors)):
        for k in (0, 1):
            correct = rng.binomial(n_cells // 2, own)
            tensor[donor, k, k], tensor[donor, k, 1 - k] = correct, n_cells // 2 - correct
    return tensor, [f"d{donor:02d}" for donor in range(n_donors)]


@pytest.mark.parametrize(
    ("n_donors", "method"), [(5, ""), (6, "jackknife"), (19, "jackknife"), (20, "bootstrap"), (40, "bootstrap")]
)
def test_the_number_of_donors_decides_the_method(n_donors, method):
    tensor, donors = _donors(n_donors, np.random.default_rng(0))
    found = donor_interval(tensor, _macro, donors=donors, rng=rng_for(1, "test"))
    if not method:
        assert found.interval is None
        assert sorted(found.points) == donors
        assert found.points["d00"] == pytest.approx(_macro(tensor[:1])[0])
    else:
        assert found.interval.method.startswith(method)
        assert "not labs" in found.interval.population
        assert found.interval.low <= _macro(tensor.sum(axis=0)[None])[0] <= found.interval.high
        assert found.points == {}


@pytest.mark.parametrize("n_donors", [8, 24])
def test_intervals_cover_the_truth_about_as_often_as_they_say(n_donors):
    rng = rng_for(11, "donors")
    n_covered, n_runs = 0, 120
    for run in range(n_runs):
        tensor, donors = _donors(n_donors, rng)
        interval = donor_interval(tensor, confusion_accuracy, donors=donors, rng=rng_for(run, "test")).interval
        n_covered += interval.low <= 0.8 <= interval.high
    # 95 % nominal; the binomial standard error of 120 runs is 2 %, and the percentile bootstrap is a little short.
    assert n_covered / n_runs >= 0.88


def test_cells_of_one_donor_are_not_independent_evidence():
    tensor, donors = _donors(8, np.random.default_rng(5))
    few = donor_interval(tensor, confusion_accuracy, donors=donors, rng=rng_for(0, "test")).interval
    many = donor_interval(tensor * 100, confusion_accuracy, donors=donors, rng=rng_for(0, "test")).interval
    assert (few.low, few.high) == pytest.approx((many.low, many.high))


def test_the_same_seed_gives_the_same_interval_and_order_of_statistics_does_not_matter():
    tensor, donors = _donors(24, np.random.default_rng(2))
    one = donor_intervals(tensor, {"a": confusion_accuracy, "m": _macro}, donors=donors, rng=rng_for(4, "test"))
    two = donor_intervals(tensor, {"m": _macro, "a": confusion_accuracy}, donors=donors, rng=rng_for(4, "test"))
    assert one == two
    assert one["a"] == donor_interval(tensor, confusion_accuracy, donors=donors, rng=rng_for(4, "test"))


def test_a_class_that_a_resample_lacks_is_left_out_and_not_counted_as_zero():
    tensor = np.zeros((24, 2, 2), dtype=np.int64)
    tensor[:, 0, 0] = 10
    tensor[0, 1, 1] = 10
    interval = donor_interval(tensor, _macro, donors=[str(d) for d in range(24)], rng=rng_for(0, "test")).interval
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_a_donor_given_in_two_rows_is_refused():
    tensor, _ = _donors(6, np.random.default_rng(0))
    with pytest.raises(ValueError, match="must be summed"):
        donor_interval(tensor, _macro, donors=["d"] * 6, rng=rng_for(0, "test"))


def test_bounds_stay_inside_the_range_of_the_metric():
    tensor = np.zeros((6, 2, 2), dtype=np.int64)
    tensor[:, 0, 0] = tensor[:, 1, 1] = 10
    tensor[0] = [[0, 10], [10, 0]]
    interval = donor_interval(tensor, confusion_accuracy, donors=list("abcdef"), rng=rng_for(0, "test")).interval
    assert 0 <= interval.low < interval.high == 1.0
