import csv
import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytolabe.errors import UnreadableInputError, UnresolvedLabelError
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.labels import LABEL_COLUMNS, StudyContext, reconcile_labels
from cytolabe.reconcile.review import apply_review
from cytolabe.reconcile.sssom import MALFORMED, read_sssom, write_sssom
from cytolabe.records import LabelMapping, Predicate

CL = load_ontology()
B, T, CD4_MEMORY = "CL:0000236", "CL:0000084", "CL:0000897"


def current():
    labels = ["B", "memoryt", "Proliferating NK", "7", "xyzzy", "CD14+ Mono", "FCGR3A+ Mono"]
    rows = [
        dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": "d1", "contributor_label": x, "n_cells": 9} for x in labels
    ]
    context = [StudyContext(dataset_id="d1", contributor_label="B", term=B, evidence="sorted CD19+", reviewer="AB")]
    return reconcile_labels(pd.DataFrame(rows), ontology=CL, context=context)[0]


def edit(path, label, **changes):
    """Change one row the way a person does in a spreadsheet."""
    lines = path.read_text().splitlines(keepends=True)
    header = [line for line in lines if line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("".join(lines[len(header) :])), delimiter="\t"))
    for row in rows:
        if row["subject_label"] == label:
            row.update(changes)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=rows[0], delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text("".join(header) + out.getvalue())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mappings.sssom.tsv"
    write_sssom(current(), path, ontology=CL)
    return path


def test_what_is_written_is_read_back(file):
    assert read_sssom(file) == current()


def test_equal_mappings_give_equal_bytes_in_any_order(file, tmp_path):
    other = tmp_path / "other.tsv"
    write_sssom(reversed(current()), other, ontology=CL)
    assert other.read_bytes() == file.read_bytes()


texts = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\u2028\u2029\x85"), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    label=st.one_of(texts, st.sampled_from(["=1+1", "+B", "-B", "@x", "'B", "''=B", "a\tb", 'a"b', "#B"])), note=texts
)
def test_every_label_survives_the_round_trip_and_none_is_a_formula(tmp_path, label, note):
    mapping = replace(current()[0], contributor_label=label, evidence=note, comment=note)
    path = tmp_path / "one.tsv"
    write_sssom([mapping], path, ontology=CL)
    assert read_sssom(path) == (mapping,)
    body = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    for row in csv.reader(body[1:], delimiter="\t"):
        assert not any(field.startswith(("=", "+", "-", "@")) for field in row)


@pytest.mark.parametrize("label", ["B\rcell", "B\r\ncell", "B\ncell", "\r", "B\u2028cell"])
def test_a_label_with_any_end_of_line_in_it_is_one_label(tmp_path, label):
    mappings = (replace(current()[0], contributor_label=label), *current()[1:])
    write_sssom(mappings, tmp_path / "one.tsv", ontology=CL)
    assert set(read_sssom(tmp_path / "one.tsv")) == set(mappings)


def test_a_table_that_was_saved_with_other_ends_of_lines_says_the_same(tmp_path):
    mappings = (replace(current()[0], contributor_label="B\ncell"), *current()[1:])
    write_sssom(mappings, tmp_path / "one.tsv", ontology=CL)
    (tmp_path / "one.tsv").write_bytes((tmp_path / "one.tsv").read_bytes().replace(b"\n", b"\r\n"))
    assert set(read_sssom(tmp_path / "one.tsv")) == set(mappings)


@pytest.mark.filterwarnings("ignore")
def test_the_sssom_library_reads_the_file_and_finds_no_fault(file):
    parsers = pytest.importorskip("sssom.parsers")
    from sssom.constants import DEFAULT_VALIDATION_TYPES  # noqa: PLC0415 - optional oracle
    from sssom.validators import validate  # noqa: PLC0415 - optional oracle

    parsed = parsers.parse_sssom_table(str(file))
    validate(parsed, DEFAULT_VALIDATION_TYPES, fail_on_error=True)
    assert len(parsed.df) == len(current())
    by_label = parsed.df.set_index("subject_label")
    assert by_label.loc["B", "object_id"] == B
    assert by_label.loc["xyzzy", "object_id"] == "sssom:NoTermFound"
    assert by_label.loc["Proliferating NK", "predicate_id"] in {"skos:exactMatch", "skos:broadMatch"}
    assert {"mapping_set_id", "license", "extension_definitions"} <= set(parsed.metadata)
    # The library moves what holds for every row from the header into columns.
    assert set(parsed.df["mapping_tool"]) == {"cytolabe"}


def test_the_header_declares_every_extension_column(file):
    header = [line[1:] for line in file.read_text().splitlines() if line.startswith("#")]
    assert {re.sub(r".*slot_name: ", "", line) for line in header if "slot_name" in line} == {
        "dataset_id", "n_cells", "decision", "decided_by", "evidence", "evidence_source", "proposed_predicate_id",
        "proposed_object_id"}  # fmt: skip


