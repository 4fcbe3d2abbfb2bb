"""A newer release of CL says what it changes for labels that are mapped already; two real releases are compared."""

from dataclasses import replace

import pytest

from cytolabe.ontology.graph import TermRecord, load_ontology, ontology_of, shipped_releases
from cytolabe.reconcile.drift import changed_terms, release_findings
from cytolabe.reconcile.review import keep_reviewed
from cytolabe.records import LabelMapping, Predicate

NEW = load_ontology()
OLD = load_ontology("CL", shipped_releases()[0])


def mapping(term, ontology, *, label="x", decision="auto", **more):
    row = LabelMapping(
        dataset_id="d", contributor_label=label, predicate=Predicate.EXACT, term=term, term_name=ontology.name(term),
        justification="semapv:LexicalMatching", confidence=950, decision=decision,
        ontology_release=ontology.release, n_cells=7,
    )  # fmt: skip
    return replace(row, **more)


def findings_of(before, after):
    return {finding.code: finding for finding in release_findings(before, after, ontology=NEW)}


@pytest.fixture(scope="module")
def changes():
    names = {term: OLD.name(term) for term in OLD.terms}
    return {change.term: change for change in changed_terms(names, NEW, before=OLD)}


def test_between_two_real_releases_terms_die_move_and_are_renamed(changes):
    withdrawn = [change for change in changes.values() if change.is_withdrawn]
    assert withdrawn
    assert all(NEW.resolve(change.term) == change.replacement for change in withdrawn if change.replacement)
    assert any(change.replacement for change in withdrawn)
    assert sum(bool(change.new_name) for change in changes.values()) > 10
    moved = [change for change in changes.values() if change.gained or change.lost]
    assert len(moved) > 100
    for change in moved:
        assert OLD.ancestors(change.term) | set(change.gained) == NEW.ancestors(change.term) | set(change.lost)


def test_what_is_equal_in_both_releases_is_not_told(changes):
    same = [t for t in NEW.terms if t in OLD and OLD.records[t].name == NEW.records[t].name]
    assert {t for t in same if OLD.ancestors(t) == NEW.ancestors(t)}.isdisjoint(changes)


def test_each_kind_of_change_is_a_finding_of_its_own_with_its_cells(changes):
    dead = next(c for c in changes.values() if c.replacement)
    renamed = next(c for c in changes.values() if c.new_name and not c.gained and not c.lost)
    moved = next(c for c in changes.values() if c.lost and not c.new_name)
    before = [mapping(c.term, OLD, label=c.term) for c in (dead, renamed, moved)]
    after = [mapping(NEW.resolve(m.term), NEW, label=m.contributor_label) for m in before]
    found = findings_of(before, after)
    assert set(found) == {"N-RELEASE-01", "N-RELEASE-03", "W-RELEASE-04"}
    assert f"{dead.term} ({OLD.name(dead.term)}) -> {dead.replacement}" in found["N-RELEASE-01"].examples[0]
    assert "(7 cells)" in found["N-RELEASE-01"].examples[0]
    assert found["W-RELEASE-04"].where == f"CL {OLD.release} -> {NEW.release}"


def test_a_label_that_is_read_differently_is_told_and_one_that_follows_its_replacement_is_not(changes):
    dead = next(c for c in changes.values() if c.replacement)
    before = [mapping(dead.term, OLD, label="dead"), mapping("CL:0000236", OLD, label="b")]
    after = [mapping(dead.replacement, NEW, label="dead"), mapping("CL:0000084", NEW, label="b")]
    assert findings_of(before, after)["N-RELEASE-05"].examples == ("d: 'b': CL:0000236 -> CL:0000084",)


def test_under_the_same_release_nothing_is_told():
    assert findings_of([mapping("CL:0000236", NEW)], [mapping("CL:0000084", NEW)]) == {}


def test_a_release_that_is_not_shipped_is_compared_by_names_and_said():
    before = [mapping("CL:0000236", OLD, term_name="B lymphoid cell", ontology_release="v1999-01-01")]
    assert set(findings_of(before, [mapping("CL:0000236", NEW)])) == {"N-RELEASE-03", "W-RELEASE-06"}


class TestReviewsStand:
    """A review outlives the release under which it was made."""

    def test_a_replaced_term_is_followed_and_recorded(self, changes):
        dead = next(c for c in changes.values() if c.replacement)
        old = mapping(dead.term, OLD, decision="reviewed", reviewer="AB", review_date="2026-01-31", comment="seen")
        (kept,), findings = keep_reviewed([mapping("CL:0000236", NEW)], [old])
        assert (kept.term, kept.decision, kept.reviewer, kept.review_date) == (
            dead.replacement, "reviewed", "AB", "2026-01-31")  # fmt: skip
        assert kept.comment == f"seen; {dead.term} ({OLD.name(dead.term)}) is {dead.replacement} since {NEW.release}"
        assert kept.ontology_release == NEW.release
        assert findings == ()

    def test_a_term_that_died_leaves_the_review_without_a_term_and_not_to_the_mapper(self):
        records = {"X:1": TermRecord(name="cell"), "X:2": TermRecord(name="gone", obsolete=True)}
        release = ontology_of("X", "2", records)
        old = LabelMapping(
            dataset_id="d", contributor_label="x", predicate=Predicate.EXACT, term="X:2", term_name="gone",
            justification="semapv:MappingReview", confidence=1000, decision="reviewed", ontology_release="1",
        )  # fmt: skip
        proposed = replace(old, term="X:1", term_name="cell", decision="auto")
        (kept,), findings = keep_reviewed([proposed], [old], ontology=release)
        assert (kept.term, kept.predicate, kept.decision) == ("", Predicate.NONE, "reviewed")
        assert "X:2 (gone) is withdrawn in 2" in kept.comment
        assert [finding.code for finding in findings] == ["E-REVIEW-07"]
        again, told = keep_reviewed([proposed], [kept], ontology=release)
        assert (again, told) == ((kept,), ())

    def test_a_review_of_a_label_that_is_gone_is_told(self):
        old = mapping("CL:0000236", NEW, label="gone", decision="reviewed")
        merged, findings = keep_reviewed([mapping("CL:0000084", NEW)], [old])
        assert merged[0].term == "CL:0000084"
        assert [finding.code for finding in findings] == ["W-REVIEW-03"]
