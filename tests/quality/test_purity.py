"""Markers of lineages: real terms and genes, unmeasured is not zero, and a shallow gate is held against shallow cells."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.ontology.graph import load_ontology
from cytolabe.quality.panel import quality_panel
from cytolabe.quality.purity import LabelledCells, marker_purity

T, B, NAIVE_T = "CL:0000084", "CL:0000236", "CL:0000898"
PANEL = quality_panel("Homo sapiens")
ID = {symbol: gene for gene, symbol in PANEL.symbols.items()}


@pytest.mark.parametrize("organism", shipped_organisms())
def test_every_lineage_is_a_live_term_under_its_name_with_genes_of_the_reference(organism):
    ontology, panel, reference = load_ontology("CL"), quality_panel(organism), load_reference(organism)
    assert {one.term: one.name for one in panel.lineages} == {
        one.term: ontology.name(one.term) for one in panel.lineages
    }
    assert not [one.term for one in panel.lineages if ontology.is_obsolete(one.term)]
    assert all(gene in reference for gene in panel.genes)
    assert len(panel.markers) <= 62, "the bits of one number"
    assert len(panel.coding) == 13
    assert len(panel.mitochondrial) == 37


def test_a_term_has_the_markers_of_all_lineages_above_it():
    names = {one.name for one in PANEL.lineages_of(NAIVE_T, load_ontology("CL"))}
    assert "T cell" in names
    assert "B cell" not in names
    assert PANEL.lineages_of("unknown", load_ontology("CL")) == ()


def test_the_panel_is_read_off_counts_and_other_genes_are_passed_over():
    genes = ["not in the panel", PANEL.mitochondrial[0], PANEL.mitochondrial[1], PANEL.malat1, ID["CD3D"], ID["CD79A"]]
    found = PANEL.counts(csr_matrix([[9, 2, 3, 7, 1, 0], [9, 0, 0, 0, 0, 4]]), genes)
    assert found.mitochondrial.tolist() == [5, 0]
    assert found.malat1.tolist() == [7, 0]
    assert found.markers.tolist() == [PANEL.bits([ID["CD3D"]]), PANEL.bits([ID["CD79A"]])]


@pytest.fixture
def gates():
    """A T gate of which a third shows CD3D, beside B cells of which none does; the last ones are not mapped."""
    cd3d, cd79a = PANEL.bits([ID["CD3D"]]), PANEL.bits([ID["CD79A"]])
    return LabelledCells(
        markers=np.array([cd3d] * 10 + [0] * 20 + [cd79a] * 30 + [cd3d] * 5, dtype=np.int64),
        n_counts=np.full(65, 1000, dtype=np.int64),
        labels=np.array(["naivet"] * 30 + ["bcells"] * 30 + ["??"] * 5, dtype=object),
        terms=np.array([NAIVE_T] * 30 + [B] * 30 + ["unknown"] * 5, dtype=object),
    )


def row_of(table, label, marker):
    (row,) = table[(table["contributor_label"] == label) & (table["marker"] == marker)].to_dict("records")
    return row


def test_purity_counts_the_gate_and_the_other_lineages(gates):
    table = marker_purity(gates, PANEL, load_ontology("CL"), measured=[ID["CD3D"], ID["CD79A"], ID["CD3E"]])
    row = row_of(table, "naivet", "CD3D")
    assert row["detected_fraction"] == pytest.approx(1 / 3)
    assert row["elsewhere_fraction"] == 0.0
    assert row["n_elsewhere"] == 30, "cells without a term are nobody's other lineage"
    assert row_of(table, "bcells", "CD79A")["detected_fraction"] == 1.0
    assert row_of(table, "??", "")["state"] == "not_mapped"


def test_a_marker_that_the_file_lacks_is_unmeasured_and_never_zero(gates):
    table = marker_purity(gates, PANEL, load_ontology("CL"), measured=[ID["CD3D"]])
    row = row_of(table, "naivet", "CD3E")
    assert row["state"] == "unmeasured"
    assert np.isnan(row["detected_fraction"])
    assert not len(table[(table["contributor_label"] == "naivet") & (table["marker"] == "any")]), (
        "any of one is that one"
    )


def test_other_lineages_are_weighted_to_the_depth_of_the_gate():
    cd3d = PANEL.bits([ID["CD3D"]])
    # Deep B cells show stray CD3D, shallow ones do not; the T gate is shallow.
    cells = LabelledCells(
        markers=np.array([cd3d] * 40 + [0] * 40 + [cd3d] * 40, dtype=np.int64),
        n_counts=np.concatenate([np.full(40, 500), np.full(40, 500), np.full(40, 9000)]).astype(np.int64),
        labels=np.array(["T"] * 40 + ["B"] * 80, dtype=object),
        terms=np.array([T] * 40 + [B] * 80, dtype=object),
    )
    table = marker_purity(cells, PANEL, load_ontology("CL"), measured=[ID["CD3D"]])
    shallow = row_of(table, "T", "CD3D")
    assert shallow["detected_fraction"] == 1.0
    assert shallow["elsewhere_fraction"] < 0.6, "half of all other cells would show it without weights"
