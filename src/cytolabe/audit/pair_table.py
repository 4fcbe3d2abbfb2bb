"""The table of pairs of cells that are copies of each other, with names to read."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Integer

from cytolabe.snapshot.cell_table import cells_at
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.view import SnapshotView

__all__ = ["PAIR_COLUMNS", "pair_table", "sorted_pairs"]

PAIR_COLUMNS = (
    "a_row", "b_row", "cell_a", "cell_b", "dataset_a", "dataset_b", "kind", "n_shared_genes", "n_shared_nonzero",
    "similarity", "dispersion",
)  # fmt: skip
"""`kind`: identical or near; `similarity`: Pearson's r of the counts on the shared genes; `dispersion`: see `audit.dispersion`."""


def pair_table(
    snapshot: SnapshotView, rows: Integer[np.ndarray, "pairs 2"], *, kind: str, n_shared_genes: int, **numbers: object
) -> pd.DataFrame:
    """Return pairs of positions with the names of their cells; `numbers` are the last three of `PAIR_COLUMNS`."""
    # The table of cells is large: cells are named by themselves, and only where there are pairs.
    named, place = np.unique(rows, return_inverse=True)
    columns = ["cell_id", "dataset_id"]
    if not len(named):
        cells = pd.DataFrame({name: np.empty(0, dtype=object) for name in columns})
    elif isinstance(snapshot, Snapshot):
        cells = cells_at(snapshot, columns, named)
    else:
        cells = snapshot.cells[columns].iloc[named]
    ids, datasets = (cells[name].to_numpy(dtype=object)[place.reshape(rows.shape)] for name in columns)
    return pd.DataFrame({
        "a_row": rows[:, 0],
        "b_row": rows[:, 1],
        "cell_a": ids[:, 0],
        "cell_b": ids[:, 1],
        "dataset_a": datasets[:, 0],
        "dataset_b": datasets[:, 1],
        "kind": np.full(len(rows), kind, dtype=object),
        "n_shared_genes": np.full(len(rows), n_shared_genes, dtype=np.int64),
        **numbers,
    }, columns=list(PAIR_COLUMNS))  # fmt: skip


def sorted_pairs(pieces: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of pairs together, in the order of their cells."""
    pieces = [piece for piece in pieces if not piece.empty] or list(pieces[:1])
    if not pieces:
        return pd.DataFrame(columns=list(PAIR_COLUMNS))
    return pd.concat(pieces, ignore_index=True).sort_values(["a_row", "b_row"], kind="stable").reset_index(drop=True)
