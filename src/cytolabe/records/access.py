"""Who may have the data: the access class of a data set, and that of what is made of several."""

from collections.abc import Iterable

__all__ = ["ACCESS_CLASSES", "UNDECLARED", "strictest"]

UNDECLARED = "undeclared"
ACCESS_CLASSES = ("open", "registered", "managed")
"""Open to anybody; to who registers; to who was granted access by those who answer for the persons."""
_RANKS = {word: rank for rank, word in enumerate(("open", UNDECLARED, "registered", "managed"))}


def strictest(classes: Iterable[str]) -> str:
    """Return the strictest class, which what is made of all of them has: nothing said is stricter than open."""
    return max(classes, key=_RANKS.__getitem__, default=UNDECLARED)
