"""How much of the labels an embedding holds: two probes, fitted on labelled training cells only.

`knn`: 15 nearest training cells by Euclidean distance, each with weight 1 / distance (the scheme of scikit-learn's
`weights="distance"`). All cells at the distance of the 15th vote, so that the order of the cells never decides.
`logistic`: multinomial logistic regression on dims standardized to the training cells, L2 with C = 1, lbfgs. Classes
are weighted to equal shares (`balanced`): the headline is macro-F1, in which a rare type counts as much as a frequent
one, and an unweighted fit would be tuned to accuracy. Its probabilities are therefore not calibrated to the training
shares. It must say whether it converged: non-convergence alone moved macro-F1 by .035 on the PBMC study (rule R13b).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.protocols import NOT_CONVERGED, AnnotatorOutput
from cytolabe.models.scopes import fit_scope
from cytolabe.models.threads import single_thread
from cytolabe.records import FitScope

__all__ = ["LOGISTIC_C", "N_NEIGHBORS", "PROBE_NAMES", "FittedProbe", "fit_probe"]

PROBE_NAMES = ("knn", "logistic")
N_NEIGHBORS = 15
LOGISTIC_C = 1.0

_MAX_ITERATIONS = 2000
_DISTANCES_PER_STEP = 4_000_000

_Predictor = Callable[[np.ndarray], np.ndarray]
"""What a fitted probe computes: a probability per cell and class, from an embedding."""


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A probe after its fit. `scope_n` counts the cells it was fitted on; `scopes` names them where ids were given."""

    name: str
    classes: tuple[str, ...]
    n_dims: int
    scope_n: int
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]
    predictor: _Predictor

    def predict_probability(self, embedding: Float[np.ndarray, "cells dims"]) -> AnnotatorOutput:
        """Return one probability per cell and class; rows sum to 1.

        Raises
        ------
        UsageError
            If the embedding has another number of dims than the one of the fit.
        RefusedError
            If a value is not finite.
        """
        if embedding.shape[1] != self.n_dims:
            msg = f"The embedding has {embedding.shape[1]} dims where the probe was fitted on {self.n_dims}."
            raise UsageError(msg)
        _refuse_not_finite(embedding)
        with single_thread():
            probability = self.predictor(np.asarray(embedding, dtype=np.float64))
        return AnnotatorOutput(classes=self.classes, probability=probability)


