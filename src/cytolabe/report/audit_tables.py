"""What was held out, what was tested of it, what may be claimed, and what each model had seen before, as rows of text.

What holds for many places is told once with its places listed: an auditor reads a column of zeros faster than
seven pages of them. The full records are in `certificate.json`.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from cytolabe.records import Certificate, Exposure
from cytolabe.report.content import ReportContent
from cytolabe.report.evidence_tables import pair_name
from cytolabe.report.grouping import shape_of, spanning
from cytolabe.report.leaderboard import fold_name
from cytolabe.report.tables import Cell, Column, Table, toned
from cytolabe.report.text import ABSENT, anything, count, counted, inert, short_digest

__all__ = [
    "certificates_table",
    "claims_table",
    "exposure_table",
    "folds_table",
    "found_table",
    "grouped_claims",
    "published_exposure_table",
]

_MAX_FOLDS_WIDE = 10
_FIT_SCOPE = "fit scope of "
_CLAIM_ORDER = {"REFUSED": 0, "QUALIFIED": 1, "SCORED": 2}


def folds_table(content: ReportContent) -> Table:
    """Return which groups each fold holds out, and whether it may be scored."""
    reasons = {fold.reason for fold in content.folds if fold.status != "REFUSED"}
    shared = reasons.pop() if len(reasons) == 1 and len(content.folds) > 1 else ""
    rows = tuple(
        (
            Cell(inert(fold.split_id)),
            toned(fold.status, "" if fold.reason == shared else inert(fold.reason, 300)),
            Cell(count(len(fold.train_rows))),
            Cell(count(len(fold.test_rows))),
            Cell(_listed(fold.groups_train)),
            Cell(_listed(fold.groups_test)),
        )
        for fold in content.folds
    )
    return Table(
        key="folds",
        caption="Folds: what was held out",
        columns=(
            Column("Fold"),
            Column("Status", "status"),
            Column("Training cells", "number"),
            Column("Test cells", "number"),
            Column("Trained on"),
            Column("Tested on"),
        ),
        rows=rows,
        note=f"Rule: {inert(content.facts.split_rule, 400)}. Counts include unlabeled cells, which are never scored.",
        remarks=(f"Every fold that is not refused: {inert(shared, 400)}.",) if shared else (),
        source="split.json",
    )


def _listed(groups: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(inert(group, 60).replace("+", " + ") for group in groups[:limit])
    more = len(groups) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def grouped_claims(frame: pd.DataFrame) -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return (claim, status, places, reason), refused ones first; places with one verdict are told together.

    Reasons that differ in their numbers only are one reason, with the least and the most of each number.
    """
    if frame.empty or not {"claim", "status"} <= set(frame.columns):
        return []
    where = frame["where"] if "where" in frame.columns else pd.Series([""] * len(frame), index=frame.index)
    reasons = frame["reason"] if "reason" in frame.columns else pd.Series([""] * len(frame), index=frame.index)
    groups: dict[tuple[str, str, tuple[str, ...]], list[tuple[str, str]]] = {}
    for claim, status, place, reason in zip(frame["claim"], frame["status"], where, reasons, strict=True):
        key = (str(claim), str(status), shape_of(str(reason)))
        groups.setdefault(key, []).append((str(place), str(reason)))
    ordered = sorted(groups, key=lambda key: (_CLAIM_ORDER.get(key[1], 3), key))
    return [
        (
            claim,
            status,
            tuple(place for place, _ in groups[claim, status, shape]),
            spanning([reason for _, reason in groups[claim, status, shape]]),
        )
        for claim, status, shape in ordered
    ]


def claims_table(content: ReportContent) -> Table:
    """Return which claims the data can carry, and which not: one row per claim and reason, refused ones first."""
    rows = tuple(
        (
            Cell(inert(claim)),
            # Nothing was scored for these claims; the verdict says whether it could be.
            toned("possible" if status == "SCORED" else status),
            Cell(", ".join(inert(place.removeprefix("component="), 80) for place in places if place) or ABSENT),
            Cell(inert(reason, 600) or ABSENT),
        )
        for claim, status, places, reason in grouped_claims(content.claims_refused)
    )
    return Table(
        key="claims",
        caption="What else could be claimed of these data, and what not",
        columns=(Column("Claim"), Column("Verdict", "status"), Column("Where", "prose"), Column("Reason", "prose")),
        rows=rows,
        note="No model was run for these claims: the design alone decides. possible: nothing in the design forbids it.",
        source="evidence.json",
    )


