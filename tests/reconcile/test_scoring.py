"""The scorer on tables made here, and the rungs that learn nothing on the public table where it is present."""

from pathlib import Path

import numpy as np
import pytest

from cytolabe.ontology.graph import load_ontology
from cytolabe.randomness import rng_for
from cytolabe.reconcile.ranking.engine import bench_of
from cytolabe.reconcile.ranking.lexical import term_index_of
from cytolabe.reconcile.ranking.memory import Query, seed_entries
from cytolabe.reconcile.ranking.synthetic import synthetic_studies
from cytolabe.reconcile.scored import LabelTable, read_label_table, score_table, scoring
from cytolabe.reconcile.scored.folds import folds_of
from cytolabe.reconcile.scored.ladder import RUNGS, ladder_of
from cytolabe.reconcile.scored.measures import (
    calibration_error,
    ceiling_of,
    floor_of,
    measures_of,
    outcome_of,
    verbatim_rows,
)
from cytolabe.reconcile.scored.vintage import vintage_shift

CL = load_ontology()
INDEX = term_index_of(CL)
PUBLIC = Path(__file__).parents[2] / ".." / "shared" / "data" / "labels" / "contributor_label_to_cl.csv"
T, CD4, B, CELL = "CL:0000084", "CL:0000624", "CL:0000236", "CL:0000255"


def at(*terms):
    return np.array([INDEX.position[term] for term in terms], dtype=np.int64)


def table(*rows):
    label, term, source, family = zip(*rows, strict=True)
    return LabelTable(label=label, term=term, source=source, family=family, tissue=("",) * len(rows))


def test_an_answer_above_the_experts_is_too_general_and_one_below_too_specific():
    ranked = np.stack([at(T, B), at(CD4, T), at(B, T), at(CD4, B)])
    outcome = outcome_of(ranked, at(CD4, T, CD4, CD4), source=["s"] * 4, index=INDEX)
    found = measures_of(outcome)
    assert outcome.hit_1.tolist() == [False, False, False, True]
    assert outcome.hit_5.tolist() == [False, True, False, True]
    assert outcome.lineage.tolist() == [True, True, False, True]
    assert (found["too_general"], found["too_specific"]) == (0.25, 0.25)


def test_no_answer_is_never_right():
    outcome = outcome_of(np.full((1, 5), -1, dtype=np.int64), at(T), source=["s"], index=INDEX)
    assert measures_of(outcome)["lineage_compatible"] == 0


def test_macro_lets_a_small_study_count_as_much_as_a_large_one():
    ranked = np.stack([at(T)] * 10)
    truth = at(*[T] * 9, B)
    outcome = outcome_of(ranked, truth, source=[*["large"] * 9, "small"], index=INDEX)
    found = measures_of(outcome)
    assert found["hit_at_1"] == 0.9
    assert found["macro"]["hit_at_1"] == 0.5


def test_the_floor_is_nearly_always_on_the_lineage_and_never_the_answer():
    found = floor_of(at(T, CD4, B), INDEX)
    assert found["lineage_compatible"] == 1
    assert found["hit_at_1"] == 0


def test_the_ceiling_counts_pairs_of_curators_of_the_same_label():
    found = ceiling_of(
        table(("Tc", T, "a", "f"), ("tc", CD4, "b", "f"), ("TC", B, "c", "g"), ("alone", T, "a", "f")), index=INDEX
    )
    assert found["n_labels"] == 1
    assert found["all"] == {"n_pairs": 3, "exact": 0, "lineage_compatible": 0.3333}
    assert found["other_family"]["n_pairs"] == 2


def test_a_label_that_is_a_name_but_for_case_is_verbatim():
    rows = table(("T CELL", T, "a", "f"), ("T cells", T, "a", "f"), ("B/T", B, "a", "f"))
    assert verbatim_rows(rows, INDEX).tolist() == [True, False, False]


def test_calibration_is_zero_where_the_stated_share_is_right():
    probability = np.repeat([0.1, 0.5, 0.9], 100)
    right = np.concatenate([np.arange(100) < 10, np.arange(100) < 50, np.arange(100) < 90])
    assert calibration_error(probability, right) < 1e-6
    assert calibration_error(np.full(100, 0.9), np.zeros(100, dtype=bool)) == pytest.approx(0.9)


