"""The drawings of a report, as inline SVG that follows the colors of the page.

* score figure: one row per model; the band runs from floor to ceiling, the dot is the score, thin marks are an
  interval or single donors. A refused or failed model is a word on its row, never a dot at zero.
* confounding: Cramer's V as shade and figure, with the number of units that it stands on; where it is undefined because
  biology follows technique, the contrasts that are lost; what is not estimable is a dash. Rows and columns in which nothing is estimable are left out, and counted beside the drawing.
* labels: cells of each data set by what became of their label.

Blue and orange are told apart with every common color blindness, and no figure needs color to be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from cytolabe.records import LabelMapping, Score
from cytolabe.report.remarks import first_clause
from cytolabe.report.svg import Drawing, clipped, element
from cytolabe.report.text import ABSENT, count, counted, inert, number

__all__ = ["confounding_caption", "confounding_figure", "mapping_figure", "range_figure", "score_figure"]

_LABEL_WIDTH = 222.0
_SCALE_WIDTH = 430.0
_VALUE_WIDTH = 130.0
_ROW = 30.0


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
    told = "solid mark: floor · dashed mark: ceiling · shaded: between the two"
    drawing.text(told, _x(0.5), bottom + 34, class_="tick", text_anchor="middle")


def _draw_score(drawing: Drawing, score: Score, y: float) -> None:
    if score.value is None:
        reason = f"{score.status.value}{': ' if score.reason else ''}{score.reason}"
        short = f"{score.status.value}{': ' if score.reason else ''}{first_clause(score.reason)}"
        shown = clipped(short, _SCALE_WIDTH + _VALUE_WIDTH - 16)
        full = element("title", inert(reason, 400))
        drawing.add(element("text", Markup("{}{}").format(full, shown), x=_x(0.0) + 8, y=y + 4, class_="refused"))
        return
    _draw_band(drawing, score, y)
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
    for end, kind in ((score.floor, "bound"), (score.ceiling, "bound top")):
        if end is not None:
            drawing.line((_x(end), y - 9), (_x(end), y + 9), kind)


def range_figure(score: Score, others: Sequence[float] = ()) -> Markup:
    """Draw one score between floor and ceiling as a strip without words, for the box on top of the page.

    `others` are the values of the other models on the same cells, drawn small: how far apart the models are.
    """
    width, y = 240.0, 12.0
    drawing = Drawing(f"macro-F1 {_told(score)}", "strip from 0 to 1", width=width + 12, height=24.0)

    def at(value: float) -> float:
        return 6 + width * min(1.0, max(0.0, value))

    drawing.line((at(0.0), y), (at(1.0), y), "grid")
    if score.floor is not None and score.ceiling is not None and score.ceiling > score.floor:
        wide = at(score.ceiling) - at(score.floor)
        drawing.add(element("rect", x=at(score.floor), y=y - 7, width=wide, height=14, rx=2, class_="band"))
    for end, kind in ((score.floor, "bound"), (score.ceiling, "bound top")):
        if end is not None:
            drawing.line((at(end), y - 8), (at(end), y + 8), kind)
    for value in sorted(others):
        drawing.add(element("circle", cx=at(value), cy=y, r=3, class_="point"))
    if score.low is not None and score.high is not None:
        drawing.line((at(score.low), y), (at(score.high), y), "interval")
    if score.value is not None:
        kind = "dot" if score.status.value == "SCORED" else "dot hollow"
        drawing.add(element("circle", cx=at(score.value), cy=y, r=5.5, class_=kind))
    return drawing.markup()


@dataclass(frozen=True, kw_only=True)
class _Association:
    """One tile: Cramer's V or None, what it was measured over, and contrasts that no technical level holds."""

    value: float | None = None
    told: str = ""
    n_lost: int = 0

    @property
    def is_drawn(self) -> bool:
        return self.value is not None or self.n_lost > 0


