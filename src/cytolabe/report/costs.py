"""The page of what each model cost, beside what it scored: seconds, memory and parameters, of one run on one machine.

It is a page of its own because the report is the same bytes for the same study, and times never are.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cytolabe.evaluate.costs import Cost, StudyCosts
from cytolabe.files import replace_file
from cytolabe.records import Score
from cytolabe.report.content import ReportContent
from cytolabe.report.leaderboard import models_first_to_last, score_cell, select, splits_of
from cytolabe.report.pages import page_environment
from cytolabe.report.tables import Cell, Column, Table
from cytolabe.report.text import ABSENT, count, counted, inert

__all__ = ["cost_table", "render_costs", "seconds_told", "work_table", "write_costs_page"]

_MEBIBYTE = 2**20
_PURPOSES = {
    "score": "scores", "ceiling": "ceilings", "sensitivity": "sensitivity to the query", "limited_labels": "limited labels",
}  # fmt: skip
_NOTE = (
    "Seconds are of the wall clock, the mean of all seeds; an embedding is fitted once and shared by what stands on it. "
    "Memory is the most that the whole process held during the step: libraries, the cells of the fold and what earlier "
    "models keep are in it, and memory of an accelerator is not; the small figure is what the step added."
)


def write_costs_page(content: ReportContent, costs: StudyCosts, path: Path) -> None:
    """Write the page; a reader of `path` sees the old one or the whole new one."""
    replace_file(path, render_costs(content, costs).encode("utf-8"))


def render_costs(content: ReportContent, costs: StudyCosts) -> str:
    """Return the page."""
    machine = costs.machine
    measured = {row.split for row in costs.rows}
    return page_environment().get_template("costs.html.j2").render(
        content=content,
        machine=machine,
        memory_told=f"{int(str(machine['memory_bytes'])) / 2**30:,.0f} GiB",
        cores_told=counted(int(str(machine["n_cores"])), "core"),
        workers_told="1 process" if costs.n_workers == 1 else f"{count(costs.n_workers)} processes",
        folds=[
            (split, cost_table(content, costs, split))
            for split in splits_of(content)
            if split in measured
        ],
        work=work_table(costs),
    )  # fmt: skip


def cost_table(content: ReportContent, costs: StudyCosts, split: str) -> Table:
    """Return embedding or annotator x {macro-F1, seconds, memory, parameters} of one fold at the headline level."""
    own = [
        row for row in costs.rows
        if (row.split, row.gene_policy, row.purpose) == (split, content.gene_policy, "score")
        and row.resolution in {"", content.decision_level}
    ]  # fmt: skip
    scores = select(content, split, resolution=content.decision_level)
    rows = []
    for name in _in_order(own, scores):
        found = [row for row in own if row.model == name]
        rows.append((
            Cell(inert(name), detail=_what(found)),
            score_cell(scores[name]) if name in scores else Cell(ABSENT, "muted"),
            _seconds(found, lambda row: row.fit_seconds),
            _seconds(found, lambda row: row.answer_seconds),
            _seconds(found, lambda row: row.processor_seconds),
            _memory(found),
            _parameters([row.n_parameters for row in found]),
            _parameters([row.n_trained for row in found]),
        ))  # fmt: skip
    return Table(
        key="costs",
        caption=f"{inert(split)} · level “{inert(content.decision_level, 60)}” · genes: {inert(content.gene_policy)}",
        columns=(
            Column("Model"),
            Column("Macro-F1", "number"),
            Column("Fit, s", "number"),
            Column("Answer, s", "number"),
            Column("Processor, s", "number"),
            Column("Peak memory, MiB", "number"),
            Column("Parameters", "number"),
            Column("of them trained", "number"),
        ),
        rows=tuple(rows),
        note=_NOTE,
        source="costs.json",
    )


def work_table(costs: StudyCosts) -> Table:
    """Return what the fits of the whole study cost, by what they were run for."""
    rows = []
    for purpose in dict.fromkeys([*_PURPOSES, *(row.purpose for row in costs.rows)]):
        own = [row for row in costs.rows if row.purpose == purpose]
        if own:
            wall = sum(row.fit_seconds + row.answer_seconds for row in own)
            rows.append((
                Cell(_PURPOSES.get(purpose, inert(purpose))),
                Cell(count(len(own))),
                Cell(seconds_told(wall)),
                Cell(seconds_told(sum(row.processor_seconds for row in own))),
                Cell(count(sum(not row.is_finished for row in own))),
            ))  # fmt: skip
    return Table(
        key="work",
        caption="All fits of this run, of every level, gene policy and seed",
        columns=(
            Column("Run for"), Column("Fits", "number"), Column("Seconds", "number"),
            Column("Processor seconds", "number"), Column("Without an answer", "number"),
        ),
        rows=tuple(rows),
        source="costs.json",
    )  # fmt: skip


def seconds_told(seconds: float) -> str:
    """Return seconds with as many digits as mean something: two decimals under 10, none from 100."""
    if 0 < seconds < 0.005:
        return "< 0.01"
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}" if seconds < 100 else f"{seconds:,.0f}"


def _in_order(rows: Sequence[Cost], scores: Mapping[str, Score]) -> list[str]:
    """Return the names of what was fitted: controls first, and each embedding before what stands on it."""
    fitted = {row.model for row in rows}
    names: dict[str, None] = {}
    for model in models_first_to_last(scores.values()):
        names |= {name: None for name in (model.partition("+")[0], model) if name in fitted}
    return [*names, *sorted(fitted - set(names))]


def _what(rows: Sequence[Cost]) -> str:
    first = rows[0]
    sizes = f"{count(first.n_train)} to learn from, {count(first.n_query)} asked"
    raised = sum(not row.is_finished for row in rows)
    return f"{first.step}; {sizes}" + (f"; {raised} of {counted(len(rows), 'fit')} gave no answer" if raised else "")


def _seconds(rows: Sequence[Cost], take: Callable[[Cost], float]) -> Cell:
    """Return the mean over seeds of the seconds of all pairs of sides, and how far seeds differ."""
    by_seed: dict[int, float] = {}
    for row in rows:
        by_seed[row.seed] = by_seed.get(row.seed, 0.0) + take(row)
    values = sorted(by_seed.values())
    mean = sum(values) / len(values)
    detail = f"{seconds_told(values[0])} to {seconds_told(values[-1])}" if len(values) > 1 else ""
    return Cell(seconds_told(mean), detail=detail)


def _memory(rows: Sequence[Cost]) -> Cell:
    """Return the largest peak, and how far above the start of its step it was."""
    row = max(rows, key=lambda row: row.peak_resident_bytes)
    added = (row.peak_resident_bytes - row.start_resident_bytes) / _MEBIBYTE
    return Cell(f"{row.peak_resident_bytes / _MEBIBYTE:,.0f}", detail=f"+ {added:,.0f}")


def _parameters(numbers: Sequence[int | None]) -> Cell:
    known = [number for number in numbers if number is not None]
    return Cell(count(max(known))) if known else Cell(ABSENT, "muted")
