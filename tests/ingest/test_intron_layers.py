"""Layers of introns and exons: their totals per cell are kept, whatever matrix holds the counts, and no smoothed one is."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.ingest.counts import find_counts
from cytolabe.ingest.intron_layers import intron_layers, with_layer_counts
from cytolabe.ingest.source import open_source

GENES = ["CD3D", "CD3E", "CD4", "CD8A", "MS4A1", "ACTB", "GAPDH", "MALAT1"]


def written(path, *, layers, scale=1.0):
    rng = np.random.default_rng(5)
    made = {name: rng.poisson(2.0, size=(30, len(GENES))).astype(np.float32) for name in layers}
    x = sum(made.values()) if made else rng.poisson(3.0, size=(30, len(GENES)))
    data = anndata.AnnData(csr_matrix(np.asarray(x, dtype=np.float32)), var=pd.DataFrame(index=GENES))
    for name, counts in made.items():
        data.layers[name] = csr_matrix(counts * scale)
    data.write_h5ad(path)
    return made


def proven(path, **declared):
    with open_source(path) as opened:
        return find_counts(opened, **declared)


@pytest.mark.parametrize("pair", [("unspliced", "spliced"), ("nascent", "mature"), ("Intronic", "Exonic")])
def test_the_totals_of_both_layers_are_those_of_an_independent_sum(pair, tmp_path):
    made = written(tmp_path / "a.h5ad", layers=[*pair, "ambiguous"])
    found = proven(tmp_path / "a.h5ad").layer_counts
    assert list(found) == ["unspliced", "spliced"]
    for role, name in zip(found, pair, strict=True):
        np.testing.assert_array_equal(found[role], made[name].sum(axis=1))


def test_a_declared_matrix_does_not_hide_the_layers(tmp_path):
    made = written(tmp_path / "a.h5ad", layers=["unspliced", "spliced"])
    proof = proven(tmp_path / "a.h5ad", declared="X")
    assert [candidate.name for candidate in proof.candidates] == ["X"]
    np.testing.assert_array_equal(proof.layer_counts["spliced"], made["spliced"].sum(axis=1))


def test_smoothed_layers_tell_no_nuclear_fraction_and_that_is_said(tmp_path):
    written(tmp_path / "a.h5ad", layers=["unspliced", "spliced"], scale=0.3)
    proof = proven(tmp_path / "a.h5ad")
    assert proof.matrix == "X"
    assert proof.layer_counts == {}
    assert [finding.code for finding in proof.findings].count("N-COUNTS-12") == 1


def test_layers_that_are_damaged_refuse_no_declared_matrix(tmp_path):
    written(tmp_path / "a.h5ad", layers=["unspliced", "spliced"])
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        file["layers/spliced/indptr"][3] = 10_000
    proof = proven(tmp_path / "a.h5ad", declared="X")
    assert (proof.matrix, proof.layer_counts) == ("X", {})
    [told] = [finding for finding in proof.findings if finding.code == "N-COUNTS-12"]
    assert "cannot be read" in told.message


def test_one_layer_of_the_two_is_no_pair(tmp_path):
    written(tmp_path / "a.h5ad", layers=["spliced"])
    assert proven(tmp_path / "a.h5ad").layer_counts == {}
    assert intron_layers(["X", "unspliced", "spliced"]) is None  # no layers, though they are called so
    assert intron_layers(["layers/spliced", "layers/nascent"]) is None


def test_layers_whose_names_differ_only_in_case_tell_nothing_and_that_is_said(tmp_path):
    written(tmp_path / "a.h5ad", layers=["Spliced", "spliced", "unspliced"])
    found = proven(tmp_path / "a.h5ad")
    assert found.layer_counts == {}
    [told] = [finding for finding in found.findings if finding.code == "N-COUNTS-12"]
    assert "layers/unspliced, layers/Spliced and layers/spliced have names that differ only in case" in told.message


def test_a_column_of_the_contributor_with_that_name_stays_as_it_is():
    table = pd.DataFrame({"layer_counts.spliced": [7, 8]})
    kept = with_layer_counts(table, {"unspliced": np.array([1, 2]), "spliced": np.array([3, 4])})
    assert kept["layer_counts.spliced"].tolist() == [7, 8]
    assert kept["layer_counts.unspliced"].tolist() == [1, 2]
    assert list(table) == ["layer_counts.spliced"]
    assert with_layer_counts(table, {}) is table
