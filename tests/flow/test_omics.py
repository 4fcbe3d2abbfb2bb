"""CITE-seq files: RNA and proteins in one embedding, hidden proteins beside floors, and what is refused."""

import importlib.util
import json

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow import omics
from cytolabe.flow.omics import AskedOmics, embed_omics, read_omics
from cytolabe.genes.reference import load_reference
from cytolabe.models.omics import OmicsCells

PROTEINS = ["CD3", "CD19", "isotype"]


@pytest.fixture
def make_file(tmp_path):
    """Return a writer of a file of two libraries, whose second one stained more weakly."""

    def make(*, named="columns", change=lambda table: None):
        rng = np.random.default_rng(3)
        kind = np.arange(160) % 2
        library = np.arange(160) // 80
        genes = sorted(load_reference().protein_coding)[:300]
        marks = np.where(kind[:, None] == 0, np.arange(300) < 60, np.arange(300) >= 240)
        rna = rng.poisson(rng.lognormal(0, 0.3, (160, 1)) * (0.3 + 1.5 * marks))
        protein = rng.poisson(
            np.stack([np.where(kind == 0, 80, 4), np.where(kind == 1, 60, 3), np.full(160, 3)], axis=1)
        )
        protein = np.where(library[:, None] == 1, protein // 2, protein).astype(np.float32)
        obs = pd.DataFrame({"batch": np.array(["one", "two"])[library], "donor": [f"d{n % 4}" for n in range(160)]})
        obs.index = [f"cell{n}" for n in range(160)]
        table = anndata.AnnData(X=csr_matrix(rna, dtype=np.float32), obs=obs, var=pd.DataFrame(index=genes))
        table.obsm["adt"] = pd.DataFrame(protein, index=obs.index, columns=PROTEINS) if named == "columns" else protein
        if named == "uns":
            table.uns["protein_names"] = np.array(PROTEINS)
        change(table)
        path = tmp_path / "cite.h5ad"
        table.write_h5ad(path)
        return path

    return make


@pytest.mark.parametrize("named", ["columns", "uns"])
def test_both_measurements_are_read_with_names_libraries_and_persons(make_file, named):
    cells = read_omics(make_file(named=named), AskedOmics(proteins="adt", batch="batch", person="donor"))
    assert isinstance(cells, OmicsCells)
    assert cells.modalities["protein"].features == tuple(PROTEINS)
    assert cells.modalities["rna"].counts.shape == (160, 300)
    assert sorted(set(cells.batches)) == ["one", "two"]
    assert sorted(set(cells.persons)) == ["d0", "d1", "d2", "d3"]
    alone = read_omics(make_file(), AskedOmics(proteins="adt"))
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
def test_what_cannot_be_read_says_what_is_there(make_file, asked, change, error, told):
    path = make_file(change=change or (lambda table: None))
    with pytest.raises(error, match=told):
        read_omics(path, AskedOmics(**{"proteins": "adt", **asked}))


@pytest.mark.models
def test_hidden_proteins_are_expected_beside_their_floors(make_file, tmp_path):
    if not importlib.util.find_spec("scvi"):
        pytest.skip("the extra [models] is not installed")
    out = tmp_path / "e.parquet"
    words = [
        "omics",
        str(make_file()),
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


def test_a_library_that_is_not_there_and_an_option_that_is_not_known_are_told(make_file, tmp_path):
    asked = AskedOmics(proteins="adt", batch="batch", held_out="three")
    with pytest.raises(UsageError, match="there are one, two"):
        embed_omics(make_file(), asked, out=tmp_path / "e.parquet")
    with pytest.raises(UsageError, match="totalvi knows learning_rate, max_epochs"):
        embed_omics(make_file(), AskedOmics(proteins="adt", options={"n_hiden": 3}), out=tmp_path / "e.parquet")
    with pytest.raises(UsageError, match="n_latent=0: a number above 0"):
        embed_omics(make_file(), AskedOmics(proteins="adt", options={"n_latent": 0}), out=tmp_path / "e.parquet")


def test_cells_that_stand_in_both_libraries_are_counted(make_file):
    def twice(table):
        counts = table.X.tolil()
        counts[80] = counts[0]
        table.X = csr_matrix(counts)

    cells = read_omics(make_file(change=twice), AskedOmics(proteins="adt", batch="batch"))
    first, second = (cells.take(np.flatnonzero(cells.batches == one)) for one in ("one", "two"))
    across, doubts = omics._across(first, second)
    assert (across["n_shared_cells"], across["n_shared_persons"]) == (1, None)
    assert any("persons unknown" in doubt for doubt in doubts)
