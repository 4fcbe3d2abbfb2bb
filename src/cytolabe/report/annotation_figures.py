"""The drawings of an annotation's page: what became of the cells, whether confidence means what it says, and what abstaining gains."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cytolabe.report.svg import Drawing, element
from cytolabe.report.text import count, fraction

__all__ = ["answers_figure", "curve_figure", "reliability_figure"]

_SIDE, _LEFT, _TOP, _BOTTOM = 300.0, 58.0, 30.0, 52.0
_STATUS = (
    ("labelled", "a term for one class", "auto"),
    ("coarser", "a coarser term", "reviewed"),
    ("unknown", "unknown", "review"),
    ("not_scored", "not scored: no counts", "reserved"),
)


def answers_figure(status: Mapping[str, int]) -> Markup:
    """Draw the cells of the query by what became of them, as one bar with its words."""
    total = max(1, sum(status.values()))
    told = ", ".join(f"{words} {count(status.get(name, 0))}" for name, words, _ in _STATUS)
    drawing = Drawing("Cells of the query by what became of them", told, width=720.0, height=64.0)
    start, x = 2.0, 2.0
    for name, words, kind in _STATUS:
        n_cells = status.get(name, 0)
        if not n_cells:
            continue
        width = 716 * n_cells / total
        label = f"{words}: {count(n_cells)} ({fraction(n_cells / total)})"
        drawing.add(
            element("rect", element("title", label), x=start, y=4, width=width, height=22, class_=f"bar {kind}")
        )
        drawing.add(element("rect", x=x, y=38, width=12, height=12, class_=f"bar {kind}"))
        drawing.text(label, x + 17, 48.0, class_="tick")
        start += width
        x += 17 + 5.9 * len(label) + 18
    return drawing.markup()


def reliability_figure(raw: Sequence[Mapping[str, Any]], calibrated: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw claimed against found accuracy; a bin's dot grows with its cells. Hollow: before calibration."""
    told = "; ".join(
        f"claimed {one['confidence']:.2f}, right {one['accuracy']:.2f}, {one['n_cells']} cells" for one in calibrated
    )
    drawing = _square("Reliability: claimed and found accuracy", told, ("claimed: confidence", "found: share right"))
    drawing.line(_at(0.0, 0.0), _at(1.0, 1.0), "bound top")
    for bins, kind in ((raw, "dot hollow"), (calibrated, "dot")):
        most = max((int(one["n_cells"]) for one in bins), default=1)
        points = [_at(float(one["confidence"]), float(one["accuracy"])) for one in bins]
        drawing.add(_path(points, "curve plain" if kind == "dot hollow" else "curve"))
        for one, (x, y) in zip(bins, points, strict=True):
            name = f"claimed {one['confidence']:.3f}, right {one['accuracy']:.3f}, {count(int(one['n_cells']))} cells"
            radius = 2.5 + 4.5 * (int(one["n_cells"]) / most) ** 0.5
            drawing.add(element("circle", element("title", name), cx=x, cy=y, r=radius, class_=kind))
    drawing.text("filled: calibrated · hollow: before · dashed: honest", _LEFT, 16.0, class_="tick")
    return drawing.markup()


def curve_figure(curve: Sequence[Sequence[float]], answered: Mapping[str, Any]) -> Markup:
    """Draw the share of wrong answers over the share of cells answered, most confident first.

    `answered` are the coverage and the precision of the answers that were given, which may be coarser terms: a mark beside the curve of classes.
    """
    highest = max([risk for _, risk in curve], default=0.0)
    top = next((tick for tick in (0.05, 0.1, 0.2, 0.5) if highest <= tick), 1.0)
    drawing = _square(
        "Risk over coverage",
        f"{highest:.3f} wrong at most",
        ("share of cells answered", "share of these wrong"),
        top=top,
    )
    drawing.add(_path([_at(coverage, risk / top) for coverage, risk in curve], "curve"))
    coverage, precision = float(answered["coverage"]), answered["precision"]
    if precision is not None:
        x, y = _at(coverage, min(1.0, (1 - precision) / top))
        name = f"answers given: {fraction(coverage)} of cells, {fraction(1 - float(precision))} of them wrong"
        drawing.add(element("circle", element("title", name), cx=x, cy=y, r=5.5, class_="dot mark"))
    drawing.text("line: one class per cell · mark: answers given", _LEFT, 16.0, class_="tick")
    return drawing.markup()


def _square(title: str, told: str, axes: tuple[str, str], *, top: float = 1.0) -> Drawing:
    drawing = Drawing(title, told, width=_LEFT + _SIDE + 34, height=_TOP + _SIDE + _BOTTOM)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line(_at(tick, 0.0), _at(tick, 1.0), "grid")
        drawing.line(_at(0.0, tick), _at(1.0, tick), "grid")
        drawing.text(f"{tick:g}", _at(tick, 0.0)[0], _TOP + _SIDE + 16, class_="tick", text_anchor="middle")
        drawing.text(f"{tick * top:.3g}", _LEFT - 8, _at(0.0, tick)[1] + 4, class_="tick", text_anchor="end")
    drawing.text(axes[0], _LEFT + _SIDE / 2, _TOP + _SIDE + 36, text_anchor="middle")
    middle = _TOP + _SIDE / 2
    drawing.text(axes[1], 14.0, middle, text_anchor="middle", transform=f"rotate(-90 14 {middle:g})")
    return drawing


def _at(x: float, y: float) -> tuple[float, float]:
    return _LEFT + _SIDE * x, _TOP + _SIDE * (1 - y)


def _path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)
