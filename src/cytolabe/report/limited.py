"""What few labels are worth: macro-F1 over cells of each type, and over donors, one small drawing per embedding.

Every number stands with its interval or its donors (rule R15); values of one number of labels whose intervals overlap, or
that have none, are in no order. The last mark is the fold's own score, with all labels.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from markupsafe import Markup

from cytolabe.records import Score, ScoreStatus
from cytolabe.report.content import ReportContent
from cytolabe.report.leaderboard import models_first_to_last, score_cell, select
from cytolabe.report.svg import Drawing, clipped, element
from cytolabe.report.tables import Cell, Column, Table, toned
from cytolabe.report.text import ABSENT, count, counted, inert, number, spread

__all__ = ["limited_figures", "limited_tables"]

_AXES = {"cells_per_type": "Cells of each type", "donors": "Donors"}
_ALL = "all"
_PANEL, _LEFT, _TOP, _PLOT, _ROW, _PER_ROW = 230.0, 34.0, 26.0, 120.0, 190.0, 4
_SHAPES = {"knn": "curve plain", "logistic": "curve"}
_NOTE = (
    "Mean over the draws; the labels of a draw contain those of a smaller one. An embedding saw no label and is the same in a "
    "row; a model without a probe was trained anew on the labelled cells of each draw alone. Test cells and types are those of the fold. Brackets are donors of the test side, and say nothing of draws."
)


def limited_tables(content: ReportContent, split: str) -> tuple[Table, ...]:
    """Return for each axis the table of embedding and probe x number of labels; empty where none was asked."""
    found = []
    for axis, heading in _AXES.items():
        rows = _of_axis(content, split, axis)
        if rows:
            found.append(_table(content, split, axis=heading, rows=rows))
    return tuple(found)


def limited_figures(content: ReportContent, split: str) -> tuple[tuple[Markup, str], ...]:
    """Return for each axis the drawing and its caption."""
    found = []
    full = select(content, split, resolution=content.decision_level)
    for axis, heading in _AXES.items():
        rows = _of_axis(content, split, axis)
        if any(row.value is not None for row in rows.values()):
            caption = (
                f"Macro-F1 over {heading[:1].lower()}{heading[1:]} that were learned from. Solid: logistic, or a model trained anew; dotted: nearest neighbors; "
                "open dot: qualified; the last one is all labels. Thin lines are intervals over donors of the test side, rings single donors."
            )
            found.append((_figure(heading, rows, full), caption))
    return tuple(found)


def _of_axis(content: ReportContent, split: str, axis: str) -> dict[tuple[str, int], Score]:
    """Return (model, number of labels) -> score."""
    rows = [row for row in content.limited if row.split == split and row.stratum.partition("=")[0] == axis]
    return {(row.model, int(row.stratum.partition("=")[2])): row for row in rows}


def _table(content: ReportContent, split: str, *, axis: str, rows: Mapping[tuple[str, int], Score]) -> Table:
    full = select(content, split, resolution=content.decision_level)
    numbers = sorted({n for _, n in rows})
    # What stands beside the scores of the fold already is not said again.
    said = {note for score in full.values() for note in (*score.notes, score.reason)}
    notes = dict.fromkeys(note for row in rows.values() for note in row.notes if note not in said)
    reasons = dict.fromkeys(row.reason for row in rows.values() if row.value is None and row.reason not in said)
    return Table(
        key=f"limited_{axis}",
        caption=f"{axis} · macro-F1 · level “{inert(content.decision_level, 60)}”",
        columns=(
            Column("Model"), *(Column(count(n), "number") for n in numbers), Column("All labels", "number"),
            Column("Status", "status"),
        ),
        rows=tuple(
            (
                Cell(inert(model)),
                *(_cell(rows.get((model, n))) for n in numbers),
                score_cell(full[model]) if model in full else Cell(ABSENT),
                _status([rows[model, n] for n in numbers if (model, n) in rows]),
            )
            for model in models_first_to_last(rows.values())
        ),
        note=_NOTE,
        remarks=(_order(rows), *(_sentence(text) for text in (*reasons, *notes))),
    )  # fmt: skip


def _sentence(text: str) -> str:
    """Return a reason or note with one full stop; what a model says of itself may end with its own."""
    return f"{inert(text, 300).rstrip('.')}."


def _cell(score: Score | None) -> Cell:
    """Return a value, its interval or donors, and how far its draws lie apart."""
    if score is None or score.value is None:
        return score_cell(score)
    draws = sorted(score.seeds.values())
    told = f"draws {number(draws[0])} to {number(draws[-1])}" if len(draws) > 1 else ""
    return Cell(number(score.value), detail="; ".join(part for part in (spread(score), told) if part))


def _status(scores: Sequence[Score]) -> Cell:
    """Return the least believed status of a row, with its reason."""
    order = [ScoreStatus.FAILED, ScoreStatus.REFUSED, ScoreStatus.NOT_RUN, ScoreStatus.QUALIFIED, ScoreStatus.SCORED]
    worst = min(scores, key=lambda score: order.index(score.status))
    return toned(worst.status.value, inert(worst.reason, 200))


def _order(rows: Mapping[tuple[str, int], Score]) -> str:
    """Say how many values of one number of labels lie apart from another: where intervals overlap there is no order."""
    known = [(n, row) for (_, n), row in rows.items() if row.value is not None]
    with_interval = [(n, row.low, row.high) for n, row in known if row.low is not None and row.high is not None]
    if not known:
        return "No number to compare."
    if not with_interval:
        return "No intervals (they need six known donors on the test side), so nothing here is in an order."
    pairs = [(one, other) for one, other in combinations(with_interval, 2) if one[0] == other[0]]
    n_apart = sum(one[2] < other[1] or other[2] < one[1] for one, other in pairs)
    return (
        f"Of {counted(len(pairs), 'pair')} of models with one number of labels, the intervals of {count(n_apart)} lie apart; "
        "the others are in no order."
    )


def _figure(heading: str, rows: Mapping[tuple[str, int], Score], full: Mapping[str, Score]) -> Markup:
    numbers = sorted({n for _, n in rows})
    embeddings = list(dict.fromkeys(model.partition("+")[0] for model, _ in rows))
    n_rows = -(-len(embeddings) // _PER_ROW)
    told = "; ".join(
        f"{inert(model, 40)} with {n}: {number(row.value)}" for (model, n), row in rows.items() if row.value is not None
    )
    drawing = Drawing(
        f"Macro-F1 over {heading.lower()}", told, width=_PANEL * min(len(embeddings), _PER_ROW), height=_ROW * n_rows
    )
    for place, embedding in enumerate(embeddings):
        corner = (_PANEL * (place % _PER_ROW), _ROW * (place // _PER_ROW))
        own = {key: row for key, row in rows.items() if key[0].partition("+")[0] == embedding}
        _panel(drawing, corner, embedding, numbers=numbers, rows=own, full=full)
    return drawing.markup()


def _panel(
    drawing: Drawing,
    corner: tuple[float, float],
    embedding: str,
    *,
    numbers: Sequence[int],
    rows: Mapping[tuple[str, int], Score],
    full: Mapping[str, Score],
) -> None:
    x0, y0 = corner
    step = (_PANEL - _LEFT - 24) / len(numbers)
    drawing.text(clipped(embedding, _PANEL - 20), x0 + _LEFT, y0 + 16, class_="label")
    for tick in (0.0, 0.5, 1.0):
        y = y0 + _TOP + _PLOT * (1 - tick)
        drawing.line((x0 + _LEFT - 6, y), (x0 + _PANEL - 14, y), "grid")
        drawing.text(f"{tick:g}", x0 + _LEFT - 10, y + 4, class_="tick", text_anchor="end")
    for place, name in enumerate([*map(count, numbers), _ALL]):
        drawing.text(name, x0 + _LEFT + step * place, y0 + _TOP + _PLOT + 18, class_="tick", text_anchor="middle")
    if all(score.value is None for score in rows.values()):
        word = next(iter(rows.values())).status.value
        drawing.text(word, x0 + _LEFT, y0 + _TOP + 0.75 * _PLOT, class_="refused")
    for shift, model in enumerate(dict.fromkeys(model for model, _ in rows)):
        kind = _SHAPES.get(model.partition("+")[2], "curve")
        marks: list[tuple[float, float, Score]] = []
        for place, score in enumerate([*(rows.get((model, n)) for n in numbers), full.get(model)]):
            if score is not None and score.value is not None:
                x = x0 + _LEFT + step * place + 4.0 * shift
                marks.append((x, y0 + _TOP + _PLOT * (1 - min(1.0, max(0.0, score.value))), score))
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y, score in marks)
        if len(marks) > 1:
            drawing.add(element("polyline", points=points, class_=kind))
        for x, y, score in marks:
            _mark(drawing, (x, y), score, top=y0 + _TOP)


def _mark(drawing: Drawing, at: tuple[float, float], score: Score, *, top: float) -> None:
    x, y = at

    def height(value: float) -> float:
        return top + _PLOT * (1 - min(1.0, max(0.0, value)))

    if score.low is not None and score.high is not None:
        drawing.line((x, height(score.low)), (x, height(score.high)), "interval")
    else:
        for point in sorted(score.points.values()) if len(score.points) > 1 else ():
            drawing.add(element("circle", cx=x, cy=height(point), r=2, class_="point"))
    kind = "dot" if score.status is ScoreStatus.SCORED else "dot hollow"
    name = f"{inert(score.model, 60)}, {inert(score.stratum, 60)}: {number(score.value)} {spread(score)}"
    drawing.add(element("circle", element("title", name.strip()), cx=x, cy=y, r=3.5, class_=kind))