def exposure_table(content: ReportContent) -> Table:
    """Return whether the models saw the test data sets before; models and data sets with one answer share a row."""
    return Table(
        key="exposure",
        caption="Had the model seen the test cells before?",
        columns=_EXPOSURE_COLUMNS,
        rows=_exposure_rows(content, content.exposure),
        note="in: seen; out: not seen; unknown is never called clean.",
        source="certificate.json",
    )


def published_exposure_table(content: ReportContent) -> Table:
    """Return what the pretraining of published weights says of these data sets, whether or not they were scored."""
    return Table(
        key="exposure_published",
        caption="Would published models have seen these cells?",
        columns=_EXPOSURE_COLUMNS,
        rows=_exposure_rows(content, content.exposure_published),
        note="From the ledger of pretraining, with its sources. A data set that no list names is unknown: the same cells "
        "circulate under many names. out needs samples that were collected after the corpus was closed.",
        source="evidence.json",
    )


_EXPOSURE_COLUMNS = (
    Column("Data sets"),
    Column("Cells", "number"),
    Column("Seen", "status"),
    Column("Models"),
    Column("Evidence", "prose"),
)


def _exposure_rows(content: ReportContent, exposures: Iterable[Exposure]) -> tuple[tuple[Cell, ...], ...]:
    groups: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for row in sorted(exposures, key=lambda row: (row.status, row.evidence, row.model, row.dataset_id)):
        groups.setdefault((row.status, row.evidence), {})[row.model, row.dataset_id] = row.n_cells
    everything = {dataset.dataset_id for dataset in content.datasets}
    rows = []
    for (status, evidence), cells_of in groups.items():
        datasets = {dataset: n for (_, dataset), n in cells_of.items()}
        n_cells = sum(datasets.values())
        rows.append((
            Cell(f"all {counted(len(datasets), 'data set')}" if len(datasets) > 1 and set(datasets) == everything else _listed(tuple(datasets), 40)),
            Cell(count(n_cells) if n_cells else ABSENT),
            toned(status),
            Cell(_listed(tuple(dict.fromkeys(model for model, _ in cells_of)), 40)),
            Cell(inert(evidence, 400)),
        ))  # fmt: skip
    return tuple(rows)


def found_table(content: ReportContent) -> Table:
    """Return test x fold: how many were found of how many looked at. Without rows where the folds are too many.

    The cells behind each fitted step are not in it: they are recorded by digest, and judged when the step has run.
    """
    certificates = content.certificates
    counts = [_counts(certificate) for certificate in certificates]
    rows = tuple(
        (Cell(inert(_name_of(name))), *(_found(of_fold.get(name)) for of_fold in counts))
        for name in dict.fromkeys(name for of_fold in counts for name in of_fold)
    )
    return Table(
        key="tests",
        caption="What was looked for on both sides of each fold: found, of how many tested",
        columns=(Column("Test"), *(Column(fold_name(one.split_id), "number") for one in certificates)),
        rows=rows if len(certificates) <= _MAX_FOLDS_WIDE else (),
        note="0 is what one hopes for. “of 0” means that nothing could be tested, which proves nothing. Labels that are apart in training matter where the fold also tests its libraries (R12). How much each "
        "test can see, what it could not test and what is assumed is in the certificates below.",
        source="certificate.json",
    )


_FACTS = "facts of cells"
"""What the other tests read of the cells: named by digest, nothing is looked for."""

_ESTIMABILITY = "estimability, "


def _name_of(test: str) -> str:
    """Return what a reader calls a test."""
    if test.startswith(_ESTIMABILITY):
        return f"groups of test labels apart in training, level “{test.removeprefix(_ESTIMABILITY)}”"
    return _TEST_NAMES.get(test, test)


_TEST_NAMES = {
    "sides": "cells on both sides",
    "shared donor names": "equal donor names, persons unknown",
    "pretraining": "test data in pretraining",
    "label evidence": "test labels decided by expression",
    "label origin": "test labels given by a program or another data set",
}
"""What a reader calls a test that the certificate names shorter."""


def _counts(certificate: Certificate) -> dict[str, tuple[int, int]]:
    """Return test -> (found, tested)."""
    counts: dict[str, tuple[int, int]] = {}
    for test in certificate.tests:
        name, found, tested = str(test.get("test", "test")), test.get("n_found"), test.get("n_tested")
        is_told_here = name != _FACTS and not name.startswith(_FIT_SCOPE)
        if isinstance(found, int) and isinstance(tested, int) and is_told_here:
            counts[name] = (found, tested)
    return counts


