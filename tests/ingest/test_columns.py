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
        ("mouse_brain_merfish_cxg", "subclass_transfer", "brain_section_label"),
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


REFINED = ["naive CD4 T", "CD8 T", "B", "NK", "memory CD4 T", "CD8 T", "B", "NK"] * 5


@pytest.mark.parametrize(
    "name",
    ["annot", "CellType", "celltype_l2", "louvain_labels", "ident", "Cell type", "predicted.celltype.l2", "cluster",
     "majority_voting", "subset", "Population", "active.ident", "free_annotation", "leiden", "type", "final", "group"],
)  # fmt: skip
@pytest.mark.parametrize(
    "file", ["pbmc_10x_3tech_symphony", "kang18_muscat", "pbmc3k_clustifyr", "mouse_brain_merfish_cxg"]
)
def test_the_labels_of_real_files_are_found_under_other_names(real, file, *, name):
    cells = real_table(real, file)
    author = cells["cell_type_author"].astype(str)
    twins = [c for c in cells if c != "cell_type_author" and cells[c].astype(str).equals(author)]
    renamed = cells.drop(columns=[*twins, "batch"], errors="ignore").rename(columns={"cell_type_author": name})
    renamed = renamed.drop(columns=[c for c in ("cluster_id", "classified") if c in renamed])
    assert infer_columns(renamed, Manifest()).columns["label"] == name


@pytest.mark.parametrize(
    "name", ["DonorID", "donorid", "Donor ID", "PatientID", "patient_number", "SubjectID", "Individual", "participantID",
             "donor_name", "Mouse", "Donor no.", "ind_cov", "animalID", "Case_ID"],
)  # fmt: skip
def test_donors_are_found_under_the_names_that_labs_use(name):
    assert infer_columns(table(**{name: ["p1", "p2", "p3", "p4"] * 10}), Manifest()).columns["donor"] == name


@pytest.mark.parametrize(
    "name", ["Sample", "sampleID", "SampleID", "BatchID", "LibraryID", "orig.ident", "RunID", "10x_channel", "Channel",
             "library_batch", "gem_group", "plateID", "dataset_id", "batch_cov", "section", "Puck", "Sample_Name"],
)  # fmt: skip
def test_batches_are_found_under_the_names_that_labs_use(name):
    assert infer_columns(table(**{name: ["s1", "s2", "s3", "s4"] * 10}), Manifest()).columns["batch"] == name


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([True, False] * 20, id="truth values"),
        pytest.param(["donor", "recipient"] * 20, id="sides of a transplant"),
        pytest.param(["patient", "healthy control"] * 20, id="states of health"),
        pytest.param([0.25, 0.5, 0.75, 1.5] * 10, id="fractions"),
        pytest.param(["yes", "no"] * 20, id="answers"),
        pytest.param(["10x 3' v2"] * 40, id="one technology"),
    ],
)
def test_a_donor_column_that_names_no_persons_is_said_and_left(values):
    roles = infer_columns(table(donor=values, cell_type=TYPES), Manifest())
    assert "donor" not in roles.columns
    assert codes(roles) == ["W-COLUMN-04"]


@pytest.mark.parametrize(
    "values", [[101, 107] * 20, [1.0, np.nan] * 20, ["101", "107"] * 20], ids=["numbers", "with gaps", "texts"]
)
def test_donors_may_be_whole_numbers(values):
    assert infer_columns(table(donor=values), Manifest()).columns["donor"] == "donor"


def test_a_finer_label_of_some_cells_leaves_no_other_cell_unlabelled():
    partly = [value if "CD" in value else None for value in REFINED]
    roles = infer_columns(table(cell_type=TYPES, T_cell_subtype=partly), Manifest())
    assert roles.columns == {"label": "cell_type"}
    assert "'T_cell_subtype' labels only 20 of 40 cells" in roles.findings[-1].message


