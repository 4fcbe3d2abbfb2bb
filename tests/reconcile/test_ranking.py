import json

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from cytolabe.errors import IntegrityError
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.resolutions import GROUPING_TERMS
from cytolabe.randomness import rng_for
from cytolabe.reconcile.learned import learned_orders
from cytolabe.reconcile.ranking import shipped
from cytolabe.reconcile.ranking.calibration import AUTO_EXACT, AUTO_LINEAGE, _least_share, fit_calibrator
from cytolabe.reconcile.ranking.engine import FEATURES, Group, bench_of, weigh
from cytolabe.reconcile.ranking.features import Pairs
from cytolabe.reconcile.ranking.lexical import VIEWS, term_index_of, views_of
from cytolabe.reconcile.ranking.memory import MEMORY_FEATURES, Query, entries_of, joined, seed_entries
from cytolabe.reconcile.ranking.ranker import Ranker, Tree, _plain, fit_ranker, softmax_in_rows, study_weights
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


def test_the_number_of_threads_moves_no_digit():
    rng = rng_for(10, "threads")
    pairs = Pairs.of([np.arange(40, dtype=np.int64)] * 1500)
    features = rng.normal(size=(60000, 63)).astype(np.float32)
    score = (features[:, 0] + rng.normal(size=60000)).reshape(1500, 40)
    is_right = (score == score.max(axis=1, keepdims=True)).ravel()
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(fit_ranker(features, is_right, pairs=pairs, seed=3))
    assert np.array_equal(found[0].weight, found[1].weight)
    assert found[0].document() == found[1].document()


def test_what_is_written_as_text_orders_as_what_was_fitted():
    pairs, features, is_right = tiny_pairs(rng_for(2, "tiny"))
    fitted = fit_ranker(features, is_right, pairs=pairs, seed=3)
    read = Ranker.of(json.loads(json.dumps(fitted.document())))
    np.testing.assert_allclose(read.scores(features, pairs), fitted.scores(features, pairs), atol=1e-6)


def test_a_study_counts_by_its_own_rows_and_their_power():
    study = np.array([0] * 16 + [1] * 4, dtype=np.int64)
    for power, ratio in ((0.0, 1), (0.5, 2), (1.0, 4)):
        weight = study_weights(study, power=power)
        assert weight.mean() == pytest.approx(1)
        assert weight[-1] / weight[0] == pytest.approx(ratio)


def test_one_large_study_does_not_outvote_many_small_ones_where_studies_are_weighed():
    """In a study of 90 rows the first fact decides, in ten of three the second: whose order is learned?"""
    rng = rng_for(7, "weighed")
    n_rows, n_terms = 120, 5
    pairs = Pairs.of([np.arange(n_terms, dtype=np.int64)] * n_rows)
    features = rng.normal(size=(n_rows * n_terms, 2)).astype(np.float32)
    study = np.array([*[0] * 90, *np.repeat(np.arange(1, 11), 3)], dtype=np.int64)
    deciding = np.where((study > 0)[:, None], *(features[:, at].reshape(n_rows, n_terms) for at in (1, 0)))
    is_right = (deciding == deciding.max(axis=1, keepdims=True)).ravel()
    rows_count = fit_ranker(features, is_right, pairs=pairs, seed=3)
    studies_count = fit_ranker(features, is_right, pairs=pairs, seed=3, weight=study_weights(study, power=1.0))
    assert rows_count.weight[0] > rows_count.weight[1]
    assert studies_count.weight[1] > studies_count.weight[0]


def test_candidates_that_share_a_leaf_keep_their_linear_order():
    one = np.zeros(1)
    leaf = Tree(
        feature=one.astype(np.int64),
        threshold=one,
        left=np.array([-1], dtype=np.int64),
        right=np.array([-1], dtype=np.int64),
        value=one + 0.7,
    )
    alike = Ranker(mean=one, scale=one + 1, weight=one + 1, baseline=-2.0, trees=(leaf,))
    pairs = Pairs.of([np.arange(4, dtype=np.int64)])
    scores = alike.scores(np.array([[0.1], [0.4], [0.3], [0.2]], dtype=np.float32), pairs)
    assert np.argsort(-scores).tolist() == [1, 2, 3, 0]


def test_trees_see_facts_alone_and_never_the_linear_score_that_was_fitted_on_their_rows():
    pairs, features, is_right = tiny_pairs(rng_for(5, "tiny"))
    fitted = fit_ranker(features, is_right, pairs=pairs, seed=3)
    for ranker, n_facts in ((fitted, features.shape[1]), (shipped_model(CL)[0], len(FEATURES))):
        seen = {int(fact) for tree in ranker.trees for fact in tree.feature[tree.left >= 0]}
        assert seen
        assert max(seen) < n_facts


def test_a_term_that_came_late_is_told_from_an_old_one_and_from_one_of_an_organ():
    found = weighed(query("pvalb GABAergic interneuron", "GABAergic neuron", "kidney cell"))
    at = [FEATURES.index(name) for name in ("id_recent", "id_organ", "id_middle", "id_number")]
    told = {INDEX.terms[int(t)]: facts for t, facts in zip(found.pairs.term, found.features[:, at], strict=True)}
    assert told["CL:4023018"][:3].tolist() == [1, 0, 0]
    assert told["CL:1000497"][:3].tolist() == [0, 1, 0]
    assert told["CL:0000617"][:3].tolist() == [0, 0, 0]
    assert told["CL:4023018"][3] > told["CL:1000497"][3] > told["CL:0000617"][3]


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


