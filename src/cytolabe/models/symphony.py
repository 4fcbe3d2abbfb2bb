"""Symphony: a query is mapped onto a Harmony reference of the training cells, which it does not move.

The reference is Harmony on the training cells alone, kept as sums: how many cells each soft cluster has (N), and the sum
of their corrected components (C). A query is projected with the means, deviations and loadings of the training cells,
takes shares in the clusters by its cosine to their centers, and loses what its own batches add in each cluster:

    (Phi R_k Phi' + N_k in the intercept + ridge) W_k = Phi R_k Z + C_k in the intercept;    Z - sum_k R_k Phi W_k

where the intercept stands for the reference and stays. What is fitted on the unlabelled query are the W of its batches
(`fit_on_query = unlabelled_query`); other cells of the same batches can be embedded without fitting again.

Kang et al. 2021, doi:10.1038/s41467-021-25957-x. Training cells are where Harmony put them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from cytolabe.errors import RefusedError
from cytolabe.models.baselines.pca import FittedPca, PcaEmbedder
from cytolabe.models.cards import CARDS
from cytolabe.models.harmony import integrate
from cytolabe.models.protocols import QueryView, TrainView
from cytolabe.models.scopes import BATCH_KEY, batch_levels, fit_scope, refuse_other_genes, refuse_shared_cells
from cytolabe.models.threads import single_thread
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedSymphony", "Reference", "SymphonyEmbedder", "batch_effects", "cluster_shares"]

_BANDWIDTH = 0.1
_RIDGE = 1.0


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Harmony's clusters of the reference: cells in each, sums of their corrected components, centers of length 1."""

    sizes: Float[np.ndarray, " clusters"]
    sums: Float[np.ndarray, "clusters dims"]

    @property
    def centers(self) -> Float[np.ndarray, "clusters dims"]:
        """Directions of the clusters."""
        return _directions(self.sums)


@dataclass(frozen=True, kw_only=True)
class FittedSymphony:
    """A reference, where its cells are, and what the batches of mapped queries add in each cluster."""

    pca: FittedPca
    reference: Reference
    row_of: Mapping[str, int]
    corrected: np.ndarray
    effects: Mapping[str, np.ndarray]
    scopes: tuple[FitScope, ...]
    fit_notes: tuple[str, ...]
    batch_key: tuple[str, ...] = BATCH_KEY

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit and of the views that it embedded."""
        return (*self.pca.notes, *self.fit_notes)

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return training cells where Harmony put them, and other cells without what their batch adds.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        RefusedError
            If a cell is none of the training cells, and its batch was not mapped.
        """
        embedding = self.pca.embed(view)
        rows = np.array([self.row_of.get(cell_id, -1) for cell_id in view.cell_ids.tolist()], dtype=np.int64)
        is_new = rows < 0
        embedding[~is_new] = self.corrected[rows[~is_new]]
        batches = batch_levels(view.technical)
        unmapped = sorted(set(batches[is_new].tolist()).difference(self.effects))
        if unmapped:
            msg = (
                f"{len(unmapped)} batch(es) were not mapped: {', '.join(unmapped[:3])}. Symphony corrects a cell by what "
                "its batch adds; give these cells as the query of `fit`."
            )
            raise RefusedError(msg)
        for batch in sorted(set(batches[is_new].tolist())):
            own = is_new & (batches == batch)
            shares = cluster_shares(embedding[own], self.reference.centers)
            embedding[own] -= shares @ self.effects[batch]
        return embedding


