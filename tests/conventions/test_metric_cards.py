"""Every metric says where it lives, which way is better, what a trivial method gets and what it hides."""

import math

import pytest


@pytest.fixture(scope="session")
def cards():
    return pytest.importorskip("cytolabe.metrics", reason="the metrics are not written yet").METRICS


def test_every_metric_declares_range_direction_and_floor(cards):
    assert cards
    for name, card in cards.items():
        low, high = card.range
        assert card.name == name
        assert math.isfinite(low)
        assert low < high
        assert card.direction in {"higher", "lower"}
        for field in ("floor", "hides", "source", "title"):
            assert len(getattr(card, field)) > 3, f"{name}: {field}"


def test_the_metrics_of_the_headline_are_among_them(cards):
    assert {"macro_f1", "accuracy"} <= set(cards)
