"""A split file is small, can be run again, and is not believed once it was edited."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.split.components import Link
from cytolabe.split.document import read_split, split_document, write_split
from cytolabe.split.groups import grouped_folds, hold_out_groups, leave_one_group_out, plan_rule
from cytolabe.split.rule import RuleKind, SplitRule, parse_rule, rule_text
from cytolabe.testing.memory import memory_snapshot

N_CELLS = 40


@pytest.fixture
def snapshot():
    cells = pd.DataFrame({
        "dataset_id": np.repeat(["d1", "d2", "d3", "d4"], N_CELLS // 4),
        "person_id": np.repeat([f"p{n}" for n in range(8)], N_CELLS // 8),
        "contributor_label": "B cell",
    })  # fmt: skip
    names = ("d1", "d2", "d3", "d4")
    matrices = {name: csr_matrix(np.full((N_CELLS // 4, 1), 3)) for name in names}
    return memory_snapshot(cells, matrices, genes=dict.fromkeys(names, ("G1",)))


SPLITS = {
    "component": lambda s: leave_one_group_out(
        s, links=[Link("d1", "d2", "one lab")], duplicates=pd.DataFrame({"a_row": [20], "b_row": [30]})
    ),
    "share": lambda s: hold_out_groups(s, by=("person",), test_fraction=0.25, seed=7),
    "folds": lambda s: grouped_folds(s, by=("person", "dataset"), n_folds=3, seed=7),
}


@pytest.mark.parametrize("kind", sorted(SPLITS))
def test_a_written_split_reads_back_with_the_same_rows(snapshot, tmp_path, kind):
    split = SPLITS[kind](snapshot)
    write_split(split, tmp_path / "split.json")
    again = read_split(tmp_path / "split.json", snapshot)
    assert split_document(again) == split_document(split)
    for one, two in zip(split.folds, again.folds, strict=True):
        np.testing.assert_array_equal(one.test_rows, two.test_rows)
        np.testing.assert_array_equal(one.train_rows, two.train_rows)


def test_the_document_has_the_promised_keys_and_no_list_of_cells(snapshot):
    split = leave_one_group_out(snapshot)
    document = split_document(split)
    assert {"splits", "findings", "rule", "seed", "snapshot_id", "links"} <= set(document)
    expected = {"split_id", "held_out", "n_train", "n_test", "groups_train", "groups_test"}
    assert all(expected <= set(fold) for fold in document["splits"])
    for fold in document["splits"]:
        assert not any(isinstance(value, list) and len(value) >= N_CELLS // 4 for value in fold.values())


@pytest.mark.parametrize("key", ["n_test", "test_rows_digest", "status", "groups_test"])
def test_an_edited_fold_is_not_believed(snapshot, tmp_path, key):
    path = tmp_path / "split.json"
    write_split(leave_one_group_out(snapshot), path)
    document = json.loads(path.read_text())
    document["splits"][1][key] = {"n_test": 1, "groups_test": []}.get(key, "changed")
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="component=d2"):
        read_split(path, snapshot)


def test_a_rule_that_gives_other_rows_is_not_believed(snapshot, tmp_path):
    path = tmp_path / "split.json"
    write_split(hold_out_groups(snapshot, by=("person",), test_fraction=0.25, seed=7), path)
    path.write_text(path.read_text().replace('"seed":7', '"seed":8'))
    with pytest.raises(IntegrityError):
        read_split(path, snapshot)


def test_a_split_of_another_snapshot_is_refused(snapshot, tmp_path):
    path = tmp_path / "split.json"
    write_split(leave_one_group_out(snapshot), path)
    path.write_text(path.read_text().replace(snapshot.snapshot_id, "sha256:" + "0" * 64))
    with pytest.raises(UsageError, match="make the split again on this snapshot"):
        read_split(path, snapshot)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "cytolabe-split/2"}'])
def test_what_is_no_split_is_unreadable(snapshot, tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(UnreadableInputError):
        read_split(tmp_path / "split.json", snapshot)


@pytest.mark.parametrize("text", ["no json", "[]", '{"kind": "random"}', '{"by": ["person"], "kind": "grouped_folds"}'])
def test_a_malformed_rule_is_refused(text):
    with pytest.raises(UsageError):
        parse_rule(text)


def test_a_rule_reads_back_as_it_was(snapshot):
    for make in SPLITS.values():
        text = make(snapshot).rule
        assert rule_text(parse_rule(text)) == text


def test_a_random_split_that_denies_it_is_not_believed(snapshot, tmp_path):
    path = tmp_path / "split.json"
    rule = SplitRule(kind=RuleKind.GROUPED_FOLDS, by=("cells",), n_folds=2)
    write_split(plan_rule(snapshot, rule, seed=0), path)
    assert len(read_split(path, snapshot).folds) == 2
    path.write_text(path.read_text().replace('"leaky":true', '"leaky":false'))
    with pytest.raises(IntegrityError):
        read_split(path, snapshot)


def test_swapped_sides_are_not_believed(snapshot, tmp_path):
    path = tmp_path / "split.json"
    write_split(leave_one_group_out(snapshot, by=("person",)), path)
    document = json.loads(path.read_text())
    one = document["splits"][0]
    for key in ("n_{}", "groups_{}", "{}_rows_digest"):
        train, test = key.format("train"), key.format("test")
        one[train], one[test] = one[test], one[train]
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="person=p0"):
        read_split(path, snapshot)


def test_the_donors_behind_a_class_cannot_be_made_up(snapshot, tmp_path):
    path = tmp_path / "split.json"
    write_split(leave_one_group_out(snapshot, by=("person",)), path)
    document = json.loads(path.read_text())
    document["classes"][0]["min_train_persons"] += 1
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError):
        read_split(path, snapshot)
