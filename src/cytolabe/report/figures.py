"""The drawings of a report, as inline SVG that follows the colors of the page.

* score figure: one row per model; the band runs from floor to ceiling, the dot is the score, thin marks are an
  interval or single donors. A refused or failed model is a word on its row, never a dot at zero.
* confusion matrix: rows add up to 1 and are shaded, cells are counted in figures; blue is right, orange is mistaken.
* confounding: Cramer's V as shade and figure; what is not estimable is a dash on a hatched ground.
* labels: cells of each data set by what became of their label.

Blue and orange are told apart with every common color blindness, and no figure needs color to be read.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from cytolabe.records import LabelMapping, Score
from cytolabe.report.content import Confusion
from cytolabe.report.svg import CHARACTER_WIDTH, Drawing, clipped, element
from cytolabe.report.text import ABSENT, count, inert, number

__all__ = ["confounding_figure", "confusion_figure", "mapping_figure", "range_figure", "score_figure"]

_LABEL_WIDTH = 190.0
_SCALE_WIDTH = 430.0
_VALUE_WIDTH = 130.0
_ROW = 30.0
MAX_CLASSES = 40


def score_figure(scores: Mapping[str, Score], title: str) -> Markup:
    """Draw macro-F1 (or any score in [0, 1]) of each model between its floor and its ceiling."""
    top, bottom = 14.0, 40.0
    height = top + _ROW * max(1, len(scores)) + bottom
    width = _LABEL_WIDTH + _SCALE_WIDTH + _VALUE_WIDTH
    described = "; ".join(f"{inert(model, 60)} {_told(score)}" for model, score in scores.items())
    drawing = Drawing(title, described or "no scores", width=width, height=height)
    _draw_scale(drawing, top, top + _ROW * len(scores))
    for row, (model, score) in enumerate(scores.items()):
        y = top + _ROW * (row + 0.5)
        drawing.text(clipped(model, _LABEL_WIDTH - 20), _LABEL_WIDTH - 14, y + 4, class_="label", text_anchor="end")
        _draw_score(drawing, score, y)
    return drawing.markup()


def _told(score: Score) -> str:
    if score.value is None:
        return score.status.value
    return f"{number(score.value)}, floor {number(score.floor)}, ceiling {number(score.ceiling)}"


def _x(value: float) -> float:
    return _LABEL_WIDTH + _SCALE_WIDTH * min(1.0, max(0.0, value))


def _draw_scale(drawing: Drawing, top: float, bottom: float) -> None:
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line((_x(tick), top), (_x(tick), bottom), "grid")
        drawing.text(f"{tick:g}", _x(tick), bottom + 16, class_="tick", text_anchor="middle")
    drawing.text("shaded: from floor to ceiling", _x(0.5), bottom + 34, class_="tick", text_anchor="middle")


def _draw_score(drawing: Drawing, score: Score, y: float) -> None:
    _draw_band(drawing, score, y)
    if score.value is None:
        reason = f"{score.status.value}{': ' if score.reason else ''}{score.reason}"
        shown = clipped(reason, _SCALE_WIDTH + _VALUE_WIDTH - 16)
        full = element("title", inert(reason, 400))
        drawing.add(element("text", Markup("{}{}").format(full, shown), x=_x(0.0) + 8, y=y + 4, class_="refused"))
        return
    if score.low is not None and score.high is not None:
        drawing.line((_x(score.low), y), (_x(score.high), y), "interval")
        for end in (score.low, score.high):
            drawing.line((_x(end), y - 4), (_x(end), y + 4), "interval")
    else:
        for point in sorted(score.points.values()):
            drawing.add(element("circle", cx=_x(point), cy=y, r=3, class_="point"))
    kind = "dot" if score.status.value == "SCORED" else "dot hollow"
    drawing.add(element("circle", element("title", _told(score)), cx=_x(score.value), cy=y, r=5.5, class_=kind))
    mark = "" if score.status.value == "SCORED" else " *"
    drawing.text(f"{number(score.value)}{mark}", _x(1.0) + 16, y + 4, class_="value")


def _draw_band(drawing: Drawing, score: Score, y: float) -> None:
    if score.floor is not None and score.ceiling is not None and score.ceiling > score.floor:
        width = _x(score.ceiling) - _x(score.floor)
        drawing.add(element("rect", x=_x(score.floor), y=y - 9, width=width, height=18, rx=2, class_="band"))
    for end in (score.floor, score.ceiling):
        if end is not None:
            drawing.line((_x(end), y - 9), (_x(end), y + 9), "bound")


def range_figure(score: Score) -> Markup:
    """Draw one score between floor and ceiling as a strip without words, for the box on top of the page."""
    width, y = 240.0, 12.0
    drawing = Drawing(f"macro-F1 {_told(score)}", "strip from 0 to 1", width=width + 12, height=24.0)

    def at(value: float) -> float:
        return 6 + width * min(1.0, max(0.0, value))

    drawing.line((at(0.0), y), (at(1.0), y), "grid")
    if score.floor is not None and score.ceiling is not None and score.ceiling > score.floor:
        wide = at(score.ceiling) - at(score.floor)
        drawing.add(element("rect", x=at(score.floor), y=y - 7, width=wide, height=14, rx=2, class_="band"))
    for end in (score.floor, score.ceiling):
        if end is not None:
            drawing.line((at(end), y - 8), (at(end), y + 8), "bound")
    if score.low is not None and score.high is not None:
        drawing.line((at(score.low), y), (at(score.high), y), "interval")
    if score.value is not None:
        kind = "dot" if score.status.value == "SCORED" else "dot hollow"
        drawing.add(element("circle", cx=at(score.value), cy=y, r=5.5, class_=kind))
    return drawing.markup()


def confusion_figure(confusion: Confusion) -> Markup:
    """Draw a confusion matrix, rows scaled to 1. Beyond 40 classes the commonest are drawn and the title says so."""
    matrix, names, columns, told = _shown_classes(confusion)
    side = 40.0 if len(names) <= 12 else 30.0
    longest = max((len(name) for name in columns), default=0)
    left = 30.0 + min(200.0, CHARACTER_WIDTH * longest)
    top = 24.0 + 0.78 * min(150.0, CHARACTER_WIDTH * longest)
    width = left + side * len(columns) + 90
    height = top + side * len(names) + 16
    title = f"Confusion matrix of {inert(confusion.model, 60)}, {inert(confusion.split, 60)}, level {confusion.resolution}{told}"
    drawing = Drawing(title, "rows: true type; columns: answer; figures: cells", width=width, height=height)
    for column, name in enumerate(columns):
        x = left + side * (column + 0.5)
        turned = f"rotate(-50 {x + 3:g} {top - 8:g})"
        drawing.text(clipped(name, 150.0), x + 3, top - 8, class_="label", transform=turned)
    for row, name in enumerate(names):
        y = top + side * row
        drawing.text(clipped(name, left - 24), left - 10, y + side / 2 + 4, class_="label", text_anchor="end")
        _draw_confusion_row(drawing, matrix[row], row, side=side, origin=(left, y))
    return drawing.markup()


def _shown_classes(confusion: Confusion) -> tuple[np.ndarray, list[str], list[str], str]:
    matrix = np.asarray(confusion.matrix)
    names = [inert(str(name)) for name in confusion.names]
    n_classes = len(names)
    kept = np.arange(n_classes)
    told = ""
    if n_classes > MAX_CLASSES:
        order = np.lexsort((kept, -matrix.sum(axis=1)))
        kept = np.sort(order[:MAX_CLASSES])
        told = f" ({MAX_CLASSES} commonest of {n_classes} types)"
    left_out = np.setdiff1d(np.arange(matrix.shape[1]), kept)
    shown = matrix[np.ix_(kept, kept)]
    columns = [names[k] for k in kept]
    if left_out.size:
        shown = np.column_stack([shown, matrix[np.ix_(kept, left_out)].sum(axis=1)])
        columns.append("any other answer")
    return shown, [names[k] for k in kept], columns, told


def _draw_confusion_row(
    drawing: Drawing, cells: np.ndarray, row: int, *, side: float, origin: tuple[float, float]
) -> None:
    left, y = origin
    total = int(cells.sum())
    for column, value in enumerate(cells.tolist()):
        share = value / total if total else 0.0
        x = left + side * column
        kind = "right" if column == row else "mistaken"
        drawing.add(element("rect", x=x, y=y, width=side - 2, height=side - 2, rx=2, class_="tile"))
        if value:
            shade = element(
                "rect", x=x, y=y, width=side - 2, height=side - 2, rx=2, class_=kind, fill_opacity=0.04 + 0.96 * share
            )
            strong = "count on-strong" if share > 0.6 else "count"
            figure = element("text", _short(int(value)), x=x + side / 2 - 1, y=y + side / 2 + 3, class_=strong)
            drawing.add(shade, figure)
    drawing.text(f"n = {count(total)}", left + side * len(cells) + 8, y + side / 2 + 4, class_="tick")


def _short(value: int) -> str:
    if value < 10_000:
        return str(value)
    return f"{value / 1000:.0f}k" if value < 1_000_000 else f"{value / 1_000_000:.1f}M"


def confounding_figure(frame: pd.DataFrame) -> Markup | None:
    """Draw Cramer's V of technical x biological columns, one block of rows per data set; None without such columns."""
    if frame.empty or not {"technical", "biological", "cramers_v"} <= set(frame.columns):
        return None
    place = frame["dataset_id"] if "dataset_id" in frame.columns else pd.Series([None] * len(frame), index=frame.index)
    rows = [
        f"{tech} · {'all files' if pd.isna(where) or not str(where) else where}"
        for where, tech in zip(place, frame["technical"], strict=True)
    ]
    row_names = sorted(dict.fromkeys(rows), key=lambda name: (" · all files" not in name, name))
    column_names = sorted({str(value) for value in frame["biological"]})
    side, left, top = 64.0, 330.0, 44.0
    drawing = Drawing(
        "Confounding: Cramer's V between technical and biological columns",
        "1 means that one tells the other; a dash means not estimable",
        width=left + side * len(column_names) + 20,
        height=top + 34 * len(row_names) + 10,
    )
    for column, name in enumerate(column_names):
        drawing.text(clipped(name, side), left + side * (column + 0.5), top - 12, class_="label", text_anchor="middle")
    for row, name in enumerate(row_names):
        drawing.text(clipped(name, left - 24), left - 10, top + 34 * row + 21, class_="label", text_anchor="end")
    for row_name, biological, value in zip(rows, frame["biological"], frame["cramers_v"], strict=True):
        x, y = left + side * column_names.index(str(biological)), top + 34 * row_names.index(row_name)
        _draw_association(drawing, value, x=x, y=y, side=side)
    return drawing.markup()


