"""One self-contained page: no script, no address outside of itself, under 5 MB, the same bytes for the same content.

Everything that was contributed passes three gates: `text.inert` spells out invisible characters and cuts long
names, Jinja escapes markup (autoescape is on for every template, and a template has no way to switch it off per
value: nothing is marked safe but the drawings, which escape on their own), and a content security policy forbids every
source, scripts included. When a page would outgrow its budget, tables are cut and say where the rest is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cytolabe.errors import UsageError
from cytolabe.files import replace_file
from cytolabe.records import Score
from cytolabe.report import audit_tables, figures, leaderboard, tables
from cytolabe.report.content import Confusion, ReportContent
from cytolabe.report.guide import GUIDE, NOT_SHOWN, STATUS_WORDS
from cytolabe.report.leaderboard import POOLED
from cytolabe.report.tables import Table
from cytolabe.report.text import count, counted, fraction, inert, number, score_value, short_digest, spread
from cytolabe.report.verdict import verdict_of

__all__ = ["MAX_BYTES", "render_report", "write_report"]

MAX_BYTES = 5_000_000
"""Budget of the page: what mail servers pass and browsers open at once."""


@dataclass(frozen=True)
class _Limits:
    """How much of the content is drawn; halved until the page fits."""

    n_rows: int = 4000
    n_folds: int = 200
    n_matrices: int = 60

    def halved(self) -> "_Limits":
        return _Limits(max(5, self.n_rows // 2), max(2, self.n_folds // 2), max(1, self.n_matrices // 2))


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """What the page shows of one fold."""

    split: str
    figure: Markup
    board: Table
    classes: Table
    datasets: Table
    others: tuple[Table, ...]


def write_report(content: ReportContent, path: Path) -> None:
    """Write the page; a reader of `path` sees the old one or the whole new one.

    Raises
    ------
    UsageError
        If the content cannot be brought under 5 MB.
    """
    replace_file(path, render_report(content).encode("utf-8"))


def render_report(content: ReportContent) -> str:
    """Return the page.

    Raises
    ------
    UsageError
        If the content cannot be brought under 5 MB.
    """
    limits = _Limits()
    whole = tuple(_tables(content))
    while True:
        page = _render(content, whole, limits)
        size = len(page.encode("utf-8"))
        if size <= MAX_BYTES:
            return page
        smaller = limits.halved()
        if smaller == limits:
            msg = (
                f"The report of {content.title!r} needs {count(size)} bytes with its shortest tables; "
                f"{count(MAX_BYTES)} are allowed. Report fewer models or data sets at once; scores.parquet has everything."
            )
            raise UsageError(msg)
        limits = smaller


def _render(content: ReportContent, whole: Sequence[Table], limits: _Limits) -> str:
    splits = leaderboard.splits_of(content)
    shown = splits[: limits.n_folds]
    matrices = _chosen_matrices(content)
    page = _environment().get_template("report.html.j2")
    return page.render(
        content=content,
        verdict=verdict_of(content),
        folds=[_fold(content, split, limits) for split in shown],
        n_folds_left_out=len(splits) - len(shown),
        matrices=[(figures.confusion_figure(item), _matrix_caption(item)) for item in matrices[: limits.n_matrices]],
        n_matrices_left_out=len(content.confusions) - min(len(matrices), limits.n_matrices),
        tables={table.key: tables.cut(table, limits.n_rows) for table in whole},
        mapping_figure=figures.mapping_figure(content.mappings),
        confounding_figure=figures.confounding_figure(content.confounding.head(limits.n_rows)),
        guide=GUIDE,
        not_shown=NOT_SHOWN,
        status_words=STATUS_WORDS,
        pooled=POOLED,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cytolabe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalized,
    )
    environment.filters |= {
        "count": count,
        "counted": counted,
        "fraction": fraction,
        "number": number,
        "inert": inert,
        "short": short_digest,
    }
    environment.globals |= {"range_figure": figures.range_figure, "spread": spread, "score_value": score_value}
    return environment


def _finalized(value: object) -> object:
    """Make every string inert that reaches the page, whatever a template forgot."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else inert(value, 2000)


