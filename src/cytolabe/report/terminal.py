"""The same rows on a terminal and in a README.

A terminal is attacked by labels too: everything goes through `Text`, which knows no markup, and the rows have had
their control characters spelled out before.
"""

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from cytolabe.report import tables
from cytolabe.report.content import ReportContent
from cytolabe.report.leaderboard import leaderboard, splits_of
from cytolabe.report.tables import Cell, Table
from cytolabe.report.text import count, counted, inert, number, short_digest
from cytolabe.report.verdict import verdict_of

__all__ = [
    "faults_table",
    "findings_table",
    "leaderboard_markdown",
    "leaderboard_table",
    "rich_table",
    "sources_table",
    "verdict_lines",
]

_STYLES = {"good": "green", "warn": "yellow", "bad": "red", "muted": "dim", "": ""}


def rich_table(table: Table) -> RichTable:
    """Return rows as a table for the terminal."""
    drawn = RichTable(
        title=Text(table.caption, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption=Text(table.note) if table.note else None,
        caption_justify="left",
        pad_edge=False,
    )
    for column in table.columns:
        right = column.kind == "number"
        drawn.add_column(Text(column.heading), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_text(cell) for cell in row))
    return drawn


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


def verdict_lines(content: ReportContent) -> tuple[str, ...]:
    """Return the box on top of the page as plain lines."""
    verdict = verdict_of(content)
    lines = [
        f"snapshot {short_digest(content.snapshot_id)}",
        f"{counted(verdict.n_accepted, 'file')} used, {count(verdict.n_refused)} refused; {count(verdict.n_cells)} cells",
        f"{count(verdict.n_labels_mapped)} of {count(verdict.n_labels)} labels mapped",
    ]
    for fold in verdict.folds:
        split = inert(fold.split)
        if fold.score is None:
            lines.append(f"{split}: no number ({fold.told})")
            continue
        between = f"floor {number(fold.score.floor)}, ceiling {number(fold.score.ceiling)}"
        model = inert(fold.score.model)
        lines.append(f"{split}: macro-F1 {number(fold.score.value)} ({between}), {model}; {fold.told}")
    lines += [f"refused: {line}" for line in verdict.refused]
    if verdict.n_faults:
        lines.append(f"{count(verdict.n_faults_caught)} of {count(verdict.n_faults)} planted faults caught")
    return tuple(lines)


def leaderboard_markdown(content: ReportContent) -> str:
    """Return the scores of every fold at the decision level as Markdown, with snapshot, split and the claims."""
    parts = [_markdown_table(leaderboard(content, split)) for split in splits_of(content)]
    tail = [
        f"Snapshot `{content.snapshot_id}`; held out: {_markdown(content.facts.split_rule)}.",
        *(_markdown(claim) for claim in content.claims),
    ]
    return "\n\n".join([*parts, *tail]) + "\n"


def _markdown_table(table: Table) -> str:
    heads = [_markdown(column.heading) for column in table.columns]
    rules = ["---:" if column.kind == "number" else "---" for column in table.columns]
    lines = [f"**{_markdown(table.caption)}**", "", _row(heads), _row(rules)]
    lines += [_row([_markdown_cell(cell) for cell in row]) for row in table.rows]
    return "\n".join([*lines, "", _markdown(table.note)])


def _markdown_cell(cell: Cell) -> str:
    return f"{_markdown(cell.text)} {_markdown(cell.detail)}".strip()


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
