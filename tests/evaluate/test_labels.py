"""Which labels count: unlabelled is not a class, coarser is counted, and copies count once."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.evaluate.labels import class_sets, counted_labels, level_labels, rows_with_copy, support_table

T, LYMPHOCYTE = "CL:0000084", "CL:0000542"


def _cells(labels, datasets=None, terms=None):
    return pd.DataFrame({
        "dataset_id": datasets or ["lab"] * len(labels),
        "contributor_label": labels,
        "cell_type_ontology_term_id": terms or ["unknown"] * len(labels),
    })  # fmt: skip


def _pairs(*pairs):
    return pd.DataFrame(pairs, columns=["a_row", "b_row"], dtype=np.int64)


def test_every_cell_counts_or_is_excluded_with_a_reason(simulated_study):
    levels = simulated_study().resolutions
    cells = _cells(["T", "lympho", "??", ""], terms=[T, LYMPHOCYTE, "unknown", "unknown"])
    fine = level_labels(cells, levels, "fine")
    assert fine.terms.tolist() == [T, "", "", ""]
    assert dict(zip(fine.excluded["reason"], fine.excluded["n_cells"], strict=True)) == {
        "coarser than the level": 1,
        "label without a term": 1,
        "unlabelled": 1,
    }
    assert support_table(cells, [fine])["n_cells"].sum() == len(cells)


def test_of_two_copies_the_one_in_the_better_labelled_data_set_counts():
    cells = _cells(["T", "T", "T"], ["small", "large", "large"])
    assert counted_labels(cells, _pairs((0, 1)), np.arange(3)).tolist() == [False, True, True]
    equal = _cells(["T", "T"], ["lab_b", "lab_a"])
    assert counted_labels(equal, _pairs((0, 1)), np.arange(2)).tolist() == [False, True]


def test_a_copy_whose_label_means_nothing_never_displaces_one_that_has_a_term():
    cells = _cells(["T", "odd", "T"], ["small", "large", "large"], [T, "unknown", T])
    assert counted_labels(cells, _pairs((0, 1)), np.arange(3)).tolist() == [True, False, True]


def test_an_unlabelled_copy_never_displaces_a_label():
    cells = _cells(["T", "", "T"], ["small", "large", "large"])
    assert counted_labels(cells, _pairs((0, 1)), np.arange(3)).tolist() == [True, False, True]


def test_a_copy_on_the_other_side_does_not_displace_a_label():
    cells = _cells(["T", "T", "T"], ["small", "large", "large"])
    assert counted_labels(cells, _pairs((0, 1)), np.array([0])).tolist() == [True, False, False]


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda p: p[0] < p[1]), max_size=12),
    names=st.lists(st.sampled_from(["x", "y", "z"]), min_size=10, max_size=10),
)
def test_each_group_of_copies_keeps_exactly_one_label(pairs, names):
    cells = _cells(["T"] * 10, names)
    kept = counted_labels(cells, _pairs(*pairs), np.arange(10))
    group = list(range(10))
    for _ in range(10):
        for a, b in pairs:
            group[a] = group[b] = min(group[a], group[b])
    assert pd.Series(kept).groupby(group).sum().eq(1).all()


def test_a_copy_of_a_copy_in_training_is_found():
    found = rows_with_copy(_pairs((0, 1), (1, 2)), n_cells=4, test_rows=np.array([2, 3]), train_rows=np.array([0]))
    assert found.tolist() == [2]


def test_classes_are_fixed_by_the_support_of_both_sides():
    train = np.array(["a"] * 60 + ["b"] * 20 + ["d"] * 60 + [""], dtype=object)
    test = np.array(["a"] * 30 + ["b"] * 12 + ["c"] * 3 + [""] * 9 + ["d"], dtype=object)
    found = class_sets(train, test)
    assert found.known == found.scored == ("a", "b", "d")
    assert found.headline == ("a", "b")
    # b has under 50 training cells, d is 1 of 46 labelled test cells.
    assert found.rare == ("b", "d")
    assert found.open_set == ("c",)
