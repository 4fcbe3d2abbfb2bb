"""A split shares nothing of what it was asked for, whatever the cells look like."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.split.components import Link
from cytolabe.split.groups import grouped_folds, hold_out_groups, leave_one_group_out
from cytolabe.split.keys import VOCABULARY
from cytolabe.testing.memory import MemorySnapshot, memory_snapshot

WORDS = tuple(word for word in VOCABULARY if word not in {"time", "perturbation"})
"""The other two need a column or dates that the rule names."""

COLUMN_OF = {
    "person": "person_id", "dataset": "dataset_id", "batch": "batch", "library": "batch", "assay": "assay", "study": "study",
    "suspension_type": "suspension_type", "tissue": "tissue", "disease": "disease", "site": "site",
    "donor": "donor_id", "component": "dataset_id",
}  # fmt: skip


def snapshot_of(cells: pd.DataFrame) -> MemorySnapshot:
    """A snapshot where only the table matters: one gene, one count per cell."""
    sizes = cells["dataset_id"].value_counts()
    matrices = {str(name): csr_matrix(np.ones((n, 1), dtype=np.int64)) for name, n in sizes.items()}
    return memory_snapshot(cells, matrices, genes=dict.fromkeys(matrices, ("G1",)))


def simple(**columns: list[str]) -> MemorySnapshot:
    frame = pd.DataFrame(columns)
    if "contributor_label" not in frame:
        frame["contributor_label"] = "B cell"
    return snapshot_of(frame)


@st.composite
def cell_tables(draw, *, known_persons: bool = False) -> pd.DataFrame:
    n_cells = draw(st.integers(2, 25))

    def column(values: list[str]) -> list[str]:
        return draw(st.lists(st.sampled_from(values), min_size=n_cells, max_size=n_cells))

    people = ["p1", "p2", "p3", "p4"]
    frame = pd.DataFrame({
        "dataset_id": column(["d1", "d2", "d3", "d4"]),
        "person_id": column(people if known_persons else [*people, "unknown"]),
        "donor_id": column(["1", "2", "unknown"]),
        "batch": column(["b1", "b2", "unknown"]),
        "assay": column(["v2", "v3"]),
        "suspension_type": column(["cell", "nucleus"]),
        "tissue": column(["blood", "lung"]),
        "disease": column(["normal", "flu"]),
        "site": column(["s1", "s2"]),
        "contributor_label": column(["", "B cell", "T cell"]),
    })  # fmt: skip
    studies = {name: draw(st.sampled_from(["sA", "sB", "unknown"])) for name in ("d1", "d2", "d3", "d4")}
    frame["study"] = frame["dataset_id"].map(studies)
    return frame


def known_values(cells: pd.DataFrame, word: str, rows: np.ndarray) -> set[str]:
    part = cells.iloc[rows]
    values = part[COLUMN_OF[word]]
    if word in {"donor", "batch", "library"}:
        home = part["study"].where(part["study"] != "unknown", part["dataset_id"])
        return set((home + "|" + values)[values != "unknown"])
    return set(values[values != "unknown"])


@settings(max_examples=60, deadline=None)
@given(cells=cell_tables(), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True))
def test_nothing_that_was_asked_for_is_on_both_sides(cells, words):
    snapshot = snapshot_of(cells)
    for fold in leave_one_group_out(snapshot, by=words).folds:
        for word in words:
            train = known_values(snapshot.cells, word, fold.train_rows)
            assert train.isdisjoint(known_values(snapshot.cells, word, fold.test_rows))


@settings(max_examples=40, deadline=None)
@given(cells=cell_tables())
def test_a_component_shares_neither_study_nor_person_nor_data_set(cells):
    snapshot = snapshot_of(cells)
    for fold in leave_one_group_out(snapshot).folds:
        for word in ("study", "person", "dataset", "donor"):
            train = known_values(snapshot.cells, word, fold.train_rows)
            assert train.isdisjoint(known_values(snapshot.cells, word, fold.test_rows))


@settings(max_examples=40, deadline=None)
@given(cells=cell_tables(), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=2, unique=True))
def test_every_cell_is_in_exactly_one_test_side(cells, words):
    split = leave_one_group_out(snapshot_of(cells), by=words)
    tested = np.concatenate([fold.test_rows for fold in split.folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(cells)))
    for fold in split.folds:
        both = np.concatenate([fold.train_rows, fold.test_rows])
        np.testing.assert_array_equal(np.sort(both), np.arange(len(cells)))
    assert len({fold.split_id for fold in split.folds}) == len(split.folds)


@settings(max_examples=40, deadline=None)
@given(
    cells=cell_tables(), word=st.sampled_from(WORDS), order=st.randoms(use_true_random=False),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_the_order_of_the_cells_changes_no_side(*, cells, word, order, seed):
    cells = cells.assign(cell_id=[f"c{number}" for number in range(len(cells))])
    shuffled = cells.iloc[order.sample(range(len(cells)), len(cells))]

    def sides(table: pd.DataFrame) -> list[tuple[str, frozenset[str], str, str]]:
        snapshot = snapshot_of(table)
        folds = (
            *leave_one_group_out(snapshot, by=(word,)).folds,
            *hold_out_groups(snapshot, by=(word,), test_fraction=0.3, seed=seed).folds,
        )
        ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
        return [(fold.split_id, frozenset(ids[fold.test_rows]), fold.status, fold.reason) for fold in folds]

    assert sides(cells) == sides(shuffled)


@settings(max_examples=40, deadline=None)
@given(cells=cell_tables(known_persons=True), seed=st.integers(0, 99), fraction=st.floats(0.05, 0.95))
def test_no_person_is_on_both_sides_of_a_random_share(cells, seed, fraction):
    snapshot = snapshot_of(cells)
    split = hold_out_groups(snapshot, by=("person",), test_fraction=fraction, seed=seed)
    (fold,) = split.folds
    persons = snapshot.cells["person_id"].to_numpy(dtype=object)
    assert set(persons[fold.train_rows]).isdisjoint(persons[fold.test_rows])
    n_persons = len(set(persons))
    assert len(fold.groups_test) == min(max(1, round(fraction * n_persons)), max(1, n_persons - 1))
    again = hold_out_groups(snapshot, by=("person",), test_fraction=fraction, seed=seed)
    np.testing.assert_array_equal(again.folds[0].test_rows, fold.test_rows)


def test_another_seed_holds_out_other_persons():
    snapshot = simple(dataset_id=["d1"] * 12, person_id=[f"p{n}" for n in range(12)])
    held = {hold_out_groups(snapshot, by=("person",), test_fraction=0.3, seed=n).folds[0].groups_test for n in range(8)}
    assert len(held) > 1


def test_grouped_folds_test_each_cell_once_in_folds_of_similar_size():
    persons = [f"p{n:02d}" for n in range(12) for _ in range(n + 1)]
    snapshot = simple(dataset_id=["d1"] * len(persons), person_id=persons)
    split = grouped_folds(snapshot, by=("person",), n_folds=4, seed=1)
    tested = np.concatenate([fold.test_rows for fold in split.folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(persons)))
    sizes = [len(fold.test_rows) for fold in split.folds]
    assert max(sizes) - min(sizes) <= 3
    assert split.folds[0].split_id == "person=fold_1_of_4_seed_1"


def test_more_folds_than_groups_are_refused():
    snapshot = simple(dataset_id=["d1", "d1"], person_id=["p1", "p2"])
    with pytest.raises(UsageError, match="3 folds were asked for, and there are 2 groups"):
        grouped_folds(snapshot, by=("person",), n_folds=3, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_share_outside_of_zero_to_one_is_refused(fraction):
    with pytest.raises(UsageError, match="test_fraction"):
        hold_out_groups(simple(dataset_id=["d1", "d2"]), by=("dataset",), test_fraction=fraction, seed=0)


@pytest.mark.parametrize("words", [(), ("cells",), ("person", "person")])
def test_a_word_outside_of_the_vocabulary_is_refused(words):
    with pytest.raises(UsageError, match="Choose from component, person"):
        leave_one_group_out(simple(dataset_id=["d1", "d2"]), by=words)


def test_a_split_between_unknown_persons_is_refused_and_by_data_set_only_qualified():
    snapshot = simple(dataset_id=["d1", "d1", "d2", "d2"], person_id=["p1", "unknown", "p2", "p2"])
    by_person = leave_one_group_out(snapshot, by=("person",))
    status = {fold.split_id: fold.status for fold in by_person.folds}
    # d1 is one group, since its unknown cell may be p1; p2's own study has no unknown person.
    assert status == {"person=d1+p1": "REFUSED", "person=p2": "QUALIFIED"}
    assert [(finding.code, finding.severity) for finding in by_person.findings] == [("E-SPLIT-01", "error")]
    by_dataset = leave_one_group_out(snapshot, by=("dataset",))
    assert {fold.status for fold in by_dataset.folds} == {"QUALIFIED"}
    assert all(fold.reason == "persons unknown in 1 data set (d1)" for fold in by_dataset.folds)
    assert [finding.code for finding in by_dataset.findings] == ["W-SPLIT-01"]


def test_a_pooled_person_ties_its_data_set_together():
    snapshot = simple(
        dataset_id=["d1"] * 3 + ["d2"], person_id=["p1", "p2", "pool", "p3"],
        person_state=["resolved", "resolved", "pooled", "resolved"],
    )  # fmt: skip
    split = leave_one_group_out(snapshot, by=("person",))
    assert sorted(len(fold.test_rows) for fold in split.folds) == [1, 3]


def test_known_persons_are_scored_without_reservation():
    split = leave_one_group_out(simple(dataset_id=["d1", "d1"], person_id=["p1", "p2"]), by=("person",))
    assert [(fold.split_id, fold.status, fold.reason) for fold in split.folds] == [
        ("person=p1", "SCORED", ""), ("person=p2", "SCORED", ""),
    ]  # fmt: skip
    assert split.findings == ()


def test_a_batch_split_says_which_persons_it_leaves_on_both_sides():
    snapshot = simple(dataset_id=["d1", "d1"], person_id=["p1", "p1"], batch=["b1", "b2"])
    for fold in leave_one_group_out(snapshot, by=("batch",)).folds:
        assert (fold.status, fold.reason) == ("QUALIFIED", "1 person(s) on both sides (p1)")


def test_an_unknown_assay_qualifies_a_split_by_assay():
    snapshot = simple(dataset_id=["d1", "d2"], person_id=["p1", "p2"], assay=["v2", "unknown"])
    assert {fold.reason for fold in leave_one_group_out(snapshot, by=("assay",)).folds} == {"assay unknown for 1 cells"}


def test_a_fold_without_labelled_test_cells_is_refused_and_keeps_its_unlabelled_cells():
    snapshot = simple(
        dataset_id=["d1", "d2", "d3"], person_id=["p1", "p2", "p3"], contributor_label=["B cell", "", "T cell"]
    )
    split = leave_one_group_out(snapshot)
    fold = {fold.split_id: fold for fold in split.folds}["component=d2"]
    assert (fold.status, fold.reason, len(fold.test_rows)) == ("REFUSED", "the test side has no labelled cell", 1)
    assert [(finding.code, finding.where) for finding in split.findings] == [("W-SPLIT-02", "component=d2")]
    assert all(1 in other.train_rows for other in split.folds if other is not fold)


def test_one_group_leaves_nothing_to_train_on():
    split = leave_one_group_out(simple(dataset_id=["d1", "d1"], person_id=["p1", "p1"]))
    assert [fold.status for fold in split.folds] == ["REFUSED"]
    assert [finding.code for finding in split.findings] == ["E-SPLIT-02"]


def test_links_and_identical_cells_keep_data_sets_together():
    snapshot = simple(dataset_id=["d1", "d2", "d3", "d4"], person_id=["p1", "p2", "p3", "p4"])
    duplicates = pd.DataFrame({"a_row": [0], "b_row": [2]})
    split = leave_one_group_out(snapshot, links=[Link("d2", "d4", "same donor not disproved")], duplicates=duplicates)
    assert [fold.groups_test for fold in split.folds] == [("d1+d3",), ("d2+d4",)]
