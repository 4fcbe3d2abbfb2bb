"""AnnData out: raw counts as floats, cells under their CELLxGENE names, and in `uns` what they were taken from."""

from collections.abc import Sequence

import anndata
import numpy as np
import pandas as pd

from cytolabe.snapshot.selection import EXACT_FLOAT32, provenance_of, shared_genes, simulated_mark
from cytolabe.snapshot.view import SnapshotView

__all__ = ["to_anndata"]


def to_anndata(
    snapshot: SnapshotView, rows: np.ndarray | None = None, genes: Sequence[str] | None = None
) -> anndata.AnnData:
    """Return cells as AnnData, indexed by cell id, genes in the order given.

    Parameters
    ----------
    snapshot
        Where the cells come from.
    rows
        Positions in `snapshot.cells`, all without it.
    genes
        Reference genes; without them the sorted genes that every data set among the rows measures.

    Notes
    -----
    Counts are float32, which is what tools expect, and float64 where a count above 2^24 would lose its last digit.
    """
    chosen = np.arange(len(snapshot.cells)) if rows is None else rows
    cells = snapshot.cells.iloc[chosen]
    names = shared_genes(snapshot, sorted(cells["dataset_id"].unique())) if genes is None else list(genes)
    counts = snapshot.counts(chosen, names)
    policy = "intersection" if genes is None else "as given"
    is_wide = counts.nnz > 0 and int(counts.data.max()) > EXACT_FLOAT32
    return anndata.AnnData(
        X=counts.astype(np.float64 if is_wide else np.float32),
        obs=cells.set_index("cell_id"),
        var=pd.DataFrame(index=pd.Index(names, name="gene_id")),
        uns={**provenance_of(snapshot, gene_policy=policy), **simulated_mark(snapshot, cells)},
    )
