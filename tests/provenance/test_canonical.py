"""One value has one byte string, whatever order and types it came in."""

import json
import math

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.provenance import canonical_json, cells_digest, digest_of
from cytolabe.records import Finding, Severity

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-1e15, 1e15)  # beyond 2^53 a whole float prints as an integer that it only rounds to
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_canonical_json_reads_back_as_the_same_value(value):
    assert json.loads(canonical_json(value)) == value


@given(values)
def test_every_value_has_the_bytes_of_rfc_8785(value):
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {"\U0001f600": 1, "\uffee": 2},  # UTF-16 and code points sort these the other way round
        ['\x7f\u2028\x00"\\/\b', "\u00e9"],
        [1, 1.0, 1e21, -0.0],
        [[True, None, [2**53 - 1]]],
    ],
)
def test_what_two_encoders_write_differently_is_written_as_rfc_8785_says(value):
    assert canonical_json(value) == rfc8785.dumps(value)


def test_an_integer_that_others_cannot_read_exactly_and_half_a_character_are_refused():
    for value in (2**53, [[-(2**53)]], {"a": "\ud800"}):
        with pytest.raises(rfc8785.CanonicalizationError):
            canonical_json(value)


@given(st.dictionaries(st.text(max_size=5), st.integers(-9, 9), max_size=6), st.randoms())
def test_the_order_of_keys_does_not_enter_a_digest(table, random):
    items = list(table.items())
    random.shuffle(items)
    assert digest_of(dict(items)) == digest_of(table)


@given(st.lists(st.text(min_size=1, max_size=6).filter(lambda s: "\x00" not in s), max_size=8), st.randoms())
def test_the_order_and_repetition_of_cells_do_not_enter_their_digest(cells, random):
    shuffled = cells + cells[:2]
    random.shuffle(shuffled)
    assert cells_digest(shuffled) == cells_digest(cells)


def test_cells_are_told_apart_at_their_borders():
    assert cells_digest(["ab", "c"]) != cells_digest(["a", "bc"])


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan")])
def test_a_number_that_is_none_is_refused_and_not_written(value):
    with pytest.raises(TypeError, match="Write None"):
        canonical_json({"value": value})


def test_records_numpy_values_and_enums_have_one_form():
    finding = Finding(code="E-X-01", severity=Severity.ERROR, where="X", message="m", remedy="r", rule="R1")
    assert json.loads(canonical_json(finding))["severity"] == "error"
    assert canonical_json({"a": np.int64(3), "b": np.array([1, 2])}) == canonical_json({"b": [1, 2], "a": 3})