def confounding_figure(frame: pd.DataFrame) -> Markup | None:
    """Draw Cramer's V of technical x biological columns, over all files first; None where there is nothing to say.

    A tile whose V is undefined because biology follows technique says how many contrasts are lost.
    """
    cells = _associations(frame)
    known = [key for key, found in cells.items() if found.is_drawn]
    if not known:
        return None
    row_names = sorted({row for row, _ in known}, key=lambda name: (not name.startswith(_ALL_FILES), name))
    column_names = sorted({column for _, column in known})
    side, left, top = 96.0, 330.0, 44.0
    drawing = Drawing(
        "Confounding: Cramer's V between technical and biological columns",
        "; ".join(f"{row} with {column}: {_association_told(cells[row, column])}" for row, column in known),
        width=left + side * len(column_names) + 20,
        height=top + 38 * len(row_names) + 6,
    )
    for column, name in enumerate(column_names):
        first, second = _heading(name)
        x = left + side * (column + 0.5)
        drawing.text(clipped(first, side), x, top - (24 if second else 10), class_="label", text_anchor="middle")
        if second:
            drawing.text(clipped(second, side), x, top - 8, class_="tick", text_anchor="middle")
    for row, name in enumerate(row_names):
        drawing.text(clipped(name, left - 24), left - 10, top + 38 * row + 22, class_="label", text_anchor="end")
        for column, of_column in enumerate(column_names):
            found = cells.get((name, of_column), _Association())
            _draw_association(drawing, found, x=left + side * column, y=top + 38 * row, side=side)
    return drawing.markup()


_ALL_FILES = "all files"


def _heading(column: str) -> tuple[str, str]:
    """Return the name of a column on two lines: a cell type, and the level that it is seen at."""
    if column.startswith("cell_type_"):
        return "cell type", column.removeprefix("cell_type_").replace("_", " ")
    return column.replace("_", " "), ""


def _associations(frame: pd.DataFrame) -> dict[tuple[str, str], _Association]:
    """Return (place and technical column, biological column) -> what is known of the pair."""
    if frame.empty or not {"technical", "biological", "cramers_v"} <= set(frame.columns):
        return {}
    cells: dict[tuple[str, str], _Association] = {}
    for row in frame.to_dict("records"):
        where = row.get("dataset_id")
        place = inert(where, 60) if isinstance(where, str) and where else _ALL_FILES
        value, n_lost = row["cramers_v"], row.get("n_lost")
        known = isinstance(value, int | float) and not pd.isna(value)
        n_units, unit = row.get("n_units"), inert(str(row.get("unit", "unit")), 20)
        key = (f"{place} · {inert(str(row['technical']), 40)}", inert(str(row["biological"]), 60))
        cells[key] = _Association(
            value=float(value) if known else None,
            told=counted(int(n_units), unit) if isinstance(n_units, int) else "",
            n_lost=int(n_lost) if isinstance(n_lost, int | float) and not pd.isna(n_lost) else 0,
        )
    return cells


def _association_told(found: _Association) -> str:
    if found.value is None:
        return f"{counted(found.n_lost, 'contrast')} lost"
    return f"{found.value:.2f}"


def confounding_caption(frame: pd.DataFrame) -> str:
    """Say what the drawing shows, and how many pairs of columns it leaves out."""
    cells = _associations(frame)
    known = {key for key, found in cells.items() if found.is_drawn}
    if not known:
        return f"Of {count(len(cells))} pairs of columns none is estimable: too few known levels or units. That is not zero."
    drawn = [key for key in cells if key[0] in {row for row, _ in known} and key[1] in {column for _, column in known}]
    left_out = len(cells) - len(drawn)
    told = (
        f" {count(left_out)} other pairs are not estimable and not drawn, which is not zero either." if left_out else ""
    )
    lost = (
        " Lost: so many contrasts exist in no technical level; V is undefined there."
        if any(found.value is None and found.n_lost for found in cells.values())
        else ""
    )
    return (
        "Cramér's V between technical columns (rows) and biological ones (columns), and what it was measured over. "
        f"1: one tells the other. Dash: not estimable, which is not zero.{lost}{told}"
    )


def _draw_association(drawing: Drawing, found: _Association, *, x: float, y: float, side: float) -> None:
    kind = "tile" if found.is_drawn else "tile unknown"
    drawing.add(element("rect", x=x, y=y, width=side - 2, height=36, rx=2, class_=kind))
    strength = 1.0 if found.value is None else min(1.0, max(0.0, found.value))
    if found.is_drawn:
        opacity = 0.08 + 0.92 * strength
        drawing.add(element("rect", x=x, y=y, width=side - 2, height=36, rx=2, class_="mistaken", fill_opacity=opacity))
    kind = " on-strong" if found.is_drawn and strength > 0.6 else ""
    middle = x + side / 2 - 1
    lost = f"{count(found.n_lost)} lost" if found.n_lost else ABSENT
    shown = lost if found.value is None else f"{found.value:.2f}"
    has_two_lines = bool(found.told) and found.is_drawn
    drawing.add(element("text", shown, x=middle, y=y + (16 if has_two_lines else 22), class_=f"count big-count{kind}"))
    if has_two_lines:
        drawing.add(element("text", found.told, x=middle, y=y + 29, class_=f"count{kind}"))


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
