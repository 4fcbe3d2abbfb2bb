"""How far an embedding of several measurements mixes libraries and keeps what the cells were called, between controls.

The metrics and controls are those of a study (`evaluate.integration`): components of log-normalized RNA without any correction
(`none`), the same with the cells exchanged (`shuffled`), and the labels themselves (`cell types`). Libraries are told in any case; types, and
libraries inside types, where a column of labels is named, on the cells that have one. The model was trained on the cells that are measured here, from one
seed: every number is `QUALIFIED`. Where every library holds one type, mixing them would be no merit and the numbers are refused (rule R12).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy.sparse import csr_matrix

from cytolabe.encode import log1p_cp10k
from cytolabe.evaluate.integration import CONTROL, INTEGRATION_METRICS, MOST_CELLS, measured
from cytolabe.metrics.integration import batch_variance, ilisi, variance_removed
from cytolabe.models.threads import single_thread
from cytolabe.randomness import rng_for
from cytolabe.records import Protocol

__all__ = ["Embedded", "integration_of"]

_N_COMPONENTS = 30
_JITTER = 0.01
_LEAST_CELLS = 3


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """An embedding of the cells under a name, by which protocol it came to be, and the digest of its weights where it has any."""

    name: str
    protocol: Protocol
    values: Float[np.ndarray, "cells dims"]
    weights: str | None = None


def integration_of(
    embedded: tuple[Embedded, ...],
    rna: csr_matrix,
    *,
    batches: Shaped[np.ndarray, " cells"],
    labels: Shaped[np.ndarray, " cells"],
    seed: int,
) -> dict[str, Any]:
    """Return the metrics of each control and embedding, with what qualifies them or why there are none.

    Parameters
    ----------
    rna
        Raw counts of the same cells, each with one at least: what the controls are made of.
    labels
        What each cell was called, empty where it has no label; all empty where no column was named.
    """
    has_labels = bool((labels != "").any())
    rows = np.flatnonzero(labels != "") if has_labels else np.arange(len(batches))
    if len(rows) > MOST_CELLS:
        rng = rng_for(seed, "omics", "integration", "cells")
        rows = np.sort(rng.choice(rows, MOST_CELLS, replace=False))
    types = labels[rows].astype(str)
    names = batches[rows].astype(str)
    told: dict[str, Any] = {
        "n_cells": len(rows),
        "n_batches": len(set(names.tolist())),
        "n_types": len(set(types.tolist())) if has_labels else None,
    }
    status, reason = _status(names, types if has_labels else None)
    if status == "NOT_RUN":
        return {**told, "status": status, "reason": reason, "rows": []}
    controls = _controls(csr_matrix(rna[rows]), types if has_labels else None, seed=seed)
    before = batch_variance(controls["none"], names)
    found = [
        *(Embedded(name=f"{CONTROL}{name}", protocol=Protocol.CONTROL, values=one) for name, one in controls.items()),
        *(replace(one, values=one.values[rows]) for one in embedded),
    ]
    told |= {"status": status, "reason": reason}
    return {
        **told,
        "rows": [
            _row(
                one, _values(one.values, names, types if has_labels else None, seed=seed, before=before), status=status
            )
            for one in found
        ],
    }


def _status(batches: np.ndarray, types: np.ndarray | None) -> tuple[str, str]:
    if len(batches) < _LEAST_CELLS or len(set(batches.tolist())) < 2:
        return "NOT_RUN", "not_applicable: the cells are of one library; name the libraries with --batch"
    if types is None:
        return (
            "QUALIFIED",
            "no labels (--label): libraries alone are told, whatever the types; trained on these cells, single seed",
        )
    pairs = set(zip(batches.tolist(), types.tolist(), strict=True))
    if len(set(types.tolist())) < 2:
        return "NOT_RUN", "not_applicable: all labelled cells are of one type"
    if len(pairs) == len(set(batches.tolist())):
        return "REFUSED", "each library holds one type: mixing them would remove the types (R12)"
    return "QUALIFIED", "labels as delivered; trained on these cells, single seed"


def _controls(rna: csr_matrix, types: np.ndarray | None, *, seed: int) -> dict[str, np.ndarray]:
    from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415 - slow to import

    values = log1p_cp10k(rna)
    with single_thread():
        plain = TruncatedSVD(min(_N_COMPONENTS, min(values.shape) - 1), random_state=0).fit_transform(values)
    rng = rng_for(seed, "omics", "integration", "controls")
    found = {"none": plain, "shuffled": plain[rng.permutation(len(plain))]}
    if types is not None:
        codes = np.unique(types, return_inverse=True)[1]
        # Equal vectors have no nearest neighbors: a little noise decides among them.
        found["cell types"] = np.eye(int(codes.max()) + 1)[codes] + rng.normal(
            0, _JITTER, (len(codes), int(codes.max()) + 1)
        )
    return found


def _values(
    embedding: np.ndarray, batches: np.ndarray, types: np.ndarray | None, *, seed: int, before: float
) -> Mapping[str, float]:
    if types is not None:
        return measured(embedding, types, batches, seed=seed, before=before)
    with single_thread():
        variance = batch_variance(embedding, batches)
        found = {"ilisi": ilisi(embedding, batches), "pcr_batch": variance}
    return {
        name: value
        for name, value in {**found, "pcr_comparison": variance_removed(before, variance)}.items()
        if value is not None
    }


def _row(one: Embedded, values: Mapping[str, float], *, status: str) -> dict[str, Any]:
    """Return a row; numbers that are refused stand as `raw`, outside of what is read as a result."""
    is_refused = status == "REFUSED"
    told = {name: values.get(name) for name in INTEGRATION_METRICS}
    empty: dict[str, float | None] = dict.fromkeys(INTEGRATION_METRICS)
    return {
        "name": one.name, "protocol": one.protocol.value, "weights": one.weights, **(empty if is_refused else told),
        **({"raw": told} if is_refused else {}),
    }  # fmt: skip
