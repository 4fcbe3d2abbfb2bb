"""The certificate of a fold: what was tested, with which power, what was not testable, what was assumed (rule R16).

It is computed from the snapshot and from what the models say they were fitted on, never from a caller's word, and it
says "tested", never "proven". Its digest is over everything else in it, so a score can name it. `verify_certificate`
computes again whatever follows from the snapshot and the split alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from cytolabe.audit.all_copies import MIN_SHARED_NONZERO, find_copies
from cytolabe.audit.cell_facts import facts_digest
from cytolabe.audit.claims import MAX_STRAY_FRACTION, MIN_OFF_DIAGONAL_DONORS
from cytolabe.audit.coded_columns import CODED_COLUMNS
from cytolabe.audit.coded_dimensions import CODE_WIDTH
from cytolabe.audit.coded_features import CODED, MIN_CODED_CELLS, MIN_CODED_SHARE
from cytolabe.audit.delivered_fits import DELIVERED_FITS
from cytolabe.audit.dispersion import MAX_DISPERSION, MIN_DEPTH_RATIO, MIN_SIGMAS
from cytolabe.audit.duplicates import MIN_SHARED_COUNTS
from cytolabe.audit.fit_scopes import CellSet, FitRules, scope_test
from cytolabe.audit.label_tests import label_tests
from cytolabe.audit.leakage import FoldAudit, audit_fold
from cytolabe.audit.near_test import NEAR
from cytolabe.provenance import canonical_json, cells_digest, digest_of, jsonable
from cytolabe.records import Certificate, Finding, FitScope, Fold, Severity, Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.document import rows_digest
from cytolabe.split.keys import is_labelled, is_person_resolved

__all__ = ["AUDIT_THRESHOLDS", "Grounds", "certify", "joint_digest", "verify_certificate"]

AUDIT_THRESHOLDS: Mapping[str, object] = {
    "audit_version": 5,
    "min_shared_counts": MIN_SHARED_COUNTS,
    "min_off_diagonal_donors": MIN_OFF_DIAGONAL_DONORS,
    "max_stray_permille": round(1000 * MAX_STRAY_FRACTION),
    "min_shared_nonzero": MIN_SHARED_NONZERO,
    "max_near_dispersion_permille": round(1000 * MAX_DISPERSION),
    "min_near_sigmas": MIN_SIGMAS,
    "min_near_depth_permille": round(1000 * MIN_DEPTH_RATIO),
    "min_coded_cells": MIN_CODED_CELLS,
    "min_coded_permille": round(1000 * MIN_CODED_SHARE),
    "max_code_width_permille": round(1000 * CODE_WIDTH),
}
"""Thresholds of the audit; they are frozen before scoring, and a change gets a new version (see `verifier.FROZEN`)."""

_RECOMPUTED = (
    "sides", "shared persons", "shared donor names", "shared libraries", "identical cells", "near-identical cells", "shared barcodes",
    CODED, CODED_COLUMNS, DELIVERED_FITS, "label evidence", "label origin",
)  # fmt: skip
"""Tests that follow from the snapshot and the split; the others need the models."""


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What the scores under a certificate stand on beside the split: thresholds, and the label of each cell per level.

    `tests` are those of the scoring itself: which labels it drew, what the dimensions of embeddings hold.
    """

    thresholds: Mapping[str, object] = field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    tests: Sequence[Mapping[str, object]] = ()


