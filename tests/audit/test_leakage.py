"""Planted leaks are caught, each by its own test; a clean fold gives no finding."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cytolabe.audit.all_copies import find_copies
from cytolabe.audit.exposure import exposure_of
from cytolabe.audit.fit_scopes import check_fit_scopes
from cytolabe.audit.leakage import allowed_scopes, audit_fold, audit_split
from cytolabe.audit.persons import person_table
from cytolabe.provenance import cells_digest
from cytolabe.records import FitOnQuery, FitScope, Fold, ModelCard, Protocol, ScoreStatus
from cytolabe.split.groups import leave_one_group_out

CARD = ModelCard(
    name="pca", title="PCA", gene_ids="gene_reference", value_semantics="log1p_cp10k", capabilities=("embed_cells",),
    protocol=Protocol.SELF_SUPERVISED, fit_on_query=FitOnQuery.NONE, unit_of_inference="cell",
    determinism="bit_exact", licence="x", source="x",
)  # fmt: skip
# Six cells of one label are too few to tell a code from chance.
FEW = {"genes that hold a code, cells of small labels": 6, "fits of delivered files, data sets": 1}
OWN_PERSONS = [f"p{n}" for n in range(12)]


def fold_of(test_rows: list[int], n_cells: int = 12) -> Fold:
    test = np.array(test_rows)
    train = np.setdiff1d(np.arange(n_cells), test)
    return Fold(
        split_id="planted",
        held_out="dataset",
        groups_train=("a",),
        groups_test=("b",),
        train_rows=train,
        test_rows=test,
    )


def codes(audit) -> list[str]:
    return [finding.code for finding in audit.findings]


WHOLE_B = fold_of(list(range(6, 12)))


def test_a_clean_fold_gives_no_finding(overlapping):
    snapshot = overlapping(copies=0, person_id=OWN_PERSONS)
    audit = audit_fold(snapshot, WHOLE_B, duplicates=find_copies(snapshot), cards=[CARD])
    assert audit.findings == ()
    assert (audit.status, audit.not_testable, audit.n_clean_labelled) == (ScoreStatus.SCORED, FEW, 6)
    assert {test["test"] for test in audit.tests} == {
        "shared persons", "shared donor names", "shared libraries", "identical cells", "near-identical cells", "shared barcodes",
        "genes that hold a code", "columns that hold a code", "fits of delivered files", "pretraining",
    }  # fmt: skip
    assert all({"n_tested", "n_found", "power"} <= set(test) for test in audit.tests)


def test_a_person_on_both_sides_is_caught_with_a_cell_on_each(overlapping):
    snapshot = overlapping(copies=0, person_id=[*OWN_PERSONS[:11], "p0"])
    audit = audit_fold(snapshot, WHOLE_B, duplicates=None)
    assert codes(audit) == ["E-LEAK-01"]
    assert audit.findings[0].examples == ("p0: train a:cell0, test b:cell5",)
    assert audit.status is ScoreStatus.REFUSED


def test_unknown_persons_are_counted_and_not_called_clean(overlapping):
    snapshot = overlapping(copies=0, person_id=["unknown"] * 6 + OWN_PERSONS[:6])
    audit = audit_fold(snapshot, WHOLE_B, duplicates=find_copies(snapshot))
    assert audit.not_testable == {"persons of training cells": 6, **FEW}
    assert audit.findings == ()


def test_equal_donor_names_of_one_study_are_suspected_and_of_two_studies_not(overlapping):
    donors = ["101", *"bcdef", "101", *"hijkl"]
    apart = overlapping(copies=0, donor_id=donors)
    assert codes(audit_fold(apart, WHOLE_B, duplicates=None)) == []
    together = overlapping(copies=0, donor_id=donors, study="kang18")
    audit = audit_fold(together, WHOLE_B, duplicates=None)
    assert codes(audit) == ["W-LEAK-01"]
    assert audit.findings[0].examples == ("kang18: 101: train a:cell0, test b:cell0",)


def test_identical_cells_across_the_fold_are_caught_with_both_cells(overlapping):
    snapshot = overlapping(copies=3, person_id=OWN_PERSONS)
    audit = audit_fold(snapshot, WHOLE_B, duplicates=find_copies(snapshot))
    assert codes(audit) == ["E-LEAK-02"]
    assert (audit.findings[0].n_affected, audit.n_clean_labelled) == (3, 3)
    assert audit.findings[0].examples[0] == "train a:cell0, test b:cell0"


def test_identical_cells_on_one_side_are_no_leak(overlapping):
    snapshot = overlapping(copies=3, person_id=OWN_PERSONS)
    audit = audit_fold(snapshot, fold_of([0, 1, 2, 6, 7, 8]), duplicates=find_copies(snapshot))
    assert codes(audit) == ["N-LEAK-03"]


def test_a_copy_that_reaches_across_through_a_third_cell_is_caught(overlapping):
    snapshot = overlapping(copies=0, person_id=OWN_PERSONS)
    report = find_copies(snapshot)
    chain = pd.DataFrame({"a_row": [0, 1], "b_row": [1, 6], "cell_a": ["x"] * 2, "cell_b": ["y"] * 2})
    chain["kind"] = "identical"
    fold = dataclasses.replace(WHOLE_B, train_rows=np.array([0, 2, 3, 4, 5]))
    audit = audit_fold(snapshot, fold, duplicates=dataclasses.replace(report, pairs=chain))
    assert codes(audit) == ["E-LEAK-02"]
    assert audit.findings[0].n_affected == 1


def test_a_test_side_whose_labels_are_all_copies_has_nothing_clean(overlapping):
    snapshot = overlapping(copies=3, labelled_b=3, person_id=OWN_PERSONS)
    audit = audit_fold(snapshot, WHOLE_B, duplicates=find_copies(snapshot))
    assert codes(audit) == ["E-LEAK-02", "E-LEAK-05"]
    assert (audit.n_clean_labelled, audit.status) == (0, ScoreStatus.REFUSED)


@pytest.mark.parametrize(("least", "n_tested"), [(100, 6), (10_000, 0)])
def test_only_cells_that_could_be_compared_across_the_fold_count_as_tested(overlapping, *, least, n_tested):
    snapshot = overlapping(copies=0, person_id=OWN_PERSONS)
    audit = audit_fold(snapshot, WHOLE_B, duplicates=find_copies(snapshot, min_shared_nonzero=least))
    (test,) = [test for test in audit.tests if test["test"] == "identical cells"]
    assert test["n_tested"] == n_tested
    assert (audit.not_testable != FEW) == (n_tested == 0)


def test_nobody_looked_for_copies_is_not_the_same_as_none(overlapping):
    audit = audit_fold(overlapping(copies=3, person_id=OWN_PERSONS), WHOLE_B, duplicates=None)
    assert audit.not_testable == {"identical cells, test side": 6, "near-identical cells, test side": 6, **FEW}


@pytest.mark.parametrize(("persons", "code"), [("unknown", "E-LEAK-03"), (OWN_PERSONS, "N-LEAK-03")])
def test_a_library_on_both_sides_is_an_error_unless_its_persons_are_known(overlapping, persons, code):
    snapshot = overlapping(copies=0, person_id=persons)
    audit = audit_fold(snapshot, fold_of([5, *range(6, 12)]), duplicates=None)
    assert codes(audit) == [code]
    assert audit.findings[0].examples == ("a:a: train a:cell0, test a:cell5",)


def test_a_step_fitted_outside_of_the_training_side_is_caught(overlapping):
    snapshot = overlapping(copies=0, labelled_b=2)
    fold = fold_of([0, 1])
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
    honest = FitScope(step="pca", cells_digest=cells_digest(ids[fold.train_rows]), n_cells=10)
    labelled = FitScope(step="classifier", cells_digest=cells_digest(ids[2:8]), n_cells=6)
    cheating = FitScope(step="hvg", cells_digest=cells_digest(ids), n_cells=12)
    allowed = allowed_scopes(snapshot, fold)
    assert check_fit_scopes([honest, labelled], allowed=allowed) == ()
    (finding,) = check_fit_scopes([honest, cheating], allowed=allowed)
    assert (finding.code, finding.where) == ("E-LEAK-04", "hvg")


def test_a_model_that_was_pretrained_on_the_test_data_is_caught(overlapping):
    snapshot = overlapping(copies=0, person_id=OWN_PERSONS)
    seen = dataclasses.replace(CARD, name="big", protocol=Protocol.ZERO_SHOT, pretraining=("b", "elsewhere"))
    unsure = dataclasses.replace(seen, name="vague", pretraining=("elsewhere",))
    audit = audit_fold(snapshot, WHOLE_B, duplicates=None, cards=[CARD, seen, unsure])
    assert codes(audit) == ["E-EXPO-01", "W-EXPO-01"]
    assert [(x.model, x.dataset_id, x.status) for x in audit.exposures] == [
        ("pca", "b", "out"), ("big", "b", "in"), ("vague", "b", "unknown"),
    ]  # fmt: skip


def test_a_history_without_a_manifest_is_unknown_and_never_clean():
    zero_shot = dataclasses.replace(CARD, protocol=Protocol.ZERO_SHOT)
    downloaded = dataclasses.replace(CARD, weights_digest="sha256:1")
    for card in (zero_shot, downloaded):
        assert [x.status for x in exposure_of(card, ["b"], train=["a"])] == ["unknown"]


def test_a_model_trained_here_says_on_how_many_cells():
    (exposure,) = exposure_of(
        CARD, ["b"], train=["a"], train_scope=FitScope(step="", cells_digest="sha256:1", n_cells=6)
    )
    assert exposure.evidence == "trained here, on 6 training cells without the test component"


def test_a_split_that_keeps_copies_together_passes_its_own_audit(overlapping):
    snapshot = overlapping(copies=3, person_id=OWN_PERSONS)
    report = find_copies(snapshot)
    careless = leave_one_group_out(snapshot, by=("dataset",))
    assert {finding.code for finding in audit_split(snapshot, careless, duplicates=report)} == {"E-LEAK-02"}
    careful = leave_one_group_out(snapshot, by=("person",), duplicates=report.pairs)
    assert {finding.code for finding in audit_split(snapshot, careful, duplicates=report)} == {"N-LEAK-03"}


def test_persons_and_unresolved_data_sets_are_listed(overlapping):
    table = person_table(overlapping(person_id=["p0"] * 7 + ["unknown"] * 5, donor_id="1"))
    assert table.to_dict("records") == [
        {"person_id": "p0", "state": "resolved", "datasets": "a, b", "studies": "a, b", "donors": "1", "n_cells": 7},
        {"person_id": "unknown", "state": "unknown", "datasets": "b", "studies": "b", "donors": "1", "n_cells": 5},
    ]
