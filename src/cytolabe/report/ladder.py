"""The ladder as a table and a drawing: how a score falls, rung by rung, when ever more is held out."""

import pandas as pd
from markupsafe import Markup

from cytolabe.report.frames import frame_table
from cytolabe.report.svg import Drawing, clipped, element
from cytolabe.report.tables import Table
from cytolabe.report.text import number

__all__ = ["ladder_figure", "ladder_table", "rungs_table"]

_LABEL, _SCALE, _VALUE, _ROW = 190.0, 430.0, 190.0, 24.0
_METRIC = "macro_f1"


def ladder_table(frame: pd.DataFrame) -> Table:
    """Return the gaps: one row per model, metric and rung."""
    return frame_table(
        frame,
        key="ladder",
        caption="Inflation: what the same models lose when more is held out",
        note="Both values of a row are of the same cells and classes; inflation is the random one less the other.",
        source="ladder.json",
    )


def rungs_table(frame: pd.DataFrame) -> Table:
    """Return what each rung holds out, and what was refused of it."""
    return frame_table(frame, key="rungs", caption="Rungs of the ladder", source="ladder.json")


def ladder_figure(frame: pd.DataFrame) -> Markup | None:
    """Draw for each model and rung the macro-F1 of random cells and that of the rung, on the same cells."""
    if frame.empty:
        return None
    rows = frame[(frame["metric"] == _METRIC) & frame["value"].notna()]
    if rows.empty:
        return None
    told = "; ".join(
        f"{row['model']}, {row['rung']}: {number(row['value_random'])} to {number(row['value'])}"
        for row in rows.to_dict("records")
    )
    height = 14.0 + _ROW * len(rows) + 40.0
    drawing = Drawing("Inflation of macro-F1 by a random split", told, width=_LABEL + _SCALE + _VALUE, height=height)
    bottom = 14.0 + _ROW * len(rows)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line((_x(tick), 14.0), (_x(tick), bottom), "grid")
        drawing.text(f"{tick:g}", _x(tick), bottom + 16, class_="tick", text_anchor="middle")
    drawing.text(
        "small dot: random cells · large dot: the rung, on the same cells", _x(0.5), bottom + 34, class_="tick",
        text_anchor="middle",
    )  # fmt: skip
    for place, row in enumerate(rows.to_dict("records")):
        y = 14.0 + _ROW * (place + 0.5)
        name = clipped(f"{row['model']} · {row['rung']}", _LABEL - 20)
        drawing.text(name, _LABEL - 14, y + 4, class_="label", text_anchor="end")
        drawing.line((_x(float(row["value_random"])), y), (_x(float(row["value"])), y), "interval")
        drawing.add(element("circle", cx=_x(float(row["value_random"])), cy=y, r=3, class_="point"))
        kind = "dot" if row["status"] == "SCORED" else "dot hollow"
        drawing.add(element("circle", cx=_x(float(row["value"])), cy=y, r=5.5, class_=kind))
        drawing.text(
            f"{number(row['value'])} (inflation {float(row['inflation']):+.3f})", _x(1.0) + 16, y + 4, class_="value"
        )
    return drawing.markup()


def _x(value: float) -> float:
    return _LABEL + _SCALE * min(1.0, max(0.0, value))
