"""Did anything of the test side get into training? Tested on the data of one fold, whatever made the split.

In this order, cheapest first: shared persons (exact), shared donor strings inside a study (suspected, where persons
are unknown), shared libraries, identical and near-identical cells (rule R9), genes and technical columns that hold a
code, what was fitted on whole files, and the pretraining of the models. What a model step was
fitted on is checked by digest when it has run (`fit_scopes`). Every test says how much it could look at; what it could
not look at is counted in `not_testable`, never taken for clean. Findings name examples on both sides.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Integer

from cytolabe.audit.barcodes import shared_barcodes
from cytolabe.audit.coded_columns import coded_columns
from cytolabe.audit.coded_features import coded_features
from cytolabe.audit.copies import Outcome, cells_copied_across, identical_cells, nothing_clean
from cytolabe.audit.delivered_fits import delivered_fits
from cytolabe.audit.duplicates import DuplicateReport
from cytolabe.audit.exposure import exposure_of, is_trained_here
from cytolabe.audit.near_test import near_identical_cells
from cytolabe.audit.units import is_known, library_keys
from cytolabe.provenance import cells_digest
from cytolabe.reconcile.persons import pair_states
from cytolabe.records import UNKNOWN, Exposure, Finding, FitScope, Fold, ModelCard, ScoreStatus, Severity, Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.keys import is_labelled, is_person_resolved, study_keys

__all__ = ["FoldAudit", "allowed_scopes", "audit_fold", "audit_split"]

_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class FoldAudit:
    """What was tested of one fold.

    Each of `tests` has `test`, `n_tested`, `n_found` and `power` (in words: what it could see). `not_testable` counts
    cells that a test could not look at. `status` is REFUSED where an error was found, else the status of the fold.
    """

    tests: tuple[Mapping[str, object], ...]
    findings: tuple[Finding, ...]
    not_testable: Mapping[str, int]
    split_id: str = ""
    exposures: tuple[Exposure, ...] = ()
    n_clean_labelled: int = 0
    status: ScoreStatus = ScoreStatus.SCORED
    reason: str = ""


def audit_fold(
    snapshot: SnapshotView,
    fold: Fold,
    *,
    duplicates: DuplicateReport | None,
    cards: Sequence[ModelCard] = (),
) -> FoldAudit:
    """Test one fold for everything that could let a model remember instead of recognize.

    Parameters
    ----------
    snapshot
        The snapshot that the fold was made on.
    fold
        Rows of both sides.
    duplicates
        What `find_copies` found; None = nobody looked, and all test cells count as not testable for it.
    cards
        Models that will be scored, for their exposure.
    """
    cells = snapshot.cells
    copied = cells_copied_across(duplicates, fold, len(cells))
    identical = cells_copied_across(duplicates, fold, len(cells), kinds=("identical",))
    exposures = _exposures(snapshot, fold, cards)
    outcomes = (
        _shared_persons(cells, fold),
        _shared_donor_strings(cells, fold),
        _shared_libraries(cells, fold),
        identical_cells(cells, fold, duplicates=duplicates, copied=identical),
        near_identical_cells(cells, fold, duplicates=duplicates, copied=copied & ~identical),
        shared_barcodes(cells, fold),
        coded_features(snapshot, fold),
        coded_columns(cells, fold),
        delivered_fits(snapshot, fold),
        _pretraining(exposures, cards),
    )
    clean = is_labelled(cells)[fold.test_rows] & ~copied[fold.test_rows]
    findings = tuple(finding for outcome in outcomes for finding in outcome.findings)
    if copied.any() and not clean.any():
        findings += (nothing_clean(cells, fold, copied),)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    not_testable = {name: n for outcome in outcomes for name, n in (outcome.not_testable or {}).items() if n}
    return FoldAudit(
        split_id=fold.split_id,
        tests=tuple(outcome.test for outcome in outcomes),
        findings=findings,
        not_testable=not_testable,
        exposures=exposures,
        n_clean_labelled=int(clean.sum()),
        status=ScoreStatus.REFUSED if errors else ScoreStatus(fold.status),
        reason="; ".join(f"{finding.code}: {finding.message}" for finding in errors) or fold.reason,
    )


def audit_split(snapshot: SnapshotView, split: Split, *, duplicates: DuplicateReport | None) -> tuple[Finding, ...]:
    """Collect the findings of all folds of a split, in their order."""
    return tuple(
        finding for fold in split.folds for finding in audit_fold(snapshot, fold, duplicates=duplicates).findings
    )


def allowed_scopes(snapshot: SnapshotView, fold: Fold) -> dict[str, str]:
    """Return the sets of cells of a fold that a step without the query may be fitted on: digest -> name."""
    labelled = fold.train_rows[is_labelled(snapshot.cells)[fold.train_rows]]
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
    named = {"labelled training cells": labelled, "training cells": fold.train_rows}
    return {cells_digest(ids[rows]): name for name, rows in named.items()}


def _shared_persons(cells: pd.DataFrame, fold: Fold) -> Outcome:
    resolved = is_person_resolved(cells)
    persons = cells["person_id"].to_numpy(dtype=object)
    shared = _on_both_sides(persons, resolved, fold)
    n_persons = len(set(persons[resolved].tolist()))
    found: tuple[Finding, ...] = ()
    if shared:
        found = (
            Finding(
                code="E-LEAK-01",
                severity=Severity.ERROR,
                where=fold.split_id,
                message=f"{len(shared)} person(s) are in both train and test: {', '.join(shared[:_EXAMPLES])}; a score "
                "on this split would measure memory of the person",
                remedy="split by person or component, so that whole persons are held out",
                rule="R11",
                n_affected=len(shared),
                n_total=n_persons,
                examples=_both_examples(cells, persons, shared, fold=fold),
            ),
        )
    sides = {"training": fold.train_rows, "test": fold.test_rows}
    blind = {f"persons of {side} cells": int((~resolved[rows]).sum()) for side, rows in sides.items()}
    power = f"exact, for the {int(resolved.sum())} of {len(cells)} cells whose person is known"
    test = {
        "test": "shared persons", "n_tested": n_persons, "n_found": len(shared), "power": power,
        "person_pairs": _person_pairs(cells, fold, resolved),
    }  # fmt: skip
    return Outcome(test=test, findings=found, not_testable=blind)


def _person_pairs(cells: pd.DataFrame, fold: Fold, resolved: np.ndarray) -> dict[str, int]:
    """Count the pairs of a training and a test person by what is known of them (rule R8)."""
    table = pd.DataFrame({
        "study": study_keys(cells),
        "person_id": np.where(resolved, cells["person_id"].to_numpy(dtype=object), UNKNOWN),
    })  # fmt: skip
    states = pair_states(table.iloc[fold.train_rows], table.iloc[fold.test_rows])
    return {"same": states.n_same, "different": states.n_different, "assumed_different": states.n_assumed_different}


def _shared_donor_strings(cells: pd.DataFrame, fold: Fold) -> Outcome:
    """Look at donor names as delivered, inside a study, where at least one side's person is unknown."""
    pairs = zip(study_keys(cells), cells["donor_id"], strict=True)
    keys = np.array([f"{study}: {donor}" for study, donor in pairs], dtype=object)
    known, resolved = is_known(cells["donor_id"]), is_person_resolved(cells)
    suspect = set(keys[known & ~resolved].tolist())
    shared = [key for key in _on_both_sides(keys, known, fold) if key in suspect]
    found: tuple[Finding, ...] = ()
    if shared:
        found = (
            Finding(
                code="W-LEAK-01",
                severity=Severity.WARNING,
                where=fold.split_id,
                message=f"{len(shared)} donor name(s) of one study are in both train and test, and nobody resolved them "
                "to persons: probably the same people",
                remedy="confirm the persons (same or different) and split by person or component",
                rule="R8",
                n_affected=len(shared),
                n_total=len(suspect),
                examples=_both_examples(cells, keys, shared, fold=fold),
            ),
        )
    power = "suspicion only: equal names within a study"
    test = {"test": "shared donor names", "n_tested": len(suspect), "n_found": len(shared), "power": power}
    return Outcome(test=test, findings=found)


