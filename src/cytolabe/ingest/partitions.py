"""A column as a grouping of cells, and how two groupings relate: the same, one inside the other, or crossing.

Only cells that both columns label are compared, so that a column with gaps can still be the finer one. A grouping
lies inside another when each of its levels falls into one level of the other for at least 99 % of those cells: hand
annotation of a few cells is not a different hierarchy.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.records import MISSING_WORDS

__all__ = ["Grouping", "grouping_of", "is_same", "lies_inside", "split_example"]

_AGREEMENT = 0.99


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """A column as levels and codes; code -1 marks a cell without a value."""

    name: str
    levels: tuple[str, ...]
    codes: np.ndarray

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def n_labelled(self) -> int:
        """Number of cells with a value."""
        return int(np.count_nonzero(self.codes >= 0))


def grouping_of(values: pd.Series, *, missing: Iterable[str] = ()) -> Grouping:
    """Read a column as a grouping; words of `missing` and the usual ones mean no value."""
    words = MISSING_WORDS | {word.strip().lower() for word in missing}
    raw_codes, raw_levels = pd.factorize(values, use_na_sentinel=True)
    texts = [_level_text(level) for level in raw_levels]
    levels = sorted({text for text in texts if text.lower() not in words})
    place = {text: code for code, text in enumerate(levels)}
    translated = np.array([*(place.get(text, -1) for text in texts), -1], dtype=np.int64)
    return Grouping(name=str(values.name), levels=tuple(levels), codes=translated[raw_codes])


def _level_text(value: object) -> str:
    """Return a level as text; a whole number that was stored as a float loses its `.0`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def lies_inside(fine: Grouping, coarse: Grouping) -> bool:
    """Tell whether each level of `fine` falls into one level of `coarse`."""
    table = _contingency(fine, coarse)
    total = int(table.sum())
    return total > 0 and int(table.max(axis=1, initial=0).sum()) >= _AGREEMENT * total


def is_same(one: Grouping, other: Grouping) -> bool:
    """Tell whether two columns group the cells alike under other names."""
    return lies_inside(one, other) and lies_inside(other, one)


def split_example(one: Grouping, other: Grouping) -> str:
    """Name a level of `one` that falls into several of `other`, with the two largest of them."""
    table = _contingency(one, other)
    second = np.sort(table, axis=1)[:, -2] if table.shape[1] > 1 else np.zeros(len(table))
    level = int(np.argmax(second))
    largest = np.argsort(-table[level], kind="stable")[:2]
    return f"{one.name} {one.levels[level]!r} holds {' and '.join(repr(other.levels[at]) for at in largest)} of {other.name}"


def _contingency(one: Grouping, other: Grouping) -> np.ndarray:
    both = (one.codes >= 0) & (other.codes >= 0)
    flat = one.codes[both] * max(1, other.n_levels) + other.codes[both]
    size = max(1, one.n_levels) * max(1, other.n_levels)
    return np.bincount(flat, minlength=size).reshape(max(1, one.n_levels), max(1, other.n_levels))
