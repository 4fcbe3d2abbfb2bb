"""Variable genes as they are: what every representation of a cell has to add something to."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from cytolabe.encode import log1p_cp10k
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import QueryView, TrainView
from cytolabe.models.scopes import fit_scope, has_counts, refuse_other_genes, refuse_too_few_cells
from cytolabe.models.variable_genes import variable_genes
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedVariableGenes", "VariableGenesEmbedder"]


@dataclass(frozen=True, kw_only=True)
class FittedVariableGenes:
    """The genes that vary among the training cells."""

    genes: tuple[str, ...]
    columns: np.ndarray
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return log1p of counts per 10,000 of all genes of the view, of the chosen ones; zeros for a cell without counts.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        """
        refuse_other_genes(view, self.genes)
        filled = has_counts(view.counts)
        values = np.zeros((len(filled), len(self.columns)), dtype=np.float32)
        values[filled] = log1p_cp10k(view.counts[filled])[:, self.columns].toarray()
        return values


@dataclass(frozen=True, kw_only=True)
class VariableGenesEmbedder:
    """Embedder by at most `n_top_genes` variable genes, nothing reduced."""

    n_top_genes: int = 2000
    card: ModelCard = field(default=CARDS["hvg"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedVariableGenes:  # noqa: ARG002
        """Choose genes on the training cells; labels are not read.

        Raises
        ------
        RefusedError
            If fewer than three training cells have counts.
        """
        filled = has_counts(train.counts)
        refuse_too_few_cells(int(filled.sum()), least=3, model="The choice of variable genes")
        columns = variable_genes(log1p_cp10k(train.counts[filled]), n_top=self.n_top_genes)
        few = len(train.genes) <= self.n_top_genes
        return FittedVariableGenes(
            genes=train.genes,
            columns=columns,
            scopes=(fit_scope("hvg/genes", train.cell_ids),),
            notes=(f"all {len(train.genes)} genes used: no more than would be chosen",) if few else (),
        )
