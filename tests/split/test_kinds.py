"""The kinds of splits beyond whole groups: nested, repeated, after a day, unseen perturbations, single cells."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.split import (
    ColumnOfWord,
    DateOf,
    RuleKind,
    SplitRule,
    dividing_day,
    grouped_folds,
    plan_document,
    plan_rule,
    split_document,
    split_of,
)
from cytolabe.split.sides import days_of
from cytolabe.testing.memory import memory_snapshot

GENES = ("A", "B", "C", "D", "E", "F")


def snapshot_of(**columns):
    frame = pd.DataFrame(columns)
    sizes = frame["dataset_id"].value_counts()
    matrices = {str(name): csr_matrix(np.ones((n, 1), dtype=np.int64)) for name, n in sizes.items()}
    return memory_snapshot(frame, matrices, genes=dict.fromkeys(matrices, ("G1",)))


def persons(sizes, *, labels=("B cell",)):
    """One data set; person n has as many cells as its size says, with the labels in turn."""
    names = [f"p{number:02d}" for number, size in enumerate(sizes) for _ in range(size)]
    turn = itertools.cycle(labels)
    return snapshot_of(dataset_id=["d"] * len(names), person_id=names, contributor_label=[next(turn) for _ in names])


def rows(snapshot, column, places):
    return set(snapshot.cells[column].to_numpy(dtype=object)[places])


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=6, max_size=12), n_folds=st.integers(2, 3), n_repeats=st.integers(1, 3),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_repeats_test_each_cell_once_each_and_inner_folds_never_see_the_outer_test_side(
    sizes, n_folds, n_repeats, seed
):
    snapshot = persons(sizes)
    rule = SplitRule(kind=RuleKind.GROUPED_FOLDS, by=("person",), n_folds=n_folds, n_repeats=n_repeats, n_inner=2)
    plan = plan_rule(snapshot, rule, seed=seed)
    folds = plan.folds()
    tested = np.concatenate([fold.test_rows for fold in folds])
    np.testing.assert_array_equal(np.bincount(tested), np.full(sum(sizes), n_repeats))
    for fold in folds:
        inner = np.concatenate([one.test_rows for one in fold.inner])
        np.testing.assert_array_equal(np.sort(inner), fold.train_rows)
        for one in fold.inner:
            assert rows(snapshot, "person_id", one.train_rows).isdisjoint(rows(snapshot, "person_id", one.test_rows))
            assert set(one.train_rows).isdisjoint(fold.test_rows)
    assert plan_document(plan) == split_document(split_of(plan))
    assert plan_document(plan_rule(snapshot, rule, seed=seed)) == plan_document(plan)


def test_rare_types_are_shared_out_among_folds():
    # A rare type in 3 of 30 donors: by lot it would be missing from a third of three folds in most draws.
    sizes = [20] * 30
    names = [f"p{number:02d}" for number, size in enumerate(sizes) for _ in range(size)]
    labels = [
        "rare" if name in {"p03", "p17", "p29"} and place % 20 < 2 else "common" for place, name in enumerate(names)
    ]
    snapshot = snapshot_of(dataset_id=["d"] * len(names), person_id=names, contributor_label=labels)
    for seed in range(5):
        rule = SplitRule(kind=RuleKind.GROUPED_FOLDS, by=("person",), n_folds=3)
        plan = plan_rule(snapshot, rule, seed=seed)
        (rare,) = [row for row in plan.classes if row["label"] == "rare"]
        assert (rare["n_persons"], rare["min_test_persons"], rare["min_train_persons"]) == (3, 1, 2)
        assert {fold.facts.n_test for fold in plan.planned} == {200}


@settings(max_examples=20, deadline=None)
@given(dates=st.lists(st.sampled_from(["2018", "2019-06", "2020-02-03", "2021", ""]), min_size=4, max_size=4))
def test_after_a_day_training_is_older_and_the_undated_are_on_neither_side(dates):
    snapshot = snapshot_of(
        dataset_id=["a", "b", "c", "d"], person_id=["p1", "p1", "p2", "p3"], contributor_label="B cell"
    )
    told = tuple(DateOf(dataset_id=name, date=date) for name, date in zip("abcd", dates, strict=True))
    rule = SplitRule(kind=RuleKind.AFTER_DATE, by=("person",), after="2019-12-31", dates=told)
    if not any(dates):
        with pytest.raises(UsageError, match="time"):
            plan_rule(snapshot, rule, seed=0)
        return
    (fold,) = plan_rule(snapshot, rule, seed=0).folds()
    young = {name for name, date in zip("abcd", dates, strict=True) if date[:4] in {"2020", "2021"}}
    old = {name for name, date in zip("abcd", dates, strict=True) if date[:4] in {"2018", "2019"}}
    test, train = rows(snapshot, "dataset_id", fold.test_rows), rows(snapshot, "dataset_id", fold.train_rows)
    assert train == old
    # p1 is in a and b: unless both are young, neither is tested.
    assert test == young - ({"a", "b"} if not {"a", "b"} <= young else set())


def test_a_year_alone_may_be_any_day_of_it():
    snapshot = snapshot_of(dataset_id=["a", "b"], person_id=["p1", "p2"], contributor_label="B cell")
    told = (DateOf(dataset_id="a", date="2019"), DateOf(dataset_id="b", date="2021"))
    rule = SplitRule(kind=RuleKind.AFTER_DATE, by=("person",), after="2019-06-30", dates=told)
    (fold,) = plan_rule(snapshot, rule, seed=0).folds()
    assert (len(fold.train_rows), len(fold.test_rows)) == (0, 1)
    assert fold.status == "REFUSED"


@settings(max_examples=15, deadline=None)
@given(
    dates=st.lists(st.sampled_from(["2018", "2019-06", "2020-02-03", "2021", "2020/..", ""]), min_size=5, max_size=5),
    labels=st.lists(st.sampled_from(["B cell", "unknown"]), min_size=5, max_size=5),
    share=st.sampled_from([0.2, 0.5]),
)
def test_the_dividing_day_is_the_one_whose_split_tests_about_the_share(dates, *, labels, share):
    snapshot = snapshot_of(dataset_id=list("abcde"), person_id=["p1", "p1", "p2", "p3", "p4"], contributor_label=labels)
    told = tuple(DateOf(dataset_id=name, date=date) for name, date in zip("abcde", dates, strict=True))
    rule = SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("person",), dates=told)
    day = dividing_day(plan_rule(snapshot, rule, seed=0), test_share=share)
    labelled = np.flatnonzero(snapshot.cells["contributor_label"] == "B cell")
    found = {}
    days = {day for date in dates for day in days_of(date)} - {""}
    for after in sorted(days) if any(dates) else ():
        one = SplitRule(kind=RuleKind.AFTER_DATE, by=("person",), after=after, dates=told)
        (fold,) = plan_rule(snapshot, one, seed=0).folds()
        n_test, n_train = (len(np.intersect1d(side, labelled)) for side in (fold.test_rows, fold.train_rows))
        if n_test and n_train:
            found[after] = abs(n_test / (n_test + n_train) - share) + 1 - (n_test + n_train) / len(labelled)
    assert bool(day) == bool(found)
    if found:
        assert found[day] == pytest.approx(min(found.values()))


def test_a_year_is_not_cut_where_that_leaves_its_cells_on_neither_side():
    frame = {"dataset_id": ["a"] * 5 + ["b"] * 4 + ["c"] * 3, "person_id": "p", "contributor_label": "B cell"}
    told = tuple(DateOf(dataset_id=name, date=date) for name, date in (("a", "2016"), ("b", "2017"), ("c", "2018")))
    rule = SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("dataset",), dates=told)
    # After 2017-01-01 a third of both sides would be tested, without b.
    assert dividing_day(plan_rule(snapshot_of(**frame), rule, seed=0), test_share=3 / 8) == "2017-12-31"


def screen(names):
    frame = {"dataset_id": ["d"] * len(names), "person_id": ["line"] * len(names), "tissue": names}
    return snapshot_of(**frame, contributor_label="K562")


COLUMN = (ColumnOfWord(word="perturbation", dataset_id="d", column="tissue"),)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 50), share=st.sampled_from([0.2, 0.34, 0.5]))
def test_combinations_are_told_apart_by_the_parts_that_training_has_seen_alone(seed, share):
    doubles = [f"{a}+{b}" for a, b in itertools.combinations(GENES, 2)]
    names = [name for name in ("control", *GENES, *doubles) for _ in range(8)]
    snapshot = screen(names)
    rule = SplitRule(
        kind=RuleKind.UNSEEN_PERTURBATION,
        by=("perturbation",),
        test_fraction=share,
        columns=COLUMN,
        controls=("control",),
    )
    folds = plan_rule(snapshot, rule, seed=seed).folds()
    assert {"unseen_single", "combination_of_2_with_1_seen", "combination_of_2_with_2_seen"} <= {
        fold.split_id.partition("=")[2].rpartition("_seed_")[0] for fold in folds
    }
    for fold in folds:
        kind = fold.split_id.partition("=")[2].rpartition("_seed_")[0]
        train, test = rows(snapshot, "tissue", fold.train_rows), rows(snapshot, "tissue", fold.test_rows)
        assert train & test <= {"control"}
        assert set(fold.train_rows).isdisjoint(fold.test_rows)
        alone = {name for name in train if "+" not in name} - {"control"}
        seen = set().union(*(set(name.split("+")) for name in train)) - {"control"}
        for name in test - {"control"}:
            parts = set(name.split("+"))
            expected = "unseen_single" if len(parts) == 1 else f"combination_of_2_with_{len(parts & alone)}_seen"
            assert kind == expected
            if kind == "unseen_single":
                assert not parts & seen
    controls = [set(fold.test_rows) & set(np.flatnonzero(snapshot.cells["tissue"] == "control")) for fold in folds]
    assert all(one == controls[0] for one in controls)


def test_a_context_that_is_held_out_takes_its_controls_along():
    frame = {"dataset_id": ["d"] * 6, "person_id": ["line"] * 6, "tissue": ["A", "control"] * 3}
    snapshot = snapshot_of(**frame, site=["k562", "k562", "rpe1", "rpe1", "a172", "a172"], contributor_label="x")
    word = "contributed.cell_line"
    rule = SplitRule(
        kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=(word,), columns=(ColumnOfWord(word=word, dataset_id="d", column="site"),)
    )
    for fold in plan_rule(snapshot, rule, seed=0).folds():
        assert rows(snapshot, "tissue", fold.test_rows) == {"A", "control"}
        assert rows(snapshot, "site", fold.test_rows).isdisjoint(rows(snapshot, "site", fold.train_rows))


@settings(max_examples=15, deadline=None)
@given(n_folds=st.integers(2, 4), seed=st.integers(0, 9))
def test_random_cells_are_divided_once_and_the_document_says_that_they_leak(n_folds, seed):
    snapshot = persons([12] * 5)
    plan = plan_rule(snapshot, SplitRule(kind=RuleKind.GROUPED_FOLDS, by=("cells",), n_folds=n_folds), seed=seed)
    tested = np.concatenate([fold.test_rows for fold in plan.folds()])
    np.testing.assert_array_equal(np.sort(tested), np.arange(60))
    assert plan_document(plan)["leaky"] is True


def test_random_cells_are_no_word_of_an_ordinary_split():
    with pytest.raises(UsageError, match="unknown word"):
        grouped_folds(persons([3, 3]), by=("cells",), n_folds=2, seed=0)


def test_of_many_folds_the_training_side_is_not_spelled_out():
    snapshot = persons([1] * 70)
    rule = SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("person",))
    document = plan_document(plan_rule(snapshot, rule, seed=0))
    assert len(document["splits"]) == 70
    assert all(fold["train_is_rest"] and fold["groups_train"] is None for fold in document["splits"])


def test_a_word_without_a_column_or_a_date_is_refused():
    rule = SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("perturbation",))
    with pytest.raises(UsageError, match="perturbation"):
        plan_rule(persons([2, 2]), rule, seed=0)
