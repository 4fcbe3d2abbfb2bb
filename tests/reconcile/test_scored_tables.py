import pandas as pd
import pytest

from cytolabe.errors import UnreadableInputError, UsageError
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.scored.tables import TABLE_COLUMNS, label_table_of, read_label_table

CL = load_ontology()
OBSOLETE = next(t for t, r in sorted(CL.records.items()) if r.obsolete and r.replaced_by and r.replaced_by in CL)


def frame(*rows):
    return pd.DataFrame([dict(zip(TABLE_COLUMNS, row, strict=True)) for row in rows])


def test_an_obsolete_id_follows_its_replacement_and_is_counted():
    table = label_table_of(frame(("a label", OBSOLETE, "s", "f", "blood")), name="t.csv", ontology=CL)
    assert table.term == (CL.replaced_by(OBSOLETE),)
    assert table.replaced == 1


def test_a_row_without_a_live_term_or_a_label_is_set_aside_and_shown_not_scored_wrong():
    rows = frame(
        ("T cell", "CL:0000084", "s", "f", ""),
        ("T cell", "CL:9999999", "s", "f", ""),
        ("", "CL:0000084", "s", "f", ""),
        ("T cell", "", "s", "f", ""),
    )
    table = label_table_of(rows, name="t.csv", ontology=CL)
    assert len(table) == 1
    assert table.unusable == 3
    assert "'T cell': 'CL:9999999'" in table.examples


@pytest.mark.parametrize("tissue", ["", "x", "na", "None", "  "])
def test_a_tissue_that_nobody_named_is_blank(tissue):
    assert label_table_of(frame(("T", "CL:0000084", "s", "f", tissue)), name="t", ontology=CL).tissue == ("",)


def test_a_missing_column_is_named_with_what_it_is_for():
    rows = frame(("T", "CL:0000084", "s", "f", "")).drop(columns=["source", "tissue"])
    with pytest.raises(UsageError, match=r"2 of 5 columns are missing: source, tissue"):
        label_table_of(rows, name="t.csv", ontology=CL)


def test_a_table_of_nothing_to_score_is_refused():
    with pytest.raises(UsageError, match="none of 1 rows"):
        label_table_of(frame(("T", "CL:9999999", "s", "f", "")), name="t.csv", ontology=CL)


def test_a_source_without_family_is_a_family_of_its_own():
    assert label_table_of(frame(("T", "CL:0000084", "s", "", "")), name="t", ontology=CL).family == ("s",)


def test_other_columns_a_byte_order_mark_and_tabs_do_not_matter(tmp_path):
    path = tmp_path / "labels.tsv"
    rows = frame(("T cell", "CL:0000084", "s", "f", "blood")).assign(more="x")
    path.write_text("\ufeff" + rows.to_csv(sep="\t", index=False), encoding="utf-8")
    assert read_label_table(path, ontology=CL).label == ("T cell",)


def test_a_file_that_is_no_table_is_unreadable(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UnreadableInputError, match="cannot be read as a table"):
        read_label_table(path, ontology=CL)
