"""Models that answered without looking: one class for every cell, or one vector.

Such a model still has an accuracy, that of the commonest type, and probes still make classes of noise around a point. The
number is not wrong; that nothing was learned has to be said beside it.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cytolabe.evaluate.plan import FLOOR_MODELS
from cytolabe.evaluate.results import Confusion
from cytolabe.records import Finding, Severity

__all__ = ["collapse_findings", "collapse_note"]

MIN_SPREAD = 1e-6
"""Variance over mean squared length below which all cells have one vector, but for rounding."""
MIN_DIMENSIONS = 1.01
"""Effective number of dimensions (of the covariance, by participation ratio) below which an embedding is a line."""
_EXAMPLES = 5


def collapse_note(embedding: Float[np.ndarray, "cells dims"]) -> str:
    """Say how an embedding collapsed, or nothing: to a point, or of several dimensions to a line."""
    if len(embedding) < 3:
        return ""
    values = embedding.astype(np.float64)
    centered = values - values.mean(axis=0)
    length = float((values**2).sum())
    spread = float((centered**2).sum()) / length if length > 0 else 0.0
    if spread < MIN_SPREAD:
        return f"the embedding collapsed: all {len(values)} training cells have one vector, but for rounding"
    variances = np.linalg.eigvalsh(np.cov(centered, rowvar=False)) if values.shape[1] > 1 else np.ones(1)
    effective = float(variances.sum() ** 2 / (variances**2).sum())
    if values.shape[1] > 1 and effective < MIN_DIMENSIONS:
        return f"the embedding collapsed: its {values.shape[1]} dimensions hold one line"
    return ""


def collapse_findings(confusions: Sequence[Confusion]) -> tuple[Finding, ...]:
    """Report models, other than floors, that gave all cells of a fold one class where the truth has several."""
    told: dict[str, list[str]] = defaultdict(list)
    asked: dict[str, int] = defaultdict(int)
    for confusion in confusions:
        if confusion.model in FLOOR_MODELS or np.count_nonzero(confusion.matrix.sum(axis=1)) < 2:
            continue
        asked[confusion.model] += 1
        if np.count_nonzero(confusion.matrix.sum(axis=0)) == 1:
            told[confusion.model].append(_told(confusion))
    return tuple(
        Finding(
            code="W-MODEL-01",
            severity=Severity.WARNING,
            where=model,
            message=f"{model} gave every cell one class in {len(cases)} of {asked[model]} tables, where the truth has several: it "
            "looked at nothing there, and its accuracy is that of a constant",
            remedy="look at its training (epochs, rates, labels per class) and at the genes it was given; read macro-F1 beside "
            "that of the majority",
            rule="R17",
            n_affected=len(cases),
            n_total=asked[model],
            examples=tuple(cases[:_EXAMPLES]),
        )
        for model, cases in sorted(told.items())
    )


def _told(confusion: Confusion) -> str:
    named = confusion.names[int(np.flatnonzero(confusion.matrix.sum(axis=0))[0])]
    return f"{confusion.split}, {confusion.resolution}, {confusion.gene_policy}: all {named}"
