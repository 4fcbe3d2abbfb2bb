import dataclasses
import string

import numpy as np
import pandas as pd
import pytest

from cytolabe.genes import load_reference
from cytolabe.genes.panels import FULL_TOTAL_FRACTION, TRANSCRIPTOME_GENES, why_not_ranked
from cytolabe.records import DatasetRecord, FeatureAlignment, HopState, MatrixKind, Severity
from cytolabe.validate.validator import load_pack, validate_dataset

N_CELLS, N_GENES = 40, 5_000
RECORD = DatasetRecord(
    dataset_id="d",
    title="",
    source_digest="sha256:0",
    matrix="X",
    matrix_kind=MatrixKind.UMI,
    n_cells=N_CELLS,
    n_features=N_GENES,
    n_nonzero=1,
    organism="Homo sapiens",
    study="s",
    columns={"label": "cell_type"},
    label_origin="manual",
    upstream_fraction_of_counts=1.0,
    provenance={"matrix": HopState.VERIFIED, "kit": HopState.DECLARED},
)


def make_alignment(share=1.0, n_lost=0, features=None):
    names = tuple(features or (f"GEN{chr(65 + i % 26)}{i}" for i in range(N_GENES)))
    genes = tuple("" if i < n_lost else f"ENSG{i:011d}" for i in range(len(names)))
    fractions = tuple(np.full(len(names), 1 / len(names)).tolist())
    return FeatureAlignment(
        gene_reference="GENCODE v48",
        features=names,
        gene_ids=genes,
        status=tuple("exact" if gene else "unknown" for gene in genes),
        count_fraction=fractions,
        genes_mapped_fraction_of_counts=share,
    )


