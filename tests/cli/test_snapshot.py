"""snapshot: freeze, list and diff, and a tag that is never moved."""

import re
import shutil


def test_the_document_has_the_keys_of_the_contract(call, own_atlas):
    called = call("snapshot", own_atlas, "--tag", "v1", "--json")
    assert called.code == 0
    assert set(called.document) >= {"snapshot_id", "revision", "tag", "n_cells", "n_datasets"}
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", called.document["snapshot_id"])
    assert called.document["tag"] == "v1"
    assert called.document["n_cells"] == 480
    assert called.document["n_datasets"] == 3


def test_freezing_an_equal_state_changes_nothing(call, own_atlas):
    first, second = (call("snapshot", own_atlas, "--json").document for _ in range(2))
    assert first == second
    assert first["tag"] is None


def test_freeze_is_the_long_form(call, own_atlas):
    assert call("snapshot", "freeze", own_atlas, "--json").out == call("snapshot", own_atlas, "--json").out
    assert call("snapshot", "--json", own_atlas).out == call("snapshot", own_atlas, "--json").out


def test_the_id_does_not_depend_on_the_order_of_ingest(call, labs, frozen, tmp_path):
    for name in ("elm", "amber", "birch"):
        assert call("ingest", tmp_path / "atlas", labs / f"{name}.h5ad").code == 0
    call("reconcile", tmp_path / "atlas")
    other = call("snapshot", tmp_path / "atlas", "--json").document
    assert other["snapshot_id"] == call("snapshot", "list", frozen, "--json").document["snapshots"][0]["snapshot_id"]


def test_a_tag_that_names_another_snapshot_is_a_conflict(call, ingested, tmp_path):
    atlas = shutil.copytree(ingested, tmp_path / "atlas")
    assert call("snapshot", atlas, "--tag", "v1").code == 0
    call("reconcile", atlas)
    called = call("snapshot", atlas, "--tag", "v1", "--json")
    assert called.code == 5
    assert called.document["error"]["type"] == "ConflictError"
    assert "never moved" in called.document["error"]["message"]


def test_an_atlas_whose_labels_are_not_mapped_is_frozen_with_a_word(call, ingested, tmp_path):
    atlas = shutil.copytree(ingested, tmp_path / "atlas")
    called = call("snapshot", atlas, "--json")
    assert called.code == 0
    assert f"run cytolabe reconcile {atlas}" in called.err
    assert called.document["n_cells"] == 480


def test_list_and_diff_tell_what_a_reconciliation_changed(call, ingested, tmp_path):
    atlas = shutil.copytree(ingested, tmp_path / "atlas")
    call("snapshot", atlas, "--tag", "raw")
    call("reconcile", atlas)
    call("snapshot", atlas, "--tag", "v1")
    listed = call("snapshot", "list", atlas, "--json")
    assert [row["tags"] for row in listed.document["snapshots"]] == [["raw"], ["v1"]]
    raw, v1 = (row["snapshot_id"] for row in listed.document["snapshots"])
    document = call("snapshot", "diff", atlas, raw[:19], "v1", "--json").document
    assert (document["before"], document["after"]) == (raw, v1)
    assert document["datasets_added"] == document["datasets_removed"] == []
    assert document["n_cells_relabeled"] == sum(row["n_cells"] for row in document["relabeled"]) > 400
    printed = call("snapshot", "diff", atlas, "raw", "v1").out
    assert re.search(r"^elm +B +unknown +CL:0000236 +20$", printed, flags=re.MULTILINE)


def test_a_snapshot_that_is_not_there_names_those_that_are(call, frozen):
    called = call("snapshot", "diff", frozen, "v1", "v2", "--json")
    assert called.code == 2
    assert "Tags: v1" in called.document["error"]["message"]


def test_a_folder_that_is_no_atlas_says_how_to_make_one(call, tmp_path):
    for words in (("snapshot", tmp_path), ("snapshot", "list", tmp_path), ("split", tmp_path), ("reconcile", tmp_path)):
        called = call(*words, "--json")
        assert called.code == 2
        assert "`cytolabe ingest` makes one" in called.document["error"]["message"]
