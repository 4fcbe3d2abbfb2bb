"""Named streams: equal names give equal draws, other names give others."""

from hypothesis import given
from hypothesis import strategies as st

from cytolabe.randomness import derive_seed, rng_for


@given(st.integers(0, 2**32), st.text(max_size=6))
def test_a_stream_does_not_depend_on_what_was_drawn_before(seed, name):
    rng_for(seed, "another", name).random(3)
    assert rng_for(seed, "step", name).random() == rng_for(seed, "step", name).random()


def test_names_are_told_apart_at_their_borders():
    assert derive_seed(0, "ab", "c") != derive_seed(0, "a", "bc")
    assert 0 <= derive_seed(0, "x") < 2**63