def make_cells(**columns):
    given = {
        "cell_id": [f"d:c{i}" for i in range(N_CELLS)],
        "donor_id": ["p1", "p2"] * (N_CELLS // 2),
        "batch": ["b1"] * (N_CELLS // 2) + ["b2"] * (N_CELLS // 2),
        "assay": "10x 3' v2",
        "suspension_type": "cell",
        "organism": "Homo sapiens",
        "contributor_label": ["T cell", "B cell"] * (N_CELLS // 2),
        **columns,
    }
    return pd.DataFrame(given)


def findings_of(cells=None, alignment=None, totals=None, **record):
    found = validate_dataset(
        dataclasses.replace(RECORD, **record),
        cells=make_cells() if cells is None else cells,
        alignment=alignment or make_alignment(),
        cell_totals=np.full(N_CELLS, 10, dtype=np.int64) if totals is None else totals,
    )
    return {finding.code: finding for finding in found}


def test_a_good_data_set_has_no_finding():
    assert findings_of() == {}


def test_every_message_of_the_pack_names_only_what_a_check_gives():
    allowed = {"n_affected", "n_total", "share", "reference", "heaviest", "cause", "column", "example", "origin"}
    allowed |= {"organism", "other"}
    for rule in load_pack().values():
        assert {name for _, name, _, _ in string.Formatter().parse(rule.message) if name} <= allowed
        assert rule.code[0] == {"error": "E", "warning": "W", "note": "N"}[rule.severity]
        assert rule.remedy
        assert rule.rule.startswith("R")


@pytest.mark.parametrize(
    ("share", "code"),
    [(0.7999, "E-GENES-01"), (0.80, "W-GENES-02"), (0.9499, "W-GENES-02"), (0.95, None), (1.0, None)],
)
def test_the_share_of_counts_that_maps_decides(share, code):
    found = findings_of(alignment=make_alignment(share, n_lost=7))
    assert ({"E-GENES-01", "W-GENES-02"} & set(found)) == ({code} if code else set())
    if code:
        assert (found[code].n_affected, found[code].n_total) == (7, N_GENES)
        assert f"{share:.1%}" in found[code].message
        assert "GENA0" in found[code].message


def test_absent_gene_names_are_said_to_be_absent():
    anonymous = make_alignment(0.0, n_lost=N_GENES, features=[f"gene{i}" for i in range(N_GENES)])
    finding = findings_of(alignment=anonymous)["E-GENES-01"]
    assert finding.severity is Severity.ERROR
    assert "gene names are absent" in finding.message
    assert "gene0" in finding.message


def test_a_panel_is_called_one():
    alignment = make_alignment(features=[f"GEN{i}A" for i in range(499)])
    assert findings_of(alignment=alignment)["W-PANEL-01"].n_affected == 499


def test_what_is_no_transcriptome_is_said_not_to_be_ranked_from_the_same_number_on_as_a_stream_refuses():
    def codes_of(n_genes):
        return set(findings_of(alignment=make_alignment(features=[f"GEN{i}A" for i in range(n_genes)])))

    assert "N-PANEL-02" in codes_of(TRANSCRIPTOME_GENES - 1)
    assert "N-PANEL-02" not in codes_of(TRANSCRIPTOME_GENES)
    assert why_not_ranked(TRANSCRIPTOME_GENES - 1, None)
    assert why_not_ranked(TRANSCRIPTOME_GENES, FULL_TOTAL_FRACTION - 0.01)
    assert not why_not_ranked(TRANSCRIPTOME_GENES, FULL_TOTAL_FRACTION)


def test_mouse_genes_in_a_human_file_are_an_error():
    mouse = make_alignment(features=[f"Abc{i}" for i in range(N_GENES)])
    assert findings_of(alignment=mouse)["E-ORGANISM-02"].n_affected == N_GENES
    cells = make_cells(organism="Mus musculus")
    assert "E-ORGANISM-02" not in findings_of(cells, alignment=mouse)
    ensembl = make_alignment(features=[f"ENSMUSG{i:011d}" for i in range(N_GENES)])
    assert "E-ORGANISM-02" in findings_of(alignment=ensembl)


def test_an_unknown_organism_is_a_warning_and_two_are_an_error():
    assert "W-ORGANISM-01" in findings_of(make_cells(organism="unknown"), organism="unknown")
    assert "E-ORGANISM-03" in findings_of(make_cells(organism=["Homo sapiens", "Mus musculus"] * 20))


def test_cells_without_counts_are_counted():
    totals = np.full(N_CELLS, 10, dtype=np.int64)
    totals[[3, 5]] = 0
    finding = findings_of(totals=totals)["W-CELL-07"]
    assert (finding.n_affected, finding.examples) == (2, ("d:c3", "d:c5"))


@pytest.mark.parametrize(
    ("donors", "expected"),
    [
        (["unknown"] * N_CELLS, {"W-DONOR-01"}),
        (["pooled"] * N_CELLS, {"W-DONOR-01"}),
        (["p1", "pooled"] * 20, {"W-DONOR-02", "N-DONOR-03"}),
        (["p1"] * N_CELLS, {"N-DONOR-03"}),
    ],
)
def test_how_well_donors_are_known(donors, expected):
    assert set(findings_of(make_cells(donor_id=donors))) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param([f"c{i % 8}" for i in range(N_CELLS)], {"E-CLASS-01"}, id="codes"),
        pytest.param(["T cell"] * N_CELLS, {"W-CLASS-02"}, id="one label"),
        pytest.param([""] * N_CELLS, {"W-CLASS-03"}, id="unlabelled"),
    ],
)
def test_labels_that_say_little(labels, expected):
    assert set(findings_of(make_cells(contributor_label=labels))) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("automated", {"W-CLASS-04"}), ("transferred", {"W-CLASS-04"}), ("unknown", {"N-CLASS-05"}), ("sorted", set())],
)
def test_where_labels_come_from_qualifies_scores(origin, expected):
    assert set(findings_of(label_origin=origin)) == expected


