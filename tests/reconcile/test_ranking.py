import json

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from cytolabe.errors import IntegrityError
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.resolutions import GROUPING_TERMS
from cytolabe.randomness import rng_for
from cytolabe.reconcile.learned import learned_orders
from cytolabe.reconcile.ranking import shipped
from cytolabe.reconcile.ranking.calibration import AUTO_LINEAGE, fit_calibrator
from cytolabe.reconcile.ranking.engine import FEATURES, Group, bench_of, weigh
from cytolabe.reconcile.ranking.features import Pairs
from cytolabe.reconcile.ranking.lexical import VIEWS, term_index_of, views_of
from cytolabe.reconcile.ranking.memory import MEMORY_FEATURES, Query, entries_of, joined, seed_entries
from cytolabe.reconcile.ranking.ranker import Ranker, _plain, fit_ranker, softmax_in_rows
from cytolabe.reconcile.ranking.shipped import shipped_model
from cytolabe.reconcile.ranking.synthetic import synthetic_studies

CL = load_ontology()
INDEX = term_index_of(CL)
SEEDS = seed_entries(INDEX)


def query(*labels, tissue="", source="study"):
    return Query(label=labels, tissue=(tissue,) * len(labels), source=(source,) * len(labels))


def weighed(asked, entries=SEEDS, barred=frozenset()):
    bench = bench_of(asked, entries, index=INDEX)
    rows = np.arange(len(asked.label), dtype=np.int64)
    return weigh(bench, [Group(rows=rows, barred=barred)])


def column(found, name):
    return found.features[:, FEATURES.index(name)]


def test_a_name_of_the_release_is_nearest_to_itself_in_every_view_that_drops_no_word():
    terms = ("CL:0000084", "CL:0000653", "CL:0000129", "CL:0002063")
    views = views_of([CL.name(term) for term in terms], INDEX)
    for term in terms:
        at = views.position[CL.name(term)]
        for view in ("raw", "read"):
            similarity = views.similarity[view][at]
            assert similarity[INDEX.position[term]] == pytest.approx(similarity.max(), abs=1e-5), (term, view)


def test_the_similarity_of_a_label_does_not_depend_on_what_stands_beside_it():
    alone = views_of(["Proximal Tub."], INDEX)
    beside = views_of(["Proximal Tub.", "zzz 17", "B cells"], INDEX)
    for view in VIEWS:
        np.testing.assert_allclose(
            alone.similarity[view][0], beside.similarity[view][beside.position["Proximal Tub."]], atol=1e-6
        )


@pytest.mark.parametrize(("label", "term"), [("endoth", "CL:0000115"), ("smc", "CL:0000192")])
def test_a_cut_word_and_initials_find_their_names(label, term):
    views = views_of([label], INDEX)
    assert views.similarity["token_name"][0][INDEX.position[term]] > 0.4


def test_the_memory_of_a_barred_source_reaches_no_row():
    kept = entries_of(["zyx"], ["CL:0000236"], sources=["open"], tissues=[""], index=INDEX)
    secret = entries_of(["qwv 7"], ["CL:0000084"], sources=["secret"], tissues=[""], index=INDEX)
    other = entries_of(["qwv 7"], ["CL:0000236"], sources=["secret"], tissues=[""], index=INDEX)
    found = [
        weighed(query("qwv 7", "T cells"), joined(kept, answer), barred=frozenset({"secret"}))
        for answer in (secret, other)
    ]
    assert np.array_equal(found[0].pairs.term, found[1].pairs.term)
    assert np.array_equal(found[0].features, found[1].features)


def test_what_a_study_calls_a_label_is_remembered_for_the_next():
    told = entries_of(["qwv 7"], ["CL:0000084"], sources=["other"], tissues=[""], index=INDEX)
    found = weighed(query("QWV_7"), told)
    best = found.pairs.term[np.argmax(column(found, "near_vote"))]
    assert INDEX.terms[int(best)] == "CL:0000084"
    assert column(found, "any_twin").max() > 0


def test_twins_are_counted_in_studies_not_in_rows():
    many = entries_of(["qwv"] * 3, ["CL:0000084"] * 3, sources=["one"] * 3, tissues=["a", "b", "c"], index=INDEX)
    found = weighed(query("qwv"), many)
    assert column(found, "any_twin").max() == pytest.approx(np.log(2), abs=1e-5)


def test_parents_and_children_of_a_near_name_are_weighed_too():
    found = weighed(query("alveolar macrophages"))
    terms = {INDEX.terms[int(at)] for at in found.pairs.term}
    assert {"CL:0000583", *CL.parents("CL:0000583")} <= terms


def tiny_pairs(rng, n_rows=120, n_terms=6):
    pairs = Pairs.of([np.arange(n_terms, dtype=np.int64) for _ in range(n_rows)])
    features = rng.normal(size=(n_rows * n_terms, 3)).astype(np.float32)
    score = 3 * features[:, 0].reshape(n_rows, n_terms)
    is_right = (score == score.max(axis=1, keepdims=True)).ravel()
    return pairs, features, is_right