def certify(
    snapshot: SnapshotView,
    fold: Fold,
    *,
    audit: FoldAudit,
    scopes: Mapping[str, Sequence[FitScope]],
    rules: FitRules | None = None,
    grounds: Grounds | None = None,
) -> Certificate:
    """Make the certificate of a fold.

    Parameters
    ----------
    snapshot, fold
        What was tested; the label mappings in force are read from the snapshot.
    audit
        What `audit_fold` found.
    scopes
        What each model's steps were fitted on, by model.
    rules
        The cards of these models, which say what a model may fit on the query, and sets of cells that the sides of
        the fold do not name (the query, one training data set). Without a card nothing but training cells is allowed.
    grounds
        Thresholds of the scoring, put beside those of the audit, and labels at the levels that are scored.
    """
    rules, grounds = rules or FitRules(), grounds or Grounds()
    known = {**rules.cell_sets, **_named_sets(snapshot, fold)}
    tests = [
        _sides(snapshot.cells, fold),
        _facts(snapshot.cells, grounds.labels),
        *audit.tests,
        *label_tests(snapshot, fold, grounds.labels),
        *grounds.tests,
        *(scope_test(model, scopes[model], card=rules.cards.get(model), known=known) for model in sorted(scopes)),
    ]
    not_testable = dict(audit.not_testable)
    # No FitScope, no score: a model that does not say what it was fitted on could not be tested.
    not_testable.update({f"fit scope of {model}": 1 for model in sorted(scopes) if not scopes[model]})
    body = {
        "snapshot_id": snapshot.snapshot_id,
        "split_id": fold.split_id,
        "tests": tuple(tests),
        "not_testable": not_testable,
        "assumptions": _assumptions(snapshot.cells, fold, audit),
        "thresholds": {**grounds.thresholds, **AUDIT_THRESHOLDS},
    }
    return Certificate(**body, digest=digest_of(body))  # type: ignore[arg-type]


def verify_certificate(
    document: Mapping[str, object],
    snapshot: SnapshotView,
    split: Split,
    *,
    labels: Mapping[str, np.ndarray] | None = None,
) -> tuple[Finding, ...]:
    """Compute a certificate again, as far as it follows from the snapshot and the split.

    Parameters
    ----------
    document
        The certificate as JSON values.
    snapshot, split
        What it speaks of; duplicates are found anew.
    labels
        The label of each cell at the levels that were scored; without them what rests on labels is not computed again.

    Returns
    -------
    No finding if all agrees. A wrong digest, snapshot or fold ends the check: what follows would have no meaning.
    """
    document = cast("dict[str, Any]", jsonable(document))
    body = {key: value for key, value in document.items() if key != "digest"}
    if digest_of(body) != document.get("digest"):
        return (_disagreement("E-CERT-01", "digest", "its content does not have the digest that it names"),)
    if {document.get("snapshot_id"), split.snapshot_id} != {snapshot.snapshot_id}:
        return (_disagreement("E-CERT-02", "snapshot_id", "certificate, split and snapshot are not of one snapshot"),)
    folds = [fold for fold in split.folds if fold.split_id == document.get("split_id")]
    if not folds:
        return (_disagreement("E-CERT-03", "split_id", f"the split has no fold {document.get('split_id')!r}"),)
    frozen = document.get("thresholds")
    if not isinstance(frozen, Mapping) or any(frozen.get(key) != value for key, value in AUDIT_THRESHOLDS.items()):
        return (_disagreement("E-CERT-05", "thresholds", "its thresholds are not those that were frozen"),)
    said = _tests_of(document)
    # The threshold of the search stands in its test; without one nobody searched.
    minimum = said.get("identical cells", {}).get("min_shared_nonzero")
    if minimum not in {None, MIN_SHARED_NONZERO}:
        return (
            _disagreement("E-CERT-05", "identical cells", "its least number of shared genes is not the frozen one"),
        )
    duplicates = find_copies(snapshot, min_shared_nonzero=minimum) if isinstance(minimum, int) else None
    audit = audit_fold(snapshot, folds[0], duplicates=duplicates)
    grounds = Grounds(labels=labels or {})
    computed = {
        str(test["test"]): test for test in certify(snapshot, folds[0], audit=audit, scopes={}, grounds=grounds).tests
    }
    names = list(_RECOMPUTED)
    if labels is not None or said.get("facts of cells", {}).get("levels") == []:
        names += ["facts of cells", *(f"estimability, {level}" for level in grounds.labels)]
    return tuple(
        _disagreement("E-CERT-04", name, "computed again, the test gives another result")
        for name in names
        if name not in said or canonical_json(said[name]) != canonical_json(computed[name])
    )


