import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.ingest.counts import find_counts
from cytolabe.ingest.h5ad import open_h5ad


def proof_of(path):
    with open_h5ad(path) as source:
        return find_counts(source)


def codes(proof):
    return [finding.code for finding in proof.findings]


def totals(counts):
    return np.asarray(counts.sum(axis=1)).ravel()


def test_counts_that_sctransform_corrected_are_no_raw_counts(write, make_adata, counts):
    raw = totals(counts) * 2
    adata = make_adata(counts, nCount_RNA=raw, nCount_SCT=totals(counts))
    proof = proof_of(write(adata))
    assert (proof.matrix, codes(proof)) == ("", ["E-COUNTS-02"])
    assert "nCount_SCT" in proof.findings[0].message
    adata.layers["counts"] = counts * 2
    adata.obs["nCount_RNA"] = totals(counts * 2)
    beside = proof_of(write(adata, "beside.h5ad"))
    assert "nCount_SCT" not in str([f.message for f in beside.findings if f.where == "layers/counts"])


def test_totals_that_correction_left_as_they_were_prove_nothing(write, make_adata, counts):
    proof = proof_of(write(make_adata(counts, nCount_RNA=totals(counts), nCount_SCT=totals(counts))))
    assert (proof.matrix, codes(proof)) == ("X", [])


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("Antibody Capture", ["E-FEATURE-04"]),
        ("Peaks", ["E-FEATURE-04"]),
        ("CRISPR Guide Capture", ["E-FEATURE-04"]),
        ("protein_coding", []),
        ("Gene Expression", []),
    ],
)
def test_molecules_that_are_no_genes_are_refused_and_biotypes_are_not(write, make_adata, counts, *, kind, code):
    adata = make_adata(counts)
    adata.var["feature_types"] = ["Gene Expression"] * 50 + [kind] * 10
    proof = proof_of(write(adata))
    assert codes(proof) == code
    if code:
        assert f"{kind} (10)" in proof.findings[0].message


def test_counts_with_named_genes_go_before_counts_without(write, make_adata, counts, edit):
    path = write(make_adata(counts))
    with edit(path) as file:
        file.copy("X", "raw/X")
    proof = proof_of(path)
    assert proof.matrix == "X"
    assert codes(proof) == ["W-COUNTS-03"]
    assert "share no name" in proof.findings[0].message


def test_a_layer_that_was_logged_together_with_x_is_called_an_alias(write, make_adata, counts):
    logged = csr_matrix(np.log1p(counts.toarray() / totals(counts)[:, None] * 1e4))
    adata = make_adata(logged)
    adata.layers["counts"] = logged.copy()
    proof = proof_of(write(adata))
    assert "X: holds the same values as layers/counts" in proof.findings[0].message
