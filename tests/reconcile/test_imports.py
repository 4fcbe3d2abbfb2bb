"""Tables of others become memory: their directions are checked, their rows counted, and nobody is overruled."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cytolabe.errors import UnreadableInputError
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.imports import read_import
from cytolabe.reconcile.justifications import justify_labels
from cytolabe.reconcile.labels import LABEL_COLUMNS, StudyContext, reconcile_labels
from cytolabe.reconcile.memory import memory_of
from cytolabe.records import Predicate

CL = load_ontology()
TABLES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "labels"
B, T, CD4, CLUB, NK = "CL:0000236", "CL:0000084", "CL:0000624", "CL:0000158", "CL:0000623"
DEAD = next(t for t, r in sorted(CL.records.items()) if r.obsolete and (r.replaced_by or "") in CL)


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def said(path):
    rows, findings = read_import(path, ontology=CL)
    return rows, {finding.code: finding for finding in findings}


def hra(rows, authors="A. One, B. Two"):
    lead = f'Crosswalk to Cell Ontology,,,\n,,,\nAuthor Name(s):,"{authors}",,\nDate:,"June 15, 2025",,\n'
    return lead + "Organ_Level,Annotation_Label,CL_ID,CL_Match\n" + "".join(f"Lung,{row}\n" for row in rows)


REVERSED = [
    f"Club ({where}),{CLUB},skos:narrowMatch"
    for where in ("nasal", "tracheal", "distal", "bronchial", "airway", "upper", "lower", "left", "right", "mucous")
]


class TestKinds:
    def test_a_crosswalk_is_read_below_its_preamble(self, tmp_path):
        rows, found = said(
            written(tmp_path, "x.csv", hra([f"B,{B},skos:exactMatch", "Odd,AZ:0000557,skos:exactMatch"]))
        )
        (row,) = rows
        assert (row.label, row.term, row.predicate, row.tissue) == ("B", B, Predicate.EXACT, "Lung")
        assert (row.curator, row.source) == ("A. One, B. Two", "x.csv")
        assert row.source_digest.startswith("sha256:")
        assert (found["W-IMPORT-01"].n_affected, found["W-IMPORT-01"].n_total) == (1, 2)

    def test_a_table_like_celltypists_is_read(self, tmp_path):
        text = (
            "High-hierarchy cell types,Low-hierarchy cell types,Description,Cell Ontology ID\n"
            f'B cells,Memory B cells,"long, lived",CL:0000787\nB cells,Odd,none,\nT,Old,x,{DEAD}\n'
        )
        rows, found = said(written(tmp_path, "encyclopedia.csv", text))
        assert {(row.label, row.term) for row in rows} == {("Memory B cells", "CL:0000787"), ("Old", CL.resolve(DEAD))}
        assert {row.curator for row in rows} == {"encyclopedia.csv"}
        assert set(found) == {"N-IMPORT-02"}

    def test_cas_is_read_and_what_its_reviewers_doubt_is_left_out(self, tmp_path):
        agree, disagree = ({"reviewer": "CD", "review": word} for word in ("Agree", "Disagree"))
        document = {
            "author_name": "A. One", "labelsets": [{"name": "cell_type"}],
            "annotations": [
                {"labelset": "cell_type", "cell_label": "NK1", "cell_ontology_term_id": NK, "reviews": [agree]},
                {"labelset": "cell_type", "cell_label": "odd", "cell_ontology_term_id": T, "reviews": [agree, disagree]},
                {"labelset": "cell_type", "cell_label": "none"},
            ],
        }  # fmt: skip
        rows, found = said(written(tmp_path, "cas.json", json.dumps(document)))
        (row,) = rows
        assert (row.label, row.term, row.curator, row.reviewer) == ("NK1", NK, "A. One", "CD")
        assert (found["N-IMPORT-05"].n_affected, found["N-IMPORT-05"].n_total) == (1, 2)

    def test_sssom_is_read_without_rows_that_nobody_stands_behind(self, tmp_path):
        text = (
            "#mapping_set_id: x\nsubject_label\tpredicate_id\tobject_id\treviewer_label\tdecision\n"
            f"B\tskos:exactMatch\t{B}\tAB\treviewed\nT\tskos:exactMatch\t{T}\t\treview\n"
            f"x\tskos:exactMatch\tsssom:NoTermFound\t\treviewed\n"
        )
        rows, found = said(written(tmp_path, "x.tsv", text))
        assert [(row.label, row.reviewer) for row in rows] == [("B", "AB")]
        assert found == {}

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"a,b\n1,2\n", "no header"),
            (b"{", "is none"),
            (b'{"a": 1}', "annotations"),
            (b"\xff\xfe", "UTF-8"),
            (b"", "no header"),
        ],
    )
    def test_what_is_no_mapping_table_is_refused(self, tmp_path, content, told):
        path = tmp_path / "x"
        path.write_bytes(content)
        with pytest.raises(UnreadableInputError, match=told):
            read_import(path, ontology=CL)


class TestDirections:
    def test_a_table_that_was_read_from_the_terms_side_is_turned_round_and_counted(self, tmp_path):
        rows, found = said(written(tmp_path, "x.csv", hra([*REVERSED, f"Odd words,{T},skos:narrowMatch"])))
        assert {row.predicate for row in rows} == {Predicate.BROAD}
        assert {row.justification for row in rows} == {"semapv:MappingInversion"}
        assert found["N-IMPORT-03"].n_affected == len(REVERSED) + 1  # the undecidable row goes with the table

    def test_a_row_that_is_right_in_a_turned_table_stays_and_is_told(self, tmp_path):
        rows, found = said(written(tmp_path, "x.csv", hra([*REVERSED, f"T,{CD4},skos:narrowMatch"])))
        assert next(row for row in rows if row.term == CD4).predicate is Predicate.NARROW
        assert found["W-IMPORT-04"].n_affected == 1

    def test_in_a_table_that_is_mostly_right_only_what_is_proven_wrong_is_turned(self, tmp_path):
        right = [row.replace("narrowMatch", "broadMatch") for row in REVERSED]
        rows, found = said(
            written(tmp_path, "x.csv", hra([*right[1:], REVERSED[0], f"Odd words,{T},skos:narrowMatch"]))
        )
        assert found["N-IMPORT-03"].n_affected == 1
        assert next(row for row in rows if row.label == "Odd words").predicate is Predicate.NARROW
        assert next(row for row in rows if row.label == "Club (nasal)").justification == "semapv:MappingInversion"

    @pytest.mark.skipif(not TABLES.is_dir(), reason="needs ../shared/data")
    def test_the_crosswalks_of_the_hra_are_turned_round(self):
        # One row of each is proven the right way round: the tables contradict themselves there.
        for name, n_narrow in (("azimuth", 264), ("celltypist", 347)):
            rows, found = said(TABLES / f"hra_crosswalk_{name}.csv")
            assert (found["N-IMPORT-03"].n_affected, found["W-IMPORT-04"].n_affected) == (n_narrow - 1, 1)
            assert sum(row.predicate is Predicate.NARROW for row in rows) == 1
            assert {row.curator for row in rows} == {"Ellen M. Quardokus, Aleix Puig-Barbe"}


def mapped(label, *tables, context=()):
    memory = memory_of([row for path in tables for row in read_import(path, ontology=CL)[0]], ontology=CL)
    row = dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": "d", "contributor_label": label, "n_cells": 5}
    return reconcile_labels(pd.DataFrame([row]), ontology=CL, context=context, memory=memory)[0][0]


class TestMemory:
    @pytest.fixture
    def tables(self, tmp_path):
        rows = [f"Zorb cells,{B},skos:broadMatch", f"7,{B},skos:exactMatch", f"monocytes,{T},skos:exactMatch"]
        one = written(tmp_path, "one.csv", hra(rows, authors="A. One"))
        return one, written(tmp_path, "two.csv", hra(rows, authors="C. Three"))

    def test_one_curator_is_a_proposal_and_two_independent_ones_decide(self, tables):
        one, two = tables
        alone = mapped("zorb cell", one)
        assert (alone.term, alone.predicate, alone.decision) == (B, Predicate.BROAD, "review")
        assert "one.csv" in alone.evidence
        agreed = mapped("zorb cell", one, two)
        assert (agreed.term, agreed.decision, agreed.confidence) == (B, "auto", 975)

    def test_two_tables_of_the_same_curators_count_once(self, tables, tmp_path):
        copy = written(tmp_path, "copy.csv", tables[0].read_text())
        assert mapped("zorb cell", tables[0], copy).decision == "review"

    def test_words_and_memory_on_two_lineages_wait_for_a_person(self, tables):
        one, two = tables
        both = mapped("monocytes", one, two)
        assert (both.term, both.decision) == (T, "review")
        assert "two lineages" in both.evidence
        assert (mapped("monocytes", one).term, mapped("monocytes", one).decision) == ("CL:0000576", "review")

    def test_codes_and_reserved_words_are_never_recalled(self, tables):
        assert mapped("7", *tables).decision == "reserved"

    def test_what_the_study_declares_is_not_touched(self, tables):
        context = [StudyContext(dataset_id="d", contributor_label="zorb cell", term=NK, reviewer="AB")]
        assert (mapped("zorb cell", *tables, context=context).term) == NK

    def test_a_type_without_its_lineage_still_waits(self, tmp_path):
        # Rule R6: two tables that copy CL's name of memory T cell do not say which half was sorted.
        rows = ["memoryt,CL:0000813,skos:exactMatch"]
        paths = [written(tmp_path, f"{name}.csv", hra(rows, authors=name)) for name in ("a", "b")]
        assert mapped("memoryt", *paths).decision == "review"

    def test_each_statement_is_a_reason_with_its_source_and_who_said_it(self, tables):
        rows = read_import(tables[0], ontology=CL)[0]
        memory = memory_of([*rows, *(replace(row, reviewer="EF", source="b") for row in rows)], ontology=CL)
        table = pd.DataFrame([dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": "d", "contributor_label": "zorb"}])
        reasons = [r for r in justify_labels(table, ontology=CL, memory=memory) if r.source]
        assert {(r.term, r.source, r.reviewer) for r in reasons} == {(B, "one.csv", "A. One"), (B, "b", "EF")}
        assert all("memory: Zorb cells" in r.matched for r in reasons)
