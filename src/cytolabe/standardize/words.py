"""A column of words as codes and levels: what is decided of a word is decided once, and not once per cell.

A file may have millions of cells. An object per cell, even a shared one, takes 8 bytes and most steps need several of
them at a time; codes of a few levels take one byte, and changing a level changes no code.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

__all__ = ["Words"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """The level of each cell, by its place in `levels`; a level of None stands for no value."""

    codes: Int[np.ndarray, " cells"]
    levels: tuple[str | None, ...]

    @classmethod
    def constant(cls, word: str, n_cells: int) -> "Words":
        """Return the same word for every cell."""
        return cls(codes=np.zeros(n_cells, dtype=np.int8), levels=(word,))

    @classmethod
    def of(cls, column: pd.Series, text_of: Callable[[list[object]], list[str]]) -> "Words":
        """Read a column; `text_of` spells its levels, which are in the order in which they occur."""
        codes, levels = pd.factorize(column, use_na_sentinel=True)
        codes = codes.astype(np.min_scalar_type(-len(levels) - 1))
        codes[codes < 0] = len(levels)
        return cls(codes=codes, levels=(*text_of(list(levels)), None))

    def __len__(self) -> int:
        return len(self.codes)

    def n_cells_of(self) -> Int[np.ndarray, " levels"]:
        """Return the number of cells of each level."""
        return np.bincount(self.codes, minlength=len(self.levels))

    def n_cells_in(self, levels: Collection[str | None]) -> int:
        """Return how many cells have one of some levels."""
        is_in = np.array([level in levels for level in self.levels], dtype=bool)
        return int(self.n_cells_of()[is_in].sum())

    def changed(self, change: Callable[[str | None], str]) -> "Words":
        """Return the words after each level was changed; levels that become equal become one."""
        new = [change(level) for level in self.levels]
        levels = tuple(dict.fromkeys(new))
        place = {level: code for code, level in enumerate(levels)}
        table = np.array([place[level] for level in new], dtype=np.min_scalar_type(-len(levels)))
        return Words(codes=table[self.codes], levels=levels)

    def categories(self) -> pd.Categorical:
        """Return the column with the levels that occur, in the order in which they do.

        Raises
        ------
        ValueError
            If a cell has no value.
        """
        found = pd.unique(self.codes)
        levels = [self.levels[code] for code in found]
        if None in levels:
            msg = "a cell has no value; say first what that means"
            raise ValueError(msg)
        table = np.zeros(len(self.levels), dtype=np.min_scalar_type(-max(1, len(levels))))
        table[found] = np.arange(len(levels))
        return pd.Categorical.from_codes(table[self.codes], pd.Index(levels, dtype=object))
