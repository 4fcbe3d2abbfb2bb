"""Confusion matrices as drawings, and their largest mistakes in words.

Columns carry the numbers of the rows: names of cell types are long, and what tells two of them apart often stands in
their middle, so they are written once, in full, on two lines. Types without a test cell and without an answer are left
out and counted. Each row adds up to 1 and is shaded; the figures are cells. Blue is right, orange is mistaken.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from markupsafe import Markup

from cytolabe.report.content import Confusion
from cytolabe.report.svg import Drawing, element
from cytolabe.report.text import count, fraction, inert

__all__ = ["CELL_TYPES", "MAX_CLASSES", "MatrixWords", "confusion_figure", "mistakes_sentence"]

MAX_CLASSES = 40
_SIDE = 26.0
_LETTER = 5.7
"""Average advance of a character in the row labels."""
_LINE_LENGTH = 35
_MIN_ROW = 10
"""Mistakes of a type with fewer test cells are not worth a sentence."""


@dataclass(frozen=True, kw_only=True)
class MatrixWords:
    """What a matrix counts (`unit`), what a row is (`kind`, `kinds`), and what its resolution is called (`place`)."""

    unit: str = "cell"
    kind: str = "type"
    kinds: str = "types"
    place: str = "level"


CELL_TYPES = MatrixWords()
"""The words of a study: cells of types at a level."""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What is drawn: rows x columns of cells; `told` says what is not."""

    cells: np.ndarray
    names: list[str]
    has_other: bool
    told: str


def _shown(confusion: Confusion, words: MatrixWords) -> _Shown:
    matrix = np.asarray(confusion.matrix)
    names = [inert(str(name)) for name in confusion.names]
    n_classes = len(names)
    inside = matrix[:, :n_classes]
    kept = np.flatnonzero(matrix.sum(axis=1) + inside.sum(axis=0))
    told = ""
    if len(kept) < n_classes:
        told = f"; {n_classes - len(kept)} {words.kinds} without a test {words.unit} and without an answer are left out"
    if len(kept) > MAX_CLASSES:
        order = np.lexsort((kept, -matrix.sum(axis=1)[kept]))
        told = f" ({MAX_CLASSES} commonest of {n_classes} {words.kinds})"
        kept = np.sort(kept[order[:MAX_CLASSES]])
    # Types without a test cell come last: they are only answers.
    kept = kept[np.argsort(matrix.sum(axis=1)[kept] == 0, kind="stable")]
    left_out = np.setdiff1d(np.arange(matrix.shape[1]), kept)
    cells = matrix[np.ix_(kept, kept)]
    other = matrix[np.ix_(kept, left_out)].sum(axis=1)
    has_other = bool(other.any())
    if has_other:
        cells = np.column_stack([cells, other])
    return _Shown(cells=cells, names=[names[k] for k in kept], has_other=has_other, told=told)


def confusion_figure(confusion: Confusion, *, words: MatrixWords = CELL_TYPES) -> Markup:
    """Draw a confusion matrix, rows scaled to 1. Beyond 40 classes the commonest are drawn and the title says so."""
    shown = _shown(confusion, words)
    columns = [str(position + 1) for position in range(len(shown.names))]
    top = 20.0
    left = 34.0 + _LETTER * max((len(line) for name in shown.names for line in _two_lines(name)), default=0)
    width = left + _SIDE * (len(columns) + shown.has_other) + 66
    place = f"{words.place} {inert(confusion.resolution, 60)}"
    title = f"Confusion matrix of {inert(confusion.model, 60)}, {inert(confusion.split, 60)}, {place}{shown.told}"
    described = (
        f"rows: true {words.kind}; columns: answer, by the number of the row; figures: {words.unit}s. "
        f"{mistakes_sentence(confusion, words=words)}"
    )
    drawing = Drawing(title, described, width=width, height=top + _SIDE * len(shown.names) + 20)
    for column, name in enumerate(columns):
        drawing.text(name, left + _SIDE * (column + 0.5) - 1, top - 6, class_="tick", text_anchor="middle")
    if shown.has_other:
        x = left + _SIDE * (len(columns) + 0.5)
        drawing.text("*", x - 1, top - 6, class_="tick", text_anchor="middle")
        drawing.text("* any other answer", left, top + _SIDE * len(shown.names) + 14, class_="tick")
    for row, name in enumerate(shown.names):
        _draw_name(drawing, name, row + 1, origin=(left, top + _SIDE * row))
        _draw_row(drawing, shown.cells[row], row, origin=(left, top + _SIDE * row), unit=words.unit)
    return drawing.markup()


