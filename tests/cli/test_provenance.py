"""`cytolabe provenance` of a folder and of an atlas."""

import json


def test_a_folder_is_told_hop_by_hop(call, tmp_path):
    (tmp_path / "quant.json").write_text(json.dumps({"version_str": "0.8.2", "num_quantified_cells": 3}))
    called = call("provenance", tmp_path, "--json")
    assert called.code == 0
    assert called.document["hops"][0]["value"] == "alevin-fry 0.8.2"
    assert called.document["n_files"] == 1
    shown = call("provenance", tmp_path).out
    assert 'alignment = "alevin-fry 0.8.2"' in shown
    assert "# kit: unknown" in shown


def test_an_atlas_is_told_by_its_cells(call, frozen):
    document = call("provenance", frozen, "--json").document
    assert set(document["coverage"]) == {"matrix", "alignment", "reference", "kit", "library", "reads"}
    assert all(abs(sum(shares.values()) - 1) < 1e-9 for shares in document["coverage"].values())
    assert "% of cells reach a run accession" in call("provenance", frozen).out


def test_a_place_that_is_no_folder_is_a_wrong_call(call, tmp_path):
    assert call("provenance", tmp_path / "nowhere").code == 2
