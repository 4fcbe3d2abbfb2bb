"""What a fitted scANVI answers and keeps: class probabilities at the posterior mean, and posteriors of its training cells.

A cell without counts has no composition: it gets the shares of the classes in training, and is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cytolabe.models import scvi_training as training
from cytolabe.models.extras import import_extra
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.posterior import LatentPosterior, refuse_other_cells
from cytolabe.models.protocols import AnnotatorOutput, EmbeddingFacts, QueryView
from cytolabe.models.scopes import (
    batch_levels,
    has_counts,
    refuse_not_finite,
    refuse_other_genes,
    refuse_unseen_batches,
)
from cytolabe.models.scvi import FittedScvi, cells_table
from cytolabe.models.stored import features_digest, weights_digest
from cytolabe.ontology.hierarchy import Hierarchy, marginal_probability
from cytolabe.records import FitScope

__all__ = ["UNLABELLED", "FittedScanvi"]

UNLABELLED = "unlabelled"
"""How cells without a label are called to scvi-tools."""


@dataclass(frozen=True, kw_only=True)
class FittedScanvi:
    """A trained scANVI with the batches it knows. `notes` grows with what the queries brought."""

    classes: tuple[str, ...]
    shares: np.ndarray
    base: FittedScvi
    batches: tuple[str, ...]
    model: Any
    scopes: tuple[FitScope, ...]
    hierarchy: Hierarchy | None = None
    """Which classes each label of training stands for, where it learned from labels of any depth."""
    n_labelled: int = 0
    n_unlabelled: int = 0
    """Training cells with a label, and those that it learned from without one (`UNLABELLED`, never a class)."""
    training: Mapping[str, object] = field(default_factory=dict)
    """What a folder says of the training beside the model: the question, and the side of which split."""
    n_stored: int = 0
    """Weights that came from a folder, and were not trained by this fit."""
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit and of the queries that it answered."""
        return tuple(self._met)

    @property
    def network_size(self) -> NetworkSize:
        """Weights of the network. All were trained, those that surgery held fast for the query among them, but for stored ones."""
        n_parameters = size_of(self.model.module, is_trained=True).n_parameters
        return NetworkSize(n_parameters=n_parameters, n_trained=n_parameters - self.n_stored)

    @property
    def weights_digest(self) -> str:
        """Digest of the weights."""
        return weights_digest(self.model)

    @property
    def facts(self) -> EmbeddingFacts:
        """Where in the network the answer comes from, and what else decides it."""
        base = self.base.facts
        details = {
            **base.details,
            "weights": self.weights_digest,
            "base": base.details["weights"],
            "dictionary.classes": features_digest(self.classes),
            "classes": ", ".join(self.classes),
            "labelled_cells": str(self.n_labelled),
            "unlabelled_cells": f"{self.n_unlabelled}, of the category {UNLABELLED!r}, which is no class",
        }
        return replace(base, layer="classifier on the mean of the approximate posterior", details=details)

    @property
    def label_losses(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Loss of the classifier in each epoch with labels, on cells that fit and on cells that choose the epochs; a stored model has none."""
        found = self.model.history or {}
        fit, chosen = (found.get(f"{side}_classification_loss") for side in ("train", "validation"))
        return tuple(
            () if table is None else tuple(np.asarray(table, dtype=np.float64).ravel().tolist())
            for table in (fit, chosen)
        )  # type: ignore[return-value]

    def over(self, genes: Sequence[str]) -> "FittedScanvi":
        """Return the same model for views over other genes, all of which that it reads are among them.

        Raises
        ------
        UnmeasuredGeneError
            If one is not: what was not measured is not zero.
        """
        return replace(self, base=self.base.over(genes))

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return one probability per cell and class, at the posterior mean; rows sum to 1.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        RefusedError
            If a cell's batch was in neither view of the fit.
        ModelFailedError
            If a value is not finite.
        """
        refuse_other_genes(query, self.base.genes)
        filled = has_counts(query.counts[:, self.base.columns])
        refuse_unseen_batches(batch_levels(query.technical)[filled], self.batches, model="scANVI")
        probability = np.tile(self.shares, (len(filled), 1))
        if filled.any():
            table = cells_table(query, columns=self.base.columns, batches=self.batches)
            probability[filled] = _class_probability(self.model, table, self.classes)
        n_empty = int((~filled).sum())
        if n_empty:
            self._met[f"{n_empty} of {filled.size} cells have no counts in these genes: class shares used"] = None
        refuse_not_finite(probability, model="scANVI")
        return AnnotatorOutput(classes=self.classes, probability=probability / probability.sum(axis=1, keepdims=True))

    def embed(self, query: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return the mean of scANVI's posterior of each cell, NaN for a cell without counts in its genes.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        RefusedError
            If a cell's batch was in neither view of the fit.
        """
        refuse_other_genes(query, self.base.genes)
        filled = has_counts(query.counts[:, self.base.columns])
        refuse_unseen_batches(batch_levels(query.technical)[filled], self.batches, model="scANVI")
        embedding = np.full((len(filled), self.base.settings.n_latent), np.nan)
        if filled.any():
            table = cells_table(query, columns=self.base.columns, batches=self.batches)
            embedding[filled] = training.posterior_moments(self.model, table, more={"label": UNLABELLED})[0]
        return embedding

    def latent_posterior(self, view: QueryView) -> LatentPosterior:
        """Return mean and variance of scANVI's own posterior of each training cell, which is not that of the scVI it began with.

        A cell without counts has no place in it: both are missing.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        UsageError
            If its cells are not those that the model was trained on.
        """
        refuse_other_cells(view, self.scopes, step="scanvi/weights")
        refuse_other_genes(view, self.base.genes)
        filled = has_counts(view.counts[:, self.base.columns])
        table = cells_table(view, columns=self.base.columns, batches=self.batches)
        mean, variance = training.posterior_moments(self.model, table, more={"label": UNLABELLED})
        placed = np.full((2, len(filled), mean.shape[1]), np.nan)
        placed[:, filled] = mean, variance
        batches = batch_levels(view.technical).astype(object)
        return LatentPosterior(cell_ids=view.cell_ids, batches=batches, mean=placed[0], variance=placed[1])

    def predict_posterior(self, posterior: LatentPosterior) -> AnnotatorOutput:
        """Return what `predict` gives of the cells of a posterior, without their counts."""
        torch, known = import_extra("torch"), posterior.has_counts
        probability = np.tile(self.shares, (len(known), 1))
        with training.quiet_session(0), torch.inference_mode():
            scores = self.model.module.classify_helper(torch.as_tensor(posterior.mean[known], dtype=torch.float32))
            found = pd.DataFrame(scores.softmax(dim=-1).numpy(), columns=_label_names(self.model, scores.shape[1]))
        probability[known] = _of_classes(found, self.classes)
        return AnnotatorOutput(classes=self.classes, probability=probability / probability.sum(axis=1, keepdims=True))

    def predict_labels(self, query: QueryView) -> tuple[tuple[str, ...], Float[np.ndarray, "cells labels"]]:
        """Return every label of training, coarse ones included, and its probability: the sum over its classes."""
        probability = self.predict(query).probability
        if self.hierarchy is None:
            return self.classes, probability
        return self.hierarchy.labels, marginal_probability(probability, self.hierarchy)


def _class_probability(model: Any, table: training.CellsTable, classes: tuple[str, ...]) -> np.ndarray:  # noqa: ANN401
    with training.quiet_session(0):
        adata = training.cells_anndata(table)
        adata.obs["label"] = UNLABELLED
        found = model.predict(adata, soft=True)
        model.deregister_manager()
    return _of_classes(found, classes)


def _of_classes(found: pd.DataFrame, classes: tuple[str, ...]) -> np.ndarray:
    # A class none of whose cells has a count was registered with nobody: nothing was learned of it.
    return np.asarray(found.reindex(columns=list(classes), fill_value=0.0), dtype=np.float64)


def _label_names(model: Any, n_scores: int) -> list[str]:  # noqa: ANN401 - untyped library
    """Return the label of each score of the classifier, in its order."""
    registered = model.adata_manager.get_state_registry("labels").categorical_mapping
    return [str(label) for label in registered][:n_scores]