def test_the_confidence_of_the_next_study_is_not_that_of_the_largest_one():
    """One study of 2,000 rows is right in nine of ten, forty of 25 in half of theirs; the facts tell them not apart."""
    rng = rng_for(8, "calibration")
    study = np.array([*[0] * 2000, *np.repeat(np.arange(1, 41), 25)], dtype=np.int64)
    right = rng.random(3000) < np.where(study == 0, 0.9, 0.5)
    fitted = fit_calibrator(rng.normal(size=(3000, 2)), right, right, study=study)
    exact, _ = fitted.probabilities(rng.normal(size=(500, 2)))
    assert right.mean() > 0.75
    assert abs(exact.mean() - 0.51) < 0.03


@pytest.mark.parametrize(("n_own", "leads"), [(9, False), (10, True)])
def test_other_studies_of_a_family_say_how_sure_its_next_one_is_where_they_are_ten(n_own, leads):
    """Thirty studies of other families are right in half of their rows, those of the own family in nine of ten."""
    rng = rng_for(9, "calibration")
    study = np.repeat(np.arange(30 + n_own, dtype=np.int64), 50)
    own = study >= 30
    right = rng.random(len(study)) < np.where(own, 0.9, 0.5)
    facts = rng.normal(size=(len(study), 2))
    alone = fit_calibrator(facts, right, right, study=study)
    fitted = fit_calibrator(facts, right, right, study=study, own=own)
    exact, _ = fitted.probabilities(facts)
    if leads:
        assert abs(exact.mean() - (0.8 * 0.9 + 0.2 * 0.5)) < 0.03
    else:
        assert np.array_equal(fitted.exact, alone.exact)
        assert fitted.least_exact == alone.least_exact


def test_the_own_family_chooses_the_threshold_and_not_the_families_that_are_right_more_often():
    rng = rng_for(10, "calibration")
    study = np.repeat(np.arange(60, dtype=np.int64), 50)
    own = study >= 40
    right = rng.random(len(study)) < np.where(own, 0.7, 0.97)
    facts = np.zeros((len(study), 2))
    assert fit_calibrator(facts, right, right, study=study, own=~own).least_exact < 1
    fitted = fit_calibrator(facts, right, right, study=study, own=own)
    assert not fitted.accepts(*fitted.probabilities(facts)).any()


@pytest.mark.parametrize(("right_of_50", "is_accepted"), [(42, False), (44, True)])
def test_what_only_just_keeps_the_promise_among_many_thresholds_is_not_accepted(right_of_50, is_accepted):
    right = np.tile(np.arange(50) < right_of_50, 100)
    facts = np.zeros((5000, 2))
    fitted = fit_calibrator(facts, right, np.ones(5000, dtype=bool), study=np.repeat(np.arange(100), 50))
    assert right.mean() > AUTO_EXACT
    assert fitted.accepts(*fitted.probabilities(facts)).any() == is_accepted


def test_studies_that_differ_widen_the_margin_by_four_of_their_errors():
    right = np.array([True] * 90 + [False] * 10)
    alike = _least_share(right, np.tile(np.arange(10), 10))
    apart = _least_share(right, np.repeat(np.arange(10), 10))
    assert alike == pytest.approx(0.9)
    assert apart == pytest.approx(0.9 - 4 * np.sqrt(9 * 1**2 + 9**2) / 100)


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


def wide_terms(asked):
    bench = bench_of(asked, SEEDS, index=INDEX, wide=True)
    rows = np.arange(len(asked.label), dtype=np.int64)
    narrow, wide = (weigh(bench, [Group(rows=rows, barred=frozenset())], wide=wide) for wide in (False, True))
    return [
        [set(found.pairs.term[found.pairs.row == row].tolist()) for row in range(len(asked.label))]
        for found in (narrow, wide)
    ]


def test_a_wide_choice_has_everything_above_the_nearest_terms():
    narrow, wide = wide_terms(query("CD4-positive, alpha-beta memory T cell"))
    position = INDEX.position["CL:0000897"]
    above = set(INDEX.closure[position].indices.tolist())
    assert not above <= narrow[0]
    assert above <= wide[0]


def test_a_wide_choice_keeps_every_candidate_of_the_narrow_one():
    narrow, wide = wide_terms(query("NK", "B cells", "zzz 17"))
    assert all(few <= many for few, many in zip(narrow, wide, strict=True))


@pytest.mark.parametrize(
    ("tissue", "other", "same"),
    [
        ("lung", "Lung_v2_L4", True),
        ("lungparenchyma", "lung", True),
        ("caudatelobeofliver", "Healthy_Human_Liver_pkl", True),
        ("lung", "liver", False),
        ("", "", False),
        ("na", "na", False),
    ],
)
def test_what_curators_chose_in_an_organ_counts_for_every_spelling_of_it(tissue, other, same):
    entries = entries_of(["qwv"], ["CL:0000182"], sources=["elsewhere"], tissues=[other], index=INDEX)
    found = weighed(query("zzq", tissue=tissue), entries)
    used = column(found, "tissue_usage")[found.pairs.term == INDEX.position["CL:0000182"]]
    assert bool((used > 0).any()) is same
