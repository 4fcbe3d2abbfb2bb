"""The certificate of a fold: what was tested, with which power, what was not testable, what was assumed (rule R16).

It is computed from the snapshot and from what the models say they were fitted on, never from a caller's word, and it
says "tested", never "proven". Its digest is over everything else in it, so a score can name it. `verify_certificate`
computes again whatever follows from the snapshot and the split alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from cytolabe.audit.duplicates import MIN_SHARED_COUNTS, find_duplicates
from cytolabe.audit.evidence import is_by_expression
from cytolabe.audit.fit_scopes import CellSet, FitRules, scope_test
from cytolabe.audit.leakage import FoldAudit, audit_fold
from cytolabe.provenance import canonical_json, cells_digest, digest_of, jsonable
from cytolabe.records import Certificate, Finding, FitScope, Fold, Severity, Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.document import rows_digest
from cytolabe.split.keys import is_labelled, is_person_resolved

__all__ = ["AUDIT_THRESHOLDS", "certify", "verify_certificate"]

AUDIT_THRESHOLDS: Mapping[str, object] = {
    "audit_version": 1,
    "min_shared_counts": MIN_SHARED_COUNTS,
}
"""Thresholds of the audit; they are frozen before scoring, and a change gets a new version."""

_RECOMPUTED = ("sides", "shared persons", "shared donor names", "shared libraries", "identical cells", "label evidence")
"""Tests that follow from the snapshot and the split; the others need the models."""


def certify(
    snapshot: SnapshotView,
    fold: Fold,
    *,
    audit: FoldAudit,
    scopes: Mapping[str, Sequence[FitScope]],
    rules: FitRules | None = None,
    thresholds: Mapping[str, object] | None = None,
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
    thresholds
        Thresholds of the scoring, put beside those of the audit.
    """
    rules = rules or FitRules()
    known = {**rules.cell_sets, **_named_sets(snapshot, fold)}
    tests = [
        _sides(snapshot.cells, fold),
        *audit.tests,
        _label_evidence(snapshot, fold),
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
        "assumptions": _assumptions(snapshot.cells, fold, _person_pairs(audit)),
        "thresholds": {**(thresholds or {}), **AUDIT_THRESHOLDS},
    }
    return Certificate(**body, digest=digest_of(body))  # type: ignore[arg-type]


def verify_certificate(document: Mapping[str, object], snapshot: SnapshotView, split: Split) -> tuple[Finding, ...]:
    """Compute a certificate again, as far as it follows from the snapshot and the split.

    Parameters
    ----------
    document
        The certificate as JSON values.
    snapshot, split
        What it speaks of; duplicates are found anew.

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
    tests = document.get("tests")
    said = (
        {str(test.get("test")): test for test in tests if isinstance(test, Mapping)} if isinstance(tests, list) else {}
    )
    # The threshold of the search stands in its test; without one nobody searched.
    minimum = said.get("identical cells", {}).get("min_shared_nonzero")
    duplicates = find_duplicates(snapshot, min_shared_nonzero=minimum) if isinstance(minimum, int) else None
    audit = audit_fold(snapshot, folds[0], duplicates=duplicates)
    computed = {str(test["test"]): test for test in certify(snapshot, folds[0], audit=audit, scopes={}).tests}
    return tuple(
        _disagreement("E-CERT-04", name, "computed again, the test gives another result")
        for name in _RECOMPUTED
        if name not in said or canonical_json(said[name]) != canonical_json(computed[name])
    )


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


def _label_evidence(snapshot: SnapshotView, fold: Fold) -> dict[str, object]:
    """Count what justifies the labels that serve as truth, in labels of the test side (rule R6b)."""
    part = snapshot.cells.iloc[fold.test_rows]
    used = set(zip(part["dataset_id"], part["contributor_label"], strict=True))
    mappings = [mapping for mapping in snapshot.mappings if (mapping.dataset_id, mapping.contributor_label) in used]
    by_expression = [mapping for mapping in mappings if is_by_expression(mapping)]
    return {
        "test": "label evidence",
        "n_tested": len(mappings),
        "n_found": len(by_expression),
        "power": "by the justification that each mapping names",
        "justifications": dict(sorted(Counter(m.justification for m in mappings).items())),
        "decisions": dict(sorted(Counter(m.decision for m in mappings).items())),
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


def _assumptions(cells: pd.DataFrame, fold: Fold, persons: Mapping[str, int]) -> tuple[str, ...]:
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
    found += [
        "studies, donors and batches are what the contributors declared",
        "near-identical cells (thinned or re-processed copies) were not looked for",
    ]
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
