import numpy as np
import pandas as pd
import pytest

from cytolabe.config.manifest import Manifest
from cytolabe.ingest.columns import infer_columns
from cytolabe.ingest.h5ad import open_h5ad
from cytolabe.records import Severity


def codes(roles, without=("N-COLUMN-07",)):
    return [finding.code for finding in roles.findings if finding.code not in without]


def table(**columns):
    return pd.DataFrame(columns)


def real_table(real, name):
    with open_h5ad(real / f"{name}.h5ad") as source:
        return source.cell_table


TYPES = ["CD4 T", "CD8 T", "B", "NK"] * 10
BROAD = ["T", "T", "B", "NK"] * 10


def test_the_author_column_wins_and_its_parent_is_recorded():
    roles = infer_columns(table(cell_type_broad=BROAD, author_cell_type=TYPES), Manifest())
    assert roles.columns == {"label": "author_cell_type", "label_parent": "cell_type_broad"}
    assert roles.inferred == ("label", "label_parent")
    assert "author_cell_type" in roles.findings[-1].message


def test_the_finest_of_nested_columns_is_the_label_whatever_the_names():
    roles = infer_columns(table(cell_type=BROAD, annot_fine=TYPES), Manifest())
    assert roles.columns == {"label": "annot_fine", "label_parent": "cell_type"}


def test_crossing_columns_ask_for_a_manifest_and_show_both():
    crossing = ["x cell", "x cell", "x cell", "y cell", "y cell"] * 8
    cells = table(celltype=TYPES, annotation=crossing)
    roles = infer_columns(cells, Manifest())
    assert "label" not in roles.columns
    (finding,) = [finding for finding in roles.findings if finding.severity is Severity.ERROR]
    assert finding.code == "E-COLUMN-02"
    assert "celltype" in finding.message
    assert "annotation" in finding.message
    assert len(finding.examples) == 2
    assert "label = 'celltype'" in finding.remedy
    told = infer_columns(cells, Manifest(label="celltype"))
    assert (told.columns["label"], codes(told)) == ("celltype", [])


def test_a_declared_column_that_is_not_there_is_never_replaced_by_a_guess():
    roles = infer_columns(table(cell_type=TYPES), Manifest(label="cel_type"))
    assert "label" not in roles.columns
    assert codes(roles) == ["E-COLUMN-01"]
    assert "label = 'cell_type'" in roles.findings[0].remedy


def test_values_are_evidence_where_names_say_nothing():
    roles = infer_columns(table(classified=TYPES, group=["g1", "g2"] * 20), Manifest())
    assert roles.columns == {"label": "classified"}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([f"c{i % 8}" for i in range(40)], id="codes"),
        pytest.param([str(i % 8) for i in range(40)], id="numbers as text"),
        pytest.param(list(np.arange(40) % 8), id="numbers"),
        pytest.param(["T cell"] * 40, id="constant"),
        pytest.param([f"T cell of donor {i} x" for i in range(40)], id="one per cell"),
    ],
)
def test_what_cannot_be_a_label_is_left_out_and_named(values):
    roles = infer_columns(table(cell_type=values), Manifest())
    assert "label" not in roles.columns
    assert codes(roles) == ["W-COLUMN-06"]


def test_columns_that_group_alike_are_one():
    numbers = [str(TYPES.index(value)) for value in TYPES]
    roles = infer_columns(table(seurat_clusters=numbers, ident=TYPES, cell_type=TYPES), Manifest())
    assert roles.columns == {"label": "cell_type"}
    assert "'ident'" not in " ".join(roles.columns.values())


def test_a_donor_column_that_is_the_technology_is_unknown():
    cells = table(donor=["a", "b"] * 20, assay=["10x 3' v2", "10x 5' v1"] * 20)
    roles = infer_columns(cells, Manifest())
    assert "donor" not in roles.columns
    assert "W-COLUMN-04" in codes(roles)
    declared = infer_columns(cells, Manifest(donor="donor"))
    assert declared.columns["donor"] == "donor"
    assert "W-COLUMN-04" in codes(declared)


def test_several_donors_in_one_assay_are_donors():
    cells = table(donor=["a", "b", "c", "d"] * 10, assay=["10x 3' v2"] * 40)
    assert infer_columns(cells, Manifest()).columns["donor"] == "donor"


def test_two_donor_columns_that_differ_ask_for_a_manifest():
    cells = table(patient=["a", "b", "c", "d"] * 10, subject=["x", "x", "y", "y"] * 10)
    roles = infer_columns(cells, Manifest())
    assert "donor" not in roles.columns
    assert "E-COLUMN-03" in codes(roles)


