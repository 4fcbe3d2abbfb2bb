"""Harmony over training and query cells together (`fit_on_query = joint`).

Harmony is transductive: the query's cells move the clusters that correct the training cells. That is why its protocol
is named on every score, and why the harness reports how the score changes with the composition of the query (R13).
The principal components under it are fitted on training cells only. One technical batch is `dataset_id` with `batch`;
a batch key must not be nested with the label (R12), which the harness checks for every model whose card reads `batch`.

harmonypy (GPL-3) is an optional extra behind this adapter: seeded, one thread, silent. Settings are its own defaults,
with at least two clusters.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from cytolabe.errors import RefusedError
from cytolabe.models.baselines.pca import FittedPca, PcaEmbedder
from cytolabe.models.cards import CARDS
from cytolabe.models.extras import import_extra
from cytolabe.models.protocols import NOT_CONVERGED, QueryView
from cytolabe.models.scopes import BATCH_KEY, batch_levels, fit_scope, refuse_not_finite, refuse_shared_cells
from cytolabe.models.threads import single_thread
from cytolabe.randomness import derive_seed
from cytolabe.records import FitScope, ModelCard

__all__ = ["FittedHarmony", "HarmonyIntegrator", "Integration", "integrate"]

_CELLS_PER_CLUSTER = 30
_MAX_CLUSTERS = 100
_MAX_SEED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Integration:
    """What Harmony made of cells: corrected components (cells x dims), shares in clusters (cells x clusters), notes.

    A cell at the mean of the components has no direction: it stays where it is, and has no share in any cluster.
    """

    corrected: Float[np.ndarray, "cells dims"]
    shares: Float[np.ndarray, "cells clusters"]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FittedHarmony:
    """Corrected components of exactly the cells that were integrated."""

    row_of: dict[str, int]
    corrected: np.ndarray
    scopes: tuple[FitScope, ...]
    fit_notes: tuple[str, ...]
    pca: FittedPca
    batch_key: tuple[str, ...] = BATCH_KEY

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this fit."""
        return (*self.pca.notes, *self.fit_notes)

    def embed(self, view: QueryView) -> Float[np.ndarray, "cells dims"]:
        """Return the corrected components of cells that were integrated.

        Raises
        ------
        RefusedError
            If a cell was in neither view of the fit: Harmony has no answer for it.
        """
        missing = [cell_id for cell_id in view.cell_ids.tolist() if cell_id not in self.row_of]
        if missing:
            msg = (
                f"{len(missing)} of {len(view.cell_ids)} cells were not integrated: {', '.join(missing[:3])}. Harmony "
                "only answers for the train and query views it was fitted on; fit it with these cells as the query."
            )
            raise RefusedError(msg)
        return np.asarray(self.corrected[[self.row_of[cell_id] for cell_id in view.cell_ids.tolist()]])


@dataclass(frozen=True, kw_only=True)
class HarmonyIntegrator:
    """Integrator that mixes batches of training and query cells in PCA space."""

    n_dims: int = 50
    n_top_genes: int = 2000
    max_iterations: int = 10
    batch_key: tuple[str, ...] = field(default=BATCH_KEY, init=False)
    card: ModelCard = field(default=CARDS["harmony"], init=False)

    def integrate(self, train: QueryView, *, query: QueryView | None, seed: int) -> FittedHarmony:
        """Integrate the training cells with the query cells.

        Raises
        ------
        RefusedError
            If all cells are of one batch: there is nothing to correct.
        LeakageError
            If a cell is in both views.
        ModelFailedError
            If the correction is not finite.
        """
        views = [train] if query is None else [train, query]
        if query is not None:
            refuse_shared_cells(train, query)
        batches = np.concatenate([batch_levels(view.technical) for view in views])
        pca = PcaEmbedder(n_dims=self.n_dims, n_top_genes=self.n_top_genes).fit(train, query=None, seed=seed)
        components = np.concatenate([pca.embed(view) for view in views])
        integration = integrate(components, batches, max_iterations=self.max_iterations, seed=seed)
        cell_ids = np.concatenate([view.cell_ids for view in views]).tolist()
        return FittedHarmony(
            row_of={cell_id: row for row, cell_id in enumerate(cell_ids)},
            corrected=integration.corrected,
            scopes=(*pca.scopes, fit_scope("harmony", cell_ids)),
            fit_notes=integration.notes,
            pca=pca,
        )


def integrate(
    components: Float[np.ndarray, "cells dims"], batches: np.ndarray, *, max_iterations: int, seed: int
) -> Integration:
    """Run Harmony on the cells that have a direction.

    Parameters
    ----------
    batches
        The batch of each cell.
    max_iterations
        Rounds of clustering and correcting at most; a run that uses all of them has not converged, and its notes say so.

    Raises
    ------
    RefusedError
        If all cells are of one batch: there is nothing to correct.
    ModelFailedError
        If the correction is not finite.
    """
    if len(set(batches.tolist())) < 2:
        msg = (
            f"Harmony corrects between batches, and all {batches.size} cells are of one batch ({batches[0]}). "
            "The components without correction are the model `pca`."
        )
        raise RefusedError(msg)
    harmonypy = import_extra("harmonypy")
    placed = np.linalg.norm(components, axis=1) > 0
    n_clusters = max(2, min(round(int(placed.sum()) / _CELLS_PER_CLUSTER), _MAX_CLUSTERS))
    with single_thread():
        result = harmonypy.run_harmony(
            components[placed],
            pd.DataFrame({"batch": batches[placed]}),
            ["batch"],
            nclust=n_clusters,
            max_iter_harmony=max_iterations,
            verbose=False,
            random_state=derive_seed(seed, "models", "harmony") % _MAX_SEED,
            ncores=1,
        )
    corrected = components.copy()
    corrected[placed] = np.asarray(result.Z_corr, dtype=np.float64)
    refuse_not_finite(corrected, model="Harmony")
    shares = np.zeros((len(components), n_clusters))
    shares[placed] = np.asarray(result.R, dtype=np.float64)
    is_cut_off = len(result.objective_harmony) - 1 >= max_iterations
    notes = (f"{NOT_CONVERGED}: harmony used all {max_iterations} rounds",) if is_cut_off else ()
    return Integration(corrected=corrected, shares=shares, notes=notes)
