import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.standardize.words import Words

WORDS = st.lists(st.sampled_from(["B", "b", " T ", "T", "", None, "NK"]), max_size=30)


def words_of(values):
    return Words.of(pd.Series(values, dtype=object), lambda levels: [str(level) for level in levels])


def spelled(words):
    return [words.levels[code] for code in words.codes]


@given(values=WORDS)
def test_words_change_as_if_each_cell_were_changed(values):
    def change(word):
        return "none" if word is None else word.strip().lower()

    words = words_of(values)
    assert spelled(words) == values
    assert spelled(words.changed(change)) == [change(value) for value in values]
    assert len(set(words.changed(change).levels)) == len(words.changed(change).levels)
    assert words.n_cells_in({"B", None}) == sum(value in {"B", None} for value in values)


@given(values=WORDS)
def test_categories_are_the_levels_that_occur_in_the_order_in_which_they_do(values):
    made = words_of(values).changed(lambda word: word or "unknown").categories()
    wanted = [value or "unknown" for value in values]
    assert list(made) == wanted
    assert list(made.categories) == list(dict.fromkeys(wanted))


def test_a_cell_without_a_value_is_told_rather_than_given_a_level():
    with pytest.raises(ValueError, match="no value"):
        words_of(["B", None]).categories()


def test_a_constant_takes_one_byte_per_cell():
    words = Words.constant("unknown", 1_000)
    assert words.codes.nbytes == 1_000
    assert set(words.categories()) == {"unknown"}


def test_many_levels_keep_their_codes():
    values = [f"w{number}" for number in range(300)] + [None]
    words = words_of(values)
    assert spelled(words) == values
    assert words.codes.dtype == np.int16
