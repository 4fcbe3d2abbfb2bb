"""Defects that labs really deliver, planted on purpose. Each must be caught, or the tool that should catch it is broken.

A `PlantedFault` names the codes of the findings that must appear; the functions here make the damaged matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.encode.normalize import CP10K_TARGET, log1p_cp10k

__all__ = [
    "N_DUPLICATES",
    "PlantedFault",
    "ceil_cp10k",
    "composite_names",
    "duplicable_rows",
    "log_normalized",
]

N_DUPLICATES = 40
MIN_SHARED_COUNTS = 300
MIN_SHARED_GENES = 100
"""Below these an identical pair cannot be told from chance (rule R9)."""


@dataclass(frozen=True, kw_only=True)
class PlantedFault:
    """One defect: where it was put, and the finding codes of which each must be reported."""

    name: str
    title: str
    dataset_ids: tuple[str, ...]
    expected_codes: tuple[str, ...]
    detail: str


def log_normalized(counts: csr_matrix) -> csr_matrix:
    """Return log(1 + CP10K), float32: what a lab delivers when it saved the wrong layer."""
    return log1p_cp10k(counts)


def ceil_cp10k(counts: csr_matrix) -> csr_matrix:
    """Return CP10K rounded up: whole numbers that are no counts, and pass a test for integers."""
    scaled = log1p_cp10k(counts).astype(np.float64)
    # Rounding error of log and exp must not lift an exact whole number to the next one.
    scaled.data = np.ceil(np.expm1(scaled.data) - CP10K_TARGET * 1e-9)
    return csr_matrix(scaled, dtype=np.int64)


def duplicable_rows(counts: csr_matrix, shared: np.ndarray) -> np.ndarray:
    """Return rows that hold enough on the shared genes for a copy of them to be recognized.

    Parameters
    ----------
    counts
        Cells x genes of the file that is copied from.
    shared
        Columns that the copying file has as well.
    """
    kept = csr_matrix(counts[:, shared])
    totals = np.asarray(kept.sum(axis=1)).ravel()
    detected = np.diff(kept.indptr)
    return np.flatnonzero((totals >= 1.2 * MIN_SHARED_COUNTS) & (detected >= 1.2 * MIN_SHARED_GENES))


def composite_names(symbols: Sequence[str], gene_ids: Sequence[str], *, rows: np.ndarray) -> list[str]:
    """Return the symbols with the chosen ones written `SYMBOL_ENSG...`."""
    chosen = set(rows.tolist())
    pairs = zip(symbols, gene_ids, strict=True)
    return [f"{symbol}_{gene_id}" if row in chosen else symbol for row, (symbol, gene_id) in enumerate(pairs)]
