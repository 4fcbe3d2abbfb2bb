"""Scores of the labelled cells of an atlas by models that saw none of their unit, and of types that no model saw."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.apply.reference_model import ReferenceModel, ReferencePlan, fit_reference_model
from cytolabe.apply.views import query_view
from cytolabe.errors import RefusedError
from cytolabe.evaluate.decisions import AnswerSpace, HeldOutCells, Wish, decide, fit_decisions
from cytolabe.evaluate.reference_cells import ReferenceCells
from cytolabe.metrics import auroc
from cytolabe.ontology.graph import Ontology
from cytolabe.snapshot.view import SnapshotView

__all__ = ["MIN_OPEN_CELLS", "Laboratory", "held_out_cells", "open_set"]

MIN_OPEN_CELLS = 20
"""Held-out cells of a type under which leaving it out measures nothing."""

_BLOCK_CELLS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Laboratory:
    """All that a fit needs beside its rows."""

    snapshot: SnapshotView
    reference: ReferenceCells
    plan: ReferencePlan
    ontology: Ontology

    def fit(self, chosen: np.ndarray) -> ReferenceModel:
        """Fit on some of the reference cells (a mask)."""
        return fit_reference_model(
            self.snapshot,
            self.plan,
            rows=self.reference.rows[chosen],
            terms=self.reference.terms[chosen],
            ontology=self.ontology,
        )

    def scores(self, model: ReferenceModel, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and distances of some of the reference cells, a block at a time."""
        rows = self.reference.rows[chosen]
        pieces = [
            model.annotate(query_view(self.snapshot, rows[start : start + _BLOCK_CELLS], genes=self.plan.genes))
            for start in range(0, len(rows), _BLOCK_CELLS)
        ]
        return np.concatenate([one for one, _ in pieces]), np.concatenate([far for _, far in pieces])


def held_out_cells(
    laboratory: Laboratory, space: AnswerSpace, *, on_progress: Callable[[str], None] = lambda _: None
) -> HeldOutCells:
    """Score every reference cell by a model of the other folds; cells that are no truth or have no counts are left out.

    Raises
    ------
    RefusedError
        If what one fold leaves has fewer than two classes, or no cell can be judged.
    """
    reference = laboratory.reference
    codes = space.hierarchy.codes(reference.terms.astype(str))
    can_judge = reference.is_truth & _has_counts(laboratory)
    scores = np.full((len(codes), len(space.hierarchy.classes)), -np.inf)
    distance = np.zeros(len(codes))
    for fold in range(reference.n_folds):
        on_progress(f"held out: fold {fold + 1} of {reference.n_folds}")
        inside = (reference.folds == fold) & can_judge
        if not inside.any():
            continue
        model = laboratory.fit(reference.folds != fold)
        scores[inside], distance[inside] = laboratory.scores(model, inside)
    if not can_judge.any():
        msg = "No reference cell can be held to its label: all were decided by expression or have no counts in these genes."
        raise RefusedError(msg)
    return HeldOutCells(
        rows=reference.rows, scores=scores, distance=distance, codes=codes, units=reference.units, folds=reference.folds
    ).take(can_judge)