def test_a_small_foreign_table_is_scored_with_the_shipped_model_alone():
    rows = table(
        ("CD4 T", CD4, "a", "f"), ("B cells", B, "a", "f"), ("Podocytes", "CL:0000653", "b", "g"),
        ("zzq 17", T, "b", "g"),
    )  # fmt: skip
    found = score_table(rows, ontology=CL)
    assert found["basis"] == "shipped"
    assert found["n"] == 4
    assert found["hit_at_1"] >= 0.5
    assert [entry["source"] for entry in found["by_source"]] == ["a", "b"]
    assert set(found["baselines"]) == set(RUNGS)
    for key in ("hit_at_5", "lineage_compatible", "auto", "ece", "ceiling", "floor", "verbatim_names"):
        assert key in found


@pytest.fixture(scope="module")
def code_studies():
    """Studies that call T cells and B cells by codes that no dictionary has, and some labels in plain words."""
    plain = synthetic_studies(INDEX, n_studies=6, labels_per_study=30, rng=rng_for(3, "plain"))
    rows = [
        (label, INDEX.terms[int(term)], f"lab {source}", "labs")
        for label, term, source in zip(plain.query.label, plain.term, plain.query.source, strict=True)
    ]
    for study in range(6):
        rows += [
            (f"qwv {study}", T, f"lab synthetic:{study}", "labs"),
            (f"kzj {study}", B, f"lab synthetic:{study}", "labs"),
        ]
    return table(*dict.fromkeys(rows))


def test_a_table_given_to_train_teaches_words_that_no_dictionary_has(code_studies):
    asked = table(("QWV-41", T, "new", "other"), ("kzj 40", B, "new", "other"), ("qwv 3a", T, "new", "other"))
    shipped = score_table(asked, ontology=CL)
    taught = score_table(asked, ontology=CL, train=code_studies)
    assert taught["basis"] == "leave_study_out"
    assert shipped["lineage_compatible"] < 0.7
    assert taught["hit_at_5"] == 1
    assert taught["folds"] == [{"n": 3, "n_train": len(code_studies)}]


def test_a_study_does_not_teach_its_own_answers(code_studies):
    """A label known to one study alone must stay unknown when that study is scored, whoever is told its answer."""
    asked = table(("qwv 3", T, "lab synthetic:3", "labs"))
    kept = code_studies.rows(np.flatnonzero([source == "lab synthetic:3" for source in code_studies.source]))
    found = score_table(asked, ontology=CL, train=kept)
    assert found["folds"] == [{"n": 1, "n_train": 0}]


@pytest.mark.skipif(not PUBLIC.is_file(), reason="the public label table is not here")
def test_rungs_that_learn_nothing_score_on_the_public_table_what_the_docs_say():
    public = read_label_table(PUBLIC, ontology=CL)
    chosen = public.rows(np.arange(0, len(public), 10))
    query = Query(label=chosen.label, tissue=chosen.tissue, source=chosen.source)
    bench = bench_of(query, seed_entries(INDEX), index=INDEX)
    truth = at(*chosen.term)
    hits = {
        rung: measures_of(outcome_of(terms, truth, source=chosen.source, index=INDEX))["hit_at_1"]
        for rung, terms in ladder_of(bench).items()
    }
    assert 0.04 < hits["exact_and_synonyms"] < 0.10
    assert 0.36 < hits["raw_tfidf"] < 0.48
    assert hits["modifiers_composites"] > 0.52
    assert list(hits.values()) == sorted(hits.values())


def test_the_age_of_a_familys_terms_is_told_by_its_other_studies_alone():
    old, new = "CL:0000617", "CL:4023017"  # GABAergic neuron, sst GABAergic interneuron
    rows = [(f"label {i}", new, "own", "labs") for i in range(9)]
    rows += [(f"other label {i}", old, "sister", "labs") for i in range(60)]
    rows += [(f"far label {i}", term, "far", "else") for i in range(30) for term in (old, new)]
    trial = scoring._trial(table(*rows), None, CL)
    (fold,) = folds_of(trial.kinship, sources=["own"])
    shift = scoring._shifts(trial, fold, "leave_study_out")["own"]
    taught = at(*[old] * 60, *[old, new] * 30)
    assert np.array_equal(shift, vintage_shift(taught, np.arange(120) < 60, index=INDEX))
    assert shift[INDEX.position[new]] < -3


def test_a_table_whose_labels_begin_with_numbers_of_clusters_is_read_without_them():
    names = ("B cells", "NK cells", "CD8 T cells", "Podocytes", "Platelets")
    truth = (B, "CL:0000623", "CL:0000625", "CL:0000653", "CL:0000233")
    numbered = score_table(
        table(*((f"{i}.{n}", t, "a", "f") for i, (n, t) in enumerate(zip(names, truth, strict=True)))), ontology=CL
    )
    plain = score_table(table(*((n, t, "a", "f") for n, t in zip(names, truth, strict=True))), ontology=CL)
    assert numbered["hit_at_1"] == plain["hit_at_1"] >= 0.8
