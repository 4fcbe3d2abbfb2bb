"""Which cells a step was handed: the small words that every model here shares.

A `FitScope` names the cells that a step was *handed*, which is never less than what it used: a cell without counts
or without a label is in the digest although it moved nothing. The audit compares digests, so a step that was given
one cell more than the train side cannot hide it.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Integer
from scipy.sparse import csr_matrix

from cytolabe.errors import LeakageError, ModelFailedError, RefusedError, UnmeasuredGeneError
from cytolabe.models.protocols import QueryView
from cytolabe.provenance import cells_digest
from cytolabe.records import FitScope

__all__ = [
    "BATCH_KEY",
    "NO_CELLS",
    "batch_levels",
    "columns_among",
    "fit_scope",
    "has_counts",
    "refuse_not_finite",
    "refuse_other_genes",
    "refuse_shared_cells",
    "refuse_too_few_cells",
    "refuse_unseen_batches",
]

BATCH_KEY = ("dataset_id", "batch")
"""The columns whose combination is one technical batch: batch names are only unique inside a data set."""


def fit_scope(step: str, cell_ids: Iterable[str]) -> FitScope:
    """Return the scope of a step that was handed these cells."""
    distinct = sorted(set(cell_ids))
    return FitScope(step=step, cells_digest=cells_digest(distinct), n_cells=len(distinct))


NO_CELLS = fit_scope("none", ())
"""What a network is handed that is asked of itself, or of cells that teach it nothing."""


def batch_levels(technical: pd.DataFrame) -> np.ndarray:
    """Return one batch name per cell, `<dataset_id>|<batch>`, as an array of text."""
    dataset_id, batch = (technical[column].astype(str) for column in BATCH_KEY)
    return np.asarray((dataset_id + "|" + batch).to_numpy(), dtype=object)


def has_counts(counts: csr_matrix) -> Bool[np.ndarray, " cells"]:
    """Return which cells have at least one count. The others have no composition, whatever a model makes of them."""
    return np.asarray(counts.sum(axis=1)).ravel() > 0


def refuse_not_finite(embedding: Float[np.ndarray, "cells dims"], *, model: str) -> None:
    """Raise if an embedding has a value that is not finite.

    Raises
    ------
    ModelFailedError
        If a cell has one.
    """
    n_bad = int((~np.isfinite(embedding)).any(axis=1).sum())
    if n_bad:
        msg = f"{model} gave values that are not finite for {n_bad} of {len(embedding)} cells."
        raise ModelFailedError(msg)


def refuse_other_genes(view: QueryView, genes: tuple[str, ...]) -> None:
    """Raise unless a view has exactly the genes of the fit, in their order.

    Raises
    ------
    UnmeasuredGeneError
        If a gene is missing, added or moved. A missing gene is unmeasured, and a model must not read it as zero.
    """
    if view.genes == genes:
        return
    given = set(view.genes)
    missing = [gene for gene in genes if gene not in given]
    n_extra = len(given.difference(genes))
    msg = (
        f"The view has {len(view.genes)} genes where the fit has {len(genes)}: {len(missing)} missing "
        f"({', '.join(missing[:5])}), {n_extra} more, or another order. An unmeasured gene is not a zero. "
        "Make both views over the genes of one gene space."
    )
    raise UnmeasuredGeneError(msg)


def columns_among(genes: Sequence[str], read: Sequence[str]) -> Integer[np.ndarray, " read"]:
    """Return where among `genes` those stand that a model reads, in its order.

    Raises
    ------
    UnmeasuredGeneError
        If one is not there: what was not measured is not zero.
    """
    place = {gene: column for column, gene in enumerate(genes)}
    missing = [gene for gene in read if gene not in place]
    if missing:
        msg = (
            f"{len(missing)} of {len(read)} genes that the model reads were not measured here: {', '.join(missing[:5])}. An unmeasured gene "
            "is not a zero. Train on the genes that both measure, or take cells with all of them."
        )
        raise UnmeasuredGeneError(msg)
    return np.array([place[gene] for gene in read], dtype=np.int64)


def refuse_shared_cells(train: QueryView, query: QueryView) -> None:
    """Raise if a cell is in both views.

    Raises
    ------
    LeakageError
        If one is: its embedding would be fitted and tested at once.
    """
    shared = sorted(set(train.cell_ids.tolist()) & set(query.cell_ids.tolist()))
    if shared:
        msg = (
            f"{len(shared)} cell(s) are in the train view and in the query view: {', '.join(shared[:5])}. "
            "A score on them would measure memory. Make the query view from the held-out rows only."
        )
        raise LeakageError(msg)


def refuse_too_few_cells(n_cells: int, *, least: int, model: str) -> None:
    """Raise if a fit has fewer cells with counts than it can be fitted on.

    Raises
    ------
    RefusedError
        If `n_cells` is smaller than `least`.
    """
    if n_cells < least:
        msg = (
            f"{model} has {n_cells} training cell(s) with counts in these genes and needs at least {least}. "
            "Choose a wider gene space or more training data sets."
        )
        raise RefusedError(msg)


def refuse_unseen_batches(batches: np.ndarray, known: Iterable[str], *, model: str) -> None:
    """Refuse cells of a batch that a fit with weights per batch never met.

    Raises
    ------
    RefusedError
        If there is such a batch.
    """
    unseen = sorted(set(batches.tolist()).difference(known))
    if unseen:
        msg = (
            f"{len(unseen)} batch(es) were in neither view of the fit: {', '.join(unseen[:3])}. {model} has no weights "
            "for them; give these cells as the query of `fit`, so that they are mapped."
        )
        raise RefusedError(msg)
