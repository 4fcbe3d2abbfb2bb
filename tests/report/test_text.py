import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.report.text import ABSENT, anything, counted, fraction, inert, number, score_value, spread


@given(text=st.text(max_size=300))
def test_nothing_invisible_is_left(text):
    shown = inert(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@given(text=st.text(alphabet="abc XYZ-+_()/éüλ中", max_size=160))
def test_plain_names_are_not_changed(text):
    assert inert(text) == text


def test_numbers_look_the_same_everywhere():
    assert (number(0.12345), number(-0.5), number(None), number(float("nan"))) == (
        "0.123",
        "\N{MINUS SIGN}0.500",
        ABSENT,
        ABSENT,
    )
    assert (fraction(0.9731), fraction(None)) == ("97.3 %", ABSENT)
    assert (counted(1, "donor"), counted(1_000, "cell"), counted(6, "library")) == (
        "1 donor",
        "1,000 cells",
        "6 libraries",
    )


def test_nearly_all_is_not_all_and_nearly_none_is_not_none():
    assert [fraction(value) for value in (1.0, 0.9997, 0.9994, 0.0004, 0.0)] == [
        "100.0 %",
        "> 99.9 %",
        "99.9 %",
        "< 0.1 %",
        "0.0 %",
    ]


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA, pd.NaT, ""])
def test_what_is_missing_is_a_dash_and_never_zero(missing):
    assert anything(missing) == ABSENT


def test_values_of_frames_are_readable():
    assert anything(np.int64(12_000)) == "12,000"
    assert anything(np.float32(0.5)) == "0.500"
    assert anything(np.array([True])[0]) == "yes"
    assert anything({"b", "a"}) == "a, b"


def test_a_spread_is_an_interval_or_points_or_nothing(score):
    assert spread(score(low=0.6, high=0.8)) == "[0.600,\N{NO-BREAK SPACE}0.800]"
    assert spread(score(points={"b": 0.7, "a": 0.6})) == "(0.600 · 0.700)"
    assert spread(score()) == ""
    assert spread(score(points={"a": 0.6})) == ""
    assert score_value(None) == ABSENT