@dataclass(frozen=True, kw_only=True)
class SymphonyEmbedder:
    """Embedder by mapping onto a Harmony reference of the training cells."""

    n_dims: int = 50
    n_top_genes: int = 2000
    max_iterations: int = 10
    batch_key: tuple[str, ...] = field(default=BATCH_KEY, init=False)
    card: ModelCard = field(default=CARDS["symphony"], init=False)

    def fit(self, train: TrainView, *, query: QueryView | None, seed: int) -> FittedSymphony:
        """Integrate the training cells, then map the query; labels and persons are not read.

        Raises
        ------
        RefusedError
            If all training cells are of one batch: Harmony has nothing to correct.
        LeakageError
            If a cell is in both views.
        ModelFailedError
            If the correction is not finite.
        """
        if query is not None:
            refuse_shared_cells(train, query)
        pca = PcaEmbedder(n_dims=self.n_dims, n_top_genes=self.n_top_genes).fit(train, query=None, seed=seed)
        batches = batch_levels(train.technical)
        found = integrate(pca.embed(train), batches, max_iterations=self.max_iterations, seed=seed)
        with single_thread():
            reference = Reference(sizes=found.shares.sum(axis=0), sums=found.shares.T @ found.corrected)
        fitted = FittedSymphony(
            pca=pca,
            reference=reference,
            row_of={cell_id: row for row, cell_id in enumerate(train.cell_ids.tolist())},
            corrected=found.corrected,
            effects={},
            scopes=(*pca.scopes, fit_scope("symphony/reference", train.cell_ids)),
            fit_notes=found.notes,
        )
        return fitted if query is None else self.map_query(fitted, query, seed=seed)

    def map_query(self, fitted: FittedSymphony, query: QueryView, *, seed: int) -> FittedSymphony:  # noqa: ARG002 - nothing is drawn
        """Fit what the batches of an unlabelled query add in each cluster of the reference.

        Raises
        ------
        UnmeasuredGeneError
            If the query has other genes than the fit.
        """
        refuse_other_genes(query, fitted.pca.genes)
        batches = batch_levels(query.technical)
        effects = batch_effects(fitted.pca.embed(query), batches, fitted.reference)
        scope = fit_scope("symphony/query", query.cell_ids)
        return replace(fitted, effects={**fitted.effects, **effects}, scopes=(*fitted.scopes, scope))


def cluster_shares(
    components: Float[np.ndarray, "cells dims"], centers: Float[np.ndarray, "clusters dims"]
) -> Float[np.ndarray, "cells clusters"]:
    """Return the share that each cell has in each cluster, by its cosine to the centers; rows sum to 1.

    A cell at the mean of the components has no direction, and no share in any cluster.
    """
    distance = 2 * (1 - _directions(components) @ centers.T) / _BANDWIDTH
    weight = np.exp(distance.min(axis=1, keepdims=True) - distance)
    shares = weight / weight.sum(axis=1, keepdims=True)
    shares[np.linalg.norm(components, axis=1) == 0] = 0
    return np.asarray(shares)


def batch_effects(
    components: Float[np.ndarray, "cells dims"], batches: np.ndarray, reference: Reference
) -> dict[str, Float[np.ndarray, "clusters dims"]]:
    """Return what each batch of a query adds to the components of its cells in each cluster.

    Parameters
    ----------
    components
        Cells of the query on the components of the training cells.
    batches
        The batch of each cell.
    """
    names, codes = np.unique(batches.astype(str), return_inverse=True)
    n_batches = len(names)
    of_batch = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    with single_thread():
        shares = cluster_shares(components, reference.centers)
        sizes = np.stack([shares[rows].sum(axis=0) for rows in of_batch], axis=1)
        sums = np.stack([shares[rows].T @ components[rows] for rows in of_batch], axis=1)
        # One system per cluster: the intercept, in which the reference takes part, and a shift of each batch.
        left = np.zeros((len(sizes), n_batches + 1, n_batches + 1))
        n_cells = reference.sizes + sizes.sum(axis=1)
        # A cluster without cells has no equation for its intercept, and no cell that would be moved by it.
        left[:, 0, 0] = np.where(n_cells > 0, n_cells, 1.0)
        left[:, 0, 1:] = left[:, 1:, 0] = sizes
        own = np.arange(1, n_batches + 1)
        left[:, own, own] = sizes + _RIDGE
        right = np.empty((len(sizes), n_batches + 1, components.shape[1]))
        right[:, 0] = reference.sums + sums.sum(axis=1)
        right[:, 1:] = sums
        shifts = np.linalg.solve(left, right)[:, 1:]
    return {name: shifts[:, number] for number, name in enumerate(names.tolist())}


def _directions(rows: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1; one of length 0 stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))
