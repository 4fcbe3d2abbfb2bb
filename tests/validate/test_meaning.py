"""What obeys a schema and does not mean it: each rule of the pack of meaning, on files that only it catches."""

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from cytolabe.flow import delivered
from cytolabe.flow.conform_child import look_through

STORED = {
    "by cells": csr_matrix,
    "by features": csc_matrix,
    "dense": np.asarray,
}
"""How a matrix is stored -> how it is made of an array."""


def found_in(path, *packs):
    return {finding.code: finding for finding in look_through(path, packs or ("cytolabe-2",))}


# --- counts -------------------------------------------------------------------------------------------------------


def with_raw_like(change, store):
    """Return an edit of the counts in raw, stored in a way."""

    def edit(data):
        values = np.asarray(change(data.raw.X.toarray()), dtype=np.float32)
        data.raw = ad.AnnData(X=store(values), obs=data.obs, var=data.raw.var)

    return edit


def ceil_cp10k(counts):
    return np.ceil(counts / counts.sum(axis=1, keepdims=True) * 1e4)


def without_ones(counts):
    return np.where(counts > 0, counts + 1, 0)


def of_one_sum(counts):
    """Fill the first gene of each cell up to 1,000, which leaves genes that were seen once."""
    filled = counts.copy()
    filled[:, 0] = 1000 - counts[:, 1:].sum(axis=1)
    return filled


@pytest.fixture
def pieces(monkeypatch):
    """Read in blocks of a few values and windows of a few cells."""
    for name in ("_ENTRIES", "_WINDOW", "_CELLS"):
        monkeypatch.setattr(delivered, name, 7)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("store", STORED.values(), ids=STORED)
@pytest.mark.parametrize(
    ("change", "evidence", "n_cells"),
    [
        pytest.param(ceil_cp10k, "seen once", 23, id="rounded up"),
        pytest.param(lambda counts: counts * 3, "share a divisor", 23, id="times three"),
        pytest.param(without_ones, "seen once", 23, id="no ones"),
        pytest.param(of_one_sum, "sum to about the same (1,000 to 1,000)", 24, id="one sum"),
    ],
)
def test_whole_numbers_that_were_scaled_are_told_with_what_gives_them_away(change, evidence, n_cells, store, planted):
    finding = found_in(planted(with_raw_like(change, store)))["E-COUNTS-21"]
    assert evidence in finding.message
    assert (finding.n_affected, finding.n_total) == (n_cells, 24)  # one cell has too few genes to tell by them


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("store", STORED.values(), ids=STORED)
def test_counts_are_counts_however_they_are_stored(store, planted):
    assert not {"E-COUNTS-21", "N-COUNTS-24"} & set(found_in(planted(with_raw_like(np.asarray, store))))


def test_a_matrix_in_chunks_that_are_packed_is_read_as_any(edits, tmp_path):
    for store in STORED.values():
        data = edits.valid_data()
        with_raw_like(ceil_cp10k, store)(data)
        data.write_h5ad(tmp_path / "packed.h5ad", compression="gzip")
        assert "E-COUNTS-21" in found_in(tmp_path / "packed.h5ad")


@pytest.mark.usefixtures("pieces")
def test_a_wrong_encoding_and_wrong_values_are_told_in_one_go(planted):
    def halves(counts):
        counts[2, 13] += 0.5
        counts[4] = 0
        counts[7] = counts[5]
        return counts

    found = found_in(planted(with_raw_like(halves, csc_matrix)), "cellxgene-7")
    assert {"E-SPARSE-01", "E-RAW-02", "E-RAW-05", "E-RAW-06"} <= set(found)
    assert "not looked at" not in found["E-SPARSE-01"].message
    right = found_in(planted(with_raw_like(halves, csr_matrix)), "cellxgene-7")
    for code in ("E-RAW-02", "E-RAW-05", "E-RAW-06"):
        assert found[code] == right[code]


def test_values_that_nobody_can_read_are_said_to_be_unread(planted):
    path = planted(lambda _: None)
    with h5py.File(path, "r+") as file:
        file["raw/X"].attrs["encoding-type"] = "coo_matrix"
    found = found_in(path, "cellxgene-7", "cytolabe-2")
    assert "not looked at" in found["E-SPARSE-01"].message
    assert found["N-COUNTS-24"].n_affected == 24


@pytest.mark.parametrize(
    ("part", "change"),
    [
        pytest.param("indptr", lambda values: values[::-1], id="backwards"),
        pytest.param("indptr", lambda values: values + 1, id="beyond its values"),
        pytest.param("indices", lambda values: values + 24, id="cells that are not there"),
    ],
)
def test_a_damaged_matrix_by_features_is_refused(part, change, planted):
    path = planted(with_raw_like(np.asarray, csc_matrix))
    with h5py.File(path, "r+") as file:
        node = file[f"raw/X/{part}"]
        node[...] = change(node[...])
    assert set(found_in(path)) == {"E-MATRIX-02"}
