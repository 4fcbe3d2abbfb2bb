"""Like rows of tables counted together: the same numbers as one row after another, whatever is dropped or missing."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError
from cytolabe.store import groups, tables
from cytolabe.store.groups import N_ROWS, count_groups
from cytolabe.store.scans import TablePart
from cytolabe.store.tables import write_table

WORDS = st.sampled_from(["", "a", "b", "ü", None])
ROWS = st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=40)
NOTHING = np.zeros(0, dtype=np.int64)


def part_of(rows, directory, **known):
    frame = pd.DataFrame(rows, columns=["x", "y", "z"], dtype=object)
    return TablePart(place=directory / (entry := write_table(frame, directory)).file, entry=entry, known=known)


def counted(table):
    names = [name for name in table.column_names if name != N_ROWS]
    found = Counter()
    for row in table.to_pylist():
        found[tuple(row[name] for name in names)] += row[N_ROWS]
    return found


@given(
    data=st.lists(st.tuples(ROWS, st.sets(st.integers(0, 39))), min_size=1, max_size=3),
    columns=st.lists(st.sampled_from("xyz"), unique=True, max_size=3),
    in_array=st.sampled_from([0, 3, 8, 1 << 16]),
    at_once=st.sampled_from([1, 6, 1 << 17]),
    merged=st.sampled_from([0, 1 << 14]),
)
@settings(max_examples=40, deadline=None)
def test_groups_are_the_rows_counted_one_by_one_and_come_once(
    tmp_path_factory, data, columns, in_array, at_once, merged
):
    directory = tmp_path_factory.mktemp("tables")
    parts = [part_of(rows, directory, dataset_id=f"d{number}") for number, (rows, _) in enumerate(data)]
    dropped = [np.array(sorted(row for row in gone if row < len(rows)), dtype=np.int64) for rows, gone in data]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "_COUNTED_IN_ARRAY", in_array)
        patch.setattr(groups, "_CODES_AT_ONCE", at_once)
        patch.setattr(groups, "_MERGED", merged)
        patch.setattr(tables, "ROW_GROUP", 7)
        found = count_groups(parts, ["dataset_id", *columns], dropped=dropped)
    expected = Counter(
        (f"d{number}", *(row["xyz".index(name)] for name in columns))
        for number, (rows, gone) in enumerate(data)
        for place, row in enumerate(rows)
        if place not in gone
    )
    assert +counted(found) == expected
    assert not columns or found.num_rows == len(expected)


def test_row_groups_are_counted_across(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 4)
    part = part_of([("a", "b", str(number % 3)) for number in range(10)], tmp_path)
    found = count_groups([part], ["z"], dropped=[np.array([3, 4, 9])])
    assert counted(found) == {("0",): 2, ("1",): 2, ("2",): 3}


def test_too_many_different_rows_and_columns_of_numbers_are_not_worth_it(tmp_path):
    frame = pd.DataFrame({"name": [f"cell{number}" for number in range(9)], "n": np.arange(9)})
    entry = write_table(frame, tmp_path)
    part = TablePart(place=tmp_path / entry.file, entry=entry)
    assert count_groups([part], ["name"], dropped=[NOTHING], at_most=9).num_rows == 9
    assert count_groups([part], ["name"], dropped=[NOTHING], at_most=8) is None
    assert count_groups([part], ["n"], dropped=[NOTHING]) is None
    assert count_groups([part], ["absent"], dropped=[NOTHING]) is None


@pytest.mark.parametrize("columns", [["x"], []])
@pytest.mark.parametrize("is_large", [False, True])
def test_a_changed_or_missing_table_is_not_counted(tmp_path, monkeypatch, columns, is_large):
    if is_large:
        monkeypatch.setattr("cytolabe.store.scans._HASHED_WHOLE", 0)
    part = part_of([("word", "b", "c")] * 5, tmp_path)
    content = part.place.read_bytes()
    part.place.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(IntegrityError):
        count_groups([part], columns, dropped=[NOTHING])
    page = content.index(b"word")
    part.place.write_bytes(content[:page] + b"lord" + content[page + 4 :])
    if columns:
        with pytest.raises(IntegrityError):
            count_groups([part], columns, dropped=[NOTHING])
    part.place.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        count_groups([part], columns, dropped=[NOTHING])


def test_no_flipped_bit_of_a_page_header_gives_another_count(tmp_path, monkeypatch):
    """Of a large file no digest covers the headers of pages; codes without words are noticed all the same."""
    monkeypatch.setattr("cytolabe.store.scans._HASHED_WHOLE", 0)
    part = part_of([("abc"[number % 3], "u", "v") for number in range(50)], tmp_path)
    content = part.place.read_bytes()
    expected = counted(count_groups([part], ["x"], dropped=[NOTHING]))
    n_caught = 0
    for place in range(4, 50):
        for bit in range(8):
            part.place.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
            try:
                assert counted(count_groups([part], ["x"], dropped=[NOTHING])) == expected, (place, bit)
            except IntegrityError:
                n_caught += 1
    assert n_caught > 50