def _shared_libraries(cells: pd.DataFrame, fold: Fold) -> Outcome:
    keys, known = library_keys(cells), is_known(cells["batch"])
    shared = _on_both_sides(keys, known, fold)
    # Where persons are known, `shared persons` answers; where not, one library is the nearest thing to one person.
    unresolved = set(keys[~is_person_resolved(cells)].tolist())
    unsafe = [key for key in shared if key in unresolved]
    safe = [key for key in shared if key not in unresolved]
    n_libraries = len(set(keys[known].tolist()))
    found = []
    for names, code, severity in (
        (unsafe, "E-LEAK-03", Severity.ERROR),
        (safe, "N-LEAK-03", Severity.NOTE),
    ):
        if names:
            why = "and their persons are unknown: cells of one person are on both sides"
            found.append(
                Finding(
                    code=code,
                    severity=severity,
                    where=fold.split_id,
                    message=f"{len(names)} library(ies) have cells in both train and test, "
                    + (
                        why
                        if severity is Severity.ERROR
                        else "from different persons: they share ambient RNA and technique"
                    ),
                    remedy="hold out whole libraries (by batch or component), or resolve the persons",
                    rule="R12",
                    n_affected=len(names),
                    n_total=n_libraries,
                    examples=_both_examples(cells, keys, names, fold=fold),
                )
            )
    test = {
        "test": "shared libraries",
        "n_tested": n_libraries,
        "n_found": len(shared),
        "power": "exact, by batch name",
    }
    blind = {"libraries of test cells": int((~known[fold.test_rows]).sum())}
    return Outcome(test=test, findings=tuple(found), not_testable=blind)


