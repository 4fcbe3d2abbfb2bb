"""What a model is handed, and what it has to answer. Arrays only: a model never sees a split, a file or an atlas.

A `QueryView` physically lacks labels and persons; a `TrainView` physically lacks the held-out cells. Every step that
is fitted leaves a `FitScope`: without one there is no score.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer
from scipy.sparse import csr_matrix

from cytolabe.records import FitScope, ModelCard

__all__ = [
    "NOT_CONVERGED",
    "TECHNICAL_COLUMNS",
    "Annotator",
    "AnnotatorOutput",
    "AttendedCell",
    "DescribedEmbedder",
    "Embedder",
    "EmbeddingFacts",
    "FittedAnnotator",
    "FittedEmbedder",
    "FrozenEmbedder",
    "GeneAttender",
    "GeneEmbedder",
    "Integrator",
    "Model",
    "QueryMapper",
    "QueryView",
    "TrainView",
    "TunedAnnotator",
]

TECHNICAL_COLUMNS = ("dataset_id", "batch", "assay", "suspension_type", "site")
"""The only metadata that a view carries. Allow-list of rule R12: nothing here encodes a cell type."""

NOT_CONVERGED = "not converged"
"""How a note begins that qualifies a score (rule R13b). Every other note informs, and changes no status."""


@dataclass(frozen=True, kw_only=True)
class QueryView:
    """Cells to embed or annotate: raw counts (cells x genes, integers) and technical columns, no labels."""

    cell_ids: np.ndarray
    counts: csr_matrix
    genes: tuple[str, ...]
    technical: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class TrainView(QueryView):
    """Cells to fit on, with a term per cell (empty where unlabelled, never a class) and a person key per cell."""

    labels: np.ndarray
    persons: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AnnotatorOutput:
    """One probability per cell and class; rows sum to 1. `classes` are sorted terms seen in training."""

    classes: tuple[str, ...]
    probability: Float[np.ndarray, "cells classes"]


@runtime_checkable
class FittedEmbedder(Protocol):
    """An embedder after `fit`. `notes` says what a reader must know (no convergence, genes cut, ...)."""

    @property
    def scopes(self) -> tuple[FitScope, ...]:
        """Which cells each step was fitted on."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit; empty where nothing is unusual."""
        ...

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return one row per cell of the view.

        A model with `fit_on_query` other than `none` may refuse cells that it was not fitted on.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """Counts in, embedding out. It never reads labels."""

    @property
    def card(self) -> ModelCard:
        """What the model needs and has seen."""
        ...

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedEmbedder:
        """Fit on the train view; `query` is given only where the card's `fit_on_query` is `unlabelled_query`."""
        ...


@runtime_checkable
class Integrator(Protocol):
    """A joint method: it sees all cells at once with their batches, and answers for those cells alone.

    Its card says `fit_on_query = joint`, and no embedder's does. It has no `fit`: nothing can be learned on one side and carried
    to the other. What it is handed are two query views, so that it has neither labels nor persons of any side.
    """

    @property
    def card(self) -> ModelCard:
        """What the model needs and has seen."""
        ...

    def integrate(self, train: QueryView, *, query: QueryView | None, seed: int) -> FittedEmbedder:
        """Place the cells of both views in one space; without a query those of the train view alone.

        What comes back embeds the cells that were integrated, by their names, and refuses others. The two sides are told apart for
        steps that are fitted on training cells only (the components under Harmony).
        """
        ...


@runtime_checkable
class FrozenEmbedder(Protocol):
    """An embedder that learns nothing from the cells it is handed, so that none of their counts has to be read for it."""

    def over(self, genes: Sequence[str], *, handed: FitScope, seed: int) -> FittedEmbedder:
        """Return what `fit` returns for the cells that `handed` names by their digest, over these genes."""
        ...


@dataclass(frozen=True, kw_only=True)
class EmbeddingFacts:
    """Where an embedding comes from: what two embeddings of one model may differ in."""

    layer: str
    pooling: str
    precision: str
    details: Mapping[str, str]
    """Digests, lengths and choices by name."""


