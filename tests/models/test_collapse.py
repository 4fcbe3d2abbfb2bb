"""An embedding of which all cells have one vector, or lie on one line, is said to have collapsed; no other is."""

import numpy as np
import pytest

from cytolabe.models.collapse import collapse_note


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_point_and_a_line_are_collapsed_and_a_cloud_is_not(scale):
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(200, 16)) * scale
    direction = rng.normal(size=16) * scale
    assert collapse_note(cloud) == ""
    assert "one vector" in collapse_note(direction + 1e-5 * cloud)
    assert "one line" in collapse_note(rng.normal(size=(200, 1)) * direction + 1e-4 * cloud)
    assert "one vector" in collapse_note(np.zeros((10, 4)))


def test_a_flat_but_wide_embedding_and_one_of_a_single_dimension_are_no_lines():
    rng = np.random.default_rng(1)
    assert collapse_note(rng.normal(size=(200, 4)) * np.array([1.0, 0.5, 0, 0])) == ""
    assert collapse_note(rng.normal(size=(200, 1))) == ""
