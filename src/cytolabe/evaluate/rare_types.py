"""What became of the rare types of each fold: how many of their cells were found, and what the others were called.

Rare is a class under 5 % of the labelled test cells of the fold, or under 50 training cells, that has both
(`evaluate.labels`): the classes of the macro-F1 of rare types. A mean over them does not say which of them fail, nor as what they are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cytolabe.evaluate.results import Confusion

__all__ = ["CalledInstead", "RareType", "rare_types"]

_MOST_CALLED = 3


@dataclass(frozen=True, kw_only=True)
class CalledInstead:
    """A wrong answer, and how many cells of the type were given it."""

    term: str
    name: str
    n_cells: int


@dataclass(frozen=True, kw_only=True)
class RareType:
    """A rare type of a fold, as a model answered for it with the first seed; `called_instead` has three answers at most, the commonest first."""

    split: str
    model: str
    gene_policy: str
    resolution: str
    term: str
    name: str
    n_cells: int
    n_right: int
    called_instead: tuple[CalledInstead, ...]

    @property
    def recall(self) -> float:
        """Share of the cells that were called what they are, in [0, 1]."""
        return self.n_right / self.n_cells


def rare_types(confusions: Sequence[Confusion], *, level: str) -> tuple[RareType, ...]:
    """Return the rare types at a level: by fold, gene policy and model as they come, those with the lowest recall first."""
    found = []
    for confusion in confusions:
        if confusion.resolution == level:
            own = [_rare_type(confusion, term) for term in confusion.rare]
            found += sorted(own, key=lambda one: (one.recall, -one.n_cells, one.term))
    return tuple(found)


def _rare_type(confusion: Confusion, term: str) -> RareType:
    place = confusion.classes.index(term)
    row = confusion.matrix[place]
    wrong = np.where(np.arange(len(row)) == place, 0, row)
    commonest = [int(k) for k in np.argsort(-wrong, kind="stable")[:_MOST_CALLED] if wrong[k]]
    return RareType(
        split=confusion.split,
        model=confusion.model,
        gene_policy=confusion.gene_policy,
        resolution=confusion.resolution,
        term=term,
        name=confusion.names[place],
        n_cells=int(row.sum()),
        n_right=int(row[place]),
        called_instead=tuple(
            CalledInstead(term=confusion.classes[k], name=confusion.names[k], n_cells=int(wrong[k])) for k in commonest
        ),
    )
