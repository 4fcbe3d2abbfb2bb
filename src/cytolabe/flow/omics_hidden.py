"""What a held-out library tells: which floors stand beside a model, and what qualifies the comparison.

Floors are a ridge regression of what is asked on principal components of log-normalized RNA, and the mean of the training cells.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k
from cytolabe.errors import RefusedError
from cytolabe.models.omics import OmicsCells
from cytolabe.models.threads import single_thread
from cytolabe.models.totalvi import RNA
from cytolabe.records import UNKNOWN

__all__ = ["across", "correlation", "counted_rows", "regression"]

_N_COMPONENTS, _RIDGE = 30, 10.0
_LEAST_GENES = 100
"""Genes with counts from which equal cells are no chance (rule R9)."""


def across(train: OmicsCells, held: OmicsCells, *, fit_on_query: str) -> tuple[dict[str, Any], list[str]]:
    """Count what both sides share, and say what qualifies the comparison of a held-out library."""
    if not len(held.cell_ids):
        return {"fit_on_query": None, "status": None, "n_shared_persons": None, "n_shared_cells": None}, []
    sides = [set(one.persons.tolist()) - {UNKNOWN} for one in (train, held)]
    is_known = bool(sides[0] and sides[1]) and not (UNKNOWN in train.persons or UNKNOWN in held.persons)
    n_persons, n_cells = len(sides[0] & sides[1]), len(_contents(train) & _contents(held))
    fitted = "" if fit_on_query == "none" else "; weights of its batch are fitted on its RNA"
    doubts = [f"QUALIFIED: one seed and one library, so no interval{fitted}"]
    if not is_known:
        doubts.append("QUALIFIED: persons unknown, so one may be on both sides; give --person")
    if n_persons:
        doubts.append(
            f"QUALIFIED: {n_persons} of its {len(sides[1])} persons trained the model: this is a library held out, not a person"
        )
    if n_cells:
        doubts.append(f"QUALIFIED: {n_cells} cells have the RNA of a training cell, count for count")
    told = {"fit_on_query": fit_on_query, "status": "QUALIFIED", "n_shared_persons": n_persons if is_known else None}
    return {**told, "n_shared_cells": n_cells}, doubts


def counted_rows(held: OmicsCells, columns: np.ndarray) -> np.ndarray:
    """Return the rows of a held-out library that have a count of RNA in some genes.

    Raises
    ------
    RefusedError
        If none has.
    """
    rows = np.flatnonzero(np.asarray(held.modalities[RNA].counts[:, columns].sum(axis=1)).ravel() > 0)
    if not len(rows):
        msg = f"None of the {len(held.cell_ids)} cells of the held-out library has a count of RNA in the genes of the model: nothing can be expected of them."
        raise RefusedError(msg)
    return rows


def regression(
    train: OmicsCells, asked: OmicsCells, known: Float[np.ndarray, "cells proteins"]
) -> Float[np.ndarray, "asked proteins"]:
    """Expect what is `known` of the training cells of others, 0 or more, by ridge regression on components of their RNA."""
    from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415 - slow to import
    from sklearn.linear_model import Ridge  # noqa: PLC0415

    rna, of_asked = (log1p_cp10k(csr_matrix(one.modalities[RNA].counts)) for one in (train, asked))
    n_components = min(_N_COMPONENTS, min(rna.shape) - 1)
    with single_thread():
        components = TruncatedSVD(n_components, random_state=0).fit(rna)
        model = Ridge(_RIDGE).fit(components.transform(rna), known)
        found = np.asarray(model.predict(components.transform(of_asked)), dtype=np.float64)
    return np.asarray(np.maximum(found.reshape(len(asked.cell_ids), -1), 0.0))


def correlation(found: np.ndarray, truth: np.ndarray) -> float | None:
    """Return Pearson's correlation; None where one of the two does not vary."""
    if np.ptp(found) == 0 or np.ptp(truth) == 0:
        return None
    return float(np.corrcoef(found, truth)[0, 1])


def _contents(cells: OmicsCells) -> set[bytes]:
    """Return the counts of RNA of each cell with 100 genes or more, as bytes to compare."""
    counts = csr_matrix(cells.modalities[RNA].counts)
    counts.sum_duplicates()
    return {
        counts.indices[a:b].tobytes() + counts.data[a:b].tobytes()
        for a, b in pairwise(counts.indptr.tolist())
        if b - a >= _LEAST_GENES
    }