def open_set(
    laboratory: Laboratory,
    space: AnswerSpace,
    held: HeldOutCells,
    *,
    wish: Wish,
    max_types: int,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave each type and its descendants out of training, and ask held-out cells of it beside those of known types.

    Cells labelled by an ancestor of the type are left out of training as well: some of them may be of the type. What decides is fitted
    on held-out cells of the other folds and types.

    Parameters
    ----------
    held
        The cells that `held_out_cells` gives.
    wish
        What is asked of answers.
    max_types
        So many types at most, those with the most held-out cells first.

    Returns
    -------
    table
        One row per type: n_cells asked, n_known beside them, `auroc_distance` and `auroc_confidence` (of one minus the highest class probability),
        and which share of the type was called unknown, by a term above it, or wrongly; `known_unknown`, which share of the known was called unknown.
    not_evaluated
        Types, each with the reason.
    """
    reference = laboratory.reference
    can_judge = np.isin(reference.rows, held.rows)
    support = {
        term: max(int(((reference.terms == term) & can_judge & (reference.folds == f)).sum()) for f in range(reference.n_folds))
        for term in space.hierarchy.classes
    }  # fmt: skip
    ordered = sorted(support, key=lambda term: (-support[term], term))
    few = [term for term in ordered if support[term] < MIN_OPEN_CELLS]
    asked = [term for term in ordered if support[term] >= MIN_OPEN_CELLS]
    rows, skipped = [], [f"{term}: {support[term]} held-out cells in one fold" for term in few]
    for number, term in enumerate(asked[:max_types], start=1):
        on_progress(f"left out: type {number} of {min(max_types, len(asked))}")
        try:
            rows.append(_left_out(laboratory, space, held, term=term, wish=wish))
        except RefusedError as error:
            skipped.append(f"{term}: {error}")
    skipped += [f"{term}: not asked, {max_types} types were" for term in asked[max_types:]]
    return pd.DataFrame(rows, columns=list(_OPEN_COLUMNS)), tuple(skipped)


_OPEN_COLUMNS = (
    "term", "n_cells", "n_known", "auroc_distance", "auroc_novelty", "auroc_confidence",
    "unknown_fraction", "above_fraction", "wrong_fraction", "known_unknown_fraction",
)  # fmt: skip


def _left_out(
    laboratory: Laboratory, space: AnswerSpace, held: HeldOutCells, *, term: str, wish: Wish
) -> dict[str, object]:
    reference, ontology = laboratory.reference, laboratory.ontology
    can_judge = np.isin(reference.rows, held.rows)
    n_in_fold = [
        int(((reference.terms == term) & can_judge & (reference.folds == f)).sum()) for f in range(reference.n_folds)
    ]
    fold = int(np.argmax(n_in_fold))
    is_touched = _related(reference.terms.tolist(), term, ontology)
    without = dataclasses.replace(
        laboratory, plan=dataclasses.replace(laboratory.plan, classes=_others(space.hierarchy.classes, term, ontology))
    )
    train = (reference.folds != fold) & ~is_touched
    known_terms = set(reference.terms[train].tolist())
    asked = (reference.folds == fold) & can_judge & (reference.terms == term)
    known = (reference.folds == fold) & can_judge & ~is_touched
    known &= np.array([one in known_terms for one in reference.terms], dtype=bool)
    if not known.any():
        msg = f"no held-out cell of another type in the fold of {term}"
        raise RefusedError(msg)
    kept = ~np.isin(held.rows, reference.rows[is_touched | (reference.folds == fold)])
    gone = _related(space.hierarchy.classes, term, ontology)
    decisions = fit_decisions(held.take(kept).without_classes(gone), space, wish=wish)
    model = without.fit(train)
    found = {}
    for name, chosen in (("asked", asked), ("known", known)):
        own, distance = without.scores(model, chosen)
        scores = np.full((len(own), len(space.hierarchy.classes)), -np.inf)
        scores[:, [space.hierarchy.classes.index(one) for one in model.classes]] = own
        found[name] = (decide(scores, distance, decisions=decisions, space=space), distance)
    decided, distance = found["asked"]
    others, other_distance = found["known"]
    is_asked = np.repeat([True, False], [len(distance), len(other_distance)])
    code = space.hierarchy.labels.index(term)
    answered = decided.answer >= 0
    is_right = np.zeros(len(answered), dtype=bool)
    is_right[answered] = space.verdict[decided.answer[answered], code] > 0
    return {
        "term": term,
        "n_cells": len(distance),
        "n_known": len(other_distance),
        "auroc_distance": auroc(is_asked, np.concatenate([distance, other_distance])),
        "auroc_novelty": auroc(is_asked, np.concatenate([decided.novelty, others.novelty])),
        "auroc_confidence": auroc(is_asked, 1 - np.concatenate([decided.top_confidence, others.top_confidence])),
        "unknown_fraction": float((~answered).mean()),
        "above_fraction": float(is_right.mean()),
        "wrong_fraction": float((answered & ~is_right).mean()),
        "known_unknown_fraction": float((others.answer < 0).mean()),
    }


def _related(terms: Sequence[str], term: str, ontology: Ontology) -> np.ndarray:
    of = {one: ontology.related(one, term) for one in set(terms)}
    return np.array([of[one] for one in terms], dtype=bool)


def _others(classes: Sequence[str], term: str, ontology: Ontology) -> tuple[str, ...]:
    return tuple(one for one in classes if not ontology.related(one, term))


def _has_counts(laboratory: Laboratory) -> np.ndarray:
    """Tell which reference cells have a count in the genes: the others have no composition."""
    rows, genes = laboratory.reference.rows, laboratory.plan.genes
    totals = [
        np.asarray(laboratory.snapshot.counts(rows[start : start + _BLOCK_CELLS], genes).sum(axis=1)).ravel()
        for start in range(0, len(rows), _BLOCK_CELLS)
    ]
    return np.concatenate(totals) > 0
