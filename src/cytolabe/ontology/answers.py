"""The terms that may answer for a cell, and the finest of them that the evidence supports.

A model has probabilities of its classes. A term above some of them has their sum. Which terms may answer:

1. Every class, or a label that stands for it alone, and every ancestor of a class that does not cover all classes: that a cell is one of all the classes is
   assumed from the start, so a term above all of them would be an answer without evidence. So are grouping terms.
2. Of terms over the same classes one. Where labels of the data are among them, the most general of these: a model whose cells of `memory T cell`
   and of `effector memory T cell` are one class cannot tell the two apart. Else the most specific term, then the smaller id.

The finest term with enough probability answers: fewest classes first, then the more specific. At thresholds from 0.5 on two terms
that both have enough share a class, so the choice is between views of one thing and never between two types.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from cytolabe.errors import UsageError
from cytolabe.ontology.graph import Ontology
from cytolabe.ontology.hierarchy import Hierarchy
from cytolabe.ontology.resolutions import FINE, GROUPING_TERMS, LEVEL_CUTS

__all__ = ["ANSWER_LEVELS", "LINEAGE", "AnswerTerms", "answer_terms", "finest_supported", "verdicts"]

LINEAGE = "lineage"
"""Level of an answer that is more general than `broad`: lymphocyte, leukocyte."""

ANSWER_LEVELS = (FINE, *sorted(LEVEL_CUTS, key=lambda name: -LEVEL_CUTS[name]), LINEAGE)
"""Levels of answers, the finest first. `fine` stands for one class of the model; the others go by information content."""

_RIGHT, _WRONG, _UNDECIDED = 1, -1, 0


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerTerms:
    """Terms in the order in which they are tried, finest first; `covers[t, k]` tells whether term t stands for class k."""

    terms: tuple[str, ...]
    names: tuple[str, ...]
    levels: tuple[str, ...]
    covers: Bool[np.ndarray, "terms classes"]

    @property
    def of_class(self) -> Integer[np.ndarray, " classes"]:
        """Place of the term that stands for each class alone."""
        return np.asarray((self.covers & (self.covers.sum(axis=1) == 1)[:, None]).argmax(axis=0))

    def probability(self, of_classes: Float[np.ndarray, "cells classes"]) -> Float[np.ndarray, "cells terms"]:
        """Return the probability of each term: the sum over its classes, in [0, 1]."""
        return np.asarray(np.clip(of_classes @ self.covers.T.astype(np.float64), 0.0, 1.0))


def answer_terms(hierarchy: Hierarchy, *, ontology: Ontology) -> AnswerTerms:
    """Return the terms that may answer for a model with these classes."""
    classes = hierarchy.classes
    above = set(classes).union(*(ontology.ancestors(one) for one in classes)) - (GROUPING_TERMS - set(classes))
    by_cover: dict[tuple[bool, ...], str] = {}

    def preference(term: str) -> tuple[bool, float, str]:
        is_label, content = term in hierarchy.labels, ontology.information_content(term)
        return not is_label, content if is_label else -content, term

    for term in sorted(above, key=preference):
        cover = tuple(ontology.is_a(one, term) for one in classes)
        if not all(cover):
            by_cover.setdefault(cover, term)
    ordered = sorted(by_cover.items(), key=lambda item: (sum(item[0]), -ontology.information_content(item[1]), item[1]))
    terms = tuple(term for _, term in ordered)
    return AnswerTerms(
        terms=terms,
        names=tuple(ontology.name(term) for term in terms),
        levels=tuple(FINE if sum(cover) == 1 else _level(term, ontology) for cover, term in ordered),
        covers=np.array([cover for cover, _ in ordered], dtype=bool),
    )


def _level(term: str, ontology: Ontology) -> str:
    content = ontology.information_content(term)
    return next((name for name in ANSWER_LEVELS[1:-1] if content >= LEVEL_CUTS[name]), LINEAGE)


def finest_supported(
    probability: Float[np.ndarray, "cells terms"], answers: AnswerTerms, least: Float[np.ndarray, " terms"]
) -> Integer[np.ndarray, " cells"]:
    """Return for each cell the place of the first term, finest first, that is probable enough; -1 for none.

    Parameters
    ----------
    probability
        Of each term (`AnswerTerms.probability`).
    answers
        The terms.
    least
        The probability from which each term answers; an infinite one never does.

    Raises
    ------
    UsageError
        If there is not one column and one threshold per term.
    """
    n_terms = len(answers.terms)
    if probability.shape[1] != n_terms or len(least) != n_terms:
        msg = f"{probability.shape[1]} columns of probability and {len(least)} thresholds for {n_terms} terms."
        raise UsageError(msg)
    reaches = probability >= least
    return np.where(reaches.any(axis=1), reaches.argmax(axis=1), -1)


def verdicts(answers: AnswerTerms, labels: Sequence[str], *, ontology: Ontology) -> Integer[np.ndarray, "terms labels"]:
    """Return 1 where an answer is right for a cell with a label (equal or above it), -1 where it is wrong, 0 where nobody can say.

    Nobody can say where the label is coarser than the answer: a cell labelled `T cell` may be a CD4 T cell or not.
    """

    def verdict(term: str, label: str) -> int:
        if ontology.is_a(label, term):
            return _RIGHT
        return _UNDECIDED if ontology.is_a(term, label) else _WRONG

    return np.array([[verdict(term, label) for label in labels] for term in answers.terms], dtype=np.int64)
