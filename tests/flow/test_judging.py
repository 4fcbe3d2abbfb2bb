"""A component is reproduced if it is what its class promises, and what nobody can judge is not called reproduced."""

import pytest

from cytolabe.flow.judging import CLOSE, judge_files, judge_models, judge_parents
from cytolabe.flow.reproduce import Reproduction
from cytolabe.models.cards import CARDS

ROW = {
    "task": "annotation", "split": "component=kang", "gene_policy": "intersection", "resolution": "mid",
    "metric": "macro_f1", "stratum": "all", "value": 0.7, "raw_value": None, "status": "SCORED", "seeds": {},
}  # fmt: skip


def judged(model, *, seeds=None, **changes):
    row = {**ROW, "model": f"{model}+knn" if model in {"pca", "scvi"} else model, "seeds": seeds or {}}
    (found,) = judge_models([row], [{**row, **changes}])
    return found


@pytest.mark.parametrize("model", sorted(CARDS))
def test_the_same_scores_are_identical_whatever_the_class(model):
    assert judged(model).status == "identical"
    assert judged(model).determinism in {CARDS[model].determinism, "unknown"}


@pytest.mark.parametrize(
    ("model", "value", "status"),
    [
        ("majority", 0.7 + 1e-6, "differs"),
        ("pca", 0.7 + CLOSE / 2, "within"),
        ("pca", 0.7 + 2 * CLOSE, "differs"),
        ("precomputed:mine", 0.7 + 1e-6, "not_judged"),
        ("a_model_of_tomorrow", 0.7 + 1e-6, "not_judged"),
    ],
)
def test_another_number_is_judged_by_what_the_model_promises(model, value, status):
    found = judged(model, value=value)
    assert (found.status, found.is_reproduced) == (status, status == "within")
    assert "1 of 1 scores differ" in found.detail


@pytest.mark.parametrize(("value", "status"), [(0.74, "within"), (0.66, "within"), (0.76, "differs")])
def test_a_statistical_model_may_move_as_far_as_its_seeds_do(value, status):
    seeds = {"0": 0.68, "1": 0.73}
    assert judged("scvi", seeds=seeds, value=value).status == status
    assert judged("scvi", seeds={"0": 0.7}, value=value).status == "not_judged"


@pytest.mark.parametrize("changes", [{"status": "REFUSED", "value": None}, {"value": None}, {"raw_value": 0.5}])
@pytest.mark.parametrize("model", ["majority", "pca", "scvi"])
def test_another_status_or_a_number_that_came_or_went_always_differs(model, changes):
    assert judged(model, seeds={"0": 0.1, "1": 0.9}, **changes).status == "differs"


def test_a_score_that_is_gone_differs():
    (found,) = judge_models([{**ROW, "model": "majority"}], [])
    assert found.status == "differs"


def test_a_file_of_scores_follows_from_models_that_may_move_and_from_no_other():
    moving, still = judged("pca", value=0.7 + CLOSE / 2), judged("majority")
    first, second = {"scores.json": "a", "split.json": "a"}, {"scores.json": "b", "split.json": "b"}
    assert {one.name: one.status for one in judge_files(first, second, models=[moving, still])} == {
        "scores.json": "follows", "split.json": "differs",
    }  # fmt: skip
    assert {one.status for one in judge_files(first, second, models=[still])} == {"differs"}
    (gone,) = judge_files({"scores.json": "a"}, {}, models=[moving])
    assert gone.status == "differs"


def test_what_comes_before_models_is_exact():
    def parents(**digests):
        return [{"role": role, "name": "x", "digest": digest} for role, digest in digests.items()]

    found = judge_parents(parents(snapshot="1", mapping="2", code="3"), parents(snapshot="1", mapping="9", code="9"))
    assert {one.name: one.status for one in found} == {"snapshot": "identical", "mapping x": "differs"}


@pytest.mark.parametrize(("statuses", "is_reproduced"), [
    (("majority", {}), True), (("pca", {"value": 0.7 + CLOSE / 2}), True), (("precomputed", {"value": 0.1}), False),
])  # fmt: skip
def test_a_run_is_reproduced_if_every_component_is(statuses, is_reproduced):
    model, changes = statuses
    found = Reproduction(
        record_ids=("a", "b"), conditions=(), components=(judged("majority"), judged(model, **changes)), first=None
    )
    assert found.is_reproduced is is_reproduced