def test_the_ranker_finds_what_decides_and_is_the_same_twice():
    pairs, features, is_right = tiny_pairs(rng_for(1, "tiny"))
    fitted = fit_ranker(features, is_right, pairs=pairs, seed=3)
    again = fit_ranker(features, is_right, pairs=pairs, seed=3)
    scores = fitted.scores(features, pairs)
    assert np.array_equal(scores, again.scores(features, pairs))
    assert np.mean(scores.reshape(120, 6).argmax(axis=1) == is_right.reshape(120, 6).argmax(axis=1)) > 0.95
    assert abs(fitted.weight[0]) > 3 * abs(fitted.weight[1:]).max()


def test_what_is_written_as_text_orders_as_what_was_fitted():
    pairs, features, is_right = tiny_pairs(rng_for(2, "tiny"))
    fitted = fit_ranker(features, is_right, pairs=pairs, seed=3)
    read = Ranker.of(json.loads(json.dumps(fitted.document())))
    np.testing.assert_allclose(read.scores(features, pairs), fitted.scores(features, pairs), atol=1e-6)


def test_plain_trees_say_what_the_library_says():
    rng = rng_for(4, "trees")
    features = rng.normal(size=(600, 4)).astype(np.float32)
    right = features[:, 0] * features[:, 1] > 0
    boosted = HistGradientBoostingClassifier(max_iter=12, max_leaf_nodes=8, random_state=0).fit(features, right)
    baseline, trees = _plain(boosted)
    ours = baseline + np.sum([tree.predict(features) for tree in trees], axis=0)
    np.testing.assert_allclose(ours, boosted.decision_function(features), atol=1e-9)


def test_shares_of_a_row_sum_to_one():
    pairs = Pairs.of([np.arange(3, dtype=np.int64), np.arange(5, dtype=np.int64)])
    share = softmax_in_rows(np.arange(8, dtype=np.float64), pairs)
    assert np.add.reduceat(share, [0, 3]) == pytest.approx([1, 1])


def test_confidence_is_the_share_of_right_rows_and_the_threshold_keeps_the_lineage():
    rng = rng_for(5, "calibration")
    fact = rng.normal(size=4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-2 * fact))
    lineage = truth | (rng.random(4000) < 0.6)
    facts = np.column_stack([fact, rng.normal(size=4000)])
    fitted = fit_calibrator(facts[:2000], truth[:2000], lineage[:2000], study=np.arange(2000, dtype=np.int64) // 40)
    exact, on_lineage = fitted.probabilities(facts[2000:])
    assert abs(exact.mean() - truth[2000:].mean()) < 0.03
    assert (on_lineage >= exact).all()
    accepted = fitted.accepts(exact, on_lineage)
    assert accepted.any()
    assert lineage[2000:][accepted].mean() > AUTO_LINEAGE - 0.02


def test_where_nothing_is_good_enough_nothing_is_accepted():
    rng = rng_for(6, "calibration")
    facts, right = rng.normal(size=(400, 2)), rng.random(400) < 0.5
    fitted = fit_calibrator(facts, right, right, study=np.arange(400, dtype=np.int64) // 40)
    assert not fitted.accepts(*fitted.probabilities(facts)).any()


def test_the_shipped_model_reads_names_and_answers_no_grouping_term():
    labels = ("CD8 T cells", "Podocyte", "Alveolar Macs", "oligodendrocyte precursor", "naive B", "endoth. cells")
    found = weighed(query(*labels))
    ranker, _ = shipped_model(CL)
    scores = ranker.scores(found.features, found.pairs)
    order = np.lexsort((-scores, found.pairs.row))
    first = [INDEX.terms[int(found.pairs.term[at])] for at in order[found.pairs.starts[:-1]]]
    assert first[:4] == ["CL:0000625", "CL:0000653", "CL:0000583", "CL:0002453"]
    assert not set(first) & GROUPING_TERMS


def test_a_shipped_model_that_was_changed_or_made_for_other_features_is_refused(monkeypatch):
    shipped_model.cache_clear()
    monkeypatch.setattr(shipped, "FEATURES", (*FEATURES, "one more"))
    with pytest.raises(IntegrityError, match="Run scripts/build_label_ranker"):
        shipped_model(CL)
    assert learned_orders([("B", "")], ontology=CL) == {}
    shipped._document.cache_clear()
    monkeypatch.setattr(shipped, "digest_of", lambda _: "sha256:other")
    with pytest.raises(IntegrityError, match="digest"):
        shipped_model(CL)
    with pytest.raises(IntegrityError, match="digest"):
        learned_orders([("B", "")], ontology=CL)
    shipped_model.cache_clear()
    shipped._document.cache_clear()


def test_the_same_seed_makes_the_same_studies_of_live_terms():
    first, again = (
        synthetic_studies(INDEX, n_studies=3, labels_per_study=12, rng=rng_for(9, "made up")) for _ in range(2)
    )
    assert first.query.label == again.query.label
    assert np.array_equal(first.term, again.term)
    assert all(label.strip() for label in first.query.label)


def test_features_of_words_and_of_memory_are_told_apart():
    assert len(set(FEATURES)) == len(FEATURES)
    assert FEATURES[-len(MEMORY_FEATURES) :] == MEMORY_FEATURES
