"""An integration batch key may not be nested with the label (rule R12): correcting for it would remove the biology.

Two cases. Inside a data set where every batch holds one type (a sort gate per library), the data set takes the place
of its batches, for every model and both sides, and the scores say so. Where even then every batch of the training
cells holds one type, because each lab delivered another, no key is left: models that integrate are refused.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Integer

__all__ = ["merged_batches", "nested_batches", "why_nested"]


def nested_batches(
    cells: pd.DataFrame, terms: np.ndarray, rows: Integer[np.ndarray, " rows"]
) -> dict[str, tuple[int, int]]:
    """Return the data sets whose batches are nested with the label: data set -> (batches, classes).

    A batch key is nested where a data set has several batches and several classes and every batch holds one class.
    """
    table = cells.iloc[rows][["dataset_id", "batch"]].assign(term=terms[rows])
    found = {}
    for dataset_id, part in table[table["term"] != ""].groupby("dataset_id", sort=True):
        n_classes = part["term"].nunique()
        per_batch = part.groupby("batch", sort=True)["term"].nunique()
        if n_classes > 1 and len(per_batch) > 1 and bool((per_batch == 1).all()):
            found[str(dataset_id)] = (len(per_batch), n_classes)
    return found


def merged_batches(cells: pd.DataFrame, levels: Sequence[np.ndarray]) -> dict[str, tuple[int, int]]:
    """Return the data sets that take the place of their batches: those nested at any level.

    A key that holds one lineage per batch is as confounded as one that holds one subtype, and fits are shared by the
    levels.
    """
    everywhere = np.arange(len(cells))
    found: dict[str, tuple[int, int]] = {}
    for terms in levels:
        found = {**nested_batches(cells, terms, everywhere), **found}
    return dict(sorted(found.items()))


def why_nested(
    cells: pd.DataFrame, terms: np.ndarray, rows: Integer[np.ndarray, " rows"], *, merged: frozenset[str]
) -> str:
    """Say that every batch of the labelled training cells holds one type; an empty text if that is not so.

    Parameters
    ----------
    terms
        Label at the level, one per cell of the snapshot, empty where it does not count.
    rows
        Training cells of one fit.
    merged
        Data sets that take the place of their batches.
    """
    labelled = rows[terms[rows] != ""]
    part = cells.iloc[labelled]
    batch = part["batch"].where(~part["dataset_id"].isin(sorted(merged)), part["dataset_id"])
    keys = (part["dataset_id"] + "|" + batch).to_numpy(dtype=object)
    pairs = set(zip(keys.tolist(), terms[labelled].tolist(), strict=True))
    n_batches, n_classes = len({key for key, _ in pairs}), len({term for _, term in pairs})
    if n_batches < 2 or n_classes < 2 or len(pairs) > n_batches:
        return ""
    return f"each of {n_batches} training batches holds one type: correcting for them would remove the types (R12)"
