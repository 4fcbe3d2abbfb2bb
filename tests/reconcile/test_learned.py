"""The learned order beside the words: it helps where words are weak, and breaks no trap where they are not."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.ontology.graph import TermRecord, load_ontology, ontology_of
from cytolabe.reconcile import learned
from cytolabe.reconcile.candidates import Candidate
from cytolabe.reconcile.combine import ACCEPT
from cytolabe.reconcile.labels import LABEL_COLUMNS, reconcile_labels
from cytolabe.reconcile.learned import LEARNED, Learned, choice_of, learned_orders
from cytolabe.reconcile.memory import memory_of
from cytolabe.records import MemoryRow, Predicate

CL = load_ontology()
T_CELL, B_CELL, CD4, ENDOTHELIAL, MEMORY_T = "CL:0000084", "CL:0000236", "CL:0000624", "CL:0000115", "CL:0000813"


def words(term, confidence, *, kind="name", doubtful=False):
    return Candidate(term=term, kind=kind, similarity=1.0, matched="x", doubtful=doubtful), confidence, ""


def order(term, lineage):
    return Learned(terms=(term,), shares=(1000,), lineage=lineage, exact=lineage // 2)


def together(said, learned, parent=""):
    return choice_of(said, learned, parent_term=parent, ontology=CL)


def test_a_label_is_ranked_by_itself():
    alone = learned_orders([("endoth. cels", "")], ontology=CL)
    beside = learned_orders([("B", ""), ("endoth. cels", ""), ("zzz", "skin")], ontology=CL)
    key = ("endoth. cels", "")
    assert alone[key] == beside[key]
    assert alone[key].terms[0] == ENDOTHELIAL


def test_a_release_that_the_model_was_not_made_for_leaves_the_words_alone():
    other = ontology_of("CL", "of tomorrow", {"CL:0000000": TermRecord(name="cell")})
    assert learned_orders([("B cell", "")], ontology=other) == {}


def test_words_and_order_that_agree_are_as_sure_as_the_surer():
    assert together(words(T_CELL, 750), order(T_CELL, 940)).confidence == 940
    assert together(words(T_CELL, 980), order(T_CELL, 940)).confidence == 980


def test_a_surer_order_replaces_weak_words_and_says_so():
    chosen = together(words(T_CELL, 370, kind="similar"), order(B_CELL, 930))
    assert (chosen.term, chosen.confidence, chosen.candidate) == (B_CELL, 930, None)
    assert "learned order" in chosen.evidence
    assert "similar" in chosen.evidence


def test_two_sure_claims_on_two_lineages_wait_for_a_person():
    chosen = together(words(T_CELL, 980), order(B_CELL, 950))
    assert chosen.term == T_CELL
    assert chosen.confidence < ACCEPT
    assert B_CELL in chosen.evidence


def test_an_order_off_the_lineage_of_the_parent_is_not_heard():
    assert together(words(T_CELL, 400), order(B_CELL, 950), parent=T_CELL).term == T_CELL


@given(
    confidence=st.integers(0, 1000),
    lineage=st.integers(0, 1000),
    term=st.sampled_from([T_CELL, B_CELL, CD4, MEMORY_T]),
    other=st.sampled_from([T_CELL, B_CELL, CD4, MEMORY_T]),
)
def test_what_is_held_back_for_its_meaning_is_never_accepted_through_the_order(confidence, lineage, term, other):
    said = words(term, min(confidence, 700), doubtful=True)
    assert together(said, order(other, lineage)).confidence < ACCEPT


def test_what_is_recalled_of_one_label_moves_no_other():
    rows = [
        dict.fromkeys(LABEL_COLUMNS, "")
        | {"dataset_id": "d", "contributor_label": label, "tissue": "lung", "n_cells": 9}
        for label in ("B cells", "Endoth_lin", "zorblax")
    ]
    said = MemoryRow(label="zorblax", term=B_CELL, predicate=Predicate.EXACT, tissue="lung", source="one.tsv",
                     justification="semapv:ManualMappingCuration", curator="one", source_digest="sha256:0")  # fmt: skip
    before, _ = reconcile_labels(pd.DataFrame(rows), ontology=CL)
    after, _ = reconcile_labels(pd.DataFrame(rows), ontology=CL, memory=memory_of([said], ontology=CL))
    assert after[:2] == before[:2]
    assert after[2].term == B_CELL


@pytest.mark.parametrize(("label", "tissue"), [("Hepatoc", "liver"), ("musc satelite", "muscle")])
def test_a_term_of_the_order_is_justified_as_such(label, tissue):
    row = dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": "d", "contributor_label": label, "tissue": tissue}
    mappings, _ = reconcile_labels(pd.DataFrame([row | {"n_cells": 9}]), ontology=CL)
    assert mappings[0].justification == LEARNED or "learned order" in mappings[0].evidence


def test_labels_of_one_call_and_tissue_are_no_context_of_each_other():
    asked = [("endoth. cels", ""), ("B", ""), ("zzz", "")]
    together_asked = learned_orders(asked, ontology=CL)
    assert all(learned_orders([one], ontology=CL)[one] == together_asked[one] for one in asked)


def test_an_atlas_of_many_labels_is_ranked_a_part_at_a_time_with_the_same_answers(monkeypatch):
    asked = [("B", "blood"), ("naive b", ""), ("endoth. cels", ""), ("Kupfer cels", "liver"), ("musc satelite", "")]
    whole = learned_orders(asked, ontology=CL)
    monkeypatch.setattr(learned, "_AT_ONCE", 2)
    assert learned_orders(asked, ontology=CL) == whole


@pytest.mark.parametrize(
    ("label", "tissue", "elsewhere", "term"),
    [
        ("goblet cell", "lung", "colon", "lung goblet cell"),
        ("goblet cell", "colon", "lung", "intestine goblet cell"),
        ("macrophage", "lung", "liver", "lung macrophage"),
        ("macrophage", "liver", "lung", "Kupffer cell"),
        ("basal cell", "lung", "prostate gland", "respiratory basal cell"),
        ("endothelial", "lung", "kidney", "lung endothelial cell"),
        ("pericyte", "kidney", "brain", "renal interstitial pericyte"),
        ("fibroblast", "skin of body", "lung", "skin fibroblast"),
    ],
)
def test_the_tissue_lifts_the_term_of_its_organ_and_pushes_it_down_elsewhere(label, tissue, elsewhere, term):
    ontology = load_ontology("CL")
    found = learned_orders([(label, tissue), (label, elsewhere), (label, "")], ontology=ontology)

    def share(where):
        order = found[label, where]
        return {ontology.name(t): s for t, s in zip(order.terms, order.shares, strict=True)}.get(term, 0)

    assert share(tissue) > 1.5 * max(share(elsewhere), share(""))