def joint_digest(digests: Sequence[str]) -> str:
    """Return what a score over all folds quotes: the digest of the digests of their certificates, in the order of the folds."""
    return digest_of(list(digests))


def _tests_of(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    tests = document.get("tests")
    found = [test for test in tests if isinstance(test, Mapping)] if isinstance(tests, list) else []
    return {str(test.get("test")): test for test in found}


def _sides(cells: pd.DataFrame, fold: Fold) -> dict[str, object]:
    ids = cells["cell_id"].to_numpy(dtype=object)
    return {
        "test": "sides",
        "n_tested": len(fold.train_rows) + len(fold.test_rows),
        "n_found": len(np.intersect1d(fold.train_rows, fold.test_rows)),
        "power": "exact: cells in both sides",
        "n_train": len(fold.train_rows),
        "n_test": len(fold.test_rows),
        "train_cells_digest": cells_digest(ids[fold.train_rows]),
        "test_cells_digest": cells_digest(ids[fold.test_rows]),
        "train_rows_digest": rows_digest(fold.train_rows),
        "test_rows_digest": rows_digest(fold.test_rows),
        "groups_test": list(fold.groups_test),
    }


def _facts(cells: pd.DataFrame, labels: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Name what the other tests read of the cells, so that nobody can exchange it later."""
    return {
        "test": "facts of cells",
        "n_tested": len(cells),
        "n_found": 0,
        "power": "by digest of persons, libraries, label origins and labels at the levels that are scored",
        "levels": list(labels),
        "facts_digest": facts_digest(cells, labels),
    }


def _named_sets(snapshot: SnapshotView, fold: Fold) -> dict[str, CellSet]:
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
    labelled = is_labelled(snapshot.cells)
    train, test = fold.train_rows, fold.test_rows
    named = (
        (CellSet(name="test cells", n_test=len(test)), test),
        (
            CellSet(name="training and test cells", n_train=len(train), n_test=len(test)),
            np.concatenate([train, test]),
        ),
        (CellSet(name="labelled training cells", n_train=int(labelled[train].sum())), train[labelled[train]]),
        (CellSet(name="training cells", n_train=len(train)), train),
    )
    return {cells_digest(ids[rows]): found for found, rows in named}


def _person_pairs(audit: FoldAudit) -> Mapping[str, int]:
    found = [test["person_pairs"] for test in audit.tests if "person_pairs" in test]
    return cast("Mapping[str, int]", found[0]) if found else {}


def _assumptions(cells: pd.DataFrame, fold: Fold, audit: FoldAudit) -> tuple[str, ...]:
    persons = _person_pairs(audit)
    pairs = (
        f"{persons.get('same', 0)} known shared persons",
        f"{persons.get('assumed_different', 0)} pairs of persons assumed different",
        f"{persons.get('different', 0)} pairs that one study names apart",
    )
    found = [", ".join(pairs)]
    rows = np.concatenate([fold.train_rows, fold.test_rows])
    unknown = rows[~is_person_resolved(cells)[rows]]
    if len(unknown):
        names = sorted(set(cells["dataset_id"].to_numpy(dtype=object)[unknown].tolist()))
        found.append(
            f"the persons of {len(unknown)} cells of {', '.join(names)} are unknown, and assumed not to be on both sides"
        )
    found.append("studies, donors and batches are what the contributors declared")
    if any(test["test"] == NEAR and test["power"] == "not run" for test in audit.tests):
        found.append("near-identical cells (thinned or re-processed copies) were not looked for")
    return tuple(found)


def _disagreement(code: str, where: str, message: str) -> Finding:
    return Finding(
        code=code,
        severity=Severity.ERROR,
        where=where,
        message=f"the certificate does not hold: {message}",
        remedy="do not use scores that name this certificate; run the audit again on this snapshot and split",
        rule="R16",
        n_affected=1,
        n_total=1,
    )
