"""The commands that look back print trees and tables, and one JSON document where that is asked."""

from cytolabe.provenance import canonical_json, digest_of
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import read_runs


def test_a_data_set_is_traced_to_its_file_and_its_hops(call, frozen):
    document = call("trace", "birch", "--in", frozen, "--json").document
    tree = document["tree"]
    assert (tree["role"], tree["name"]) == ("dataset", "birch")
    assert [child["role"] for child in tree["children"]] == ["source", *["hop"] * 6]
    assert document["coverage"]["n_cells"] == sum(document["coverage"]["by_hop"]["kit"].values())
    shown = call("trace", "birch", "--in", frozen)
    assert shown.code == 0
    assert "hop kit [unknown]" in shown.out
    assert "of 150 cells reach a run accession" in shown.out


def test_a_word_that_nobody_knows_is_a_usage_error(call, frozen):
    called = call("trace", "nobody", "--in", frozen, "--json")
    assert (called.code, called.document["error"]["type"]) == (2, "UsageError")


def write_run(folder, *, seed, value):
    body = {
        "inputs": [], "outputs": [], "parents": [], "environment": {}, "parameters": {"seed": seed}, "snapshot_id": "s",
    }  # fmt: skip
    row = dict.fromkeys(("raw_value", "low", "high", "floor", "ceiling", "n_cells", "n_donors", "n_genes"))
    keys = ("task", "split", "gene_policy", "resolution", "model", "metric", "stratum")
    row |= {**{key: key for key in keys}, "value": value, "status": "SCORED"}
    folder.mkdir()
    (folder / "run.json").write_bytes(canonical_json({**body, "record_id": digest_of(body)}))
    (folder / "scores.json").write_bytes(canonical_json({"scores": [row]}))
    return folder


def test_two_runs_are_compared_by_their_first_difference_and_their_scores(call, tmp_path):
    runs = write_run(tmp_path / "a", seed=0, value=0.5), write_run(tmp_path / "b", seed=1, value=0.75)
    document = call("compare", *runs, "--json").document
    assert document["first"] == {"kind": "seed", "name": "seed", "first": "0", "second": "1"}
    assert [(row["field"], row["delta"]) for row in document["scores"]] == [("value", 0.25)]
    shown = call("compare", *runs)
    assert shown.code == 0
    assert "first difference: seed seed: 0 -> 1" in shown.out
    assert "0 score(s) are the same, 1 field(s) of scores differ" in shown.out
    assert "the records name no difference" in call("compare", runs[0], runs[0]).out


def test_what_left_an_atlas_is_traced_back_to_it(call, own_atlas, tmp_path):
    out = tmp_path / "b.h5ad"
    before = {run.record_id for run in read_runs(Layout(own_atlas))}
    assert call("snapshot", "export", own_atlas, "--where", "dataset_id = 'birch'", "-o", out).code == 0
    (run,) = [run for run in read_runs(Layout(own_atlas)) if run.record_id not in before]
    assert run.kind == "export"
    tree = call("trace", run.results[0].digest, "--in", own_atlas, "--json").document["tree"]
    assert (tree["role"], tree["name"]) == ("export", "b.h5ad")
    (maker,) = tree["children"]
    assert "snapshot" in {child["role"] for child in maker["children"]}
