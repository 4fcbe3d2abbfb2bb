"""What a step met is read from digests, and judged by what the model's card allows."""

import dataclasses

import pytest

from cytolabe.audit.certificate import certify
from cytolabe.audit.fit_scopes import CellSet, FitRules, may_fit_on, scope_test
from cytolabe.audit.leakage import audit_fold
from cytolabe.models.cards import CARDS
from cytolabe.provenance import cells_digest
from cytolabe.records import FitOnQuery, FitScope
from cytolabe.split.groups import leave_one_group_out

TRAIN, QUERY, BOTH = (
    CellSet(name="train", n_train=9),
    CellSet(name="query", n_test=4),
    CellSet(name="both", n_train=9, n_test=4),
)
KNOWN = {"t": TRAIN, "q": QUERY, "b": BOTH}


def card(fit_on_query):
    return dataclasses.replace(CARDS["pca"], name="m", fit_on_query=fit_on_query)


def scopes(*digests):
    return [FitScope(step=f"step {digest}", cells_digest=digest, n_cells=1) for digest in digests]


@pytest.mark.parametrize(
    ("fit_on_query", "allowed"),
    [
        (FitOnQuery.NONE, {"train"}),
        (FitOnQuery.UNLABELLED, {"train", "query"}),
        (FitOnQuery.JOINT, {"train", "query", "both"}),
    ],
)
def test_a_card_allows_what_it_says_and_no_more(fit_on_query, allowed):
    assert {cells.name for cells in KNOWN.values() if may_fit_on(card(fit_on_query), cells, digest="")} == allowed


def test_no_card_allows_nothing_of_the_test_side():
    assert [may_fit_on(None, cells, digest="") for cells in (TRAIN, QUERY, BOTH)] == [True, False, False]


@pytest.mark.parametrize("fit_on_query", [FitOnQuery.UNLABELLED, FitOnQuery.JOINT])
def test_cells_that_a_stored_model_was_trained_on_before_are_no_query(fit_on_query):
    digest = next(name for name, cells in KNOWN.items() if cells is QUERY)
    stored = dataclasses.replace(card(fit_on_query), scopes=tuple(scopes(digest)))
    assert not may_fit_on(stored, QUERY, digest=digest)
    assert may_fit_on(card(fit_on_query), QUERY, digest=digest)
    test = scope_test("scvi", scopes(digest), card=stored, known=KNOWN)
    assert (test["n_found"], test.get("n_exempt", 0)) == (1, 0)


def test_a_model_that_may_fit_on_the_query_is_exempt_and_the_certificate_says_so():
    test = scope_test("harmony", scopes("t", "b"), card=card(FitOnQuery.JOINT), known=KNOWN)
    assert (test["n_tested"], test["n_found"], test["n_exempt"]) == (2, 0, 1)
    assert test["exempt"].endswith("fit_on_query = joint")


def test_a_model_that_may_not_is_found():
    test = scope_test("pca", scopes("t", "q", "b"), card=card(FitOnQuery.NONE), known=KNOWN)
    assert (test["n_tested"], test["n_found"]) == (3, 2)
    assert "exempt" not in test


def test_cells_without_a_name_cannot_be_shown_to_be_clean():
    test = scope_test("pca", scopes("t", "?"), card=card(FitOnQuery.JOINT), known=KNOWN)
    assert test["n_found"] == 1
    assert [step["cells"] for step in test["steps"]] == ["cells that have no name in this fold", "train"]


@pytest.mark.parametrize(("name", "n_found"), [("harmony", 0), ("pca", 1)])
def test_the_certificate_of_a_fold_counts_a_fit_on_exactly_the_test_cells_by_the_card(overlapping, name, n_found):
    snapshot = overlapping(copies=0, person_id=[f"p{n}" for n in range(12)])
    fold = leave_one_group_out(snapshot, by=("dataset",)).folds[0]
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
    step = FitScope(step="step", cells_digest=cells_digest(ids[fold.test_rows]), n_cells=len(fold.test_rows))
    certificate = certify(
        snapshot, fold, audit=audit_fold(snapshot, fold, duplicates=None), scopes={name: [step]},
        rules=FitRules(cards=CARDS),
    )  # fmt: skip
    (test,) = [test for test in certificate.tests if test["test"] == f"fit scope of {name}"]
    assert test["n_found"] == n_found