def _draw_association(drawing: Drawing, value: object, *, x: float, y: float, side: float) -> None:
    known = isinstance(value, int | float) and not pd.isna(value)
    strength = float(str(value)) if known else 0.0
    drawing.add(element("rect", x=x, y=y, width=side - 2, height=32, rx=2, class_="tile" if known else "tile unknown"))
    if known:
        opacity = 0.08 + 0.92 * min(1.0, max(0.0, strength))
        drawing.add(element("rect", x=x, y=y, width=side - 2, height=32, rx=2, class_="mistaken", fill_opacity=opacity))
    kind = "count on-strong" if strength > 0.6 else "count"
    shown = f"{strength:.2f}" if known else ABSENT
    drawing.add(element("text", shown, x=x + side / 2 - 1, y=y + 20, class_=kind))


_DECISIONS = (
    ("auto", "mapped"),
    ("reviewed", "mapped by a person"),
    ("review", "waiting for a person"),
    ("abstained", "no guess"),
    ("reserved", "not a cell type"),
)


def mapping_figure(mappings: Sequence[LabelMapping]) -> Markup | None:
    """Draw the labeled cells of each data set by what became of their label; None without labeled cells."""
    totals: dict[str, dict[str, int]] = {}
    for row in mappings:
        of_dataset = totals.setdefault(row.dataset_id, {})
        of_dataset[row.decision] = of_dataset.get(row.decision, 0) + row.n_cells
    totals = {dataset: totals[dataset] for dataset in sorted(totals) if sum(totals[dataset].values())}
    if not totals:
        return None
    left, wide, top = 230.0, 400.0, 34.0
    drawing = Drawing(
        "Labeled cells by what became of their label",
        "; ".join(f"{inert(name, 60)}: {_decisions_told(of)}" for name, of in totals.items()),
        width=left + wide + 120,
        height=top + _ROW * len(totals) + 8,
    )
    _draw_legend(drawing)
    for index, (dataset, of_dataset) in enumerate(totals.items()):
        y, total = top + _ROW * index, sum(of_dataset.values())
        drawing.text(clipped(dataset, left - 20), left - 12, y + 18, class_="label", text_anchor="end")
        start = left
        for decision, words in _DECISIONS:
            width = wide * of_dataset.get(decision, 0) / total
            if width:
                told = element("title", f"{words}: {count(of_dataset[decision])} cells")
                drawing.add(element("rect", told, x=start, y=y + 5, width=width, height=18, class_=f"bar {decision}"))
            start += width
        drawing.text(f"{count(total)} cells", left + wide + 10, y + 18, class_="tick")
    return drawing.markup()


def _decisions_told(of_dataset: Mapping[str, int]) -> str:
    return ", ".join(f"{words} {count(of_dataset[key])}" for key, words in _DECISIONS if of_dataset.get(key))


def _draw_legend(drawing: Drawing) -> None:
    x = 2.0
    for decision, words in _DECISIONS:
        drawing.add(element("rect", x=x, y=6, width=12, height=12, class_=f"bar {decision}"))
        drawing.text(words, x + 17, 16.0, class_="tick")
        x += 17 + 6.3 * len(words) + 22
