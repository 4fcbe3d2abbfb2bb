"""Probabilities that mean what they say: one temperature and one offset per class, fitted on cells that trained nothing.

p = softmax(scores / T + b), with b = 0 where only the temperature is asked for. T answers overconfidence (Guo et al. 2017, arXiv:1706.04599); b answers that a regression with balanced
classes knows nothing of how frequent a type is (bias-corrected temperature scaling, Alexandari et al. 2020,
arXiv:1901.06852). Both are fitted together by the hierarchical cross-entropy, so that a held-out cell labelled `T cell`
says what it can. Priors of variance 1 on log T and on each b keep a few cells from saying much.

Because terms above the classes get the sum of their classes, a coarser term never has less probability than one below it, whatever T
and b are. A correction per level (isotonic, say) could not promise that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.optimize import minimize
from scipy.special import softmax

from cytolabe.errors import RefusedError
from cytolabe.models.hierarchical import hierarchical_cross_entropy
from cytolabe.models.threads import single_thread
from cytolabe.ontology.hierarchy import Hierarchy

__all__ = ["Calibration", "fit_calibration"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Temperature above 0 and one offset per class. `n_cells` were held out to fit them."""

    classes: tuple[str, ...]
    temperature: float
    offset: Float[np.ndarray, " classes"]
    n_cells: int

    def probability(self, scores: Float[np.ndarray, "cells classes"]) -> Float[np.ndarray, "cells classes"]:
        """Return calibrated probabilities; a class with a score of minus infinity has none. Rows sum to 1."""
        return np.asarray(softmax(scores / self.temperature + self.offset, axis=1))

    @classmethod
    def identity(cls, classes: Sequence[str]) -> "Calibration":
        """Return the calibration that changes nothing."""
        return cls(classes=tuple(classes), temperature=1.0, offset=np.zeros(len(classes)), n_cells=0)


def fit_calibration(
    scores: Float[np.ndarray, "cells classes"],
    codes: Integer[np.ndarray, " cells"],
    hierarchy: Hierarchy,
    *,
    is_free: Bool[np.ndarray, " classes"] | None = None,
    with_offsets: bool = True,
) -> Calibration:
    """Fit temperature and offsets on cells that the scores' model was not trained on.

    Parameters
    ----------
    scores
        Logits; minus infinity where the model did not know the class.
    codes
        Per cell the row of `hierarchy.covers` that is its label.
    hierarchy
        Which classes each label stands for.
    is_free
        Classes that take part; the others have no held-out cell, and keep the mean offset. All by default.
    with_offsets
        Without them only the temperature is fitted.

    Raises
    ------
    RefusedError
        If there is no cell, or one whose classes its model did not know: no calibration could make that cell right.
    """
    if not len(scores):
        msg = "No held-out cell to calibrate on: its confidence would be the model's own opinion. Add a person or a data set."
        raise RefusedError(msg)
    free = np.ones(scores.shape[1], dtype=bool) if is_free is None else is_free
    # A class without a cell would only ever be wrong here, and be pushed down for it: it takes no part.
    known = np.isfinite(scores) & free
    n_strange = int((~(known & hierarchy.covers[codes]).any(axis=1)).sum())
    if n_strange:
        msg = (
            f"{n_strange} of {len(scores)} cells are of a class that their model never saw. They are an open set: leave "
            "them out of calibration, and count them."
        )
        raise RefusedError(msg)
    moves = free & with_offsets
    # A finite stand-in keeps 0 times infinity out of the gradient; its probability is zero either way.
    low = np.where(known, scores, 0.0).min() - 1e3
    finite = np.where(known, scores, low)

    def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
        log_temperature, offset = flat[0], np.where(moves, flat[1:], 0.0)
        scaled = np.where(known, finite * np.exp(-log_temperature) + offset, -np.inf)
        loss, gradient = hierarchical_cross_entropy(scaled, codes, hierarchy)
        gradient = np.where(known, gradient, 0.0)
        slope = np.empty_like(flat)
        slope[0] = -float(np.sum(gradient * finite)) * np.exp(-log_temperature) + log_temperature
        slope[1:] = np.where(moves, gradient.sum(axis=0) + offset, 0.0)
        return loss + 0.5 * log_temperature**2 + 0.5 * float(offset @ offset), slope

    with single_thread():
        found = minimize(cost, np.zeros(1 + scores.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    offset = np.where(moves, found.x[1:], 0.0)
    return Calibration(
        classes=tuple(hierarchy.classes),
        temperature=float(np.exp(found.x[0])),
        offset=np.where(free, offset - offset[free].mean(), 0.0),
        n_cells=len(scores),
    )
