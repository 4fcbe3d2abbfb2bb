"""CITE-seq files: RNA and proteins in one embedding, hidden proteins beside floors, and what is refused."""

import importlib.util
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.errors import RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.flow.omics import embed_omics
from cytolabe.flow.omics_file import AskedOmics, read_omics
from cytolabe.flow.omics_hidden import across
from cytolabe.models.omics import OmicsCells

PROTEINS = ["CD3", "CD19", "isotype"]


SIZES = {"n_hidden": 16, "n_latent": 4, "max_epochs": 2}


@pytest.mark.parametrize("named", ["columns", "uns"])
def test_both_measurements_are_read_with_names_libraries_and_persons(make_cite_file, named):
    cells, _ = read_omics(make_cite_file(named=named), AskedOmics(proteins="adt", batch="batch", person="donor"))
    assert isinstance(cells, OmicsCells)
    assert cells.modalities["protein"].features == tuple(PROTEINS)
    assert cells.modalities["rna"].counts.shape == (160, 300)
    assert sorted(set(cells.batches)) == ["one", "two"]
    assert sorted(set(cells.persons)) == ["d0", "d1", "d2", "d3"]
    alone, _ = read_omics(make_cite_file(), AskedOmics(proteins="adt"))
    assert set(alone.batches) == {"all"}
    assert set(alone.persons) == {"unknown"}


