"""What cells look like holds labels back, is told as a reason, and accepts nothing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile.combine import ACCEPT
from cytolabe.reconcile.expression import expression_evidence, held_back, odds_of, posterior
from cytolabe.reconcile.likeness import LabelProfiles, likeness
from cytolabe.records import LabelMapping, Predicate

TERMS = {"B": "CL:0000236", "T": "CL:0000084", "NK": "CL:0000623", "Mono": "CL:0000576"}
GENES = tuple(f"G{i:04d}" for i in range(600))


def profile_of(name, looks, *, study="", genes=GENES, n_cells=50, seed=0):
    """Return the profiles of a data set: label -> the type that its cells are; each type has 60 genes of its own."""
    rng = np.random.default_rng([seed, *name.encode()])
    types = list(TERMS)
    means = np.zeros((len(looks), len(GENES)))
    for row, label in enumerate(sorted(looks)):
        first = 60 * types.index(looks[label])
        means[row] = rng.gamma(0.5, 0.2, len(GENES))
        means[row, first : first + 60] += rng.gamma(2, 0.5, 60)
    columns = [GENES.index(gene) for gene in genes]
    return LabelProfiles(
        dataset_id=name, study=study or name, labels=tuple(sorted(looks)), genes=tuple(genes),
        n_cells=np.full(len(looks), n_cells), means=means[:, columns],
    )  # fmt: skip


def mapping(name, label, *, decision="auto", confidence=970, term=""):
    return LabelMapping(
        dataset_id=name, contributor_label=label, predicate=Predicate.EXACT, term=term or TERMS[label], term_name="",
        justification="semapv:LexicalMatching", confidence=confidence, decision=decision, ontology_release="x", n_cells=50,
    )  # fmt: skip


HONEST = {label: label for label in TERMS}
SWAPPED = {**HONEST, "B": "T", "T": "B"}


def judged(profiles, mappings):
    evidence = expression_evidence(profiles, mappings, ontology=load_ontology("CL"))
    return evidence, *held_back(mappings, evidence)


def mappings_of(profiles):
    return [mapping(p.dataset_id, label) for p in profiles for label in p.labels]


def held(weighed):
    return {(m.dataset_id, m.contributor_label) for m in weighed if m.decision == "review"}


def test_labels_whose_cells_look_like_another_type_wait_for_a_person_and_keep_their_term():
    profiles = [profile_of("ash", HONEST), profile_of("elm", HONEST), profile_of("yew", SWAPPED)]
    _, weighed, findings = judged(profiles, mappings_of(profiles))
    assert held(weighed) == {("yew", "B"), ("yew", "T")}
    row = next(m for m in weighed if (m.dataset_id, m.contributor_label) == ("yew", "B"))
    assert (row.term, row.justification) == ("CL:0000236", "semapv:InstanceBasedMatching")
    assert row.confidence < ACCEPT
    assert "looks like CL:0000084" in row.evidence
    assert [(f.code, f.n_affected) for f in findings] == [("W-LABEL-11", 2)]


def test_nothing_is_held_back_where_every_label_is_what_it_says():
    profiles = [profile_of(name, HONEST) for name in ("ash", "elm", "yew")]
    mappings = mappings_of(profiles)
    evidence, weighed, findings = judged(profiles, mappings)
    assert list(weighed) == mappings
    assert not findings
    assert evidence.n_compared == len(mappings)


def test_a_label_is_not_blamed_by_one_that_is_blamed_more():
    """`yew` holds one wrong label; the honest one of `ash`, whose only witness it is, stays."""
    profiles = [profile_of("ash", HONEST), profile_of("yew", {**HONEST, "B": "T"})]
    _, weighed, _ = judged(profiles, mappings_of(profiles))
    assert held(weighed) == {("yew", "B")}


def test_data_sets_of_one_study_do_not_speak_of_each_other():
    profiles = [profile_of("ash", HONEST, study="one"), profile_of("yew", SWAPPED, study="one")]
    mappings = mappings_of(profiles)
    evidence, weighed, findings = judged(profiles, mappings)
    assert list(weighed) == mappings
    assert len(evidence.silent) == len(mappings)
    assert [f.code for f in findings] == ["N-LABEL-13"]


def test_a_type_that_is_missing_elsewhere_is_not_held_against_a_label():
    others = {label: label for label in ("T", "NK", "Mono")}
    profiles = [profile_of("ash", others), profile_of("elm", others), profile_of("yew", HONEST)]
    _, weighed, _ = judged(profiles, mappings_of(profiles))
    assert not held(weighed)


def test_too_few_cells_and_too_few_shared_genes_are_no_evidence_and_counted():
    few_cells = dataclasses.replace(profile_of("yew", SWAPPED), n_cells=np.array([50, 9, 50, 9]))
    profiles = [profile_of("ash", HONEST), few_cells]
    evidence, _, findings = judged(profiles, mappings_of(profiles))
    assert {key for key, why in evidence.silent.items() if "cells" in why} == {("yew", "Mono"), ("yew", "T")}
    assert next(f for f in findings if f.code == "N-LABEL-13").n_affected == 2
    profiles = [profile_of("ash", HONEST, genes=GENES[:199]), profile_of("yew", SWAPPED)]
    evidence, weighed, _ = judged(profiles, mappings_of(profiles))
    assert not held(weighed)
    assert len(evidence.silent) == 8


def test_what_a_person_decided_stands_and_is_told():
    profiles = [profile_of("ash", HONEST), profile_of("elm", HONEST), profile_of("yew", SWAPPED)]
    mappings = [
        dataclasses.replace(m, decision="reviewed", confidence=1000) if m.dataset_id == "yew" else m
        for m in mappings_of(profiles)
    ]
    _, weighed, findings = judged(profiles, mappings)
    assert list(weighed) == mappings
    assert [(f.code, f.n_affected) for f in findings] == [("W-LABEL-12", 2)]


def test_expression_accepts_no_label_and_witnesses_are_accepted_labels_only():
    profiles = [profile_of(name, HONEST) for name in ("ash", "elm", "yew")]
    mappings = [
        dataclasses.replace(m, decision="review", confidence=700) if m.contributor_label == "B" else m
        for m in mappings_of(profiles)
    ]
    evidence, weighed, _ = judged(profiles, mappings)
    assert list(weighed) == mappings
    assert {r.justification for r in evidence.reasons} == {"semapv:InstanceBasedMatching"}
    assert "CL:0000236" not in {r.term for r in evidence.reasons}


def test_the_nearest_term_is_a_reason_with_its_label_and_its_measure():
    profiles = [profile_of(name, HONEST) for name in ("ash", "yew")]
    mappings = [mapping("ash", label) for label in TERMS] + [
        mapping("yew", label, decision="abstained", confidence=0) for label in TERMS
    ]
    evidence, _, _ = judged(profiles, mappings)
    found = [r for r in evidence.reasons if (r.dataset_id, r.contributor_label) == ("yew", "NK")]
    assert found[0].term == TERMS["NK"]
    assert found[0].similarity > 0
    assert "cells like 'NK' of ash" in found[0].matched


def test_labels_that_are_like_nothing_are_held_back_by_nothing():
    """Noise is near to something by chance; that is no evidence."""
    rng = np.random.default_rng(5)
    profiles = [
        dataclasses.replace(profile_of(f"lab{i:02d}", HONEST), means=rng.gamma(0.5, 0.2, (4, len(GENES))))
        for i in range(12)
    ]
    mappings = mappings_of(profiles)
    evidence, weighed, _ = judged(profiles, mappings)
    assert list(weighed) == mappings
    assert not evidence.reasons


def test_the_order_of_data_sets_and_mappings_changes_nothing():
    profiles = [profile_of("ash", HONEST), profile_of("elm", HONEST), profile_of("yew", SWAPPED)]
    mappings = mappings_of(profiles)
    first, *_ = judged(profiles, mappings)
    second, *_ = judged(profiles[::-1], mappings[::-1])
    assert first.reasons == second.reasons
    assert first.against == second.against


@given(seed=st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_likeness_is_spearmans_over_the_markers_and_does_not_mind_depth(seed):
    own, other = profile_of("ash", HONEST, seed=seed), profile_of("yew", HONEST, seed=seed + 1)
    found = likeness(own, other)
    union = set()
    for row in range(4):
        contrast = other.means[row] - np.delete(other.means, row, axis=0).mean(axis=0)
        union |= set(np.argsort(-contrast)[:20].tolist())
    union = sorted(union)
    for at in range(4):
        for to in range(4):
            expected = spearmanr(own.means[at, union], other.means[to, union]).statistic
            assert found.correlation[at, to] == pytest.approx(expected, abs=1e-9)
    deeper = likeness(dataclasses.replace(own, means=3 * own.means), other)
    np.testing.assert_allclose(deeper.correlation, found.correlation, atol=1e-12)


@given(before=st.integers(1, 1000), margin=st.floats(-2, 2))
def test_odds_against_a_term_only_lower_its_confidence(before, margin):
    after = posterior(before, min(1.0, odds_of(margin)))
    assert 0 <= after <= before
