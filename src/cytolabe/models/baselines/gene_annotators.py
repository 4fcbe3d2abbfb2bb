"""Cell types straight from log-normalized variable genes, without components or a network between them.

`one_vs_rest`: one logistic regression per class against all others, as CellTypist has it (doi:10.1126/science.abl5197):
log1p of counts per 10,000, each gene standardized to the training cells and cut at 10 from above, L2 with C = 1, classes
not weighted. Two choices are ours: variable genes of the training cells in place of all genes, as for every other
baseline here; and the probabilities of the classes, which are independent of each other, are divided by their sum.
Each regression says whether it converged (rule R13b).

`centroid`: the nearest class mean. The probabilities are those of Gaussians around the means, of one variance for all
classes and genes, and of equal shares: of many genes they come out near 0 or 1, and are not calibrated.

A cell without counts has no composition: it gets the shares of the classes in training, and is counted.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist
from scipy.special import log_expit, logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cytolabe.models.baselines.majority import labelled_cells
from cytolabe.models.baselines.variable_genes import FittedVariableGenes, VariableGenesEmbedder
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import NOT_CONVERGED, AnnotatorOutput, QueryView, TrainView
from cytolabe.models.scopes import fit_scope, has_counts, refuse_too_few_cells
from cytolabe.models.threads import single_thread
from cytolabe.records import FitScope, ModelCard

__all__ = ["Centroid", "FittedGeneAnnotator", "OneVsRest"]

_LARGEST_STANDARDIZED = 10.0
_C = 1.0

_Scores = Callable[[np.ndarray], np.ndarray]
"""What a rule makes of genes: the log of a weight per cell and class."""


@dataclass(frozen=True, kw_only=True)
class _Linear:
    """One line per class on standardized genes."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        standardized = np.minimum((values - self.mean) / self.scale, _LARGEST_STANDARDIZED)
        return np.asarray(log_expit(standardized @ self.weights.T + self.intercepts))


@dataclass(frozen=True, kw_only=True)
class _Gaussians:
    """One mean per class, and the one variance around all of them."""

    means: np.ndarray
    variance: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(-cdist(values, self.means, "sqeuclidean") / (2 * self.variance))


@dataclass(frozen=True, kw_only=True)
class FittedGeneAnnotator:
    """A rule over the variable genes of the training cells. `notes` grows with what the queries brought."""

    classes: tuple[str, ...]
    shares: np.ndarray
    genes: FittedVariableGenes
    scores: _Scores
    scopes: tuple[FitScope, ...]
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit and of the queries that it answered."""
        return tuple(self._met)

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return one probability per cell and class; rows sum to 1.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        values = self.genes.embed(query).astype(np.float64)
        filled = has_counts(query.counts)
        probability = np.tile(self.shares, (len(filled), 1))
        if filled.any():
            with single_thread():
                scores = self.scores(values[filled])
            probability[filled] = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        n_empty = int((~filled).sum())
        if n_empty:
            self._met[f"{n_empty} of {filled.size} cells have no counts in these genes: class shares used"] = None
        return AnnotatorOutput(classes=self.classes, probability=probability)


@dataclass(frozen=True, kw_only=True)
class OneVsRest:
    """Annotator by one logistic regression per class, in the manner of CellTypist."""

    n_top_genes: int = 2000
    max_iterations: int = 1000
    card: ModelCard = field(default=CARDS["one_vs_rest"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedGeneAnnotator:  # noqa: ARG002
        """Fit one regression per class on the labelled training cells that have counts; persons are not read.

        Raises
        ------
        RefusedError
            If no training cell is labelled, or fewer than three have counts.
        """
        cells = _labelled_genes(train, n_top_genes=self.n_top_genes, seed=seed)
        mean, spread = cells.values.mean(axis=0), cells.values.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        standardized = np.minimum((cells.values - mean) / scale, _LARGEST_STANDARDIZED)
        if len(cells.classes) == 1:
            weights, intercepts, n_cut_off = np.zeros((1, len(mean))), np.zeros(1), 0
        else:
            with single_thread():
                weights, intercepts, n_cut_off = self._regressions(standardized, cells.codes)
        notes = list(cells.genes.notes)
        if n_cut_off:
            notes.append(
                f"{NOT_CONVERGED}: {n_cut_off} of {len(cells.classes)} regressions used all {self.max_iterations} "
                "iterations"
            )
        line = _Linear(mean=mean, scale=scale, weights=weights, intercepts=intercepts)
        return cells.fitted(line, step="one_vs_rest", train=train, notes=notes)

    def _regressions(self, standardized: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        weights, intercepts, n_cut_off = [], [], 0
        for code in range(int(codes.max()) + 1):
            regression = LogisticRegression(C=_C, max_iter=self.max_iterations)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                regression.fit(standardized, codes == code)
            n_cut_off += any(issubclass(entry.category, ConvergenceWarning) for entry in caught)
            weights.append(regression.coef_[0])
            intercepts.append(float(regression.intercept_[0]))
        return np.array(weights), np.array(intercepts), n_cut_off


@dataclass(frozen=True, kw_only=True)
class Centroid:
    """Annotator by the nearest class mean."""

    n_top_genes: int = 2000
    card: ModelCard = field(default=CARDS["centroid"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedGeneAnnotator:  # noqa: ARG002
        """Take the mean of each class over the labelled training cells that have counts; persons are not read.

        Raises
        ------
        RefusedError
            If no training cell is labelled, or fewer than three have counts.
        """
        cells = _labelled_genes(train, n_top_genes=self.n_top_genes, seed=seed)
        means = np.stack([cells.values[cells.codes == code].mean(axis=0) for code in range(len(cells.classes))])
        variance = float(np.square(cells.values - means[cells.codes]).mean())
        # Cells that all lie on their means leave no variance; the nearest mean still wins by any positive one.
        rule = _Gaussians(means=means, variance=variance or 1.0)
        return cells.fitted(rule, step="centroid", train=train, notes=list(cells.genes.notes))


@dataclass(frozen=True, kw_only=True)
class _LabelledGenes:
    """Labelled training cells with counts: their variable genes (float64) and the code of each one's class."""

    classes: tuple[str, ...]
    codes: np.ndarray
    values: Float[np.ndarray, "cells genes"]
    genes: FittedVariableGenes

    def fitted(self, scores: _Scores, *, step: str, train: TrainView, notes: list[str]) -> FittedGeneAnnotator:
        n_classes = len(self.classes)
        if n_classes == 1:
            notes = [*notes, f"one class in training ({self.classes[0]}): every cell is predicted as it"]
        return FittedGeneAnnotator(
            classes=self.classes,
            shares=np.bincount(self.codes, minlength=n_classes) / len(self.codes),
            genes=self.genes,
            scores=scores,
            scopes=(*self.genes.scopes, fit_scope(step, train.cell_ids)),
            _met=dict.fromkeys(notes),
        )


def _labelled_genes(train: TrainView, *, n_top_genes: int, seed: int) -> _LabelledGenes:
    labelled = labelled_cells(train)
    rows = labelled[has_counts(train.counts)[labelled]]
    refuse_too_few_cells(len(rows), least=3, model="A rule over genes")
    genes = VariableGenesEmbedder(n_top_genes=n_top_genes).fit(train, query=None, seed=seed)
    classes, codes = np.unique(train.labels[rows].astype(str), return_inverse=True)
    values = genes.embed(train)[rows].astype(np.float64)
    return _LabelledGenes(classes=tuple(classes.tolist()), codes=codes, values=values, genes=genes)
