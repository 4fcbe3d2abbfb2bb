"""A certificate is computed, names its own content, and does not survive a lie."""

import dataclasses
import json

import numpy as np
import pytest

from cytolabe.audit.all_copies import find_copies
from cytolabe.audit.certificate import AUDIT_THRESHOLDS, Grounds, certify, verify_certificate
from cytolabe.audit.leakage import audit_fold
from cytolabe.audit.verifier import FROZEN
from cytolabe.provenance import canonical_json, cells_digest, digest_of, jsonable
from cytolabe.records import FitScope, LabelMapping, Predicate
from cytolabe.split.groups import leave_one_group_out

PERSONS = [f"p{n}" for n in range(12)]


@pytest.fixture
def certified(overlapping):
    snapshot = overlapping(copies=2, person_id=PERSONS)
    report = find_copies(snapshot)
    split = leave_one_group_out(snapshot, by=("person",), duplicates=report.pairs)
    fold = split.folds[0]
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
    train = FitScope(step="pca", cells_digest=cells_digest(ids[fold.train_rows]), n_cells=len(fold.train_rows))
    certificate = certify(
        snapshot, fold, audit=audit_fold(snapshot, fold, duplicates=report), scopes={"pca": [train], "silent": []},
        grounds=Grounds(thresholds={"version": 3}),
    )  # fmt: skip
    return snapshot, split, certificate


def as_document(certificate) -> dict:
    return json.loads(canonical_json(certificate))


def resealed(document: dict) -> dict:
    return {**document, "digest": digest_of({key: value for key, value in document.items() if key != "digest"})}


def test_the_digest_is_over_everything_else(certified):
    _, _, certificate = certified
    body = jsonable(certificate)
    digest = body.pop("digest")
    assert digest == digest_of(body)


def test_a_true_certificate_verifies(certified):
    snapshot, split, certificate = certified
    assert verify_certificate(as_document(certificate), snapshot, split) == ()


def test_it_says_tested_and_lists_what_was_assumed(certified):
    _, _, certificate = certified
    text = canonical_json(certificate).decode()
    assert "proven" not in text
    # Persons p0 and p6 share cells, so one side holds both. Lab a names p0 and p1 to p5 apart, lab b p6 and p7 to p11;
    # the other 10 pairs are of two labs, and nobody knows.
    assert certificate.assumptions[0] == (
        "0 known shared persons, 10 pairs of persons assumed different, 10 pairs that one study names apart"
    )
    (test,) = [test for test in certificate.tests if test["test"] == "shared persons"]
    assert test["person_pairs"] == {"same": 0, "different": 10, "assumed_different": 10}
    assert not [text for text in certificate.assumptions if "not looked for" in text]
    assert certificate.thresholds == {"version": 3, **AUDIT_THRESHOLDS}


def test_a_model_that_does_not_say_what_it_was_fitted_on_is_not_testable(certified):
    _, _, certificate = certified
    assert certificate.not_testable["fit scope of silent"] == 1
    (scope,) = [test for test in certificate.tests if test["test"] == "fit scope of pca"]
    assert [step["cells"] for step in scope["steps"]] == ["training cells"]


def test_unknown_persons_are_named_as_an_assumption_and_never_called_apart(overlapping):
    snapshot = overlapping(copies=0, person_id=["unknown"] * 6 + [f"p{n}" for n in range(6)])
    fold = leave_one_group_out(snapshot, by=("dataset",)).folds[0]
    made = certify(snapshot, fold, audit=audit_fold(snapshot, fold, duplicates=None), scopes={})
    assert made.assumptions[0].startswith("0 known shared persons, 0 pairs of persons assumed different")
    assert made.assumptions[1] == "the persons of 6 cells of a are unknown, and assumed not to be on both sides"


def test_a_label_that_expression_decided_is_counted(certified):
    snapshot, split, _ = certified
    mapping = LabelMapping(
        dataset_id="a", contributor_label="B cell", predicate=Predicate.EXACT, term="CL:0000236", term_name="B cell",
        justification="semapv:InstanceBasedMatching", confidence=900, decision="auto", ontology_release="x",
    )  # fmt: skip
    named = dataclasses.replace(snapshot, mappings=(mapping,))
    fold = split.folds[0]
    made = certify(named, fold, audit=audit_fold(named, fold, duplicates=None), scopes={})
    (test,) = [test for test in made.tests if test["test"] == "label evidence"]
    assert (test["n_tested"], test["n_found"]) == (1, 1)


