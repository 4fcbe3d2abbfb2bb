"""Cell types by a fine-tuned Geneformer: one task of `fine_tuning`, as a model of studies.

From a checkpoint it is `fine_tuned`; from random weights of the same shape it is `supervised`, the control that says what the
pretraining was worth. With `hierarchical` it learns from labels of any depth (`models.hierarchical`). `GeneformerTunedAnnotator`
makes its start itself, of the training cells without their labels.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint
from cytolabe.models.geneformer.embedder import FROZEN_STEP, FittedGeneformer
from cytolabe.models.geneformer.fine_tuning import FittedCellTasks, TaskLabels, fit_cell_tasks
from cytolabe.models.geneformer.pretrainer import GeneformerPretrainer
from cytolabe.models.geneformer.source import GeneformerAnnotatorSource
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.protocols import AnnotatorOutput, FittedEmbedder, QueryView, TrainView
from cytolabe.models.tuned import notes_of_start
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.hierarchy import hierarchy_of, marginal_probability
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedGeneformerAnnotator", "GeneformerAnnotator", "GeneformerTunedAnnotator"]

_TASK = "cell_type"


@dataclass(frozen=True, kw_only=True)
class FittedGeneformerAnnotator:
    """A fine-tuned Geneformer and the classes that it was shown."""

    fitted: FittedCellTasks

    @property
    def scopes(self) -> tuple[FitScope, ...]:
        """Which cells the medians, the weights and the classes were fitted on."""
        return self.fitted.scopes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: who ended the training, `not converged`, `marginal loss`."""
        return self.fitted.notes

    @property
    def network_size(self) -> NetworkSize:
        """Weights of trunk and heads; layers that are held fast are not trained."""
        return size_of(self.fitted.network, is_trained=True)

    @property
    def weights_digest(self) -> str:
        """Digest of trunk and heads: that of the file in which a fine-tuning of `cytolabe train` is kept."""
        return self.fitted.heads.weights_digest

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return class probabilities of each cell, float64.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        return self.fitted.predict(query)[_TASK]

    def predict_labels(self, query: QueryView) -> tuple[tuple[str, ...], Float[np.ndarray, "cells labels"]]:
        """Return every label of training, coarse ones included, and its probability: the sum over its classes."""
        (task,) = self.fitted.tasks
        probability = self.predict(query).probability
        return task.labels, probability if task.hierarchy is None else marginal_probability(probability, task.hierarchy)


@dataclass(frozen=True, kw_only=True)
class GeneformerAnnotator:
    """Annotator by fine-tuning. Options are explained at `GeneformerLearning`."""

    learning: GeneformerAnnotatorSource
    checkpoint: GeneformerCheckpoint
    card: ModelCard

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedGeneformerAnnotator:  # noqa: ARG002
        """Fine-tune on the labelled cells of the train view.

        Raises
        ------
        RefusedError
            If fewer than two classes, or too few cells, have labels and counts; or the genes are those of a panel.
        UnresolvedLabelError
            If it is hierarchical, and a label is no live term of the pinned Cell Ontology.
        """
        words = train.labels.astype(str)
        hierarchy = None
        if self.learning.hierarchical and (words != "").any():
            hierarchy = hierarchy_of(words[words != ""].tolist(), ontology=load_ontology("CL"))
        asked = {_TASK: TaskLabels(labels=words, hierarchy=hierarchy)}
        fitted = fit_cell_tasks(self.learning, self.checkpoint, train, tasks=asked, seed=seed)
        return FittedGeneformerAnnotator(fitted=fitted)


@dataclass(frozen=True, kw_only=True)
class GeneformerTunedAnnotator:
    """Annotator by fine-tuning a network that was made of the same training cells, with their medians, and no label of them."""

    start: GeneformerPretrainer
    learning: GeneformerAnnotatorSource
    card: ModelCard

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedGeneformerAnnotator:  # noqa: ARG002
        """Make the start of all cells of the train view, then fine-tune it on the labelled ones.

        Raises
        ------
        RefusedError, UnresolvedLabelError
            As `GeneformerPretrainer.fit` and `GeneformerAnnotator.fit`.
        """
        return self.tune(self.start.fit(train, query=None, seed=seed), train, seed=seed)

    def tune(self, started: FittedEmbedder, train: TrainView, *, seed: int) -> FittedGeneformerAnnotator:
        """Fine-tune a copy of what `start` made on the labelled cells of the train view.

        Raises
        ------
        RefusedError, UnresolvedLabelError
            As `GeneformerAnnotator.fit`.
        """
        if not isinstance(started, FittedGeneformer):
            msg = f"{self.card.name} starts from what {self.start.card.name} made, not from {type(started).__name__}."
            raise TypeError(msg)
        made = started.checkpoint
        scopes = tuple(one for one in started.scopes if one.step != FROZEN_STEP)
        checkpoint = replace(
            made,
            notes=notes_of_start(made.notes),
            card=replace(made.card, protocol=self.start.card.protocol, scopes=scopes),
        )
        annotator = GeneformerAnnotator(learning=self.learning, checkpoint=checkpoint, card=self.card)
        return annotator.fit(train, query=None, seed=seed)