def _draw_name(drawing: Drawing, name: str, position: int, *, origin: tuple[float, float]) -> None:
    left, y = origin
    lines = _two_lines(name)
    baselines = (y + 17.0,) if len(lines) == 1 else (y + 11.0, y + 22.0)
    for line, baseline in zip(lines, baselines, strict=True):
        drawing.text(line, left - 30, baseline, class_="row-label", text_anchor="end")
    drawing.text(str(position), left - 8, y + 17, class_="tick", text_anchor="end")


def _two_lines(name: str) -> list[str]:
    """Break a name after a word; what does not fit on two lines is cut in its middle, where the ends still differ."""
    if len(name) <= _LINE_LENGTH:
        return [name]
    cut = name.rfind(" ", 0, _LINE_LENGTH + 1)
    cut = cut if cut > 0 else _LINE_LENGTH
    first, second = name[:cut], name[cut:].strip()
    if len(second) > _LINE_LENGTH:
        half = _LINE_LENGTH // 2
        second = f"{second[:half]}…{second[-half:]}"
    return [first, second]


def _draw_row(
    drawing: Drawing, cells: Shaped[np.ndarray, " columns"], row: int, *, origin: tuple[float, float], unit: str
) -> None:
    left, y = origin
    total = int(cells.sum())
    side = _SIDE - 2
    for column, value in enumerate(cells.tolist()):
        x = left + _SIDE * column
        if not total:
            continue
        drawing.add(element("rect", x=x, y=y, width=side, height=side, rx=2, class_="tile"))
        if value:
            share = value / total
            kind = "right" if column == row else "mistaken"
            opacity = 0.04 + 0.96 * share
            drawing.add(
                element("rect", x=x, y=y, width=side, height=side, rx=2, class_=kind, fill_opacity=opacity),
                element(
                    "text",
                    _short(int(value)),
                    x=x + side / 2,
                    y=y + side / 2 + 3.5,
                    class_="count on-strong" if share > 0.6 else "count",
                ),
            )
    told = f"n = {count(total)}" if total else f"no test {unit}"
    x = left + (_SIDE * len(cells) + 6 if total else 4)
    drawing.text(told, x, y + side / 2 + 4, class_="tick")


def _short(value: int) -> str:
    if value < 1_000:
        return str(value)
    if value < 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value / 1000:.0f}k" if value < 1_000_000 else f"{value / 1_000_000:.1f}M"


def mistakes_sentence(confusion: Confusion, *, n_mistakes: int = 3, words: MatrixWords = CELL_TYPES) -> str:
    """Name the mistakes that take the largest share of a type with at least 10 test cells."""
    matrix = np.asarray(confusion.matrix)
    names = [inert(str(name), 80) for name in confusion.names]
    totals = matrix.sum(axis=1)
    found = [
        (matrix[row, column] / totals[row], row, column)
        for row in np.flatnonzero(totals >= _MIN_ROW)
        for column in np.flatnonzero(matrix[row])
        if column != row
    ]
    if not found:
        return f"No mistake on a {words.kind} with at least {_MIN_ROW} test {words.unit}s."
    largest = sorted(found, key=lambda item: (-item[0], item[1], item[2]))[:n_mistakes]
    told = [
        f"{names[row]} called {names[column] if column < len(names) else 'something else'} "
        f"{count(int(matrix[row, column]))} of {count(int(totals[row]))} ({fraction(float(share))})"
        for share, row, column in largest
    ]
    return f"Largest mistakes: {'; '.join(told)}."
