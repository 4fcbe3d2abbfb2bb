"""One self-contained page: no script, no address outside of itself, under 5 MB, the same bytes for the same content.

Everything that was contributed passes three gates: `text.inert` spells out invisible characters and cuts long
names, Jinja escapes markup (autoescape is on for every template, and a template has no way to switch it off per
value: nothing is marked safe but the drawings, which escape on their own), and a content security policy forbids every
source, scripts included. When a page would outgrow its budget, tables are cut and say where the rest is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from cytolabe.errors import UsageError
from cytolabe.files import replace_file
from cytolabe.records import Score
from cytolabe.report import audit_tables, breakdowns, evidence_tables, figures, ladder, leaderboard, matrices, tables
from cytolabe.report.content import Confusion, ReportContent
from cytolabe.report.guide import GUIDE, NOT_SHOWN, STATUS_WORDS
from cytolabe.report.integration import integration_board
from cytolabe.report.leaderboard import POOLED
from cytolabe.report.limited import limited_figures, limited_tables
from cytolabe.report.pages import page_environment
from cytolabe.report.tables import Table
from cytolabe.report.text import count, inert
from cytolabe.report.verdict import NO_RANKING, verdict_of

__all__ = ["MAX_BYTES", "render_report", "write_report"]

MAX_BYTES = 5_000_000
"""Budget of the page: what mail servers pass and browsers open at once."""


_ROWS_OPEN = 20
"""Rows up to which a table of persons or of exposure is shown without a click."""


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
    """What the page shows of one fold; `refusal` is the one sentence where no model has a number."""

    split: str
    status: str
    certificates: tuple[str, ...]
    refusal: str
    figure: Markup
    board: Table
    levels: Table
    integration: Table | None
    limited: tuple[tuple[Markup, str], ...]
    limited_tables: tuple[Table, ...]
    classes: Table
    rare: Table
    datasets: Table
    others: tuple[tuple[str, Table], ...]


@dataclass(frozen=True, kw_only=True)
class _Matrices:
    """The confusion matrices of one fold: two levels side by side, the others folded away."""

    split: str
    model: str
    pair: tuple[tuple[Markup, str], ...]
    others: tuple[tuple[Markup, str], ...]


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
    drawn = _chosen_matrices(content)[: limits.n_matrices]
    page = page_environment().get_template("report.html.j2")
    by_key = {table.key: tables.cut(table, limits.n_rows) for table in whole}
    return page.render(
        content=content,
        verdict=verdict_of(content),
        no_ranking=NO_RANKING,
        folds=[_fold(content, split, limits) for split in shown],
        n_folds_left_out=len(splits) - len(shown),
        matrices=_by_fold(drawn),
        n_matrices_left_out=len(content.confusions) - len(drawn),
        tables=by_key,
        support=[tables.cut(table, limits.n_rows) for table in evidence_tables.support_tables(content)],
        persons_told=evidence_tables.persons_sentence(content),
        copies_told=evidence_tables.duplicates_sentence(content),
        mapping_figure=figures.mapping_figure(content.mappings),
        confounding_figure=figures.confounding_figure(content.confounding.head(limits.n_rows)),
        confounding_caption=figures.confounding_caption(content.confounding.head(limits.n_rows)),
        ladder_figure=ladder.ladder_figure(content.ladder),
        guide=GUIDE,
        not_shown=NOT_SHOWN,
        status_words=STATUS_WORDS,
        pooled=POOLED,
        n_rows_open=_ROWS_OPEN,
    )


def _fold(content: ReportContent, split: str, limits: _Limits) -> _Fold:
    scores: dict[str, Score] = leaderboard.select(content, split, resolution=content.decision_level)
    board = tables.cut(leaderboard.leaderboard(content, split), limits.n_rows)
    refusal = board.remarks[0] if leaderboard.is_collapsed(scores) and board.remarks else ""
    others = tuple(
        (level, tables.cut(leaderboard.leaderboard(content, split, resolution=level), limits.n_rows))
        for level in leaderboard.resolutions_of(content)
        if level != content.decision_level
    )
    return _Fold(
        split=split,
        status=next((score.status.value for score in scores.values()), ""),
        certificates=_certificates_of(content, split),
        refusal=refusal,
        figure=figures.score_figure(scores, f"Macro-F1 of each model, {inert(split)}"),
        board=board,
        levels=leaderboard.levels_board(content, split),
        integration=integration_board(content, split),
        limited=limited_figures(content, split),
        limited_tables=limited_tables(content, split),
        classes=tables.cut(breakdowns.class_table(content, split), limits.n_rows),
        rare=tables.cut(breakdowns.rare_table(content, split), limits.n_rows),
        datasets=tables.cut(breakdowns.dataset_table(content, split), limits.n_rows),
        others=others,
    )


def _certificates_of(content: ReportContent, split: str) -> tuple[str, ...]:
    """Return the digests that the scores of a fold quote; pooled ones stand on the certificates of all folds."""
    if split == POOLED:
        return tuple(certificate.digest for certificate in content.certificates)
    scores = (*content.scores, *content.integration)
    return tuple(sorted({score.certificate for score in scores if score.split == split and score.certificate}))


def _chosen_matrices(content: ReportContent) -> Sequence[Confusion]:
    """Return the matrices to draw: per fold one model at every level, the headline level first, then coarse to fine."""
    best = {fold.split: fold.score.model for fold in verdict_of(content).folds if fold.score is not None}
    levels = [content.decision_level, *(level for level in content.levels if level != content.decision_level)]
    rank = {level: position for position, level in enumerate(levels)}
    order = {split: position for position, split in enumerate(leaderboard.splits_of(content))}
    chosen = [
        matrix
        for matrix in content.confusions
        if matrix.gene_policy == content.gene_policy and best.get(matrix.split, matrix.model) == matrix.model
    ]
    return sorted(
        chosen,
        key=lambda matrix: (
            order.get(matrix.split, len(order)),
            matrix.split,
            rank.get(matrix.resolution, len(rank)),
            matrix.model,
        ),
    )


def _by_fold(drawn: Sequence[Confusion]) -> list[_Matrices]:
    found = []
    for split in dict.fromkeys(matrix.split for matrix in drawn):
        of_fold = [matrix for matrix in drawn if matrix.split == split]
        told = [(matrices.confusion_figure(matrix), _matrix_caption(matrix)) for matrix in of_fold]
        models = ", ".join(dict.fromkeys(inert(matrix.model, 80) for matrix in of_fold))
        found.append(_Matrices(split=split, model=models, pair=tuple(told[:2]), others=tuple(told[2:])))
    return found


def _matrix_caption(matrix: Confusion) -> str:
    return f"Level “{inert(matrix.resolution, 40)}”. {matrices.mistakes_sentence(matrix)}"


def _tables(content: ReportContent) -> Iterable[Table]:
    yield tables.sources_table(content)
    yield tables.findings_table(content)
    yield tables.provenance_table(content)
    yield tables.open_labels_table(content)
    yield tables.mappings_table(content)
    yield tables.levels_table(content)
    yield tables.planted_faults_table(content)
    yield tables.artifacts_table(content)
    yield audit_tables.folds_table(content)
    yield audit_tables.claims_table(content)
    yield audit_tables.found_table(content)
    yield audit_tables.certificates_table(content)
    yield audit_tables.exposure_table(content)
    yield audit_tables.published_exposure_table(content)
    yield ladder.ladder_table(content.ladder)
    yield ladder.rungs_table(content.rungs)
    yield breakdowns.policy_table(content)
    yield breakdowns.sensitivity_table(content)
    yield breakdowns.quality_scores_table(content)
    yield evidence_tables.gene_space_table(content)
    yield evidence_tables.gene_space_by_file(content)
    yield evidence_tables.persons_table(content)
    yield evidence_tables.duplicates_table(content)
    yield evidence_tables.not_testable_table(content)
    yield evidence_tables.confounding_table(content)