@pytest.mark.parametrize(
    ("asked", "change", "error", "told"),
    [
        ({"proteins": "hto"}, None, UsageError, r"no obsm\['hto'\]; it has adt"),
        ({"batch": "run"}, None, UsageError, "--batch run: obs has no such column; it has batch, donor"),
        ({}, lambda t: t.obsm.__setitem__("adt", np.log1p(t.obsm["adt"])), RefusedError, "of 480 values of proteins are no counts, first .* of CD3 in cell 0"),
        ({}, lambda t: t.obsm.__setitem__("adt", t.obsm["adt"].to_numpy()), UsageError, "which array of uns names the 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_is_there(make_cite_file, asked, change, error, told):
    path = make_cite_file(change=change or (lambda table: None))
    with pytest.raises(error, match=told):
        read_omics(path, AskedOmics(**{"proteins": "adt", **asked}))


@pytest.mark.models
def test_hidden_proteins_are_expected_beside_their_floors(make_cite_file, tmp_path):
    if not importlib.util.find_spec("scvi"):
        pytest.skip("the extra [models] is not installed")
    out = tmp_path / "e.parquet"
    words = [
        "omics",
        str(make_cite_file()),
        "--proteins",
        "adt",
        "--batch",
        "batch",
        "--person",
        "donor",
        "--hold-out",
        "two",
    ]
    sizes = ["--option", "n_hidden=16", "--option", "n_latent=4", "--option", "max_epochs=40"]
    found = CliRunner().invoke(app, [*words, *sizes, "-o", str(out), "--json"])
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert (document["n_train"], document["n_held_out"], document["n_cells"]) == (80, 80, 160)
    assert document["status"] == "QUALIFIED"
    assert document["fit_on_query"] == "unlabelled_query"
    # Each donor of the made-up file stands in both libraries.
    assert (document["n_shared_persons"], document["n_shared_cells"]) == (4, 0)
    assert any("4 of its 4 persons trained the model" in note for note in document["notes"])
    of = {row["protein"]: row for row in document["proteins"]}
    assert list(of) == PROTEINS
    assert of["CD3"]["totalvi_r"] > 0.8
    assert of["CD3"]["regression_r"] > 0.8
    # The floor has no opinion on cells, and an antibody that binds nothing gives nobody one.
    assert abs(of["isotype"]["regression_r"]) < 0.4
    assert of["CD3"]["mean_error"] > of["CD3"]["regression_error"]
    table = pq.read_table(out)
    assert table.column_names[:2] == ["cell_id", "d0"]
    assert table.num_rows == 160


def test_a_library_that_is_not_there_and_an_option_that_is_not_known_are_told(make_cite_file, tmp_path):
    asked = AskedOmics(proteins="adt", batch="batch", held_out="three")
    with pytest.raises(UsageError, match="there are one, two"):
        embed_omics(make_cite_file(), asked, out=tmp_path / "e.parquet")
    with pytest.raises(UsageError, match="totalvi knows learning_rate, max_epochs"):
        embed_omics(make_cite_file(), AskedOmics(proteins="adt", options={"n_hiden": 3}), out=tmp_path / "e.parquet")
    with pytest.raises(UsageError, match="n_latent=0: a number above 0"):
        embed_omics(make_cite_file(), AskedOmics(proteins="adt", options={"n_latent": 0}), out=tmp_path / "e.parquet")


def test_cells_that_stand_in_both_libraries_are_counted(make_cite_file):
    def twice(table):
        counts = table.X.tolil()
        counts[80] = counts[0]
        table.X = csr_matrix(counts)

    cells, _ = read_omics(make_cite_file(change=twice), AskedOmics(proteins="adt", batch="batch"))
    first, second = (cells.take(np.flatnonzero(cells.batches == one)) for one in ("one", "two"))
    shared, doubts = across(first, second, fit_on_query="unlabelled_query")
    assert (shared["n_shared_cells"], shared["n_shared_persons"]) == (1, None)
    assert any("persons unknown" in doubt for doubt in doubts)


def values(path):
    table = pq.read_table(path)
    return np.stack([table[name].to_numpy() for name in table.column_names[1:]], axis=1)


@pytest.mark.models
def test_a_stored_model_answers_in_the_place_of_a_training(make_cite_file, tmp_path):
    pytest.importorskip("scvi", reason="the extra [models] is not installed")
    path, folder, asked = make_cite_file(), tmp_path / "model", {"proteins": "adt", "batch": "batch", "held_out": "two"}
    first, again = tmp_path / "first.parquet", tmp_path / "again.parquet"
    words = ["omics", str(path), "--proteins", "adt", "--batch", "batch", "--hold-out", "two", "--json"]
    sizes = [word for name, value in SIZES.items() for word in ("--option", f"{name}={value}")]
    runner = CliRunner()
    found = runner.invoke(app, [*words, *sizes, "--save", str(folder), "-o", str(first)])
    assert found.exit_code == 0, found.stderr
    answered = runner.invoke(app, [*words, "--model", str(folder), "-o", str(again)])
    assert answered.exit_code == 0, answered.stderr
    trained, stored = json.loads(found.stdout), json.loads(answered.stdout)
    assert stored["proteins"] == trained["proteins"]
    assert first.read_bytes() == again.read_bytes()
    told = {name.decode(): value.decode() for name, value in pq.read_schema(first).metadata.items()}
    assert {
        "layer",
        "pooling",
        "precision",
        "weights",
        "dictionary.genes",
        "dictionary.proteins",
        "max_length",
        "seed",
    } < set(told)
    assert told["card"] == trained["card"] == stored["card"]
    card = json.loads((folder / "model_card.json").read_bytes())
    assert card["card"]["weights_digest"] == trained["weights"] == stored["weights"]
    assert (trained["n_train"], stored["n_train"], stored["mapped"]) == (80, 80, ["two"])
    # A second file: the library that the model never saw, its antibodies in another order and one more.
    second = make_cite_file(name="second", change=_second_library)
    answer, _ = embed_omics(second, AskedOmics(proteins="adt", batch="batch", model=folder), out=again)
    assert (answer["mapped"], answer["fit_on_query"], answer["n_cells"]) == (["two"], "unlabelled_query", 160)
    assert any("1 proteins of the file are not read by the model: CD8" in note for note in answer["notes"])
    before = values(again)
    embed_omics(second, AskedOmics(proteins="adt", batch="batch", model=folder), out=first)
    np.testing.assert_array_equal(values(first), before)
    for change, error, said in (
        ({"options": SIZES}, UsageError, "--option does not go with --model"),
        ({"seed": 3}, UsageError, "--seed does not go with --model"),
        ({"save": tmp_path / "new"}, UsageError, "--save does not go with --model"),
        ({"held_out": "one"}, UsageError, "the model learned from a library of that name"),
    ):
        with pytest.raises(error, match=said):
            embed_omics(path, AskedOmics(**{**asked, "model": folder, **change}), out=again)
    with pytest.raises(UsageError, match="something lies there"):
        embed_omics(path, AskedOmics(**asked, save=folder), out=again)
    lacking = make_cite_file(
        name="third", change=lambda t: t.obsm.__setitem__("adt", t.obsm["adt"][["CD3", "isotype"]])
    )
    with pytest.raises(UnmeasuredGeneError, match="1 of 3 proteins of the model were not measured here: CD19"):
        embed_omics(lacking, AskedOmics(proteins="adt", batch="batch", model=folder), out=again)
    with pytest.raises(UsageError, match="the other 80 cells of the file are not those that the model was trained on"):
        embed_omics(make_cite_file(name="fourth", change=_one_count_more), AskedOmics(**asked, model=folder), out=again)
    same, _ = embed_omics(path, AskedOmics(proteins="adt", batch="batch", model=folder), out=again)
    assert any("read as of the same libraries by their names: one" in note for note in same["notes"])


@pytest.mark.models
def test_a_file_that_names_no_library_is_not_taken_for_that_of_the_training(make_cite_file, tmp_path):
    pytest.importorskip("scvi", reason="the extra [models] is not installed")
    out, folder, path = tmp_path / "e.parquet", tmp_path / "model", make_cite_file()
    embed_omics(path, AskedOmics(proteins="adt", options=SIZES, save=folder), out=out)
    before = values(out)
    embed_omics(path, AskedOmics(proteins="adt", model=folder), out=out)
    np.testing.assert_array_equal(values(out), before)
    with pytest.raises(UsageError, match="not the one that the model was trained on, and neither names its libraries"):
        embed_omics(
            make_cite_file(name="other", change=_one_count_more), AskedOmics(proteins="adt", model=folder), out=out
        )


def _second_library(table):
    proteins = table.obsm["adt"]
    table.obsm["adt"] = proteins.assign(CD8=1.0)[["isotype", "CD8", "CD19", "CD3"]]
    table.obs["batch"] = "two"


def _one_count_more(table):
    counts = table.X.tolil()
    counts[5, 7] += 1
    table.X = csr_matrix(counts)