@dataclass(frozen=True, kw_only=True)
class _Neighbors:
    """Distance-weighted vote of the nearest training cells."""

    embedding: np.ndarray
    one_hot: np.ndarray
    n_neighbors: int

    def __call__(self, embedding: np.ndarray) -> np.ndarray:
        step = max(1, _DISTANCES_PER_STEP // len(self.embedding))
        starts = range(0, len(embedding), step)
        pieces = [self._vote(cdist(embedding[start : start + step], self.embedding)) for start in starts]
        return np.concatenate(pieces) if pieces else np.zeros((0, self.one_hot.shape[1]))

    def _vote(self, distance: np.ndarray) -> np.ndarray:
        furthest = np.partition(distance, self.n_neighbors - 1, axis=1)[:, self.n_neighbors - 1]
        nearest = distance <= furthest[:, None]
        with np.errstate(divide="ignore"):
            weight = np.where(nearest, 1.0 / distance, 0.0)
        # A cell that lies on training cells is decided by those alone: its distance has no reciprocal.
        on_top = distance == 0
        decided = on_top.any(axis=1)
        weight[decided] = on_top[decided]
        votes = weight @ self.one_hot
        return np.asarray(votes / votes.sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class _Logistic:
    """Linear classes on standardized dims."""

    mean: np.ndarray
    scale: np.ndarray
    regression: LogisticRegression | None

    def __call__(self, embedding: np.ndarray) -> np.ndarray:
        if self.regression is None:
            return np.ones((len(embedding), 1))
        if len(embedding) == 0:
            return np.zeros((0, len(self.regression.classes_)))
        return np.asarray(self.regression.predict_proba((embedding - self.mean) / self.scale))


def fit_probe(
    name: str,
    embedding: Float[np.ndarray, "cells dims"],
    labels: np.ndarray,
    *,
    seed: int,
    cell_ids: np.ndarray | None = None,
) -> FittedProbe:
    """Fit a probe on the embedding of labelled training cells.

    Parameters
    ----------
    name
        `knn` or `logistic`.
    embedding
        One row per labelled training cell.
    labels
        One term per row, never empty.
    seed
        Taken so that every probe is called alike; neither of these two draws.
    cell_ids
        The ids of the rows; with them the probe yields a `FitScope`.

    Raises
    ------
    UsageError
        If the probe is unknown, or rows, labels and ids differ in number.
    RefusedError
        If there is no cell, a label is empty, or a value is not finite.
    """
    del seed
    if name not in PROBE_NAMES:
        msg = f"There is no probe {name!r}. Known: {', '.join(PROBE_NAMES)}."
        raise UsageError(msg)
    terms = np.array([str(label) for label in labels.tolist()], dtype=str)
    _refuse_bad_labels(embedding, terms, cell_ids)
    _refuse_not_finite(embedding)
    values = np.asarray(embedding, dtype=np.float64)
    classes, codes = np.unique(terms, return_inverse=True)
    with single_thread():
        predictor, notes = _fit_neighbors(values, codes) if name == "knn" else _fit_logistic(values, codes)
    if len(classes) == 1:
        notes = [*notes, f"one class in training ({classes[0]}): every cell is predicted as it"]
    return FittedProbe(
        name=name,
        classes=tuple(classes.tolist()),
        n_dims=values.shape[1],
        scope_n=len(values),
        scopes=() if cell_ids is None else (fit_scope(f"probe/{name}", cell_ids),),
        notes=tuple(notes),
        predictor=predictor,
    )


def _fit_neighbors(values: np.ndarray, codes: np.ndarray) -> tuple[_Predictor, list[str]]:
    n_neighbors = min(N_NEIGHBORS, len(values))
    notes = [] if n_neighbors == N_NEIGHBORS else [f"{n_neighbors} neighbors instead of {N_NEIGHBORS}: no more cells"]
    return _Neighbors(embedding=values, one_hot=np.eye(codes.max() + 1)[codes], n_neighbors=n_neighbors), notes


def _fit_logistic(values: np.ndarray, codes: np.ndarray) -> tuple[_Predictor, list[str]]:
    mean, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1e-300), spread, 1.0)
    if codes.max() == 0:
        return _Logistic(mean=mean, scale=scale, regression=None), []
    regression = LogisticRegression(C=LOGISTIC_C, class_weight="balanced", max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        regression.fit((values - mean) / scale, codes)
    n_iterations = int(np.max(regression.n_iter_))
    complained = any(issubclass(entry.category, ConvergenceWarning) for entry in caught)
    notes = []
    if complained or n_iterations >= _MAX_ITERATIONS:
        notes.append(f"{NOT_CONVERGED}: logistic regression in {n_iterations} iterations")
    return _Logistic(mean=mean, scale=scale, regression=regression), notes


def _refuse_bad_labels(embedding: np.ndarray, terms: np.ndarray, cell_ids: np.ndarray | None) -> None:
    n_cells = len(embedding)
    if len(terms) != n_cells or (cell_ids is not None and len(cell_ids) != n_cells):
        n_ids = "no" if cell_ids is None else str(len(cell_ids))
        msg = f"{n_cells} embedded cells came with {len(terms)} labels and {n_ids} ids. Give one per cell."
        raise UsageError(msg)
    if n_cells == 0:
        msg = "A probe was given no labelled training cell at this resolution: there is nothing to learn."
        raise RefusedError(msg)
    n_empty = int((terms == "").sum())
    if n_empty:
        msg = f"{n_empty} of {n_cells} labels are empty. Unlabelled is not a class (rule R4): pass labelled cells only."
        raise RefusedError(msg)


def _refuse_not_finite(embedding: np.ndarray) -> None:
    n_bad = int((~np.isfinite(embedding).all(axis=1)).sum())
    if n_bad:
        msg = f"{n_bad} of {len(embedding)} embedded cells have a value that is not finite: the embedding failed."
        raise RefusedError(msg)
