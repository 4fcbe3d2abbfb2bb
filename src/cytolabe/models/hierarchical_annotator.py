"""An annotator that learns from labels of any depth: principal components, then the hierarchical cross-entropy.

The components and their spread are those of the labelled training cells. A label above the classes costs the marginal loss
(`hierarchical`); where none is there this is logistic regression with balanced classes. Which label is above which says the
pinned release of the Cell Ontology, which the card names: under another release it is another model.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from cytolabe.models.baselines.majority import labelled_cells
from cytolabe.models.baselines.pca import FittedPca, PcaEmbedder
from cytolabe.models.cards import CARDS
from cytolabe.models.hierarchical import HierarchicalLogisticRegression
from cytolabe.models.protocols import AnnotatorOutput, QueryView, TrainView
from cytolabe.models.scopes import fit_scope
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedHierarchical", "HierarchicalAnnotator"]


@dataclass(frozen=True, kw_only=True)
class FittedHierarchical:
    """Components of the training cells, their mean and spread, and the regression on them."""

    pca: FittedPca
    mean: np.ndarray
    scale: np.ndarray
    regression: HierarchicalLogisticRegression
    scopes: tuple[FitScope, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: `not converged`, `marginal loss`, and what the components say."""
        return (*self.pca.notes, *self.regression.notes_)

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return one probability per cell and class."""
        probability = self.regression.predict_proba(self._values(query))
        return AnnotatorOutput(classes=tuple(self.regression.hierarchy.classes), probability=probability)

    def predict_labels(self, query: QueryView) -> tuple[tuple[str, ...], Float[np.ndarray, "cells labels"]]:
        """Return every label of training, coarse ones included, and its probability: the sum over its classes."""
        return self.regression.hierarchy.labels, self.regression.predict_label_proba(self._values(query))

    def _values(self, query: QueryView) -> np.ndarray:
        return np.asarray((np.asarray(self.pca.embed(query), dtype=np.float64) - self.mean) / self.scale)


@dataclass(frozen=True, kw_only=True)
class HierarchicalAnnotator:
    """Hierarchical cross-entropy on `n_dims` components of `n_top_genes` genes, L2 with inverse strength `C`."""

    n_dims: int = PcaEmbedder.n_dims
    n_top_genes: int = PcaEmbedder.n_top_genes
    C: float = 1.0
    card: ModelCard = field(default=CARDS["hierarchical"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedHierarchical:  # noqa: ARG002
        """Fit on the labelled training cells; nothing is drawn.

        Raises
        ------
        RefusedError
            If no cell has a label, or fewer than three have counts.
        UnresolvedLabelError
            If a label is no live term of the pinned Cell Ontology.
        """
        labelled = labelled_cells(train)
        part = TrainView(
            cell_ids=train.cell_ids[labelled],
            counts=train.counts[labelled],
            genes=train.genes,
            technical=train.technical.iloc[labelled],
            labels=train.labels[labelled],
            persons=train.persons[labelled],
        )
        labels = part.labels.astype(str)
        hierarchy = hierarchy_of(labels.tolist(), ontology=load_ontology("CL"))
        pca = PcaEmbedder(n_dims=self.n_dims, n_top_genes=self.n_top_genes).fit(part, query=None, seed=0)
        values = np.asarray(pca.embed(part), dtype=np.float64)
        mean, spread = values.mean(axis=0), values.std(axis=0)
        scale = np.where(spread > 1e-12, spread, 1.0)
        regression = HierarchicalLogisticRegression(hierarchy=hierarchy, C=self.C).fit((values - mean) / scale, labels)
        scopes = (*pca.scopes, fit_scope("hierarchical", part.cell_ids))
        return FittedHierarchical(pca=pca, mean=mean, scale=scale, regression=regression, scopes=scopes)