def test_batches_of_one_label_each_are_a_warning():
    labels = ["T cell"] * 20 + ["B cell"] * 20
    assert set(findings_of(make_cells(contributor_label=labels))) == {"W-BATCH-01"}


def test_what_else_is_not_known_is_said():
    assert "N-ASSAY-01" in findings_of(make_cells(assay="unknown"))
    assert findings_of(provenance={"reads": HopState.UNKNOWN, "matrix": HopState.VERIFIED})["N-HOP-01"].n_affected == 1


@pytest.mark.parametrize(("left", "expected"), [(None, False), (0.95, False), (0.27, True)])
def test_a_loss_before_sharing_is_a_warning(left, expected):
    assert ("W-UPSTREAM-04" in findings_of(upstream_fraction_of_counts=left)) == expected


def test_all_findings_come_at_once():
    cells = make_cells(donor_id="unknown", assay="unknown", contributor_label="")
    found = findings_of(cells, alignment=make_alignment(0.5, n_lost=9), upstream_fraction_of_counts=0.2)
    assert {"E-GENES-01", "W-UPSTREAM-04", "W-DONOR-01", "N-ASSAY-01", "W-CLASS-03"} <= set(found)


HUMAN, MOUSE = load_reference(), load_reference("Mus musculus")


def symbols_of(reference, n=N_GENES):
    return [reference.symbol_of(gene_id) for gene_id in sorted(reference.protein_coding)[:n]]


def test_upper_cased_genes_of_a_mouse_are_genes_of_a_mouse():
    upper = make_alignment(features=[symbol.upper() for symbol in symbols_of(MOUSE)])
    mouse = make_cells(organism="Mus musculus")
    assert "E-ORGANISM-02" not in findings_of(mouse, alignment=upper, organism="Mus musculus")
    assert "E-ORGANISM-02" in findings_of(alignment=upper)


def test_an_organism_without_a_reference_is_refused_by_name():
    found = findings_of(
        make_cells(organism="Danio rerio"), make_alignment(features=symbols_of(HUMAN)), organism="Danio rerio"
    )
    assert "no gene reference for Danio rerio" in found["E-GENES-01"].message
    assert "those of Homo sapiens" in found["E-ORGANISM-02"].message


@pytest.mark.parametrize(
    ("features", "cells", "cause"),
    [
        pytest.param([str(7157 + 37 * i * i) for i in range(60)], None, "NCBI Gene", id="ids of another database"),
        pytest.param([str(i) for i in range(60)], None, "mere counters", id="counters"),
        pytest.param(
            [f"AAAC{i}-1" for i in range(60)], symbols_of(HUMAN, N_CELLS), "adata.T", id="a matrix turned over"
        ),
        pytest.param([f"locus{i}x" for i in range(60)], None, "no gene of this reference", id="names of nothing"),
    ],
)
def test_features_that_are_no_genes_are_called_what_they_probably_are(features, cells, cause):
    table = make_cells() if cells is None else make_cells(cell_id=[f"d:{name}" for name in cells])
    found = findings_of(table, make_alignment(share=0.0, n_lost=60, features=features))
    assert cause in found["E-GENES-01"].message


def test_ids_of_the_ontology_are_no_codes():
    labels = ["CL:0000084", "CL:0000236"] * (N_CELLS // 2)
    assert "E-CLASS-01" not in findings_of(make_cells(contributor_label=labels))


def test_cells_and_nuclei_in_one_data_set_are_told():
    cells = make_cells()
    kinds = np.where(np.arange(len(cells)) < 3, "nucleus", "cell")
    found = findings_of(cells.assign(suspension_type=kinds))
    assert set(found) == {"W-SUSPENSION-01"}
    assert found["W-SUSPENSION-01"].n_affected == 3
    assert findings_of(cells.assign(suspension_type="nucleus")) == {}
    assert findings_of(cells.assign(suspension_type=np.where(kinds == "cell", "unknown", "nucleus"))) == {}
