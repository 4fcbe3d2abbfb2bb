"""Steps that were fitted on all cells of a delivered file are told by their names, and measurements are not."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.ingest.joint_fits import joint_fits
from cytolabe.ingest.source import open_source
from cytolabe.records import Severity


def written(path, **parts):
    counts = csr_matrix(np.random.default_rng(0).poisson(2, size=(8, 5)).astype(np.float32))
    var = pd.DataFrame(parts.pop("var", {}), index=[f"ENSG0000000000{n}" for n in range(5)])
    obs = pd.DataFrame(index=[f"c{n}" for n in range(8)])
    anndata.AnnData(X=counts, obs=obs, var=var, **parts).write_h5ad(path)
    return path


def told(path):
    with open_source(path) as source:
        return [finding for finding in source.findings if finding.code == "N-H5AD-03"]


def test_a_file_that_carries_its_analysis_says_on_how_many_cells_it_was_fitted(tmp_path):
    path = written(
        tmp_path / "a.h5ad", var={"highly_variable": [True] * 5}, obsm={"X_pca": np.ones((8, 2)), "spatial": np.ones((8, 2))},
        obsp={"connectivities": csr_matrix(np.eye(8))}, layers={"scaled": np.ones((8, 5))}, uns={"neighbors": {}, "title": "x"},
    )  # fmt: skip
    (finding,) = told(path)
    assert (finding.severity, finding.n_affected) == (Severity.NOTE, 5)
    assert "here 8" in finding.message
    assert set(finding.examples) == {
        "layers/scaled", "obsm/X_pca", "obsp/connectivities", "uns/neighbors", "var/highly_variable"
    }  # fmt: skip
    assert "cannot come back" in finding.message


def test_a_file_of_counts_and_measurements_alone_says_nothing(tmp_path):
    path = written(
        tmp_path / "a.h5ad", var={"feature_name": list("abcde")}, obsm={"X_spatial": np.ones((8, 2)), "protein_counts": np.ones((8, 3))},
        layers={"counts": np.ones((8, 5)), "spliced": np.ones((8, 5))}, uns={"title": "x"},
    )  # fmt: skip
    assert told(path) == []


@pytest.mark.parametrize(
    ("part", "name"),
    [("obsm", "X_umap"), ("obsm", "X_scVI"), ("obsm", "X_pca_harmony"), ("obsp", "distances"), ("varm", "PCs"),
     ("layers", "scale"), ("layers", "MAGIC_imputed"), ("layers", "batch_corrected"), ("uns", "pca"), ("uns", "hvg"),
     ("var", "dispersions_norm")],
)  # fmt: skip
def test_the_names_that_tools_give_are_known(part, name):
    assert joint_fits(part, [name]) == (f"{part}/{name}",)


@pytest.mark.parametrize(
    ("part", "name"),
    [("layers", "log1p_norm"), ("layers", "unspliced"), ("uns", "schema_version"), ("uns", "cell_type_colors"),
     ("var", "feature_is_filtered"), ("obsm", "ADT")],
)  # fmt: skip
def test_what_one_cell_gives_by_itself_is_no_fit(part, name):
    assert joint_fits(part, [name]) == ()