def _exposures(snapshot: SnapshotView, fold: Fold, cards: Sequence[ModelCard]) -> tuple[Exposure, ...]:
    datasets = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    train, test = sorted(set(datasets[fold.train_rows])), Counter(datasets[fold.test_rows].tolist())
    # Naming the cells takes a while, and only weights that were stored are compared with the name.
    ids = snapshot.cells["cell_id"] if any(card.scopes for card in cards) else None
    digest = "" if ids is None else cells_digest(ids.to_numpy(dtype=object)[fold.train_rows].tolist())
    scope = FitScope(step="training cells", cells_digest=digest, n_cells=len(fold.train_rows))
    return tuple(
        exposure
        for card in cards
        for exposure in exposure_of(card, test, train=train, train_scope=scope, records=snapshot.datasets)
    )


def _pretraining(exposures: Sequence[Exposure], cards: Sequence[ModelCard]) -> Outcome:
    found = []
    for status, code, severity, what in (
        ("in", "E-EXPO-01", Severity.ERROR, "was pretrained on"),
        ("unknown", "W-EXPO-01", Severity.WARNING, "may have been pretrained on"),
    ):
        for model in sorted({exposure.model for exposure in exposures if exposure.status == status}):
            names = tuple(x.dataset_id for x in exposures if x.model == model and x.status == status)
            found.append(
                Finding(
                    code=code,
                    severity=severity,
                    where=model,
                    message=f"{model} {what} {len(names)} test data set(s)",
                    remedy="score it on data that are younger than its corpus, and say so with dates",
                    rule="R16",
                    n_affected=len(names),
                    n_total=len({exposure.dataset_id for exposure in exposures}),
                    examples=names[:_EXAMPLES],
                )
            )
    n_history = sum(not is_trained_here(card) for card in cards)
    test = {
        "test": "pretraining", "n_tested": len(exposures),
        "n_found": sum(exposure.status == "in" for exposure in exposures),
        "power": f"by manifest, for {n_history} model(s) with a history; {len(cards) - n_history} trained here",
    }  # fmt: skip
    blind = {"pretraining, model x data set": sum(exposure.status == "unknown" for exposure in exposures)}
    return Outcome(test=test, findings=tuple(found), not_testable=blind)


def _on_both_sides(keys: np.ndarray, known: np.ndarray, fold: Fold) -> list[str]:
    train = set(keys[fold.train_rows][known[fold.train_rows]].tolist())
    return sorted(train & set(keys[fold.test_rows][known[fold.test_rows]].tolist()))


def _both_examples(cells: pd.DataFrame, keys: np.ndarray, shared: Sequence[str], *, fold: Fold) -> tuple[str, ...]:
    """Name one cell on each side for the first shared keys."""
    ids = cells["cell_id"].to_numpy(dtype=object)
    examples = []
    for key in shared[:_EXAMPLES]:
        train, test = (_first(rows, keys, key) for rows in (fold.train_rows, fold.test_rows))
        examples.append(f"{key}: train {ids[train]}, test {ids[test]}")
    return tuple(examples)


def _first(rows: Integer[np.ndarray, " rows"], keys: np.ndarray, key: str) -> int:
    return int(rows[np.flatnonzero(keys[rows] == key)[0]])
