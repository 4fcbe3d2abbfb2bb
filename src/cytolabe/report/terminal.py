"""The same rows on a terminal and in a README.

A terminal is attacked by labels too: everything goes through `Text`, which knows no markup, and the rows have had
their control characters spelled out before.
"""

from collections.abc import Sequence

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from cytolabe.report import ladder, tables
from cytolabe.report.content import ReportContent
from cytolabe.report.leaderboard import POOLED, is_collapsed, leaderboard, select, splits_of
from cytolabe.report.remarks import Said, remarks_of
from cytolabe.report.tables import Cell, Table, row_groups
from cytolabe.report.text import count, counted, inert, number, short_digest, spread
from cytolabe.report.verdict import NO_RANKING, verdict_of

__all__ = [
    "faults_table",
    "findings_table",
    "ladder_tables",
    "leaderboard_markdown",
    "leaderboard_table",
    "rich_table",
    "sources_table",
    "verdict_lines",
]

_STYLES = {"good": "green", "warn": "yellow", "bad": "red", "muted": "dim", "": ""}


def rich_table(table: Table) -> RichTable:
    """Return rows as a table for the terminal, with what holds for all rows and the numbered notes below it."""
    drawn = RichTable(
        title=Text(table.caption, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption=Text("\n".join(_below(table)), style="dim") if _below(table) else None,
        caption_justify="left",
        pad_edge=False,
    )
    for column in table.columns:
        right = column.kind == "number"
        drawn.add_column(Text(column.heading), justify="right" if right else "left", overflow="fold")
    for row, n_spanned in zip(table.rows, row_groups(table), strict=True):
        first = _text(row[0]) if n_spanned else Text("")
        drawn.add_row(first, *(_text(cell) for cell in row[1:]))
    return drawn


def _below(table: Table) -> list[str]:
    told = [*table.remarks, *([table.note] if table.note else [])]
    return [*told, *(f"note {position}: {text}" for position, text in table.notes)]


def _text(cell: Cell) -> Text:
    text = Text(cell.text, style=_STYLES[cell.tone])
    if cell.detail:
        text.append("\n" + cell.detail, style="dim")
    return text


def leaderboard_table(content: ReportContent, split: str = "") -> RichTable:
    """Return the scores of one fold at the decision level; without a name, of the last (the pooled) one.

    Content without scores gives a table without rows.
    """
    return rich_table(leaderboard(content, split or _last_split(content)))


def sources_table(content: ReportContent) -> RichTable:
    """Return the offered files, refused ones first."""
    return rich_table(tables.sources_table(content))


def findings_table(content: ReportContent) -> RichTable:
    """Return all findings, errors first."""
    return rich_table(tables.findings_table(content))


def faults_table(content: ReportContent) -> RichTable:
    """Return the planted faults, missed ones first."""
    return rich_table(tables.planted_faults_table(content))


def ladder_tables(content: ReportContent) -> tuple[RichTable, ...]:
    """Return the rungs of the ladder and the gaps, or nothing where none was climbed."""
    if content.rungs.empty:
        return ()
    return rich_table(ladder.rungs_table(content.rungs)), rich_table(ladder.ladder_table(content.ladder))


def verdict_lines(content: ReportContent) -> tuple[str, ...]:
    """Return the box on top of the page as plain lines."""
    verdict = verdict_of(content)
    lines = [
        f"snapshot {short_digest(content.snapshot_id)}",
        f"{counted(verdict.n_accepted, 'file')} used, {count(verdict.n_refused)} refused; {count(verdict.n_cells)} cells",
        f"{count(verdict.n_labels_mapped)} of {count(verdict.n_labels)} labels mapped",
    ]
    if verdict.folds:
        lines.append(f"macro-F1 at the level “{inert(content.decision_level)}”, by held-out fold:")
    for fold in verdict.folds:
        split = inert(fold.split)
        if fold.score is None:
            lines.append(f"{split}: no number, {fold.status} ({fold.told})")
            continue
        value = f"{number(fold.score.value)} {spread(fold.score)}".strip()
        ends = (
            f"floor {number(fold.score.floor)} | best of {fold.n_models} {value} | ceiling {number(fold.score.ceiling)}"
        )
        lines.append(f"{split}: {ends} | {fold.status}{f' ({fold.told})' if fold.told else ''}")
    lines += [NO_RANKING, *verdict.remarks] if verdict.remarks else []
    lines += [f"refused: {line}" for line in verdict.refused]
    if verdict.n_faults:
        lines.append(f"{count(verdict.n_faults_caught)} of {count(verdict.n_faults)} planted faults caught")
    return tuple(lines)


def leaderboard_markdown(content: ReportContent) -> str:
    """Return the scores of every fold at the decision level as Markdown, short enough for a README.

    Columns: model, macro-F1 with its interval or the donors' own values, macro-F1 of rare types, accuracy, floor,
    ceiling, status. What all tables say stands once below them, and the notes of all tables are one list.
    """
    splits = splits_of(content)
    scores = {split: select(content, split, resolution=content.decision_level) for split in splits}
    shared = [remarks_of(of_split).said.reasons for of_split in scores.values() if not is_collapsed(of_split)]
    everywhere = tuple(text for text in (shared[0] if len(shared) > 1 else ()) if all(text in one for one in shared))
    boards: list[Table] = []
    notes: tuple[str, ...] = ()
    for split in splits:
        said = Said(notes=notes, reasons=() if is_collapsed(scores[split]) else everywhere)
        boards.append(leaderboard(content, split, said=said))
        notes = remarks_of(scores[split], said=said).said.notes
    collapsed = [is_collapsed(of_split) for of_split in scores.values()]
    # The pooled table has fewer columns to explain, so it has no say in what all tables share.
    told = [
        board.remarks
        for split, board, is_short in zip(splits, boards, collapsed, strict=True)
        if not is_short and split != POOLED
    ]
    common = [text for text in (told[0] if len(told) > 1 else ()) if all(text in others for others in told)]
    parts = [
        _markdown_line(board) if is_short else _markdown_board(board, without=common)
        for board, is_short in zip(boards, collapsed, strict=True)
    ]
    tail = [_markdown(f"Every number above is QUALIFIED: {'; '.join(everywhere)}.")] if everywhere else []
    tail += [_markdown(" ".join(common))] if common else []
    listed = sorted({pair for board in boards for pair in board.notes})
    if listed:
        tail.append("\\\n".join(f"Note {position}: {_markdown(text)}" for position, text in listed))
    tail += [
        f"Snapshot `{content.snapshot_id}`; held out: {_markdown(content.facts.split_rule)}.",
        *(_markdown(claim) for claim in content.claims),
    ]
    return "\n\n".join([*parts, *tail]) + "\n"


def _markdown_line(table: Table) -> str:
    """Return a fold in which all models share one reason for having no number."""
    return (
        f"**{_markdown(table.caption)}**: {_markdown(table.rows[0][1].text)}. {_markdown(' '.join(table.remarks[:1]))}"
    )


def _markdown_board(table: Table, *, without: Sequence[str]) -> str:
    remarks = [_markdown(text) for text in table.remarks if text not in without]
    heads = [_markdown(column.heading) for column in table.columns]
    rules = ["---:" if column.kind == "number" else "---" for column in table.columns]
    lines = [f"**{_markdown(table.caption)}**", "", _row(heads), _row(rules)]
    lines += [_row([_markdown_model(row[0]), *(_markdown_cell(cell) for cell in row[1:])]) for row in table.rows]
    return "\n".join([*lines, "", " ".join(remarks)]).rstrip()


def _markdown_model(cell: Cell) -> str:
    return f"{_markdown(cell.text)} ({_markdown(cell.detail)})" if cell.detail else _markdown(cell.text)


def _markdown_cell(cell: Cell) -> str:
    return (
        f"{_markdown(cell.text)}{': ' if cell.tone else ' '}{_markdown(cell.detail)}"
        if cell.detail
        else _markdown(cell.text)
    )


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(text: str) -> str:
    """Escape what Markdown or HTML would read as markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_|[]":
        text = text.replace(mark, "\\" + mark)
    return text


def _last_split(content: ReportContent) -> str:
    splits = splits_of(content)
    return splits[-1] if splits else ""
