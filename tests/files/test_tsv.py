"""Tables as text: whatever stands in a field stands there again after reading."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from cytolabe.files import tsv_text

FIELD = st.text(st.sampled_from("a\t\r\n\"' ;\x0b\u2028é"), max_size=6)


@given(st.lists(st.lists(FIELD, min_size=2, max_size=2), max_size=4))
def test_fields_with_tabs_quotes_and_any_end_of_a_line_come_back_as_they_were(rows):
    text = tsv_text(rows)
    assert list(csv.reader(io.StringIO(text, newline=""), delimiter="\t")) == rows


def test_lines_end_with_a_line_feed_and_what_is_not_there_is_empty():
    assert tsv_text([["a", None, 0.5], ["b\r", "c", 1]]) == 'a\t\t0.5\n"b\r"\tc\t1\n'
