"""What was held out, what was tested of it, and what each model had seen before, as rows of text."""

from collections.abc import Mapping, Sequence

from cytolabe.records import Certificate
from cytolabe.report.content import ReportContent
from cytolabe.report.tables import Cell, Column, Table, toned
from cytolabe.report.text import anything, count, inert, short_digest

__all__ = ["certificates_table", "exposure_table", "folds_table"]


def folds_table(content: ReportContent) -> Table:
    """Return which groups each fold holds out, and whether it may be scored."""
    rows = tuple(
        (
            Cell(inert(fold.split_id)),
            toned(fold.status, inert(fold.reason, 300)),
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
        source="split.json",
    )


def _listed(groups: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(inert(group, 60) for group in groups[:limit])
    more = len(groups) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def exposure_table(content: ReportContent) -> Table:
    """Return whether each model saw each test data set before."""
    rows = tuple(
        (Cell(inert(row.model)), Cell(inert(row.dataset_id)), toned(row.status), Cell(inert(row.evidence, 300)))
        for row in sorted(content.exposure, key=lambda row: (row.model, row.dataset_id))
    )
    return Table(
        key="exposure",
        caption="Had the model seen the test cells before?",
        columns=(Column("Model"), Column("Data set"), Column("Seen", "status"), Column("Evidence", "prose")),
        rows=rows,
        note="“unknown” is never called clean.",
    )


def certificates_table(content: ReportContent) -> Table:
    """Return the tests of all certificates, one row per test."""
    rows = tuple(row for certificate in content.certificates for row in _certificate_rows(certificate))
    return Table(
        key="certificate",
        caption="What was tested of each fold",
        columns=(
            Column("Fold"),
            Column("Test or assumption"),
            Column("Result", "prose"),
            Column("Certificate", "code"),
        ),
        rows=rows,
        note="A certificate says “tested”, never “proven”: it lists what was looked for, what could not be tested, "
        "and what was assumed.",
        source="certificate.json",
    )


def _certificate_rows(certificate: Certificate) -> list[tuple[Cell, ...]]:
    fold, digest = Cell(inert(certificate.split_id)), Cell(short_digest(certificate.digest))
    rows: list[tuple[Cell, ...]] = []
    for test in certificate.tests:
        named = next((key for key in ("test", "name", "title") if key in test), "")
        facts = "; ".join(f"{key.replace('_', ' ')}: {_fact(test[key])}" for key in sorted(test) if key != named)
        rows.append((fold, Cell(inert(str(test.get(named, "test")))), Cell(inert(facts, 500)), digest))
    for what in sorted(certificate.not_testable):
        told = Cell(f"{count(certificate.not_testable[what])} not testable", "warn")
        rows.append((fold, Cell(inert(what)), told, digest))
    rows += [(fold, Cell("assumed", "muted"), Cell(inert(text, 300)), digest) for text in certificate.assumptions]
    return rows


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {anything(value[key])}" for key in sorted(value, key=str))
    return anything(value)
