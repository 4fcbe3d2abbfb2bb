"""A bare list of labels maps as labels of a file do; whatever is wrong with it is told at once."""

import pytest

from cytolabe.errors import CytolabeError, RefusedError, UnreadableInputError, UsageError
from cytolabe.flow.drafts import reconcile_place
from cytolabe.flow.label_lists import labels_of_list
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile import read_justifications, read_sssom, reconcile_labels


@pytest.fixture
def listed(tmp_path):
    def write(*lines, name="labels.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes("\r\n".join(lines).encode(encoding))
        return path

    return write


def test_a_list_is_mapped_and_gets_its_table_and_page_without_evidence_from_expression(listed, tmp_path):
    path = listed("author_label,tissue,n_cells,colour", '"B cell",blood,10,red', "CD14+ Mono,blood,5,blue", "7,,3,")
    summary = reconcile_place(path, export=tmp_path / "review.tsv")
    terms = {
        mapping.contributor_label: (mapping.dataset_id, mapping.term, mapping.n_cells) for mapping in summary.mappings
    }
    assert terms["B cell"] == ("labels", "CL:0000236", 10)
    assert terms["7"] == ("labels", "", 3)
    assert read_sssom(tmp_path / "review.tsv") == summary.mappings
    assert (tmp_path / "review.html").exists()
    kinds = {reason.justification for reason in read_justifications(tmp_path / "review.tsv")}
    assert kinds
    assert not any("InstanceBased" in kind for kind in kinds)
    [told] = [finding for finding in summary.findings if finding.code == "N-LABEL-15"]
    assert "no expression" in told.message
    assert "1 column(s) are not used: colour" in told.message
    assert "n_cells" not in told.message


def test_labels_of_a_list_map_as_those_of_a_file_with_the_same_words(listed):
    labels, _ = labels_of_list(
        listed("author_label\tsource\ttissue", "A\tone\tpancreas", "B\tone\tpancreas", "D\tone\tpancreas", name="x.tsv")
    )
    mappings, _ = reconcile_labels(labels, ontology=load_ontology("CL"))
    assert [m.term for m in mappings] == ["CL:0000171", "CL:0000169", "CL:0000173"]


def test_a_quoted_field_may_stand_behind_a_blank(listed):
    labels, _ = labels_of_list(listed("tissue, author_label", 'blood, "B cell, naive"'))
    assert labels["contributor_label"].tolist() == ["B cell, naive"]


def test_each_source_is_a_data_set_and_tissues_of_a_label_are_joined(listed):
    path = listed(
        "\ufeffauthor_label,source,n_cells,tissue", "T,Lab 1,2,lung", "T,Lab 1,3,blood", "T,,,blood", "", ",,,"
    )
    labels, told = labels_of_list(path)
    rows = [
        tuple(row) for row in labels[["dataset_id", "contributor_label", "tissue", "n_cells"]].itertuples(index=False)
    ]
    assert rows == [("lab_1", "T", "blood || lung", 5), ("labels", "T", "blood", 1)]
    assert "1 row(s) have no n_cells" in told.message


@pytest.mark.parametrize(
    ("lines", "error", "said"),
    [
        (("label,tissue", "B,blood"), UnreadableInputError, "no column is called 'author_label' .found: label, tissue"),
        ((), UnreadableInputError, "found: nothing"),
        (("author_label,author_label", "B,B"), UnreadableInputError, "several columns are called 'author_label'"),
        (("author_label,tissue", "B cell, naive,blood"), UnreadableInputError, r"line 2 \(3\).*Quote a field"),
        (("author_label", '"B cell'), UnreadableInputError, "Quotes have to come in pairs"),
        (("author_label", ""), RefusedError, "no row under it"),
        (("author_label,tissue", "B,lung", ",blood", " ,lung"), RefusedError, "2 row.s. have no label: line 3, line 4"),
        (("author_label,n_cells", "B,1.5", "T,0", "N,-3", "M,many"), RefusedError, "4 row.s. have an n_cells.*'1.5'"),
        (("author_label,n_cells", "B,1000000000001", f"T,{'9' * 5000}"), RefusedError, "2 row.s. have an n_cells.*from 1 to 1,000"),
        (("author_label,tissue", "B,lung", "T,lung", "B,lung"), RefusedError, "line 4 .'B', as line 2.*keep one"),
        (("author_label,source", "B,Lab 1", "B,lab_1"), RefusedError, "1 row.s. have a source that another one is called"),
        (("author_label,source", "B,", "T,Labels"), RefusedError, "another one is called alike"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_list_is_told_with_its_lines(listed, lines, error, said):
    with pytest.raises(error, match=said):
        labels_of_list(listed(*lines))


def test_all_slips_are_told_at_once_and_nothing_is_written(listed, tmp_path):
    path = listed("author_label,n_cells", "B,0", "B,1", ",2")
    with pytest.raises(RefusedError, match=r"no label.*counts no cells.*stands in an earlier row"):
        reconcile_place(path, export=tmp_path / "review.tsv")
    assert [made.name for made in tmp_path.iterdir()] == ["labels.csv"]


def test_other_alphabets_are_refused_and_a_review_of_a_list_waits_for_an_atlas(listed, tmp_path):
    with pytest.raises(UnreadableInputError, match="no UTF-8 text"):
        labels_of_list(listed("author_label", "Zürich", encoding="latin-1"))
    with pytest.raises(UsageError, match="Ingest it first"):
        reconcile_place(listed("author_label", "B"), reviewed=tmp_path / "x.tsv")
    with pytest.raises(CytolabeError):
        reconcile_place(tmp_path / "nowhere.csv")
