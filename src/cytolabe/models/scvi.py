"""scVI from scratch on training cells, and how held-out cells enter it (`fit_on_query = unlabelled_query`).

In this order: cells without counts in these genes are set aside; the most variable genes of the training cells where
there are more than `n_top_genes`; training with the number of epochs chosen on held-out training persons
(`scvi_training`); where the query brings batches that training never saw, scArches surgery fits the weights of those
batches, and only those, on the unlabelled query cells. Genes must be those of the fit: scvi-tools' own
`prepare_query_anndata` would fill an unmeasured gene with zeros, which rule R1 forbids.

The encoder reads the batch and is layer-normalized: with scVI's defaults (a batch-free encoder, batch norm) surgery
could not change an embedding at all. The embedding is the posterior mean, so embedding draws nothing. Weights are kept
by `scvi_files`, with a card.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k
from cytolabe.errors import RefusedError
from cytolabe.models import scvi_training as training
from cytolabe.models.cards import CARDS
from cytolabe.models.network_size import NetworkSize, size_of
from cytolabe.models.posterior import LatentPosterior, refuse_other_cells
from cytolabe.models.protocols import EmbeddingFacts, QueryView, TrainView
from cytolabe.models.scopes import (
    BATCH_KEY,
    batch_levels,
    columns_among,
    fit_scope,
    has_counts,
    refuse_not_finite,
    refuse_other_genes,
    refuse_shared_cells,
    refuse_too_few_cells,
    refuse_unseen_batches,
)
from cytolabe.models.stored import posterior_facts, weights_digest
from cytolabe.models.variable_genes import variable_genes
from cytolabe.randomness import derive_seed
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedScvi", "ScviEmbedder", "cells_table"]

_LARGEST_EXACT_FLOAT32 = 2**24
_DENSE_BYTES = 512 * 2**20
_LEAST_CELLS = 10


@dataclass(frozen=True, kw_only=True)
class FittedScvi:
    """A trained scVI with the batches it knows. `notes` grows with what the views brought."""

    genes: tuple[str, ...]
    columns: np.ndarray
    batches: tuple[str, ...]
    settings: training.ScviSettings
    mean_embedding: np.ndarray
    model: Any
    seed: int
    scopes: tuple[FitScope, ...]
    batch_key: tuple[str, ...] = BATCH_KEY
    n_stored: int = 0
    """Weights that came from a folder, and were not trained by this fit."""
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit and of the views that it embedded."""
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
        """Where in the network the embedding comes from, and what else decides it."""
        return posterior_facts(
            self.model, seed=self.seed, features={"genes": self.genes}, read=f"{len(self.columns)} genes"
        )

    @property
    def read_genes(self) -> tuple[str, ...]:
        """The genes that it reads, in their order; those of a view may be more."""
        return tuple(self.genes[column] for column in self.columns)

    def over(self, genes: Sequence[str]) -> "FittedScvi":
        """Return the same model for views over other genes, all of which that it reads are among them.

        Raises
        ------
        UnmeasuredGeneError
            If one is not: what was not measured is not zero.
        """
        return replace(self, genes=tuple(genes), columns=columns_among(genes, self.read_genes))

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return the posterior mean of each cell.

        Returns
        -------
        numpy.ndarray
            Cells x dims, float64; the mean of the training cells for a cell without counts in these genes.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        RefusedError
            If a cell's batch was in neither view of the fit.
        ModelFailedError
            If a value is not finite.
        """
        refuse_other_genes(view, self.genes)
        filled = has_counts(view.counts[:, self.columns])
        refuse_unseen_batches(batch_levels(view.technical)[filled], self.batches, model="scVI")
        embedding = np.tile(self.mean_embedding, (len(filled), 1))
        if filled.any():
            table = cells_table(view, columns=self.columns, batches=self.batches)
            embedding[filled] = training.posterior_mean(self.model, table)
        n_empty = int((~filled).sum())
        if n_empty:
            self._met[f"{n_empty} of {filled.size} cells have no counts in these genes: at the training mean"] = None
        refuse_not_finite(embedding, model="scVI")
        return embedding

    def latent_posterior(self, view: QueryView) -> LatentPosterior:
        """Return mean and variance of the posterior of each training cell; the mean is what `embed` gives, to the bit.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        UsageError
            If its cells are not those that the model was trained on.
        """
        refuse_other_cells(view, self.scopes, step="scvi/weights")
        mean = self.embed(view)
        variance = np.full(mean.shape, np.nan)
        filled = has_counts(view.counts[:, self.columns])
        table = cells_table(view, columns=self.columns, batches=self.batches)
        mean[filled], variance[filled] = training.posterior_moments(self.model, table)
        batches = batch_levels(view.technical).astype(object)
        return LatentPosterior(cell_ids=view.cell_ids, batches=batches, mean=mean, variance=variance)


@dataclass(frozen=True, kw_only=True)
class ScviEmbedder:
    """Embedder by scVI. The defaults train about 5,000 cells in under a minute on one core."""

    n_latent: int = 10
    n_hidden: int = 128
    n_layers: int = 1
    max_epochs: int = 60
    query_epochs: int = 20
    patience: int = 8
    n_top_genes: int = 2000
    batch_key: tuple[str, ...] = field(default=BATCH_KEY, init=False)
    card: ModelCard = field(default=CARDS["scvi"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedScvi:
        """Train on the training cells, then map the query's unseen batches; labels are not read.

        Raises
        ------
        RefusedError
            If fewer than ten training cells have counts, or a count is too large for float32.
        LeakageError
            If a cell is in both views.
        MissingExtraError
            If scvi-tools is not installed.
        """
        if query is not None:
            refuse_shared_cells(train, query)
            refuse_other_genes(query, train.genes)
        columns = self._columns(train.counts)
        filled = has_counts(train.counts[:, columns])
        refuse_too_few_cells(int(filled.sum()), least=_LEAST_CELLS, model="scVI")
        batches = tuple(sorted(set(batch_levels(train.technical)[filled].tolist())))
        table = cells_table(train, columns=columns, batches=batches)
        fit_rows, validation_rows, division = training.divide_cells(
            train.persons[filled], batch_levels(train.technical)[filled], seed=seed
        )
        result = training.train(
            table,
            settings=self._settings(),
            rows=(fit_rows, validation_rows),
            seed=derive_seed(seed, "models", "scvi", "train"),
        )
        steps = ("scvi/genes", "scvi/epochs", "scvi/weights")
        notes = [*self._gene_notes(len(train.genes)), division, *result.notes]
        n_empty = int((~filled).sum())
        if n_empty:
            notes.append(f"{n_empty} training cells have no counts in these genes and moved nothing")
        fitted = FittedScvi(
            genes=train.genes,
            columns=columns,
            batches=batches,
            settings=self._settings(),
            mean_embedding=training.posterior_mean(result.model, table).mean(axis=0),
            model=result.model,
            seed=seed,
            scopes=tuple(fit_scope(step, train.cell_ids) for step in steps),
            _met=dict.fromkeys(notes),
        )
        return fitted if query is None else self.map_query(fitted, query, seed=seed)

    def map_query(self, fitted: FittedScvi, query: QueryView, *, seed: int) -> FittedScvi:
        """Fit the weights of batches that training never saw on the unlabelled query cells.

        Raises
        ------
        UnmeasuredGeneError
            If the query has other genes than the fit.
        """
        refuse_other_genes(query, fitted.genes)
        filled = has_counts(query.counts[:, fitted.columns])
        present = set(batch_levels(query.technical)[filled].tolist())
        unseen = tuple(sorted(present.difference(fitted.batches)))
        notes = dict(fitted._met)
        if not unseen:
            notes["all query batches were seen in training: nothing was fitted on the query"] = None
            return replace(fitted, _met=notes)
        batches = (*fitted.batches, *unseen)
        # Cells of known batches would move the weights of these batches, and with them the training cells.
        table = cells_table(query, columns=fitted.columns, batches=unseen)
        model = training.map_query(
            fitted.model,
            table,
            epochs=self.query_epochs,
            seed=derive_seed(seed, "models", "scvi", "query"),
        )
        scope = fit_scope("scvi/query", query.cell_ids)
        return replace(fitted, batches=batches, model=model, scopes=(*fitted.scopes, scope), _met=notes)

    def _columns(self, counts: csr_matrix) -> np.ndarray:
        filled = has_counts(counts)
        if counts.shape[1] <= self.n_top_genes or filled.sum() < _LEAST_CELLS:
            return np.arange(counts.shape[1])
        return variable_genes(log1p_cp10k(counts[filled]), n_top=self.n_top_genes)

    def _gene_notes(self, n_genes: int) -> list[str]:
        few = n_genes <= self.n_top_genes
        return [f"all {n_genes} genes used: no more than the {self.n_top_genes} that would be chosen"] if few else []

    def _settings(self) -> training.ScviSettings:
        return training.ScviSettings(
            n_latent=self.n_latent,
            n_hidden=self.n_hidden,
            n_layers=self.n_layers,
            max_epochs=self.max_epochs,
            patience=self.patience,
        )


def cells_table(view: QueryView, *, columns: np.ndarray, batches: tuple[str, ...]) -> training.CellsTable:
    """Return the cells of these batches that have counts, over the genes of the fit, as scvi-tools wants them.

    Raises
    ------
    RefusedError
        If a count is larger than float32 holds exactly.
    """
    counts = view.counts[:, columns]
    filled = has_counts(counts) & np.isin(batch_levels(view.technical).astype(str), batches)
    counts = counts[filled]
    if counts.nnz and counts.data.max() > _LARGEST_EXACT_FLOAT32:
        msg = (
            f"The largest count is {counts.data.max()}; scVI computes in float32, exact to {_LARGEST_EXACT_FLOAT32}. "
            "Check whether these are counts."
        )
        raise RefusedError(msg)
    values: Any = counts.astype(np.float32)
    if counts.shape[0] * counts.shape[1] * 4 <= _DENSE_BYTES:
        # Minibatches of a sparse matrix are made dense one by one; where it fits, once is several times faster.
        values = values.toarray()
    return training.CellsTable(
        counts=values,
        genes=tuple(view.genes[column] for column in columns),
        batch=pd.Categorical(batch_levels(view.technical)[filled], categories=list(batches)),
    )
