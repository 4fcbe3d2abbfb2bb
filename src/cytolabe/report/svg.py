"""A drawing as escaped text: the few SVG elements that the figures need.

Every attribute and text passes through `markupsafe.escape`, so that a label cannot leave its place. Colors are names
of style classes that the page defines for light, dark and print; coordinates are rounded, so that equal input gives
equal bytes on every machine. Nothing carries an id: several drawings share one page.
"""

from collections.abc import Iterable

from markupsafe import Markup, escape

from cytolabe.report.text import inert

__all__ = ["CHARACTER_WIDTH", "Drawing", "clipped", "element"]

CHARACTER_WIDTH = 6.6
"""Average advance of a character at 12 px in the fonts of the page; generous, since fonts differ."""


def element(name: str, text: str | Markup = "", **attributes: object) -> Markup:
    """Return one element. A trailing underscore is dropped and inner ones become dashes: `class_`, `text_anchor`."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(attributes[key])) for key in attributes
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, escape(text))  # noqa: S704 - `name` is ours


def clipped(text: str, width: float) -> str:
    """Return `text` cut to what fits in `width` pixels at 12 px."""
    limit = max(4, int(width / CHARACTER_WIDTH))
    safe = inert(text)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


class Drawing:
    """Elements collected in drawing order, and the title and description that a screen reader speaks."""

    def __init__(self, title: str, description: str, *, width: float, height: float) -> None:
        self.title = title
        self.description = description
        self.width = width
        self.height = height
        self._elements: list[Markup] = []

    def add(self, *elements: Markup) -> None:
        """Put elements on top of what is there."""
        self._elements.extend(elements)

    def text(self, content: str, x: float, y: float, **attributes: object) -> None:
        """Write text; `y` is its baseline."""
        self.add(element("text", content, x=x, y=y, **attributes))

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        """Draw a straight line of a style class."""
        self.add(element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=kind))

    def markup(self) -> Markup:
        """Return the finished drawing."""
        body: Iterable[Markup] = [
            element("title", inert(self.title, 300)),
            element("desc", inert(self.description, 600)),
            *self._elements,
        ]
        return element(
            "svg",
            Markup("\n").join(body),
            viewBox=f"0 0 {_value(self.width)} {_value(self.height)}",
            width=self.width,
            height=self.height,
            role="img",
            aria_label=inert(self.title, 300),
        )


def _value(value: object) -> str:
    """Round numbers, so that the last bit of a float never shows."""
    return f"{round(float(value), 2):g}" if isinstance(value, int | float) else str(value)
