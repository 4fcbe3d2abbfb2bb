"""The grammar of filters: what it reads, where it points when it cannot, and that nothing exhausts it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.errors import UsageError
from cytolabe.snapshot.conditions import AllOf, AnyOf, Comparison, Not, comparisons_of, parse_condition

COLUMNS = {"tissue": "text", "assay": "text", "disease": "text", "n_counts": "number"}


def parse(text):
    return parse_condition(text, COLUMNS)


def test_the_filter_of_the_documentation_is_read():
    text = (
        """tissue = 'lung' and assay in ("10x 3' v3", '10x 5'' v1') and n_counts >= 500 and not disease = 'COVID-19'"""
    )
    assert parse(text) == AllOf(
        (
            Comparison(column="tissue", operator="=", values=("lung",)),
            Comparison(column="assay", operator="in", values=("10x 3' v3", "10x 5' v1")),
            Comparison(column="n_counts", operator=">=", values=(500,)),
            Not(Comparison(column="disease", operator="=", values=("COVID-19",))),
        )
    )


def test_and_binds_closer_than_or_and_words_may_be_large():
    found = parse("tissue = 'a' OR n_counts < 3 AND (assay LIKE '10x%' oR disease IS NOT UNKNOWN)")
    assert isinstance(found, AnyOf)
    assert isinstance(found.conditions[1], AllOf)
    assert found.conditions[1].conditions[1] == AnyOf(
        (
            Comparison(column="assay", operator="like", values=("10x%",)),
            Not(Comparison(column="disease", operator="unknown")),
        )
    )


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("tisue = 'a'", 1, "Did you mean 'tissue'"),
        ("tissue = lung", 10, "stands in quotes"),
        ("n_counts = 'a'", 12, "compared with a number"),
        ("tissue = 4", 10, "compared with a text"),
        ("tissue = 'a", 10, "never closed"),
        ("tissue = 'a'; DROP TABLE cells", 13, "';' means nothing"),
        ("(tissue = 'a'", 14, "expected ')'"),
        ("tissue in ()", 12, "expected a text"),
        ("tissue = 'a' UNION SELECT 1", 14, "expected 'and', 'or' or the end"),
        ("tissue = read_text('/etc/hostname')", 10, "stands in quotes"),
        ("__import__('os')", 1, "no column '__import__'"),
        ("tissue.__class__ = 'a'", 7, "'.' means nothing"),
        ("tissue == @pd", 11, "'@' means nothing"),
        ("tissue", 7, "expected =, !="),
        ("tissue = 'a' and", 17, "expected a column, but the filter ends here"),
        ("n_counts like '1'", 15, "compared with a number"),
        ("n_counts = 1e999", 12, "too large"),
        ("tissue is lung", 11, "'unknown' or 'null'"),
        ("tissue = 'a' -- x", 14, "'-' means nothing"),
    ],
)
def test_what_is_no_filter_is_refused_at_its_place(text, place, says):
    with pytest.raises(UsageError) as caught:
        parse(text)
    message = str(caught.value)
    assert f"at character {place}:" in message
    assert says in message
    shown, mark = message.splitlines()[-2:]
    assert mark.index("^") - 4 == place - 1
    assert shown[4:] == text[: len(shown) - 4]


@given(value=st.text(max_size=30))
def test_any_text_is_a_value_and_nothing_more(value):
    quoted = "'" + value.replace("'", "''") + "'"
    assert parse(f"tissue = {quoted}") == Comparison(column="tissue", operator="=", values=(value,))
    doubled = '"' + value.replace('"', '""') + '"'
    assert parse(f"not tissue = {doubled}") == Not(Comparison(column="tissue", operator="=", values=(value,)))


@given(text=st.text(alphabet="()'\"=<>,; \nandortisue1.%-", max_size=60))
def test_garbage_is_read_or_refused_and_never_crashes(text):
    with contextlib.suppress(UsageError):
        list(comparisons_of(parse(text)))


def test_a_chain_of_many_values_is_one_list():
    text = " or ".join(f"tissue = 't{n}'" for n in range(20_000))
    found = parse(text)
    assert isinstance(found, Comparison)
    assert (found.operator, len(found.values)) == ("in", 20_000)


@pytest.mark.parametrize(
    "text",
    [
        " and ".join(["n_counts >= 1"] * 100_000),
        "(" * 5_000 + "tissue = 'a'" + ")" * 5_000,
        "tissue = '" + "a" * 5_000_000 + "'",
    ],
    ids=["clauses", "brackets", "characters"],
)
def test_a_filter_without_measure_is_refused(text):
    with pytest.raises(UsageError, match=r"at most|nested"):
        parse(text)


def test_not_may_be_repeated_as_often_as_one_likes():
    assert parse("not " * 10_001 + "tissue = 'a'") == Not(Comparison(column="tissue", operator="=", values=("a",)))
