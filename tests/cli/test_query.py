"""snapshot query: SQL and filters from the command line, and cells taken out."""

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr


def test_a_select_prints_a_document_or_a_table(call, frozen):
    sql = "SELECT dataset_id, count(*) AS n, avg(n_counts) > 0 AS ok FROM cells GROUP BY ALL ORDER BY dataset_id"
    document = call("snapshot", "query", frozen, sql, "--json").document
    assert document["columns"] == ["dataset_id", "n", "ok"]
    assert [row[0] for row in document["rows"]] == ["amber", "birch", "elm"]
    assert sum(row[1] for row in document["rows"]) == 480
    assert document["is_cut"] is False
    assert "amber" in call("snapshot", "query", frozen, sql).out


def test_parameters_are_numbers_or_texts(call, frozen):
    sql = "SELECT $a AS a, $b AS b, $c AS c, sum(n_counts) > 0 AS d FROM cells"
    called = call("snapshot", "query", frozen, sql, "--param", "a=5", "--param", "b='5'", "--param", "c=x=y", "--json")
    assert called.document["rows"] == [[5, "5", "x=y", True]]
    assert call("snapshot", "query", frozen, "SELECT 1", "--param", "nonsense").code == 2


def test_long_answers_are_cut_with_a_word(call, frozen):
    document = call("snapshot", "query", frozen, "SELECT cell_id FROM cells", "--limit", "7", "--json").document
    assert (document["n_rows"], document["is_cut"]) == (7, True)
    assert "first 7 rows" in call("snapshot", "query", frozen, "SELECT cell_id FROM cells", "--limit", "7").err
    whole = call("snapshot", "query", frozen, "SELECT cell_id FROM cells", "--limit", "0", "--json").document
    assert (whole["n_rows"], whole["is_cut"]) == (480, False)


def test_a_filter_counts_cells(call, frozen):
    document = call("snapshot", "query", frozen, "--where", "dataset_id in ('amber', 'elm')", "--json").document
    assert {row["dataset_id"] for row in document["datasets"]} == {"amber", "elm"}
    assert document["n_cells"] == sum(row["n_cells"] for row in document["datasets"])


def test_no_match_says_what_there_is(call, frozen):
    called = call("snapshot", "query", frozen, "--where", "dataset_id = 'ambre'")
    assert called.code == 0
    assert "0 cells match" in called.out
    assert "Did you mean 'amber'?" in called.out


def test_anything_but_a_select_is_a_usage_error(call, frozen):
    for sql in ("COPY cells TO 'x'", "SELECT * FROM read_text('/etc/hostname')", "SELECT nothing FROM cells"):
        assert call("snapshot", "query", frozen, sql, "--json").code == 2
    assert call("snapshot", "query", frozen).code == 2
    assert "^" in call("snapshot", "query", frozen, "--where", "tisue = 'a'").err


def test_export_writes_a_file_with_its_origin(call, frozen, tmp_path):
    where = "dataset_id = 'amber' and n_counts >= 1"
    called = call("snapshot", "export", frozen, "-o", tmp_path / "out" / "x.h5ad", "--where", where, "--json")
    assert called.code == 0
    found = anndata.read_h5ad(tmp_path / "out" / "x.h5ad")
    assert called.document["n_cells"] == found.n_obs > 0
    assert called.document["n_genes"] == found.n_vars
    assert called.document["snapshot_id"] == found.uns["snapshot_id"]
    genes = tmp_path / "genes.txt"
    genes.write_text("\n".join(found.var_names[:3]) + "\n")
    # The names of some twenty genes are longer than that of any file may be.
    many = ("--where", where, "--genes", ",".join(found.var_names[:40]))
    assert call("snapshot", "export", frozen, "-o", tmp_path / "many.h5ad", *many, "--json").document["n_genes"] == 40
    for words in (str(genes), ",".join(found.var_names[:3])):
        name = tmp_path / f"{len(words)}.zarr"
        assert call("snapshot", "export", frozen, "-o", name, "--genes", words, "--json").document["n_genes"] == 3


def test_export_of_no_cell_stops_at_once(call, frozen, tmp_path):
    called = call("snapshot", "export", frozen, "-o", tmp_path / "x.h5ad", "--where", "dataset_id = 'ambre'", "--json")
    assert called.code == 1
    assert "0 cells match" in called.document["error"]["message"]
    assert not (tmp_path / "x.h5ad").exists()
    assert call("snapshot", "export", frozen, "-o", tmp_path / "x.csv").code == 2


def test_an_embedding_is_a_store_or_a_table_of_the_same_values(call, frozen, split_file, tmp_path):
    words = ("--split", split_file, "--fold", "1", "--json")
    table = call("embed", "pca", frozen, *words, "-o", tmp_path / "pca.parquet")
    store = call("embed", "pca", frozen, *words, "-o", tmp_path / "pca.zarr")
    assert table.code == store.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pca.parquet", "pca.zarr"]
    assert {**table.document, "embedding": ""} == {**store.document, "embedding": ""}
    group = zarr.open_group(tmp_path / "pca.zarr", mode="r")
    frame = pd.read_parquet(tmp_path / "pca.parquet")
    n_covered, total = 0, np.zeros(store.document["n_dims"])
    for name, values in group["values"].arrays():
        is_covered = group[f"covered/{name}"][:] == 1
        n_covered += int(is_covered.sum())
        total += values[:][is_covered].astype(np.float64).sum(axis=0)
    assert n_covered == len(frame) == store.document["n_cells"]
    np.testing.assert_allclose(total, frame.drop(columns="cell_id").astype(np.float64).sum(), atol=1e-3)
    assert group.attrs["split_id"] == store.document["split_id"]
    again = call("embed", "pca", frozen, *words, "-o", tmp_path / "pca.zarr")
    assert again.document == store.document
    other = call("embed", "pca", frozen, *words, "--seed", "5", "-o", tmp_path / "pca.zarr")
    assert other.code == 5


def test_a_checkpoint_that_is_not_there_is_named_before_a_cell_is_read(call, frozen, split_file, tmp_path):
    pytest.importorskip("torch", reason="the [models] extra is not installed")
    words = ("--split", split_file, "--fold", "1", "--json", "-o", tmp_path / "e.parquet")
    called = call("embed", "scgpt", frozen, *words, "--checkpoint", tmp_path / "human", "--expect", "sha256:0")
    assert called.code == 2
    assert "args.json" in called.document["error"]["message"]
    without = call("embed", "scgpt", frozen, *words)
    assert without.code == 2
    assert "scgpt needs the option(s) checkpoint" in without.document["error"]["message"]
    assert (
        "pca has no option 'checkpoint'"
        in (call("embed", "pca", frozen, *words, "--checkpoint", tmp_path).document["error"]["message"])
    )


def test_a_bound_on_memory_without_a_unit_or_that_is_too_small_says_what_to_write(call, frozen):
    bare = call("snapshot", "query", frozen, "SELECT 1", "--memory", "10")
    assert bare.code == 2
    assert "--memory 10GB" in bare.err
    small = call("snapshot", "query", frozen, "SELECT 1", "--memory", "10KB")
    assert small.code == 2
    assert "64MiB or more" in small.err
    assert call("snapshot", "query", frozen, "SELECT 1 AS one", "--memory", "1GB").code == 0