def test_a_readable_batch_column_stands_for_its_uuids():
    uuids = [f"4c2170c2-e2e5-494f-a54{i % 4}-0123456789ab" for i in range(40)]
    cells = table(library_uuid=uuids, sample=[f"s{i % 4}x" for i in range(40)])
    assert infer_columns(cells, Manifest()).columns["batch"] == "sample"


def test_a_column_whose_name_says_batch_never_becomes_the_label_in_silence():
    roles = infer_columns(table(batch=TYPES), Manifest())
    assert roles.columns == {"batch": "batch"}
    assert codes(roles) == ["W-COLUMN-05", "W-COLUMN-06"]
    both = infer_columns(table(batch=TYPES), Manifest(label="batch"))
    assert codes(both) == ["W-COLUMN-05"]


def test_values_of_the_manifest_hold_for_every_cell():
    roles = infer_columns(
        table(tissue=["lung", "liver"] * 20), Manifest(tissue="blood", donor_value="d1", assay="CEL-seq2")
    )
    assert roles.constants == {"donor": "d1", "assay": "CEL-seq2", "tissue": "blood"}
    assert "tissue" not in roles.columns


def test_unlabelled_words_do_not_hide_that_two_columns_agree():
    gaps = [value if place % 3 else "doublet?" for place, value in enumerate(TYPES)]
    roles = infer_columns(table(cell_label=gaps, annotation=TYPES), Manifest(unlabelled=("doublet?",)))
    assert roles.columns["label"] == "annotation"


@pytest.mark.parametrize(
    ("name", "label", "parent", "batch", "donor"),
    [
        ("pbmc_10x_3tech_symphony", "cell_type_author", "cell_type_broad", "batch", None),
        ("pbmc3k_clustifyr", "cell_type_author", None, None, None),
        ("kang18_muscat", "cell_type_author", None, "batch", "donor_id"),
        ("kang18_harmony_stim_ctrl", "cell_type_author", None, "batch", "donor_id"),
        ("zheng17_sorted_mudan", "cell_type_author", None, "batch", None),
        ("zheng17_pbmc_donorA_mudan", None, None, None, "donor_id"),
        ("liver_bcells_cxg", "author_cell_type", None, "sample", "donor_id"),
        ("mouse_brain_merfish_cxg", "cell_type_author", "cell_type", "batch", "donor_id"),
        ("pbmc4k_scdcc_anon", None, None, None, None),
        ("screpertoire_icb_tcells", None, None, "batch", "donor_id"),
    ],
)
def test_roles_of_real_files(real, name, label, *, parent, batch, donor):
    columns = infer_columns(real_table(real, name), Manifest()).columns
    found = tuple(columns.get(role) for role in ("label", "label_parent", "batch", "donor"))
    assert found == (label, parent, batch, donor)


@pytest.mark.parametrize(
    ("name", "label", "batch"),
    [
        ("pbmc_10x_3tech_symphony", "cell_type", None),
        ("pbmc3k_clustifyr", "classified", None),
        ("kang18_muscat", "cluster_id", "sample_id"),
        ("baccin20_mouse_bm_tapseq", "active_ident", "orig.ident"),
        ("mouse_brain_merfish_cxg", "subclass_transfer", None),
        ("zheng17_sorted_mudan", None, None),
        ("datlinger17_cropseq_jurkat", None, "sample"),
    ],
)
def test_roles_of_real_files_without_the_prepared_columns(real, name, label, *, batch):
    cells = real_table(real, name).drop(columns=["cell_type_author", "batch"], errors="ignore")
    columns = infer_columns(cells, Manifest()).columns
    assert (columns.get("label"), columns.get("batch")) == (label, batch)


@pytest.mark.parametrize(
    "name", ["kang18_harmony_stim_ctrl", "zheng17_sorted_mudan", "pancreas_xin16_scclassify", "puram17_headneck_chetah"]
)
def test_labels_of_real_files_are_found_under_any_name(real, name):
    cells = real_table(real, name).rename(columns={"cell_type_author": "foo", "batch": "bar"})
    assert infer_columns(cells, Manifest()).columns["label"] == "foo"


def test_the_donor_of_the_symphony_file_is_its_technology(real):
    for dropped in ([], ["assay"], ["assay", "batch"]):
        roles = infer_columns(real_table(real, "pbmc_10x_3tech_symphony").drop(columns=dropped), Manifest())
        assert "donor" not in roles.columns
        assert "W-COLUMN-04" in codes(roles)
