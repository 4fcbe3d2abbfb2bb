"""Embeddings that hold nothing: all cells in one point, or, of several dimensions, on one line.

Probes still make classes of the noise around a point, and a score of them is not wrong; that nothing was learned has to be said beside it.
"""

import numpy as np
from jaxtyping import Float

__all__ = ["COLLAPSED", "MAX_CELLS", "collapse_note"]

COLLAPSED = "the embedding collapsed"
"""How a note of it begins."""

MAX_CELLS = 20_000
"""Cells that are enough to see it, where there are more."""

MIN_SPREAD = 1e-6
"""Variance over mean squared length below which all cells have one vector, but for rounding."""
MIN_DIMENSIONS = 1.01
"""Effective number of dimensions (of the covariance, by participation ratio) below which an embedding is a line."""


def collapse_note(embedding: Float[np.ndarray, "cells dims"]) -> str:
    """Say how an embedding collapsed, or nothing: to a point, or of several dimensions to a line."""
    if len(embedding) < 3:
        return ""
    values = embedding.astype(np.float64)
    centered = values - values.mean(axis=0)
    length = float((values**2).sum())
    spread = float((centered**2).sum()) / length if length > 0 else 0.0
    if spread < MIN_SPREAD:
        return f"{COLLAPSED}: all {len(values)} cells looked at have one vector, but for rounding"
    variances = np.linalg.eigvalsh(np.cov(centered, rowvar=False)) if values.shape[1] > 1 else np.ones(1)
    effective = float(variances.sum() ** 2 / (variances**2).sum())
    if values.shape[1] > 1 and effective < MIN_DIMENSIONS:
        return f"{COLLAPSED}: its {values.shape[1]} dimensions hold one line"
    return ""