def test_an_edited_certificate_is_caught_by_its_digest(certified):
    snapshot, split, certificate = certified
    document = as_document(certificate)
    document["assumptions"] = []
    assert [finding.code for finding in verify_certificate(document, snapshot, split)] == ["E-CERT-01"]


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [("snapshot_id", "sha256:0", "E-CERT-02"), ("split_id", "person=nobody", "E-CERT-03"), ("tests", [], "E-CERT-04")],
)
def test_a_resealed_lie_about_the_whole_is_caught(certified, *, key, value, code):
    snapshot, split, certificate = certified
    findings = verify_certificate(resealed({**as_document(certificate), key: value}), snapshot, split)
    assert {finding.code for finding in findings} == {code}


@pytest.mark.parametrize(
    "name",
    [
        "sides",
        "shared persons",
        "shared libraries",
        "identical cells",
        "label evidence",
        "label origin",
        "facts of cells",
        "genes that hold a code",
    ],
)
def test_a_resealed_lie_about_one_test_is_caught(certified, name):
    snapshot, split, certificate = certified
    document = as_document(certificate)
    (test,) = [test for test in document["tests"] if test["test"] == name]
    test["n_found"] += 1
    findings = verify_certificate(resealed(document), snapshot, split)
    assert [(finding.code, finding.where) for finding in findings] == [("E-CERT-04", name)]


def test_a_threshold_that_was_moved_is_caught(certified):
    snapshot, split, certificate = certified
    document = as_document(certificate)
    document["thresholds"]["min_shared_counts"] = 30
    findings = verify_certificate(resealed(document), snapshot, split)
    assert [(finding.code, finding.where) for finding in findings] == [("E-CERT-05", "thresholds")]


def test_the_thresholds_of_this_version_are_frozen():
    """Change one only with a new version, and keep the old ones in `verifier.FROZEN`: old certificates name them."""
    assert FROZEN[AUDIT_THRESHOLDS["audit_version"]] == AUDIT_THRESHOLDS
    assert digest_of(FROZEN[4]) == "sha256:5cf38b4d35ee9b308f652caad71e5b20ed214515b8c72b7e605faea38560bb1d"
    assert digest_of(FROZEN[3]) == "sha256:75c99bbc75f28e1e3fe1a2e6efb0ffb2ba0d6b31b3c3412e138a7f9703961c09"
    assert digest_of(FROZEN[2]) == "sha256:ca2cbe7568a02355623fea19071751628974e1c6eec878523b22ae64355204c0"


def test_labels_of_a_level_are_certified_and_compared_where_they_are_given(certified):
    snapshot, split, _ = certified
    fold = split.folds[0]
    labels = {"mid": np.array(["B", "T"] * 6, dtype=object)}
    made = certify(
        snapshot, fold, audit=audit_fold(snapshot, fold, duplicates=None), scopes={}, grounds=Grounds(labels=labels)
    )
    (test,) = [test for test in made.tests if test["test"] == "estimability, mid"]
    assert (test["n_tested"], test["n_found"], test["verdict"]) == (1, 0, "SCORED")
    assert verify_certificate(as_document(made), snapshot, split, labels=labels) == ()
    other = {"mid": labels["mid"][::-1].copy()}
    where = [finding.where for finding in verify_certificate(as_document(made), snapshot, split, labels=other)]
    assert where == ["facts of cells"]


def test_where_nobody_searched_for_near_identical_cells_the_certificate_says_so(overlapping):
    snapshot = overlapping(copies=0, person_id=PERSONS)
    fold = leave_one_group_out(snapshot, by=("dataset",)).folds[0]
    audit = audit_fold(snapshot, fold, duplicates=None)
    certificate = certify(snapshot, fold, audit=audit, scopes={})
    assert "near-identical cells (thinned or re-processed copies) were not looked for" in certificate.assumptions
    assert certificate.not_testable["near-identical cells, test side"] == len(fold.test_rows)
