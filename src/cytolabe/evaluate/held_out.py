"""Scores of the labelled cells of an atlas by models that saw none of their unit."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cytolabe.apply.reference_model import ReferencePlan, fit_reference_model
from cytolabe.apply.scoring_model import ScoringModel
from cytolabe.apply.views import query_view
from cytolabe.errors import RefusedError
from cytolabe.evaluate.decisions import AnswerSpace, HeldOutCells
from cytolabe.evaluate.reference_cells import ReferenceCells
from cytolabe.ontology.graph import Ontology
from cytolabe.snapshot.view import SnapshotView

__all__ = ["Laboratory", "held_out_cells"]

_BLOCK_CELLS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Laboratory:
    """All that a fit needs beside its rows."""

    snapshot: SnapshotView
    reference: ReferenceCells
    plan: ReferencePlan
    ontology: Ontology

    def fit(self, chosen: np.ndarray) -> ScoringModel:
        """Fit on some of the reference cells (a mask)."""
        return fit_reference_model(
            self.snapshot,
            self.plan,
            rows=self.reference.rows[chosen],
            terms=self.reference.terms[chosen],
            ontology=self.ontology,
        )

    def scores(self, model: ScoringModel, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _has_counts(laboratory: Laboratory) -> np.ndarray:
    """Tell which reference cells have a count in the genes: the others have no composition."""
    rows, genes = laboratory.reference.rows, laboratory.plan.genes
    totals = [
        np.asarray(laboratory.snapshot.counts(rows[start : start + _BLOCK_CELLS], genes).sum(axis=1)).ravel()
        for start in range(0, len(rows), _BLOCK_CELLS)
    ]
    return np.concatenate(totals) > 0
