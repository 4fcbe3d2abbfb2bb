"""From which probability a term answers, so that answers have an asked precision on cells that nothing was fitted on.

First one threshold per level, the finest level first, on the cells that finer levels left: the lowest from which on every higher one has the precision.
Then each term with enough answers has to keep it by itself and waits for more probability where it does not: else frequent types would pay for the errors
of rare ones. A term that never reaches it answers never, and its cells go on to the terms above it. Where too few cells are left to choose a level's threshold,
the asked precision is the threshold: calibrated probabilities mean that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from cytolabe.ontology.answers import ANSWER_LEVELS, AnswerTerms

__all__ = ["LEAST_CELLS", "Thresholds", "choose_thresholds"]

LEAST_CELLS = 20
"""Cells on which a precision, or a rank among distances, is a measurement."""

_GRID = (*(k / 100 for k in range(50, 100)), 0.995, 0.999)


@dataclass(frozen=True, kw_only=True, eq=False)
class Thresholds:
    """`least` holds one probability per term, infinite where it never answers.

    `levels` has that of each level (None: closed), before single terms were raised; `is_tuned` says whether cells chose it.
    """

    least: Float[np.ndarray, " terms"]
    levels: Mapping[str, float | None]
    is_tuned: Mapping[str, bool]


def choose_thresholds(
    probability: Float[np.ndarray, "cells terms"],
    verdict: Integer[np.ndarray, "cells terms"],
    answers: AnswerTerms,
    *,
    may_answer: Bool[np.ndarray, " terms"],
    precision: float,
) -> Thresholds:
    """Choose thresholds on held-out cells.

    Parameters
    ----------
    probability
        Calibrated, of each term.
    verdict
        1 where the term would be right for the cell, -1 where wrong, 0 where nobody can say.
    answers
        The terms, finest first.
    may_answer
        Terms that may; the others get an infinite threshold.
    precision
        Share of answers that is to be right.
    """
    least = np.full(len(answers.terms), np.inf)
    levels: dict[str, float | None] = {}
    is_tuned: dict[str, bool] = {}
    waiting = np.ones(len(probability), dtype=bool)
    for level in ANSWER_LEVELS:
        own = np.array([name == level for name in answers.levels], dtype=bool) & may_answer
        if not own.any():
            continue
        left, right = probability[np.ix_(waiting, own)], verdict[np.ix_(waiting, own)]
        levels[level], is_tuned[level] = _of_level(left, right, precision)
        limit = levels[level]
        if limit is not None:
            place = _first(left >= limit)
            least[own] = [
                _raised(left[place == k, k], right[place == k, k], limit, precision=precision) for k in range(own.sum())
            ]
            waiting &= ~(probability >= least).any(axis=1)
    return Thresholds(least=least, levels=levels, is_tuned=is_tuned)


def _first(reaches: np.ndarray) -> np.ndarray:
    """Return the place of the first term that is reached, -1 for none."""
    return np.where(reaches.any(axis=1), reaches.argmax(axis=1), -1)


def _of_level(left: np.ndarray, right: np.ndarray, precision: float) -> tuple[float | None, bool]:
    best, is_measured = None, False
    for limit in reversed(_GRID):
        place = _first(left >= limit)
        answered = np.flatnonzero(place >= 0)
        found = _holds(right[answered, place[answered]], precision)
        if found is None:
            continue
        is_measured = True
        if not found:
            break
        best = limit
    return (best, True) if is_measured else (precision, False)


def _raised(own: np.ndarray, right: np.ndarray, limit: float, *, precision: float) -> float:
    """Return the lowest threshold at which one term keeps the precision; the level's where too few cells say, infinite for none."""
    if _holds(right, precision) is None:
        return limit
    best = np.inf
    for one in reversed([limit, *(step for step in _GRID if step > limit)]):
        found = _holds(right[own >= one], precision)
        if found is None:
            continue
        if not found:
            break
        best = one
    return float(best)


def _holds(verdict: np.ndarray, precision: float) -> bool | None:
    """Tell whether verdicts have a precision; None where there are too few."""
    n_right, n_wrong = int((verdict > 0).sum()), int((verdict < 0).sum())
    return None if n_right + n_wrong < LEAST_CELLS else n_right >= precision * (n_right + n_wrong)
