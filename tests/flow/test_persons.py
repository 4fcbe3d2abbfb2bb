"""The persons of an atlas are reviewed on a sheet, and the next snapshot has them."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.flow.interpret import interpret_persons
from cytolabe.flow.persons import review_persons
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.reconcile.sex_genes import SEX_GENES
from cytolabe.snapshot.atlas import open_atlas


@pytest.fixture
def atlas(made, tmp_path):
    """Return an atlas of its own for each test, because reviews change who is who."""
    return shutil.copytree(made, tmp_path / "atlas")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two studies with a donor D1 each, a woman and a man, on more genes than a panel has."""
    folder = tmp_path_factory.mktemp("persons")
    sides = SEX_GENES["Homo sapiens"]
    chosen = {*sides["x"], *sides["y"]}
    genes = sorted(chosen) + sorted(set(load_reference().protein_coding) - chosen)[:5_100]
    rng = np.random.default_rng(3)
    for name, silent in (("a", "y"), ("b", "x")):
        counts = rng.negative_binomial(0.6, 0.25, size=(40, len(genes))).astype(np.float32)
        counts[:, [gene in sides[silent] for gene in genes]] = 0
        obs = pd.DataFrame({"cell_type": "B cells", "donor_id": np.where(np.arange(40) < 20, "D1", "D2")})
        obs.index = [f"{name}{number}" for number in range(40)]
        contribution = anndata.AnnData(X=csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))
        contribution.write_h5ad(folder / f"{name}.h5ad")
    ingest_sources(folder / "atlas", [folder])
    opened = open_atlas(folder / "atlas")
    interpret_persons(opened)
    opened.freeze()
    return folder / "atlas"


def test_sex_genes_of_the_pseudobulk_tell_one_name_of_two_studies_apart(atlas):
    opened = open_atlas(atlas)
    found = review_persons(opened, opened.snapshot("latest"))
    told = found.sheet.set_index(["dataset_id", "donor_id"])["sex_genes"].str.partition(":")[0]
    assert told.to_dict() == {("a", "D1"): "female", ("a", "D2"): "female", ("b", "D1"): "male", ("b", "D2"): "male"}
    alike = found.pairs[found.pairs["suspicion"] != ""]
    assert alike["state"].tolist() == ["different", "different"]
    assert not found.findings


def test_a_reviewed_sheet_is_in_force_and_a_contradiction_is_told(atlas, tmp_path):
    opened = open_atlas(atlas)
    path = tmp_path / "persons.tsv"
    sheet = review_persons(opened, opened.snapshot("latest"), export=path).sheet
    lines = path.read_text().splitlines()
    assert len(lines) == len(sheet) + 1
    place = lines[0].split("\t")
    for number, line in enumerate(lines):
        cells = line.split("\t")
        if cells[place.index("donor_id")] == "D1":
            cells[place.index("person_id")], cells[place.index("reviewer")] = "person-1", "Ann"
            lines[number] = "\t".join(cells)
    path.write_text("\n".join(lines) + "\n")
    found = review_persons(opened, opened.snapshot("latest"), reviewed=path)
    assert [finding.code for finding in found.findings if finding.code == "W-PERSON-06"] == ["W-PERSON-06"]
    frozen = open_atlas(atlas).freeze()
    persons = frozen.cells.groupby(["dataset_id", "donor_id"])["person_id"].first()
    assert persons[("a", "D1")] == persons[("b", "D1")] == "person-1"
    assert persons[("a", "D2")] != persons[("b", "D2")]
