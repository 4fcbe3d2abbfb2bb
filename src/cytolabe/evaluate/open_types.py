"""Types that no model saw: each is left out of training whole, with all its descendants, and asked for beside known types.

Left out one at a time are classes of the atlas, and inner types: terms above classes. An inner type is asked because what an atlas
lacks is as often a whole lineage as one of its subtypes, and a subtype has relatives in the atlas that it is taken for. Cells that are asked are
those of the type and of all its descendants; cells labelled by an ancestor of it are neither trained on nor asked, as some of them may be of it.

Every type costs one fit, so their number is bounded: `max_types` in all, of which inner types have a third and what classes leave over.
Inner types that the data name come first, then those over the fewest classes (a lineage, rather than half of the atlas), then those with the most cells.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.errors import RefusedError
from cytolabe.evaluate.decisions import AnswerSpace, Decided, HeldOutCells, Wish, decide, fit_decisions
from cytolabe.evaluate.held_out import Laboratory
from cytolabe.metrics import auroc
from cytolabe.ontology.graph import Ontology

__all__ = ["MIN_OPEN_CELLS", "MIN_OPEN_UNITS", "open_set"]

MIN_OPEN_CELLS = 20
"""Held-out cells of a type in one fold under which leaving it out measures nothing."""

MIN_OPEN_UNITS = 2
"""Persons (or what stands for them) under which a type is not asked: one person's cells may be far for the person, not for the type."""

_LEAST_CLASSES = 2
"""Classes that have to be left: with one there is nothing to tell apart."""

_INNER_SHARE = 3
"""One of so many types asked is an inner one."""

_COLUMNS = (
    "term", "is_inner", "n_classes", "n_cells", "n_known", "auroc_distance", "auroc_novelty", "auroc_confidence",
    "unknown_fraction", "above_fraction", "wrong_fraction", "known_unknown_fraction",
)  # fmt: skip


