"""Every reason is a row of its own; the decision row stands above them."""

import pandas as pd
import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.justifications import N_REASONS, justify_labels
from cytolabe.reconcile.labels import LABEL_COLUMNS, reconcile_labels
from cytolabe.reconcile.review import apply_review, review_queue
from cytolabe.reconcile.sssom import read_justifications, read_sssom, write_sssom

CL = load_ontology()
LABELS = {
    "CD14+ Mono": "", "FCGR3A+ Mono": "", "B/Plasma": "", "memoryt": "", "Kupfer cels": "", "unknown": "", "7": "",
    "Mature B": "CL:0000785", "xyzzy": "CL:9999999",
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    rows = [
        dict.fromkeys(LABEL_COLUMNS, "")
        | {"dataset_id": "d", "contributor_label": label, "claimed_term": claimed, "n_cells": 10, "tissue": "liver"}
        for label, claimed in LABELS.items()
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def reasons(table):
    found = {}
    for reason in justify_labels(table, ontology=CL):
        found.setdefault(reason.contributor_label, []).append(reason)
    return found


def test_each_kind_of_evidence_has_the_justification_that_sssom_gives_it(reasons):
    kinds = {label: {reason.justification.split(":")[1] for reason in found} for label, found in reasons.items()}
    assert "BackgroundKnowledgeBasedMatching" in kinds["CD14+ Mono"]
    assert "LogicalReasoning" in kinds["B/Plasma"]
    assert "UnspecifiedMatching" in kinds["Mature B"]
    assert "LexicalMatching" in kinds["memoryt"]
    assert kinds["Kupfer cels"] == {"LexicalSimilarityThresholdMatching", "SemanticSimilarityThresholdMatching"}


def test_reasons_are_ordered_bounded_and_about_live_terms(reasons):
    for found in reasons.values():
        assert len(found) <= N_REASONS + 2 + 5  # claim, neighbor, learned order
        assert [r.confidence for r in found] == sorted((r.confidence for r in found), reverse=True)
        assert all(reason.term in CL and reason.term_name == CL.name(reason.term) for reason in found)


def test_reserved_words_and_codes_have_no_reasons_and_dead_claims_are_none(reasons):
    assert not {"unknown", "7"} & set(reasons)
    assert not any("CL:9999999" in reason.matched for reason in reasons.get("xyzzy", []))


def test_the_deciding_term_is_among_the_reasons(table, reasons):
    for mapping in reconcile_labels(table, ontology=CL)[0]:
        if mapping.term:
            assert mapping.term in {reason.term for reason in reasons[mapping.contributor_label]}


class TestTheFile:
    @pytest.fixture
    def file(self, table, tmp_path):
        path = tmp_path / "review.tsv"
        mappings, _ = reconcile_labels(table, ontology=CL)
        write_sssom(mappings, path, ontology=CL, justifications=justify_labels(table, ontology=CL))
        return path

    def test_decisions_and_reasons_come_back_as_they_were(self, table, file):
        assert read_sssom(file) == reconcile_labels(table, ontology=CL)[0]
        assert read_justifications(file) == justify_labels(table, ontology=CL)

    def test_the_decision_row_is_composite_and_stands_before_its_reasons(self, file):
        body = [line.split("\t") for line in file.read_text().splitlines() if not line.startswith("#")]
        names = body[0]
        rows = [dict(zip(names, line, strict=True)) for line in body[1:]]
        decisions = [row for row in rows if row["decision"] != "evidence"]
        assert {row["mapping_justification"] for row in decisions} == {"semapv:CompositeMatching"}
        assert len({row["subject_label"] for row in decisions}) == len(decisions) == len(LABELS)
        last = ""
        for row in rows:
            if row["decision"] == "evidence":
                assert row["subject_label"] == last
            last = row["subject_label"]

    def test_a_reason_that_a_person_marks_is_that_persons_choice(self, table, file):
        lines = file.read_text().splitlines(keepends=True)
        names = next(line for line in lines if not line.startswith("#")).rstrip("\n").split("\t")
        at = next(i for i, line in enumerate(lines) if line.startswith("Kupfer") and "\tevidence\t" in line)
        row = dict(zip(names, lines[at].rstrip("\n").split("\t"), strict=True))
        row |= {"decision": "reviewed", "reviewer_label": "AB", "review_date": "2026-11-25"}
        lines[at] = "\t".join(row[name] for name in names) + "\n"
        file.write_text("".join(lines))
        current, _ = reconcile_labels(table, ontology=CL)
        applied, _ = apply_review(current, read_sssom(file), ontology=CL)
        chosen = next(m for m in applied if m.contributor_label == "Kupfer cels")
        assert (chosen.term, chosen.decision, chosen.justification) == (
            row["object_id"], "reviewed", "semapv:MappingReview")  # fmt: skip
        assert (chosen.reviewer, chosen.review_date) == ("AB", "2026-11-25")

    @pytest.mark.filterwarnings("ignore")
    def test_the_sssom_library_finds_no_fault(self, file):
        parsers = pytest.importorskip("sssom.parsers")
        from sssom.constants import DEFAULT_VALIDATION_TYPES  # noqa: PLC0415 - optional oracle
        from sssom.validators import validate  # noqa: PLC0415 - optional oracle

        parsed = parsers.parse_sssom_table(str(file))
        validate(parsed, DEFAULT_VALIDATION_TYPES, fail_on_error=True)
        assert len(parsed.df) == len(LABELS) + len(read_justifications(file))


def test_the_queue_starts_with_cells_times_uncertainty(table):
    mappings, _ = reconcile_labels(table, ontology=CL)
    queue = review_queue(mappings)
    assert sorted(queue, key=lambda m: m.contributor_label) == sorted(mappings, key=lambda m: m.contributor_label)
    opened = [m.n_cells * (1000 - m.confidence) for m in queue if m.decision != "reserved"]
    assert opened == sorted(opened, reverse=True)
    assert {m.decision for m in queue[len(opened) :]} == {"reserved"}
    assert review_queue(reversed(mappings)) == queue
