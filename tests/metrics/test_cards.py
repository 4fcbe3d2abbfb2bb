"""Every metric says its range, its direction, its floor and what it hides."""

import pytest

from cytolabe.metrics import METRICS


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_has_a_complete_card(name):
    card = METRICS[name]
    assert card.name == name
    assert card.range[0] < card.range[1]
    assert card.direction in {"higher", "lower"}
    assert all(text.strip() for text in (card.title, card.floor, card.hides, card.source))
