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


# --- donors -------------------------------------------------------------------------------------------------------


def test_a_file_of_one_donor_says_that_nothing_can_be_held_out_by_person(edits, planted, variant):
    finding = found_in(planted(edits.with_column("donor_id", "donor_1")))["N-DONOR-03"]
    assert (finding.n_affected, finding.examples) == (24, ("donor_1",))
    assert "N-DONOR-03" not in found_in(variant("valid"))


# --- labels -------------------------------------------------------------------------------------------------------

NUMBERS = np.arange(24)
LABELS = NUMBERS % 3
"""Of the cells of the valid file, whose ids repeat every three cells."""


def deviating(n_cells):
    return [f"p{(label + 1) % 3 if row < n_cells else label}" for row, label in enumerate(LABELS)]


def authors_alone(data):
    data.obs["author_cell_type"] = [("B cell", "T cell", "monocyte")[label] for label in LABELS]
    del data.obs["cell_type_ontology_term_id"]


@pytest.mark.parametrize(
    ("values", "is_category", "n_told"),
    [
        pytest.param([f"c{label}_{row % 2}" for row, label in zip(NUMBERS, LABELS, strict=True)], True, 24, id="finer"),
        pytest.param(LABELS, False, 24, id="integers"),
        pytest.param(LABELS.astype(float), False, 24, id="floats"),
        pytest.param([f"p{label}" for label in LABELS], False, 24, id="text"),
        pytest.param(deviating(1), True, 23, id="one cell deviates"),
    ],
)
def test_a_column_that_tells_the_label_is_told(values, is_category, n_told, edits, planted):
    column = edits.with_column("plate", values, category=is_category)
    finding = found_in(planted(column))["W-CLASS-09"]
    assert (finding.where, finding.n_affected, finding.n_total) == ("obs['plate']", n_told, 24)
    of_authors = found_in(planted(edits.all_of(authors_alone, column)))["W-CLASS-09"]
    assert (of_authors.where, "author_cell_type" in of_authors.message) == ("obs['plate']", True)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([f"x{row}" for row in NUMBERS], id="one for each cell"),
        pytest.param(["x0" if row in {0, 3} else f"x{row}" for row in NUMBERS], id="one for nearly each cell"),
        pytest.param(["x"] * 24, id="one for all cells"),
        pytest.param([f"p{row % 2}" for row in NUMBERS], id="of something else"),
        pytest.param(deviating(3), id="three cells deviate"),
        pytest.param([f"p{min(label, 1)}" for label in LABELS], id="coarser"),
    ],
)
def test_a_column_that_does_not_tell_the_label_is_not_told(values, edits, planted):
    assert "W-CLASS-09" not in found_in(planted(edits.with_column("plate", values)))


def test_names_beside_ids_and_labels_of_authors_may_tell_the_label(planted):
    def named(data):
        data.obs["cell_type"] = [("B cell", "T cell", "monocyte")[label] for label in LABELS]
        data.obs["author_cell_type"] = [f"{label} of {row % 2}" for row, label in zip(NUMBERS, LABELS, strict=True)]
        data.obs["Annotation_fine"] = data.obs["author_cell_type"]

    assert "W-CLASS-09" not in found_in(planted(named))


def test_columns_of_many_levels_are_not_counted_to_their_end(planted):
    def unique(data):
        data.obs["barcode"] = [f"x{row}" for row in NUMBERS]

    with delivered.open_delivered(planted(unique), with_matrices=False) as file:
        assert file.obs.count_up_to(("barcode",), 23) is None
        assert len(file.obs.count_up_to(("barcode", "donor_id"), 24)) == 24
        assert file.obs.count_up_to(("barcode", "donor_id"), 23) is None


@pytest.mark.parametrize(
    ("author", "code"),
    [
        pytest.param("cell", "W-CLASS-06", id="a cell"),
        pytest.param(" Cells", "W-CLASS-06", id="cells"),
        pytest.param("Unassigned", "W-CLASS-03", id="unassigned"),
        pytest.param("unknown", "W-CLASS-03", id="unknown"),
        pytest.param("T cell", None, id="a type"),
    ],
)
def test_labels_of_authors_that_say_nothing_are_told(author, code, edits, planted):
    labels = edits.all_of(edits.without("cell_type_ontology_term_id"), edits.with_column("author_cell_type", author))
    assert {"W-CLASS-06", "W-CLASS-03"} & set(found_in(planted(labels))) == ({code} if code else set())