@runtime_checkable
class DescribedEmbedder(Protocol):
    """A fitted embedder with more than one way to embed, which says which one this is."""

    @property
    def facts(self) -> EmbeddingFacts:
        """Layer, pooling, precision, and what else decides the embedding."""
        ...


@runtime_checkable
class GeneEmbedder(Protocol):
    """A fitted model that has a vector for each gene it knows, whatever the cell."""

    @property
    def known_genes(self) -> tuple[str, ...]:
        """Genes of the fit that the model has a vector of, in the order of the fit."""
        ...

    def embed_genes(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return one row per gene; a gene that is not among `known_genes` is refused."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class AttendedCell:
    """One cell as a layer of a network reads it, token by token. Special tokens are among them, nothing that fills up."""

    places: Integer[np.ndarray, " tokens"]
    """Place of the gene of each token among `known_genes`; -1 for a special token."""
    states: Float[np.ndarray, "tokens dims"]
    """After the layer."""
    queries: Float[np.ndarray, "heads tokens head_dims"]
    keys: Float[np.ndarray, "heads tokens head_dims"]
    """What attends, and what is attended to: attention is softmax(queries keys^T / sqrt(head_dims)) along the keys."""


@runtime_checkable
class GeneAttender(GeneEmbedder, Protocol):
    """A fitted model that reads a cell as genes which attend to one another."""

    @property
    def n_layers(self) -> int:
        """Layers of the network."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the weights and the genes."""
        ...

    @property
    def gene_rows(self) -> str:
        """What `embed_genes` gives, in words."""
        ...

    def n_cells_reading(self, view: QueryView) -> Integer[np.ndarray, " known_genes"]:
        """Return in how many cells of a view each of `known_genes` is a token; the network is not asked."""
        ...

    def attended(self, view: QueryView, *, layer: int) -> Iterator[AttendedCell]:
        """Yield the cells of a view in order, each computed by itself; layer 1 is the first, `n_layers` the last."""
        ...


@runtime_checkable
class QueryMapper(Protocol):
    """An embedder whose fit is in two steps: training cells first, then a query that is mapped onto it.

    `fit(train, query=query, seed=seed)` gives the same as `map_query(fit(train, query=None, seed=seed), query, ...)`;
    so another query needs no second training.
    """

    def map_query(self, fitted: FittedEmbedder, query: QueryView, *, seed: int) -> FittedEmbedder:
        """Return a copy of `fitted` that has also seen the unlabelled query."""
        ...


@runtime_checkable
class FittedAnnotator(Protocol):
    """An annotator after `fit`."""

    @property
    def scopes(self) -> tuple[FitScope, ...]:
        """Which cells each step was fitted on."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit; empty where nothing is unusual."""
        ...

    def predict(self, query: QueryView) -> AnnotatorOutput:
        """Return class probabilities for each cell of the view."""
        ...


@runtime_checkable
class Annotator(Protocol):
    """Counts or metadata in, terms out."""

    @property
    def card(self) -> ModelCard:
        """What the model needs and has seen."""
        ...

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedAnnotator:
        """Fit on the labelled cells of the train view."""
        ...


@runtime_checkable
class TunedAnnotator(Protocol):
    """An annotator whose fit is in two steps: an embedder that reads no label, which is then fine-tuned to labels.

    `fit(train, query=None, seed=seed)` gives the same as `tune(start.fit(train, query=None, seed=seed), train, seed=seed)`; so
    other labels of the same cells, and the frozen embedder itself, need no second training of the start.
    """

    @property
    def start(self) -> Embedder:
        """What the fine-tuning starts from."""
        ...

    def tune(self, started: FittedEmbedder, train: TrainView, *, seed: int) -> FittedAnnotator:
        """Fine-tune a copy on the labelled cells of the train view; `started` stays as it is."""
        ...


Model: TypeAlias = Embedder | Integrator | Annotator
"""What the registry makes of a name. What a model does is told by its card: at run time an annotator has all that an embedder has."""
