import numpy as np
import pandas as pd
import pytest

from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.standardize.obs import STANDARD_COLUMNS, CellFacts, standardize_cells

OVERLAYS = {
    "person_id", "person_state", "cell_type_ontology_term_id", "cell_type", "mapping_decision", "mapping_confidence",
}  # fmt: skip


def standardized(cells, columns=None, names=None, **facts):
    n = len(cells)
    given = {"dataset_id": "d", "study": "s", "constants": {}, **facts}
    totals = np.arange(n, dtype=np.int64)
    table, findings = standardize_cells(
        cells,
        tuple(names or (f"c{i}" for i in range(n))),
        facts=CellFacts(columns=columns or {}, cell_totals=totals, cell_genes=totals, **given),
    )
    return table, {finding.code: finding for finding in findings}


def test_the_table_has_every_column_that_a_snapshot_reads_but_the_overlays():
    table, findings = standardized(pd.DataFrame(index=range(3)))
    assert set(STANDARD_COLUMNS) == (set(CELL_COLUMNS) - OVERLAYS) | {"claimed_term"}
    assert tuple(table.columns) == STANDARD_COLUMNS
    assert not table.isna().any().any()
    assert list(table["cell_id"]) == ["d:c0", "d:c1", "d:c2"]
    assert list(table["batch"]) == ["d"] * 3
    assert set(table["donor_id"]) | set(table["assay"]) | set(table["sex"]) == {"unknown"}
    assert not findings


@pytest.mark.parametrize("word", ["unknown", "Unassigned", "NA", "nan", "None", "", "  n/a ", None, "doublet"])
def test_unlabelled_is_not_a_class(word):
    cells = pd.DataFrame({"ct": ["B", word, "T"]}, dtype=object)
    table, findings = standardized(cells, {"label": "ct"}, unlabelled=("Doublet",))
    assert list(table["contributor_label"]) == ["B", "", "T"]
    assert (findings["N-CELL-05"].n_affected, findings["N-CELL-05"].n_total) == (1, 3)


def test_labels_stay_as_the_lab_wrote_them_but_for_white_space():
    cells = pd.DataFrame({"ct": ["T_CD4 ", "Mono CD14", "<script>"]})
    table, findings = standardized(cells, {"label": "ct"})
    assert list(table["contributor_label"]) == ["T_CD4", "Mono CD14", "<script>"]
    assert findings["N-CELL-04"].n_affected == 1


def test_donors_are_persons_pools_or_unknown():
    cells = pd.DataFrame({"who": ["101", "Pooled", "NA", None, " 101"]}, dtype=object)
    table, findings = standardized(cells, {"donor": "who"})
    assert list(table["donor_id"]) == ["101", "pooled", "unknown", "unknown", "101"]
    assert findings["N-CELL-02"].n_affected == 1


def test_codes_that_were_stored_as_floats_are_whole_again():
    table, _ = standardized(pd.DataFrame({"lane": [1.0, 2.0, np.nan]}), {"batch": "lane"})
    assert list(table["batch"]) == ["1", "2", "unknown"]


def test_a_suspension_type_is_never_guessed():
    table, findings = standardized(
        pd.DataFrame({"st": ["cell", "nuclei", "na", "tissue"], "a": ["10x"] * 4}),
        {"suspension_type": "st", "assay": "a"},
    )
    assert list(table["suspension_type"]) == ["cell", "nucleus", "unknown", "unknown"]
    assert findings["W-CELL-03"].examples == ("tissue",)
    table, _ = standardized(pd.DataFrame({"a": ["10x"] * 4}), {"assay": "a"})
    assert set(table["suspension_type"]) == {"unknown"}


def test_normal_is_a_disease_state_that_is_kept():
    table, _ = standardized(pd.DataFrame({"d": ["normal", "unknown"]}), {"disease": "d"})
    assert list(table["disease"]) == ["normal", "unknown"]


def test_claimed_terms_are_cl_ids_or_nothing():
    cells = pd.DataFrame({"t": ["CL:0000236", "unknown", "CL:12312", "PATO:0000461"]})
    table, findings = standardized(cells, {"claimed_term": "t"})
    assert list(table["claimed_term"]) == ["CL:0000236", "", "", ""]
    assert findings["W-CELL-06"].n_affected == 2


def test_cell_names_that_occur_twice_refuse_the_data_set():
    _, findings = standardized(pd.DataFrame(index=range(3)), names=["a", "b", "a"])
    assert findings["E-CELL-01"].examples == ("a",)


def test_constants_hold_for_every_cell():
    table, _ = standardized(pd.DataFrame(index=range(2)), constants={"tissue": "blood", "donor": "d1", "batch": "b"})
    assert table[["tissue", "donor_id", "batch"]].drop_duplicates().to_numpy().tolist() == [["blood", "d1", "b"]]


@pytest.mark.parametrize(
    "donor",
    ["pool1", "Pool of 4", "pool_A", "library pool", "D1+D2", "D1, D2", "D1;D2", "multiplexed", "Doublet", "mixed"],
)
def test_a_pool_is_nobody_however_it_is_written(donor):
    table, _ = standardized(pd.DataFrame({"who": ["101", donor]}), {"donor": "who"})
    assert list(table["donor_id"]) == ["101", "pooled"]


@pytest.mark.parametrize("donor", ["D1-D2", "P+", "spool7", "Liverpool", "A, ", "mixedlineage3"])
def test_a_donor_whose_name_looks_like_a_pool_stays_a_person(donor):
    table, _ = standardized(pd.DataFrame({"who": ["101", donor]}), {"donor": "who"})
    assert list(table["donor_id"]) == ["101", donor.strip()]


def test_codes_that_were_stored_as_categories_of_floats_are_whole_again():
    cells = pd.DataFrame({"lane": ["1.0", "2.0"], "version": ["1.0", "2.1"]})
    table, _ = standardized(cells, {"batch": "lane", "assay": "version"})
    assert list(table["batch"]) == ["1", "2"]
    assert list(table["assay"]) == ["1.0", "2.1"]


def test_an_id_of_the_ontology_counts_however_it_is_written():
    iri = "http://purl.obolibrary.org/obo/CL_0000625"
    cells = pd.DataFrame({"term": ["cl:0000236", "CL_0000860", iri, "UBERON:0000178", "CL:12"]})
    table, findings = standardized(cells, {"claimed_term": "term"})
    assert list(table["claimed_term"]) == ["CL:0000236", "CL:0000860", "CL:0000625", "", ""]
    assert findings["W-CELL-06"].n_affected == 2


@pytest.mark.parametrize("name", ["", "  "])
def test_a_cell_without_a_name_is_refused(name):
    _, findings = standardized(pd.DataFrame(index=range(2)), names=["a", name])
    assert "empty" in findings["E-CELL-01"].message
