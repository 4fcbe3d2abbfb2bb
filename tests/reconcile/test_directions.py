"""In SKOS the object of broadMatch is the broader one; a table that says the opposite is caught."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.candidates import lexicon_of
from cytolabe.reconcile.directions import Direction, Statement, direction_of, lint_directions, opposite
from cytolabe.records import Predicate

CL = load_ontology()
LEXICON = lexicon_of(CL)
CLUB, T, CD4, B, MONOCYTE = "CL:0000158", "CL:0000084", "CL:0000624", "CL:0000236", "CL:0000576"
NAMED = sorted(term for term in CL.terms if CL.is_a(term, "CL:0000738") and CL.parents(term))


def codes(*rows):
    statements = [Statement(label=label, term=term, predicate=predicate) for label, predicate, term in rows]
    return [finding.code for finding in lint_directions(statements, ontology=CL)]


@pytest.mark.parametrize(
    ("label", "term", "direction"),
    [
        ("Club (nasal)", CLUB, Direction.NARROWER),
        ("Proliferating B cells", B, Direction.NARROWER),
        ("CD4 T cells", T, Direction.NARROWER),
        ("T cells", CD4, Direction.BROADER),
        ("monocytes", MONOCYTE, Direction.SAME),
        ("Mono", MONOCYTE, Direction.SAME),
        ("xyzzy", MONOCYTE, Direction.UNDECIDED),
        ("", MONOCYTE, Direction.UNDECIDED),
        ("B cells", MONOCYTE, Direction.UNDECIDED),
    ],
)
def test_words_and_graph_tell_how_a_label_stands_to_a_term(label, term, direction):
    assert direction_of(label, term, LEXICON) is direction


def test_a_nasal_club_cell_is_a_broad_match_and_nothing_else():
    assert codes(("Club (nasal)", Predicate.BROAD, CLUB)) == []
    assert codes(("Club (nasal)", Predicate.NARROW, CLUB)) == ["W-DIRECTION-01"]


@settings(deadline=None, max_examples=25)
@given(child=st.sampled_from(NAMED))
def test_a_name_under_its_parent_is_broad_and_turned_round_it_is_caught(child):
    parent = CL.parents(child)[0]
    right, wrong = ((CL.name(child), predicate, parent) for predicate in (Predicate.BROAD, Predicate.NARROW))
    assert codes(right) == []
    expected = direction_of(CL.name(child), parent, LEXICON)
    assert codes(wrong) == (["W-DIRECTION-01"] if expected is Direction.NARROWER else [])


def test_an_exact_match_above_the_named_term_is_too_coarse_and_mere_style_is_not():
    assert codes(("CD4 T cells", Predicate.EXACT, T)) == ["W-DIRECTION-02"]
    assert codes(("Resting odd B cells", Predicate.EXACT, B)) == []
    # Rule R6: the study's context makes `memoryt` exactly a CD4 memory T cell.
    assert codes(("memoryt", Predicate.EXACT, "CL:0000897")) == []


def test_a_pair_in_both_directions_is_contrary():
    rows = [("xyzzy", Predicate.BROAD, CLUB), ("xyzzy", Predicate.NARROW, CLUB)]
    assert codes(*rows) == ["W-DIRECTION-03"]


def test_rows_without_a_live_term_are_passed_over():
    assert codes(("x", Predicate.NONE, ""), ("y", Predicate.NARROW, "CL:9999999")) == []


def test_reading_from_the_other_side_twice_changes_nothing():
    for predicate in Predicate:
        assert opposite(opposite(predicate)) is predicate
    assert opposite(Predicate.EXACT) is Predicate.EXACT
    assert opposite(Predicate.BROAD) is Predicate.NARROW
