"""The finest term that the evidence supports answers; a term above all classes is no evidence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.errors import UsageError
from cytolabe.ontology.answers import answer_terms, finest_supported, verdicts
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of
from cytolabe.ontology.resolutions import GROUPING_TERMS

CL = load_ontology()
T, CD4, CD8, B, NK, MONO = "CL:0000084", "CL:0000624", "CL:0000625", "CL:0000236", "CL:0000623", "CL:0000576"
TREE = hierarchy_of((T, CD4, CD8, B, NK, MONO), ontology=CL)
ANSWERS = answer_terms(TREE, ontology=CL)
LEAST = np.full(len(ANSWERS.terms), 0.9)

probabilities = st.lists(
    st.lists(st.floats(0.001, 1), min_size=5, max_size=5), min_size=1, max_size=15
).map(lambda rows: np.array(rows) / np.sum(rows, axis=1, keepdims=True))  # fmt: skip


def row(**share):
    of = {"CD4": CD4, "CD8": CD8, "B": B, "NK": NK, "MONO": MONO}
    return np.array([[share.get(name, 0.0) for one in TREE.classes for name in of if of[name] == one]])


def answered(probability, least=LEAST):
    place = finest_supported(ANSWERS.probability(probability), ANSWERS, least)[0]
    return ANSWERS.terms[place] if place >= 0 else "unknown"


def test_every_class_may_answer_and_nothing_above_all_of_them():
    assert set(TREE.classes) <= set(ANSWERS.terms)
    assert not ANSWERS.covers.all(axis=1).any()
    assert not set(ANSWERS.terms) & GROUPING_TERMS
    assert len({tuple(cover) for cover in ANSWERS.covers}) == len(ANSWERS.terms)


def test_of_terms_over_the_same_classes_the_label_of_the_data_answers():
    assert T in ANSWERS.terms
    both = {term for term, cover in zip(ANSWERS.terms, ANSWERS.covers, strict=True) if cover.sum() == 2}
    assert both == {T}


def test_what_a_model_cannot_tell_apart_is_answered_by_the_more_general_label():
    memory, effector_memory = "CL:0000909", "CL:0000913"
    tree = hierarchy_of((memory, effector_memory, B, NK), ontology=CL)
    assert effector_memory in tree.classes
    answers = answer_terms(tree, ontology=CL)
    assert memory in answers.terms
    assert effector_memory not in answers.terms
    assert [answers.terms[place] for place in answers.of_class] == [
        memory if one == effector_memory else one for one in tree.classes
    ]
    assert answers.levels[answers.terms.index(memory)] == "fine"


def test_it_climbs_from_the_class_to_what_is_above_it_to_nothing():
    assert answered(row(CD4=0.95, CD8=0.05)) == CD4
    assert answered(row(CD4=0.5, CD8=0.45, B=0.05)) == T
    lymphocyte = answered(row(CD4=0.3, CD8=0.3, B=0.2, NK=0.2))
    assert CL.name(lymphocyte) == "lymphocyte"
    assert answered(row(CD4=0.3, B=0.2, MONO=0.5)) == "unknown"


def test_a_term_that_never_answers_is_passed_over_for_the_one_above_it():
    least = np.where([term == CD4 for term in ANSWERS.terms], np.inf, LEAST)
    assert answered(row(CD4=0.95, CD8=0.05), least) == T
    assert answered(row(CD4=1.0), np.full(len(LEAST), np.inf)) == "unknown"


@settings(deadline=None)
@given(probability=probabilities)
def test_a_coarser_term_never_has_less_probability_than_one_below_it(probability):
    of_terms = ANSWERS.probability(probability)
    assert ((of_terms >= 0) & (of_terms <= 1)).all()
    for i, low in enumerate(ANSWERS.terms):
        for j, high in enumerate(ANSWERS.terms):
            if CL.is_a(low, high):
                assert (of_terms[:, j] >= of_terms[:, i] - 1e-12).all()


@settings(deadline=None)
@given(probability=probabilities)
def test_the_order_of_cells_changes_nothing(probability):
    found = finest_supported(ANSWERS.probability(probability), ANSWERS, LEAST)
    back = finest_supported(ANSWERS.probability(probability[::-1]), ANSWERS, LEAST)
    assert np.array_equal(found, back[::-1])


def test_a_lower_threshold_never_makes_an_answer_coarser():
    rng = np.random.default_rng(0)
    probability = ANSWERS.probability(rng.dirichlet(np.full(5, 0.3), 500))
    strict, mild = (finest_supported(probability, ANSWERS, np.full(len(LEAST), t)) for t in (0.9, 0.6))
    assert ((mild <= strict) | (strict == -1)).all()
    assert ((mild >= 0) | (strict == -1)).all()


def test_an_answer_above_the_label_is_right_and_one_below_it_nobody_can_judge():
    of = verdicts(ANSWERS, TREE.labels, ontology=CL)
    at = {term: place for place, term in enumerate(ANSWERS.terms)}
    label = {name: place for place, name in enumerate(TREE.labels)}
    assert of[at[T], label[CD4]] == 1
    assert of[at[CD4], label[CD4]] == 1
    assert of[at[CD4], label[T]] == 0
    assert of[at[CD8], label[CD4]] == -1
    assert of[at[B], label[T]] == -1


def test_columns_of_another_model_are_refused():
    n_terms = len(ANSWERS.terms) - 1
    with pytest.raises(UsageError, match=f"{n_terms} columns of probability and {n_terms} thresholds"):
        finest_supported(np.zeros((1, n_terms)), ANSWERS, np.zeros(n_terms))
