"""What was fitted on all cells of a delivered file is told of every fold that holds cells of it."""

import dataclasses
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.audit.certificate import certify
from cytolabe.audit.delivered_fits import DELIVERED_FITS, delivered_fits
from cytolabe.audit.leakage import audit_fold
from cytolabe.flow.sources import ingest_sources
from cytolabe.ingest.joint_fits import joint_fits_finding
from cytolabe.records import Fold
from cytolabe.snapshot.atlas import open_atlas


def fold_of(train: np.ndarray, test: np.ndarray) -> Fold:
    return Fold(split_id="f", held_out="x", groups_train=(), groups_test=(), train_rows=train, test_rows=test)


def with_entries(snapshot):
    """Let a snapshot in memory know that a was delivered with fits and b without."""
    found = {"a": joint_fits_finding(["obsm/X_pca", "var/highly_variable"], "a.h5ad", n_cells=6), "b": ()}
    object.__setattr__(snapshot, "entries", {name: SimpleNamespace(findings=told) for name, told in found.items()})
    return snapshot


def test_a_file_that_the_fold_cuts_is_found_and_one_held_out_whole_is_named(overlapping):
    snapshot = with_entries(overlapping(copies=0))
    cut = delivered_fits(snapshot, fold_of(np.arange(0, 12, 2), np.arange(1, 12, 2)))
    (finding,) = cut.findings
    assert (finding.code, cut.test["n_tested"], cut.test["n_found"]) == ("W-LEAK-11", 2, 1)
    assert finding.examples[0].startswith("a (obsm/X_pca, var/highly_variable): train a:")
    (file,) = cut.test["files"]
    assert (file["dataset_id"], file["n_fits"], file["test_cells"]) == ("a", 2, "with training cells")
    whole = delivered_fits(snapshot, fold_of(np.arange(6, 12), np.arange(6)))
    assert (whole.findings, whole.test["n_found"]) == ((), 0)
    assert [one["test_cells"] for one in whole.test["files"]] == ["among themselves"]
    other = delivered_fits(snapshot, fold_of(np.arange(6), np.arange(6, 12)))
    assert (other.test["n_tested"], other.test["files"]) == (1, [])


def test_a_snapshot_that_knows_no_deliveries_calls_nothing_clean(overlapping):
    outcome = delivered_fits(overlapping(copies=0), fold_of(np.arange(6), np.arange(6, 12)))
    assert (outcome.test["n_tested"], outcome.not_testable) == (0, {"fits of delivered files, data sets": 1})


def test_what_ingest_named_in_a_file_stands_in_the_certificate_of_a_fold(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=(60, 40)).astype(np.float32)
    genes = ["CD3D", "CD19", "MS4A1", "NKG7", "LYZ", *(f"RPL{n}" for n in range(3, 38))]
    obs = pd.DataFrame({"cell_type": ["B cell", "T cell"] * 30}, index=[f"c{n}" for n in range(60)])
    adata = anndata.AnnData(csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))
    adata.obsm["X_pca"] = rng.normal(size=(60, 5))
    adata.write_h5ad(tmp_path / "mine.h5ad")
    outcomes, _, _ = ingest_sources(tmp_path / "atlas", [tmp_path / "mine.h5ad"])
    assert outcomes[0].status == "accepted", outcomes[0].findings
    snapshot = open_atlas(tmp_path / "atlas").freeze()
    fold = fold_of(np.arange(0, 60, 2), np.arange(1, 60, 2))
    audit = audit_fold(snapshot, fold, duplicates=None)
    assert "W-LEAK-11" in {finding.code for finding in audit.findings}
    certificate = certify(snapshot, fold, audit=audit, scopes={})
    (test,) = [test for test in certificate.tests if test["test"] == DELIVERED_FITS]
    assert test["files"][0]["examples"] == ["obsm/X_pca"]
    assert dataclasses.asdict(certificate)["digest"] == certificate.digest
