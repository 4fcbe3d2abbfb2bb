"""Components against an independent implementation, and their names and reasons."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.errors import UsageError
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.split.components import Link, connected_components

ROWS = st.tuples(
    st.sampled_from("ABC"), st.sampled_from(["p1", "p2", "p3", "unknown"]), st.sampled_from(["s1", "s2", "unknown"])
)


def table(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    study_of = {dataset: study for dataset, _, study in rows}
    frame = pd.DataFrame([(d, p, study_of[d]) for d, p, _ in rows], columns=["dataset_id", "person_id", "study"])
    frame["person_state"] = np.where(frame["person_id"] == "unknown", "unknown", "resolved")
    for column in CELL_COLUMNS:
        if column not in frame:
            frame[column] = "unknown"
    return frame


def naive(cells: pd.DataFrame, duplicates: list[tuple[int, int]]) -> set[frozenset[int]]:
    """Components by growing sets of rows that share a study, a data set, a person, or a pair."""
    n = len(cells)
    label = list(range(n))

    def touch(a: int, b: int) -> bool:
        x, y = cells.iloc[a], cells.iloc[b]
        return (
            x.dataset_id == y.dataset_id
            or (x.study == y.study != "unknown")
            or (x.person_id == y.person_id != "unknown")
            or (a, b) in duplicates
        )

    edges = [(a, b) for a, b in itertools.combinations(range(n), 2) if touch(a, b)]
    for _ in range(n):
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    return {frozenset(np.flatnonzero(np.array(label) == number).tolist()) for number in set(label)}


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=12), data=st.data())
def test_components_agree_with_naive_growing_of_sets(rows, data):
    cells = table(rows)
    row = st.integers(0, len(rows) - 1)
    pairs = [(min(p), max(p)) for p in data.draw(st.lists(st.tuples(row, row), max_size=2)) if p[0] != p[1]]
    duplicates = pd.DataFrame(pairs, columns=["a_row", "b_row"])
    found = connected_components(cells, by=("component",), duplicates=duplicates)
    groups = {frozenset(np.flatnonzero(found.label_of_row == name).tolist()) for name in found.table["component"]}
    assert groups == naive(cells, pairs)
    assert found.table["n_cells"].sum() == len(cells)


def test_a_component_is_named_by_its_studies_and_says_what_joined_it():
    cells = table([("kang_b", "p1", "kang18"), ("kang_a", "p2", "kang18"), ("other", "p3", "unknown")])
    duplicates = pd.DataFrame({"a_row": [0], "b_row": [1]})
    found = connected_components(cells, by=("component",), duplicates=duplicates).table
    assert found["component"].tolist() == ["kang18", "other"]
    assert found["datasets"].tolist() == [("kang_a", "kang_b"), ("other",)]
    assert found["persons"].tolist() == [("p1", "p2"), ("p3",)]
    assert found["reasons"].iloc[0] == (
        "study=kang18 in 2 data sets",
        "1 identical cell pair(s): study=kang18, study=kang18",
    )


def test_data_sets_without_a_study_are_named_together():
    cells = table([("kang18_muscat", "p1", "unknown"), ("kang18_harmony", "p1", "unknown")])
    assert connected_components(cells, by=("component",)).table["component"].tolist() == [
        "kang18_harmony+kang18_muscat"
    ]


def test_long_names_are_cut_and_stay_unique():
    rows = [(f"d{n}", "p1", "unknown") for n in range(6)]
    assert connected_components(table(rows), by=("component",)).table["component"].tolist() == ["d0+d1+d2+3_more"]


def test_a_person_called_like_a_data_set_is_not_that_data_set():
    cells = table([("A", "unknown", "unknown"), ("B", "A", "unknown")])
    assert len(connected_components(cells, by=("person",)).table) == 2


def test_donor_strings_of_two_studies_are_two_donors_and_of_one_study_one():
    cells = table([("A", "unknown", "s1"), ("B", "unknown", "s2"), ("C", "unknown", "s1")])
    cells["donor_id"] = "1"
    labels = connected_components(cells, by=("donor",)).label_of_row.tolist()
    assert labels == ["s1:1", "s2:1", "s1:1"]


def test_a_link_to_a_data_set_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="'elsewhere', which is not in the snapshot"):
        connected_components(table([("A", "p1", "s1")]), by=("dataset",), links=[Link("A", "elsewhere", "x")])
