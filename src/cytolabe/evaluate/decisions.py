"""What is answered for a cell, and whether such answers hold on cells that were held out.

A decision rests on three things fitted on held-out cells: the calibration, the probability from which each term answers (`term_thresholds`), and the distances from which a cell is unlike every type of the atlas.

How well it holds is measured crosswise: what decides over a fold was fitted on the other folds. A fold's scores come from
a model that never saw its units; the models behind the other folds' scores did, which only temperature, offsets and thresholds could carry over.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from cytolabe.evaluate.term_thresholds import LEAST_CELLS, Thresholds, choose_thresholds
from cytolabe.models.calibration import Calibration, fit_calibration
from cytolabe.models.novelty import novelty_rank
from cytolabe.ontology.answers import AnswerTerms, finest_supported, verdicts
from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.hierarchy import Hierarchy

__all__ = [
    "MIN_SUPPORT",
    "AnswerSpace",
    "Decided",
    "Decisions",
    "HeldOutCells",
    "Wish",
    "decide",
    "decide_crosswise",
    "fit_decisions",
]

MIN_SUPPORT = 10
"""Held-out cells under which a term does not answer: nothing was seen of how often it is right."""

_LEAST_UNITS = 3
"""Units from which offsets of classes can be tried on others."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of answers: their precision, and the share of cells of known types that may be called unlike all types."""

    precision: float = 0.9
    novel_fraction: float = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerSpace:
    """The labels and classes of an atlas, the terms that may answer, and which answer is right for which label."""

    hierarchy: Hierarchy
    answers: AnswerTerms
    verdict: Integer[np.ndarray, "terms labels"]

    @classmethod
    def of(cls, hierarchy: Hierarchy, answers: AnswerTerms, *, ontology: Ontology) -> "AnswerSpace":
        """Return the space of a hierarchy."""
        return cls(hierarchy=hierarchy, answers=answers, verdict=verdicts(answers, hierarchy.labels, ontology=ontology))

    def can_judge(self, codes: Integer[np.ndarray, " cells"]) -> Bool[np.ndarray, " cells"]:
        """Tell which labels stand for one class: only these find every answer right or wrong."""
        return np.asarray(self.hierarchy.covers[codes].sum(axis=1) == 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutCells:
    """Cells scored by a model that saw none of their unit.

    `rows` are positions in the snapshot, `codes` rows of the hierarchy; a score is minus infinity where the model did not know the class.
    """

    rows: Integer[np.ndarray, " cells"]
    scores: Float[np.ndarray, "cells classes"]
    distance: Float[np.ndarray, " cells"]
    codes: Integer[np.ndarray, " cells"]
    units: np.ndarray
    folds: Integer[np.ndarray, " cells"]

    def take(self, chosen: Bool[np.ndarray, " cells"]) -> "HeldOutCells":
        """Return some of the cells."""
        return HeldOutCells(
            rows=self.rows[chosen],
            scores=self.scores[chosen],
            distance=self.distance[chosen],
            codes=self.codes[chosen],
            units=self.units[chosen],
            folds=self.folds[chosen],
        )

    def without_classes(self, gone: Bool[np.ndarray, " classes"]) -> "HeldOutCells":
        """Return the cells as scored by models that do not know some of the classes."""
        return dataclasses.replace(self, scores=np.where(gone, -np.inf, self.scores))

    def is_known(self, hierarchy: Hierarchy) -> Bool[np.ndarray, " cells"]:
        """Tell which cells are of a class that their model knew; the others are an open set."""
        return np.asarray((np.isfinite(self.scores) & hierarchy.covers[self.codes]).any(axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """What decides about cells.

    `held_out_distance` holds distances of held-out cells by the class that is most probable for them, and those of all under -1: a rare
    or varied type lies farther from its own than a frequent one.
    """

    calibration: Calibration
    thresholds: Thresholds
    held_out_distance: Mapping[int, np.ndarray]
    novel_fraction: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """What was decided, per cell.

    `answer` is the place of a term (-1: unknown) and `confidence` its calibrated probability; without an answer it is that of
    `top`, the most probable class. `novelty` is the rank of the distance, and `is_novel` says that it is too high.
    """

    answer: Integer[np.ndarray, " cells"]
    confidence: Float[np.ndarray, " cells"]
    top: Integer[np.ndarray, " cells"]
    top_confidence: Float[np.ndarray, " cells"]
    novelty: Float[np.ndarray, " cells"]
    is_novel: Bool[np.ndarray, " cells"]
    probability: Float[np.ndarray, "cells classes"]


def fit_decisions(held: HeldOutCells, space: AnswerSpace, *, wish: Wish) -> Decisions:
    """Fit all that decides on held-out cells of known classes.

    Raises
    ------
    RefusedError
        If there is none.
    """
    known = held.take(held.is_known(space.hierarchy))
    calibration = _calibration(known, space.hierarchy)
    probability = calibration.probability(known.scores)
    distances = _distances(known, probability, novel_fraction=wish.novel_fraction)
    # A coarser label can contradict a fine answer and never confirm it: that makes thresholds higher, never lower.
    judge = _novelty(probability, known.distance, distances, are_held_out=True) < 1.0 - wish.novel_fraction
    thresholds = choose_thresholds(
        space.answers.probability(probability[judge]),
        space.verdict[:, known.codes[judge]].T,
        space.answers,
        may_answer=_supported(known, space),
        precision=wish.precision,
    )
    return Decisions(
        calibration=calibration,
        thresholds=thresholds,
        held_out_distance=distances,
        novel_fraction=wish.novel_fraction,
    )


def decide(
    scores: Float[np.ndarray, "cells classes"],
    distance: Float[np.ndarray, " cells"],
    *,
    decisions: Decisions,
    space: AnswerSpace,
) -> Decided:
    """Answer for cells, each by itself."""
    probability = decisions.calibration.probability(scores)
    of_terms = space.answers.probability(probability)
    novelty = _novelty(probability, distance, decisions.held_out_distance)
    is_novel = novelty >= 1.0 - decisions.novel_fraction
    answer = finest_supported(of_terms, space.answers, decisions.thresholds.least)
    answer = np.where(is_novel, -1, answer)
    top = probability.argmax(axis=1)
    top_confidence = np.clip(probability[np.arange(len(top)), top], 0.0, 1.0)
    confidence = np.where(answer >= 0, of_terms[np.arange(len(answer)), answer], top_confidence)
    return Decided(
        answer=answer,
        confidence=confidence,
        top=top,
        top_confidence=top_confidence,
        novelty=novelty,
        is_novel=is_novel,
        probability=probability,
    )


def decide_crosswise(
    held: HeldOutCells, space: AnswerSpace, *, wish: Wish, others: HeldOutCells | None = None
) -> Decided:
    """Answer for held-out cells by what was fitted on cells of other folds.

    Parameters
    ----------
    held
        The cells that are answered for, fold by fold.
    others
        What decides is fitted on these cells, less those of the fold: the same cells held out by another rule. By default on `held`.

    Raises
    ------
    RefusedError
        If a fold leaves no cell of a known class to fit on.
    """
    fitted_on = held if others is None else others
    pieces, places = [], []
    for fold in range(int(held.folds.max()) + 1):
        inside = held.folds == fold
        if not inside.any():
            continue
        outside = ~np.isin(fitted_on.rows, held.rows[inside])
        decisions = fit_decisions(fitted_on.take(outside), space, wish=wish)
        pieces.append(decide(held.scores[inside], held.distance[inside], decisions=decisions, space=space))
        places.append(np.flatnonzero(inside))
    back = np.argsort(np.concatenate(places), kind="stable")
    fields = {name: np.concatenate([getattr(piece, name) for piece in pieces])[back] for name in _FIELDS}
    return Decided(**fields)


_FIELDS = ("answer", "confidence", "top", "top_confidence", "novelty", "is_novel", "probability")


def _calibration(known: HeldOutCells, hierarchy: Hierarchy) -> Calibration:
    """Fit a temperature, with offsets where these help units that they were not fitted on.

    How frequent a type is differs between persons. Offsets of one are no help for another: on two persons of a PBMC file they
    doubled the calibration error. So they have to show it, each unit judged by the others.
    """
    plain, units = _fitted(known, hierarchy, with_offsets=False), sorted(set(known.units.tolist()))
    if len(units) < _LEAST_UNITS:
        return plain
    gained = 0.0
    for unit in _in_parts(units):
        inside = np.isin(known.units, unit)
        rest, asked = known.take(~inside), known.take(inside)
        losses = [_loss(_fitted(rest, hierarchy, with_offsets=offsets), asked, hierarchy) for offsets in (False, True)]
        gained += losses[0] - losses[1]
    return _fitted(known, hierarchy, with_offsets=True) if gained > 0 else plain


def _in_parts(units: list[str]) -> list[list[str]]:
    """Divide units into at most ten parts."""
    return [units[start :: min(10, len(units))] for start in range(min(10, len(units)))]


def _fitted(known: HeldOutCells, hierarchy: Hierarchy, *, with_offsets: bool) -> Calibration:
    covered = hierarchy.covers[known.codes]
    is_free = covered[covered.sum(axis=1) == 1].any(axis=0)
    judges = (np.isfinite(known.scores) & covered & is_free).any(axis=1)
    return fit_calibration(
        known.scores[judges], known.codes[judges], hierarchy, is_free=is_free, with_offsets=with_offsets
    )


def _loss(calibration: Calibration, asked: HeldOutCells, hierarchy: Hierarchy) -> float:
    """Return the summed log loss of cells; the probability of a label is the sum over its classes."""
    right = (calibration.probability(asked.scores) * hierarchy.covers[asked.codes]).sum(axis=1)
    return float(-np.log(np.maximum(right, 1e-12)).sum())


def _novelty(
    probability: np.ndarray, distance: np.ndarray, held_out: Mapping[int, np.ndarray], *, are_held_out: bool = False
) -> np.ndarray:
    """Return the rank of each distance among held-out cells of the same most probable class, or of all where these are few."""
    top = probability.argmax(axis=1)
    rank = novelty_rank(distance, held_out[-1], are_held_out=are_held_out)
    for k, own in held_out.items():
        rank = np.where(top == k, novelty_rank(distance, own, are_held_out=are_held_out), rank)
    return rank


def _distances(known: HeldOutCells, probability: np.ndarray, *, novel_fraction: float) -> dict[int, np.ndarray]:
    """Return the distances of held-out cells by their most probable class, where there are enough, and of all under -1.

    Fewer than one in `novel_fraction` can make no cell unlike themselves: these classes are compared with all cells.
    """
    top = probability.argmax(axis=1)
    least = max(LEAST_CELLS, math.ceil(1.0 / novel_fraction) if novel_fraction else 0)
    found = {-1: known.distance}
    for k in range(known.scores.shape[1]):
        if (top == k).sum() >= least:
            found[k] = known.distance[top == k]
    return found


def _supported(known: HeldOutCells, space: AnswerSpace) -> np.ndarray:
    """Tell for which terms there are held-out cells that are of them."""
    n_right = (space.verdict[:, known.codes] > 0).sum(axis=1)
    return np.asarray(n_right >= MIN_SUPPORT)