def open_set(
    laboratory: Laboratory,
    space: AnswerSpace,
    held: HeldOutCells,
    *,
    wish: Wish,
    max_types: int,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave each type and its descendants out of training, and ask held-out cells of all of them beside those of known types.

    What decides is fitted on held-out cells of the other folds and types.

    Parameters
    ----------
    held
        The cells that `held_out_cells` gives.
    wish
        What is asked of answers.
    max_types
        So many types at most, each of which costs a fit.

    Returns
    -------
    table
        One row per type: `is_inner` (no class, but above some), `n_classes` left out, `n_cells` asked, `n_known` beside them, `auroc_distance`,
        `auroc_novelty` and `auroc_confidence` (of one minus the highest class probability), and which share of the cells was called unknown,
        by a term that is right for them (above their own), or wrongly; a term of which nobody can say is neither of the three.
        `known_unknown_fraction` is the share of the known that was called unknown.
    not_evaluated
        Types, each with the reason.
    """
    asked, skipped = _chosen(laboratory, space, held, max_types=max_types)
    rows = []
    for number, kind in enumerate(asked, start=1):
        on_progress(f"left out: type {number} of {len(asked)}")
        try:
            rows.append(_left_out(laboratory, space, held, kind=kind, wish=wish))
        except RefusedError as error:
            skipped.append(f"{_named(kind.term, laboratory.ontology)}: {error}")
    return pd.DataFrame(rows, columns=list(_COLUMNS)), tuple(skipped)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kind:
    """A type that may be left out: its cells among those of the reference that can be asked, and the fold with the most of them.

    `n_classes` are left out with it and `n_left` are not; `is_named` says that the data have it as a label.
    """

    term: str
    is_inner: bool
    is_named: bool
    n_classes: int
    n_left: int
    is_asked: np.ndarray
    fold: int
    n_in_fold: int
    n_units: int

    @property
    def rank(self) -> tuple[bool, int, int, str]:
        """Sort by this, the first to be asked first."""
        return not self.is_named, self.n_classes, -self.n_in_fold, self.term


def _chosen(
    laboratory: Laboratory, space: AnswerSpace, held: HeldOutCells, *, max_types: int
) -> tuple[list[_Kind], list[str]]:
    """Return the types that are asked, and why others are not."""
    classes: list[_Kind] = []
    inner: list[_Kind] = []
    skipped: list[str] = []
    for term in dict.fromkeys((*space.hierarchy.classes, *space.answers.terms)):
        kind = _kind(laboratory, space, held, term=term)
        why = _why_not(kind)
        if why:
            skipped.append(f"{_named(term, laboratory.ontology)}: {why}")
        else:
            (inner if kind.is_inner else classes).append(kind)
    classes.sort(key=lambda kind: kind.rank)
    inner.sort(key=lambda kind: kind.rank)
    n_inner = min(len(inner), max(max_types // _INNER_SHARE, max_types - len(classes)))
    n_classes = min(len(classes), max_types - n_inner)
    left = [*classes[n_classes:], *inner[n_inner:]]
    why = f"not asked, {n_classes} classes and {n_inner} types above classes were"
    skipped += [f"{_named(kind.term, laboratory.ontology)}: {why}" for kind in left]
    return [*classes[:n_classes], *inner[:n_inner]], [*skipped, *_no_types(space, laboratory.ontology)]


def _no_types(space: AnswerSpace, ontology: Ontology) -> list[str]:
    """Say which labels above classes stand for no type of their own."""
    told, answers = [], space.answers
    for label, cover in zip(space.hierarchy.labels, space.hierarchy.covers, strict=True):
        if label in {*space.hierarchy.classes, *answers.terms}:
            continue
        same = [one for one, own in zip(answers.terms, answers.covers, strict=True) if np.array_equal(own, cover)]
        why = (
            f"it stands for the same classes as {same[0]}"
            if same
            else "it is above all classes, or groups them by one property"
        )
        told.append(f"{_named(label, ontology)}: not left out, {why}")
    return told


def _kind(laboratory: Laboratory, space: AnswerSpace, held: HeldOutCells, *, term: str) -> _Kind:
    reference, ontology = laboratory.reference, laboratory.ontology
    is_asked = np.isin(reference.rows, held.rows) & _are(reference.terms.tolist(), term, ontology)
    n_in_fold = np.bincount(reference.folds[is_asked], minlength=reference.n_folds)
    return _Kind(
        term=term,
        is_inner=term not in space.hierarchy.classes,
        is_named=term in space.hierarchy.labels,
        n_classes=int(_are(space.hierarchy.classes, term, ontology).sum()),
        n_left=int((~_related(space.hierarchy.classes, term, ontology)).sum()),
        is_asked=is_asked,
        fold=int(n_in_fold.argmax()),
        n_in_fold=int(n_in_fold.max()),
        n_units=len(set(reference.units[is_asked].tolist())),
    )


def _why_not(kind: _Kind) -> str:
    if kind.n_in_fold < MIN_OPEN_CELLS:
        return f"{kind.n_in_fold} held-out cells in one fold"
    if kind.n_units < MIN_OPEN_UNITS:
        return "its cells are of one unit that is held out: far for the person is not far for the type"
    if kind.n_left < _LEAST_CLASSES:
        return f"without it {kind.n_left} class(es) would be left: nothing to tell apart"
    return ""


def _left_out(
    laboratory: Laboratory, space: AnswerSpace, held: HeldOutCells, *, kind: _Kind, wish: Wish
) -> dict[str, object]:
    reference, classes = laboratory.reference, space.hierarchy.classes
    inside = reference.folds == kind.fold
    is_touched = _related(reference.terms.tolist(), kind.term, laboratory.ontology)
    gone = _related(classes, kind.term, laboratory.ontology)
    train = ~inside & ~is_touched
    known = inside & np.isin(reference.rows, held.rows) & ~is_touched
    known &= np.isin(reference.terms.astype(str), sorted(set(reference.terms[train].tolist())))
    if not known.any():
        msg = f"no held-out cell of another type in the fold of {kind.term}"
        raise RefusedError(msg)
    kept = ~np.isin(held.rows, reference.rows[is_touched | inside])
    decisions = fit_decisions(held.take(kept).without_classes(gone), space, wish=wish)
    left = tuple(one for one, is_gone in zip(classes, gone, strict=True) if not is_gone)
    without = dataclasses.replace(laboratory, plan=dataclasses.replace(laboratory.plan, classes=left))
    model = without.fit(train)
    found = {}
    for name, chosen in (("asked", inside & kind.is_asked), ("known", known)):
        own, distance = without.scores(model, chosen)
        scores = np.full((len(own), len(classes)), -np.inf)
        scores[:, [classes.index(one) for one in model.classes]] = own
        found[name] = (decide(scores, distance, decisions=decisions, space=space), distance)
    codes = space.hierarchy.codes(reference.terms[inside & kind.is_asked].astype(str))
    return {
        "term": kind.term,
        "is_inner": kind.is_inner,
        "n_classes": kind.n_classes,
        **_aurocs(found["asked"], found["known"]),
        **_called(found["asked"][0], codes, space),
        "known_unknown_fraction": float((found["known"][0].answer < 0).mean()),
    }


def _aurocs(of_asked: tuple[Decided, np.ndarray], of_known: tuple[Decided, np.ndarray]) -> dict[str, object]:
    (asked, distance), (known, known_distance) = of_asked, of_known
    is_asked = np.repeat([True, False], [len(distance), len(known_distance)])
    return {
        "n_cells": len(distance),
        "n_known": len(known_distance),
        "auroc_distance": auroc(is_asked, np.concatenate([distance, known_distance])),
        "auroc_novelty": auroc(is_asked, np.concatenate([asked.novelty, known.novelty])),
        "auroc_confidence": auroc(is_asked, 1 - np.concatenate([asked.top_confidence, known.top_confidence])),
    }


def _called(decided: Decided, codes: np.ndarray, space: AnswerSpace) -> dict[str, float]:
    """Tell what became of the cells of the type, each held to its own label."""
    verdict = np.where(decided.answer >= 0, space.verdict[decided.answer, codes], 0)
    return {
        "unknown_fraction": float((decided.answer < 0).mean()),
        "above_fraction": float((verdict > 0).mean()),
        "wrong_fraction": float((verdict < 0).mean()),
    }


def _named(term: str, ontology: Ontology) -> str:
    return f"{term} {ontology.name(term)}"


def _related(terms: Sequence[str], term: str, ontology: Ontology) -> np.ndarray:
    """Tell which terms are the term, below it or above it."""
    of = {one: ontology.related(one, term) for one in set(terms)}
    return np.array([of[one] for one in terms], dtype=bool)


def _are(terms: Sequence[str], term: str, ontology: Ontology) -> np.ndarray:
    """Tell which terms are the term or below it."""
    of = {one: ontology.is_a(one, term) for one in set(terms)}
    return np.array([of[one] for one in terms], dtype=bool)