def _fold(content: ReportContent, split: str, limits: _Limits) -> _Fold:
    scores: dict[str, Score] = leaderboard.select(content, split, resolution=content.decision_level)
    others = tuple(
        tables.cut(leaderboard.leaderboard(content, split, resolution=level), limits.n_rows)
        for level in leaderboard.resolutions_of(content)
        if level != content.decision_level
    )
    return _Fold(
        split=split,
        figure=figures.score_figure(scores, f"Macro-F1 of each model, {inert(split)}"),
        board=tables.cut(leaderboard.leaderboard(content, split), limits.n_rows),
        classes=tables.cut(leaderboard.class_table(content, split), limits.n_rows),
        datasets=tables.cut(leaderboard.dataset_table(content, split), limits.n_rows),
        others=others,
    )


def _chosen_matrices(content: ReportContent) -> Sequence[Confusion]:
    """Return the matrices to draw: per fold the best model of the headline, at every level, the headline level first."""
    best = {fold.split: fold.score.model for fold in verdict_of(content).folds if fold.score is not None}
    levels = [content.decision_level, *(level for level in content.levels if level != content.decision_level)]
    rank = {level: position for position, level in enumerate(levels)}
    chosen = [
        matrix
        for matrix in content.confusions
        if matrix.gene_policy == content.gene_policy and best.get(matrix.split, matrix.model) == matrix.model
    ]
    return sorted(chosen, key=lambda matrix: (matrix.split, rank.get(matrix.resolution, len(rank)), matrix.model))


def _matrix_caption(matrix: Confusion) -> str:
    return f"{inert(matrix.split, 80)} · {inert(matrix.model, 80)} · level “{inert(matrix.resolution, 40)}”"


def _tables(content: ReportContent) -> Iterable[Table]:
    yield tables.sources_table(content)
    yield tables.findings_table(content)
    yield tables.provenance_table(content)
    yield tables.mappings_table(content)
    yield tables.levels_table(content)
    yield audit_tables.folds_table(content)
    yield audit_tables.certificates_table(content)
    yield audit_tables.exposure_table(content)
    yield tables.planted_faults_table(content)
    yield tables.artifacts_table(content)
    yield leaderboard.policy_table(content)
    yield leaderboard.sensitivity_table(content)
    yield tables.frame_table(
        content.support,
        key="support",
        caption="Cells behind each class",
        note="Level by file by class. Unlabeled cells and cells labeled too coarsely are counted here and scored nowhere.",
        source="scores.parquet",
    )
    yield tables.frame_table(
        content.gene_spaces,
        key="genes",
        caption="Gene space of each fold",
        note="A gene that one file never measured is unmeasured, not zero. Under 500 genes a score is QUALIFIED(panel).",
    )
    yield tables.frame_table(
        content.persons,
        key="persons",
        caption="Persons",
        note="A donor name is not a person: names collide across labs. Where nothing tells two donors apart, they are "
        "assumed to be different, and the certificate counts that.",
    )
    yield tables.frame_table(
        pd.DataFrame() if content.duplicates is None else content.duplicates,
        key="duplicates",
        caption="Identical cells across files",
        source="the duplicates table",
    )
    yield tables.frame_table(
        _over_all_named(content.confounding),
        key="confounding",
        caption="Technical and biological columns that move together",
        note="Measured over donors (or the finest unit that is known), never over cells. Descriptive: it refuses nothing "
        "by itself.",
        source="certificate.json",
    )
    yield tables.frame_table(
        content.claims_refused,
        key="claims_refused",
        caption="Claims that these data cannot carry",
        source="certificate.json",
    )


def _over_all_named(frame: pd.DataFrame) -> pd.DataFrame:
    """Name the rows that hold over all files, which carry no data set id."""
    if "dataset_id" not in frame.columns:
        return frame
    named = [value if isinstance(value, str) and value else "all files" for value in frame["dataset_id"]]
    return frame.assign(dataset_id=named)
