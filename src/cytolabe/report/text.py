"""How a value becomes text: numbers in one way everywhere, and contributed strings made inert.

Labels come from anywhere. Escaping stops markup; it does not stop a right-to-left mark that turns the rest of a line
around, a terminal escape, or a name of ten kilobytes. So control, format and direction characters are written out as
their code point, and long text is cut with its length named.
"""

import math
import unicodedata

import numpy as np

from cytolabe.records import Score

__all__ = [
    "ABSENT",
    "anything",
    "count",
    "counted",
    "fraction",
    "inert",
    "number",
    "score_value",
    "short_digest",
    "spread",
]

ABSENT = "\N{EN DASH}"
"""What stands where there is no number. Never a zero."""

_LABEL_LIMIT = 160
# Control, format (direction marks, zero-width), surrogate, private use, and the two Unicode line separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def inert(text: str, limit: int = _LABEL_LIMIT) -> str:
    """Return `text` with invisible characters spelled out, at most `limit` characters of it."""
    kept = text[:limit]
    # Printable text has nothing to spell out, and is nearly all of what comes.
    shown = kept if kept.isprintable() else "".join(_visible(character) for character in kept)
    if len(text) > limit:
        return f"{shown}… ({count(len(text))} characters)"
    return shown


def _visible(character: str) -> str:
    if character in "\n\t":
        return " "
    if unicodedata.category(character) in _HIDDEN:
        return f"<U+{ord(character):04X}>"
    return character


def count(value: int) -> str:
    """Return a whole number with thousands separated."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """Return a whole number with its noun, which is in the plural unless there is one of it."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count(value)} {noun if value == 1 else plural}"


def number(value: float | None) -> str:
    """Return a score with three decimals, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def fraction(value: float | None) -> str:
    """Return a fraction in [0, 1] as percent with one decimal, or a dash; only all is 100.0 %, only none is 0.0 %."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if 0.9995 <= value < 1.0:
        return "> 99.9 %"
    return "< 0.1 %" if 0.0 < value < 0.0005 else f"{100 * value:.1f} %"


def spread(score: Score) -> str:
    """Return the interval, or the single donors, or nothing; never an interval that was not computed.

    One donor's own value is the score itself, so it is not repeated.
    """
    if score.value is None:
        return ""
    if score.low is not None and score.high is not None:
        return f"[{number(score.low)},\N{NO-BREAK SPACE}{number(score.high)}]"
    if len(score.points) > 1:
        values = sorted(score.points.values())
        listed = " · ".join(number(value) for value in values[:8])
        return f"({listed}{' · …' if len(values) > 8 else ''})"
    return ""


def score_value(score: Score | None) -> str:
    """Return what stands in a cell for a score: the number, or the status instead of it."""
    if score is None:
        return ABSENT
    if score.value is None:
        return score.status.value
    return number(score.value)


def short_digest(digest: str) -> str:
    """Return the first twelve digits of a digest, without its prefix."""
    return digest.removeprefix("sha256:")[:12]


def anything(value: object) -> str:
    """Return any value of a data frame as inert text; what is missing becomes a dash."""
    if value is None:
        return ABSENT
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return count(int(value))
    if isinstance(value, float | np.floating):
        return _real(float(value))
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        return inert(", ".join(anything(item) for item in items)) or ABSENT
    text = str(value)
    return inert(text) if text and text not in {"nan", "<NA>", "NaT"} else ABSENT


def _real(value: float) -> str:
    if not math.isfinite(value):
        return ABSENT
    if value.is_integer() and abs(value) >= 2:
        return count(int(value))
    return number(value) if abs(value) < 100 else f"{value:,.1f}"
