"""The commands that look back print trees and tables, and one JSON document where that is asked."""


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