def test_an_untouched_export_changes_nothing(file):
    applied, findings = apply_review(current(), read_sssom(file), ontology=CL)
    assert {m.contributor_label: m.term for m in applied} == {m.contributor_label: m.term for m in current()}
    assert not findings


def test_editing_the_id_and_applying_the_file_works(file):
    edit(file, "memoryt", object_id=CD4_MEMORY, reviewer_label="CD")
    applied, findings = apply_review(current(), read_sssom(file), ontology=CL)
    row = next(m for m in applied if m.contributor_label == "memoryt")
    assert (row.term, row.decision, row.confidence, row.reviewer) == (CD4_MEMORY, "reviewed", 1000, "CD")
    assert row.term_name == CL.name(CD4_MEMORY)
    assert [f.code for f in findings] == ["N-REVIEW-06"]
    assert [m.contributor_label for m in applied] == [m.contributor_label for m in current()]


def test_giving_a_term_to_an_abstained_label_works(file):
    edit(file, "xyzzy", object_id="CL_0000084")
    applied, _ = apply_review(current(), read_sssom(file), ontology=CL)
    row = next(m for m in applied if m.contributor_label == "xyzzy")
    assert (row.term, row.predicate, row.decision) == (T, Predicate.EXACT, "reviewed")


def test_confirming_a_row_by_its_decision_works(file):
    edit(file, "memoryt", decision="reviewed")
    applied, _ = apply_review(current(), read_sssom(file), ontology=CL)
    assert next(m for m in applied if m.contributor_label == "memoryt").decision == "reviewed"


def test_taking_a_term_away_works(file):
    edit(file, "Proliferating NK", object_id="")
    applied, _ = apply_review(current(), read_sssom(file), ontology=CL)
    row = next(m for m in applied if m.contributor_label == "Proliferating NK")
    assert (row.term, row.predicate, row.decision) == ("", Predicate.NONE, "reviewed")


def test_a_later_run_never_overwrites_a_reviewed_row(file):
    edit(file, "memoryt", object_id=CD4_MEMORY)
    reviewed, _ = apply_review(current(), read_sssom(file), ontology=CL)
    again, findings = apply_review(reviewed, reviewed, ontology=CL)
    fresh, _ = apply_review(current(), again, ontology=CL)
    assert next(m for m in fresh if m.contributor_label == "memoryt").term == CD4_MEMORY
    assert not findings


def test_an_old_export_is_no_review(file):
    # The lexicon moved on since the export: the row differs from today's, but nobody edited it.
    today = tuple(replace(m, term=CD4_MEMORY) if m.contributor_label == "memoryt" else m for m in current())
    applied, _ = apply_review(today, read_sssom(file), ontology=CL)
    assert today != current()
    assert applied == tuple(m if m.decision != "reviewed" else n for m, n in zip(today, applied, strict=True))


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"object_id": "CL:9999999"}, "E-REVIEW-02"), ({"object_id": "CL:0000002"}, "E-REVIEW-02"),
     ({"predicate_id": "same"}, "E-REVIEW-01"), ({"confidence": "high"}, "E-REVIEW-01"),
     ({"confidence": "7"}, "E-REVIEW-01"), ({"n_cells": "many"}, "E-REVIEW-01"),
     ({"subject_label": "memory", "decision": "reviewed"}, "W-REVIEW-03"),
     ({"object_label": "memory CD4 T cell"}, "W-REVIEW-05")],
)  # fmt: skip
def test_a_bad_row_is_a_finding_and_changes_nothing(file, changes, code):
    edit(file, "memoryt", **changes)
    applied, findings = apply_review(current(), read_sssom(file), ontology=CL)
    assert [f.code for f in findings] == [code]
    assert {m.contributor_label: m.term for m in applied} == {m.contributor_label: m.term for m in current()}


def test_two_reviewed_rows_that_disagree_are_both_left_out():
    rows = [replace(current()[1], decision="reviewed", term=t) for t in (T, B)]
    applied, findings = apply_review(current(), rows, ontology=CL)
    assert applied == current()
    assert [f.code for f in findings] == ["E-REVIEW-04"]


def test_a_dead_reviewed_term_with_a_replacement_is_followed():
    old = next(t for t, r in sorted(CL.records.items()) if r.obsolete and (r.replaced_by or "") in CL)
    row = replace(current()[1], decision="reviewed", term=old)
    applied, _ = apply_review(current(), [row], ontology=CL)
    assert CL.resolve(old) in {m.term for m in applied}


def test_a_file_without_its_columns_or_text_is_refused(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("subject_label\tobject_id\nB\tCL:0000236\n")
    with pytest.raises(UnresolvedLabelError, match="dataset_id, predicate_id"):
        read_sssom(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableInputError, match="UTF-8"):
        read_sssom(path)


def test_a_row_with_too_many_fields_is_malformed(file):
    file.write_text(file.read_text() + "B\t" * 30 + "\n")
    assert read_sssom(file)[-1].decision == MALFORMED
    assert isinstance(read_sssom(file)[-1], LabelMapping)