def test_ids_that_say_something_are_labels_beside_a_column_that_does_not(edits, planted):
    assert "W-CLASS-03" not in found_in(planted(edits.with_column("author_cell_type", "unknown")))


def test_a_cell_line_lacks_no_label(variant):
    assert "W-CLASS-03" not in found_in(variant("valid: a cell line"))


# --- statements that exclude each other ---------------------------------------------------------------------------

TISSUE, SEX, TYPE = "tissue_ontology_term_id", "sex_ontology_term_id", "cell_type_ontology_term_id"
ASSAY, SUSPENSION, DONOR = "assay_ontology_term_id", "suspension_type", "donor_id"
FEMALE, MALE = "PATO:0000383", "PATO:0000384"


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        pytest.param({TYPE: "CL:0000233", SUSPENSION: "nucleus"}, "without a nucleus", id="a platelet among nuclei"),
        pytest.param({TISSUE: "UBERON:0000473", SEX: FEMALE}, "of males", id="testis"),
        pytest.param({TISSUE: "UBERON:0002367", SEX: FEMALE}, "of males", id="prostate"),
        pytest.param({TISSUE: "UBERON:0000992", SEX: MALE}, "of females", id="ovary"),
        pytest.param({TISSUE: "UBERON:0000995", SEX: MALE}, "of females", id="uterus"),
        pytest.param({DONOR: "na"}, "a tissue has a donor", id="no donor of a tissue"),
        pytest.param({DONOR: "pooled"}, "no one sex", id="the sex of a pool"),
        pytest.param(
            {ASSAY: "EFO:0030002", SUSPENSION: "nucleus"}, "works on cell,", id="nuclei for an assay of cells"
        ),
        pytest.param(
            {ASSAY: "EFO:0008720", SUSPENSION: "cell"}, "works on nucleus,", id="cells for an assay of nuclei"
        ),
        pytest.param({ASSAY: "EFO:0009922", SUSPENSION: "na"}, "works on cell or nucleus,", id="no suspension in 10x"),
        pytest.param({ASSAY: "EFO:0008992", SUSPENSION: "cell"}, "works on na,", id="a suspension in MERFISH"),
        pytest.param({TYPE: "CL:0000182", TISSUE: "UBERON:0000956"}, "another organ", id="a hepatocyte in the cortex"),
        pytest.param(
            {TYPE: "CL:0000121", TISSUE: "UBERON:0001114"}, "another organ", id="a Purkinje cell in the liver"
        ),
    ],
)
def test_statements_that_exclude_each_other_are_told(columns, word, edits, planted):
    (first, value), *more = columns.items()
    found = look_through(planted(edits.with_some(first, value, **dict(more))), ("cytolabe-2",))
    contradictions = [finding for finding in found if finding.code == "W-MEANING-01"]
    assert [(finding.n_affected, word in finding.message) for finding in contradictions] == [(4, True)]


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({TISSUE: "UBERON:0000473", SEX: MALE}, id="testis of a male"),
        pytest.param({TISSUE: "UBERON:0000992", SEX: FEMALE}, id="ovary of a female"),
        pytest.param({ASSAY: "EFO:0009922", SUSPENSION: "nucleus"}, id="nuclei in 10x"),
        pytest.param({ASSAY: "EFO:0008720", SUSPENSION: "nucleus"}, id="nuclei for an assay of nuclei"),
        pytest.param({TYPE: "CL:0000182", TISSUE: "UBERON:0001114"}, id="a hepatocyte in a lobe of the liver"),
        pytest.param({TYPE: "CL:0000182", TISSUE: "UBERON:0000922"}, id="a hepatocyte in an embryo"),
        pytest.param({TYPE: "CL:0000182", TISSUE: "UBERON:0000956", "tissue_type": "organoid"}, id="in an organoid"),
        pytest.param(
            {TYPE: "CL:0000182", TISSUE: "UBERON:0002048", "disease_ontology_term_id": "MONDO:0005061"}, id="in a tumor"
        ),
        pytest.param({TYPE: "CL:0000236", TISSUE: "UBERON:0000956"}, id="a B cell in the cortex"),
    ],
)
def test_what_may_be_is_no_contradiction(columns, edits, planted):
    (first, value), *more = columns.items()
    assert "W-MEANING-01" not in found_in(planted(edits.with_some(first, value, **dict(more))))
