"""The loss of a training as a picture: what every step lost, and the looks at held-out persons above or below it.

As a file it stands alone, so it carries its colors, for light and dark; on a page it takes those of the page. Steps are thinned to the mean of neighbors where
there are more than the picture has room for; looks are all shown.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from cytolabe.report.svg import Drawing, element
from cytolabe.report.text import number

__all__ = ["loss_figure", "loss_picture"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 760.0, 340.0, 64.0, 34.0, 48.0, 20.0
_POINTS = 400
_STYLE = """svg{background:#fff;font:12px sans-serif}text{fill:#333}.grid{stroke:#ddd}.train{stroke:#7a9cc6;fill:none}
.held{stroke:#d1701f;fill:none;stroke-width:2}.held-point{fill:#d1701f}.floor{stroke:#777;stroke-dasharray:6 4}
@media(prefers-color-scheme:dark){svg{background:#16181c}text{fill:#ccc}.grid{stroke:#333}}"""


def loss_picture(
    losses: Sequence[float],
    looks: Sequence[tuple[int, float]],
    *,
    title: str,
    floor: tuple[str, float | None] = ("", None),
) -> bytes:
    """Draw what `loss_figure` draws as a file of SVG.

    Raises
    ------
    ValueError
        If there is no step.
    """
    body = str(loss_figure(losses, looks, title=title, floor=floor))
    head, _, rest = body.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).partition(">")
    return f"{head}><style>{_STYLE}</style>{rest}\n".encode()


def loss_figure(
    losses: Sequence[float],
    looks: Sequence[tuple[int, float]],
    *,
    title: str,
    floor: tuple[str, float | None] = ("", None),
    held_out: str = "held-out persons",
) -> Markup:
    """Draw the loss of every step (from 1), and of every look as (step, loss).

    Parameters
    ----------
    floor
        What a naive answer is called and costs on the same held-out cells: a dashed line. None draws none.
    held_out
        What was looked at.

    Raises
    ------
    ValueError
        If there is no step.
    """
    if not losses:
        msg = "a training without a step has no picture"
        raise ValueError(msg)
    steps, means = _thinned(np.asarray(losses, dtype=np.float64))
    held = [loss for _, loss in looks]
    naive = [] if floor[1] is None else [floor[1]]
    low, high = min([*means, *held, *naive]), max([*means, *held, *naive])
    told = f"loss fell from {number(means[0])} to {number(means[-1])} over {len(losses)} steps"
    told += f"; best on {held_out} {number(min(held))}" if held else "; nothing was held out"
    told += "".join(f"; {floor[0]} {number(loss)}" for loss in naive)
    drawing = Drawing(title, told, width=_WIDTH, height=_HEIGHT)

    def at(step: float, loss: float) -> tuple[float, float]:
        across = (step - 1) / max(1, len(losses) - 1)
        down = (high - loss) / max(high - low, 1e-9)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _TOP + down * (_HEIGHT - _TOP - _BOTTOM)

    for tick in np.linspace(low, high, 5):
        y = at(1.0, float(tick))[1]
        drawing.line((_LEFT, y), (_WIDTH - _RIGHT, y), "grid")
        drawing.text(f"{tick:.3g}", _LEFT - 8, y + 4, text_anchor="end")
    for step in np.unique(np.linspace(1, len(losses), 5).round()):
        drawing.text(f"{step:.0f}", at(float(step), low)[0], _HEIGHT - _BOTTOM + 18, text_anchor="middle")
    drawing.text("step", _WIDTH / 2, _HEIGHT - 10.0, text_anchor="middle")
    dashed = f", dashed: {floor[0]}" if naive else ""
    drawing.text(f"{title} · thin: training, thick: {held_out}{dashed}", _LEFT, 20.0)
    for loss in naive:
        drawing.line(at(1.0, loss), at(float(len(losses)), loss), "floor")
    drawing.add(_curve([at(step, loss) for step, loss in zip(steps, means, strict=True)], "train"))
    if held:
        drawing.add(_curve([at(float(step), loss) for step, loss in looks], "held"))
        drawing.add(
            *(
                element("circle", cx=x, cy=y, r=3, class_="held-point")
                for x, y in (at(float(step), loss) for step, loss in looks)
            )
        )
    return drawing.markup()


def _curve(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def _thinned(losses: np.ndarray) -> tuple[list[float], list[float]]:
    """Return steps and losses, as means of neighbors where there are too many."""
    width = -(-len(losses) // _POINTS)
    cuts = range(0, len(losses), width)
    steps = [(start + 1 + min(start + width, len(losses))) / 2 for start in cuts]
    return steps, [float(losses[start : start + width].mean()) for start in cuts]
