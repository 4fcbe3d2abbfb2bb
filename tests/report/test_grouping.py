import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.report.grouping import shape_of, spanning


def test_reasons_that_differ_in_numbers_are_one_reason():
    assert spanning(["determined by assay among 17 donors", "determined by assay among 1,022 donors"]) == (
        "determined by assay among 17 to 1,022 donors"
    )
    assert (
        spanning(["lost (0.02% of the counts)", "lost (0.41% of the counts)"]) == "lost (0.02 to 0.41% of the counts)"
    )


@pytest.mark.parametrize("name", ["CL:0000236", "pbmc3k", "10x_v2", "E-COUNTS-01x"])
def test_digits_of_names_are_no_numbers(name):
    assert shape_of(f"label {name} is alone") == (f"label {name} is alone",)


def test_no_mark_in_a_text_passes_for_a_number():
    assert shape_of("# cells") != shape_of("5 cells")


@given(text=st.text(max_size=60))
def test_one_text_alone_is_unchanged(text):
    assert spanning([text]) == text
    assert spanning([text, text]) == text


@given(numbers=st.lists(st.integers(0, 10_000), min_size=1, max_size=6))
def test_the_ends_are_the_least_and_the_most(numbers):
    told = spanning([f"{number} cells" for number in numbers])
    low, high = min(numbers), max(numbers)
    assert told == (f"{low} cells" if low == high else f"{low} to {high} cells")