def _found(counts: tuple[int, int] | None) -> Cell:
    if counts is None:
        return Cell(ABSENT)
    return Cell(f"{count(counts[0])} of {count(counts[1])}", "bad" if counts[0] else "" if counts[1] else "muted")


def certificates_table(content: ReportContent) -> Table:
    """Return the tests of all certificates: one row per test and fold, the fits of the models together."""
    rows = tuple(row for certificate in content.certificates for row in _certificate_rows(certificate))
    return Table(
        key="certificate",
        caption="What was tested of each fold, what could not be tested, and what is assumed",
        columns=(Column("Fold"), Column("Test or assumption"), Column("Result"), Column("What it can see", "prose")),
        rows=rows,
        note="A certificate says “tested”, never “proven”. Digests of cells and of fitted steps are in certificate.json.",
        source="certificate.json",
        is_grouped=True,
    )


def _certificate_rows(certificate: Certificate) -> list[tuple[Cell, ...]]:
    fold = Cell(inert(certificate.split_id), detail=f"certificate {short_digest(certificate.digest)}")
    rows: list[tuple[Cell, ...]] = []
    for name, result, power, detail in _tests(certificate):
        rows.append((fold, Cell(inert(name)), result, Cell(inert(power, 400), detail=inert(detail, 400))))
    blind = certificate.not_testable
    compared = {what.removeprefix(_COMPARISON): blind[what] for what in sorted(blind) if what.startswith(_COMPARISON)}
    rows += [
        (fold, Cell(inert(what)), Cell(f"{count(blind[what])} not testable", "warn"), Cell(ABSENT))
        for what in sorted(blind)
        if not what.startswith(_COMPARISON)
    ]
    if compared:
        told = "; ".join(f"{pair_name(pair)}: {counted(n, 'cell')}" for pair, n in compared.items())
        result = Cell(f"not testable in {counted(len(compared), 'comparison')}", "warn")
        rows.append((fold, Cell("identical cells, too shallow"), result, Cell(inert(told, 900))))
    if certificate.assumptions:
        assumed = "; ".join(inert(text, 300) for text in certificate.assumptions)
        rows.append((fold, Cell("assumed, not tested"), Cell(ABSENT), Cell(assumed)))
    return rows


_COMPARISON = "identical cells, "
# Facts of a test that the table of folds tells already, or that are told as its result.
_TOLD_ELSEWHERE = frozenset({"n_found", "n_tested", "power", "steps", "groups_test", "n_train", "n_test"})


def _tests(certificate: Certificate) -> Iterable[tuple[str, Cell, str, str]]:
    """Yield (name, result, power, other facts) of each test; the fitted steps of all models are one row."""
    fitted = []
    for test in certificate.tests:
        named = next((key for key in ("test", "name", "title") if key in test), "")
        name = str(test.get(named, "test"))
        if name.startswith(_FIT_SCOPE):
            fitted.append(test)
            continue
        hidden = _TOLD_ELSEWHERE | {named}
        facts = [key for key in sorted(test) if key not in hidden and not key.endswith("digest") and test[key] != {}]
        told = "; ".join(f"{key.replace('_', ' ')}: {_fact(test[key])}" for key in facts)
        yield _name_of(name), _result(test), str(test.get("power", "")), told
    if fitted:
        n_steps = sum(tested for test in fitted if isinstance(tested := test.get("n_tested"), int))
        told = "a step on cells that the model may not see refuses its scores; what looks at the query says so there"
        power = str(fitted[0].get("power", ""))
        yield (
            f"cells behind each fit, {counted(len(fitted), 'model')}",
            Cell(f"{counted(n_steps, 'step')} recorded"),
            power,
            told,
        )


def _result(test: Mapping[str, object]) -> Cell:
    found, tested = test.get("n_found"), test.get("n_tested")
    if not isinstance(found, int) or not isinstance(tested, int):
        return Cell(ABSENT)
    if test.get("test") == _FACTS:
        return Cell(f"{count(tested)} cells named")
    return _found((found, tested))


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {anything(value[key])}" for key in sorted(value, key=str))
    if isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        return "; ".join(_row(one) for one in value)
    return anything(value)


def _row(value: Mapping[str, object]) -> str:
    """Return one of several alike facts: the names of things without their keys, numbers and the rest with them."""
    told = []
    for key, one in value.items():
        text = ", ".join(map(anything, one)) if isinstance(one, list | tuple) else anything(one)
        told.append(text if key == "dataset_id" else f"{key.removeprefix('n_').replace('_', ' ')} {text}")
    return ", ".join(told)