def test_of_columns_that_agree_the_one_with_fewer_gaps_is_the_label():
    gaps = [value if place < 20 else None for place, value in enumerate(TYPES)]
    assert infer_columns(table(cell_type=gaps, annotation=TYPES), Manifest()).columns["label"] == "annotation"


def test_a_column_that_reads_like_types_refines_a_named_one():
    roles = infer_columns(table(cell_type=TYPES, ident=REFINED), Manifest())
    assert roles.columns == {"label": "ident", "label_parent": "cell_type"}


def test_what_the_author_named_is_not_refined_by_values():
    roles = infer_columns(table(author_cell_type=TYPES, ident=REFINED), Manifest())
    assert roles.columns["label"] == "author_cell_type"


def test_a_column_that_reads_like_types_and_crosses_the_label_is_said():
    roles = infer_columns(
        table(cell_type=TYPES, gate=["T cell", "B cell", "B cell", "T cell", "NK cell"] * 8), Manifest()
    )
    assert roles.columns["label"] == "cell_type"
    assert codes(roles) == ["W-COLUMN-05"]


@pytest.mark.parametrize("sign", ["{type}_{n}", "{n}: {type}", "({n}) {type}"])
def test_numbered_clusters_of_a_type_are_no_finer_types(sign):
    numbered = [sign.format(type=value, n=place % 3) for place, value in enumerate(TYPES)]
    assert infer_columns(table(cell_type=TYPES, leiden_named=numbered), Manifest()).columns["label"] == "cell_type"


@pytest.mark.parametrize(
    ("name", "context"), [("celltype_x", "sample"), ("celltype_y", "donor"), ("celltype_z", "condition")]
)
def test_types_crossed_with_samples_are_no_finer_types(name, context):
    groups = ["g1"] * 16 + ["g2"] * 24
    crossed = [f"{value}_{group}" for value, group in zip(TYPES, groups, strict=True)]
    roles = infer_columns(table(**{"cell_type": TYPES, name: crossed, context: groups}), Manifest())
    assert roles.columns["label"] == "cell_type"
    assert f"{name!r} holds types crossed with {context!r}" in roles.findings[-1].message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param("donor_sex_label", ["Male", "Female"] * 20, id="a sex"),
        pytest.param("subclass_color", ["#00FF00", "#FF0000", "#0000FF", "#FFFF00"] * 10, id="colors"),
        pytest.param("annotation_ok", ["True", "False"] * 20, id="an answer about labels"),
        pytest.param("region_label", ["MTG", "V1C"] * 20, id="a region"),
        pytest.param("label", [f"{20 + i % 9} years" for i in range(40)], id="ages"),
        pytest.param("class_label", ["control", "stimulated"] * 20, id="treatments"),
        pytest.param("anatomy", ["lymph node", "bone marrow"] * 20, id="tissues with words of cells"),
        pytest.param("histology", ["lymphoma", "glioblastoma"] * 20, id="tumors with words of cells"),
    ],
)
def test_what_is_written_like_a_label_and_means_something_else_stays_out(name, values):
    assert infer_columns(table(**{name: values, "cell_type": TYPES}), Manifest()).columns["label"] == "cell_type"
    assert "label" not in infer_columns(table(**{name: values}), Manifest()).columns


def test_ids_of_the_ontology_are_labels_not_codes():
    ids = ["CL:0000624", "CL:0000625", "CL:0000236", "CL:0000623"] * 10
    assert infer_columns(table(cell_type=ids), Manifest()).columns["label"] == "cell_type"


def test_numbers_in_a_label_column_are_named_as_left_out():
    assert "cell_type (numbers)" in infer_columns(table(cell_type=np.arange(40) % 5), Manifest()).findings[0].message


def test_cells_of_several_organisms_are_refused_and_two_spellings_are_one():
    several = infer_columns(table(organism=["Homo sapiens", "Mus musculus"] * 20), Manifest())
    assert "E-ORGANISM-03" in codes(several)
    assert codes(infer_columns(table(species=["human", "Homo sapiens"] * 20), Manifest())) == ["W-COLUMN-06"]
