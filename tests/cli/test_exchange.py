"""`cytolabe snapshot release` and `cytolabe crate` on the command line."""

import json


def test_a_release_is_written_told_and_found_by_a_later_withdrawal(call, own_atlas, tmp_path):
    called = call("snapshot", "release", own_atlas, "--out", tmp_path / "r", "--date", "2026-03-01", "--json")
    assert called.code == 0
    assert called.document["files"] == ["cells.h5ad", "cells.parquet"]
    assert json.loads((tmp_path / "r" / "croissant.json").read_bytes())["datePublished"] == "2026-03-01"
    kinds = [json.loads(path.read_bytes())["what"] for path in (own_atlas / "artifacts").glob("*.json")]
    assert "release" in kinds


def test_a_folder_that_is_no_run_and_a_day_that_is_none_are_wrong_calls(call, own_atlas, tmp_path):
    assert call("crate", tmp_path, "--out", tmp_path / "c").code == 2
    assert call("crate", tmp_path, "--out", tmp_path / "c", "--date", "yesterday").code == 2
    assert call("snapshot", "release", own_atlas, "--out", tmp_path / "r", "--access", "secret").code == 2
    assert not (tmp_path / "r").exists()
