"""What a model is told of cells, read for those cells: an atlas of any size has no table of all of them in memory.

A snapshot of a store reads the columns of a data set as codes and keeps what was asked; one in memory has its table.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cytolabe.provenance import sorted_cells_digest
from cytolabe.records import FitScope
from cytolabe.snapshot.cell_table import cells_at
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.view import SnapshotView

__all__ = ["handed_cells", "known_cells"]

_BLOCK_CELLS = 65_536


def known_cells(snapshot: SnapshotView, columns: Sequence[str], rows: np.ndarray) -> pd.DataFrame:
    """Return columns of `snapshot.cells` at positions, in the order given, as words."""
    if isinstance(snapshot, Snapshot):
        return cells_at(snapshot, columns, rows)
    return snapshot.cells[list(columns)].iloc[rows].reset_index(drop=True)


def handed_cells(snapshot: SnapshotView, rows: np.ndarray) -> FitScope:
    """Return which cells are handed to a model, by the digest over their ids; some 60 bytes a cell are held.

    A cell that is given twice counts once.
    """
    distinct = np.unique(rows)
    blocks = (distinct[start : start + _BLOCK_CELLS] for start in range(0, len(distinct), _BLOCK_CELLS))
    ids = pa.chunked_array(
        [pa.array(known_cells(snapshot, ["cell_id"], block)["cell_id"], pa.large_string()) for block in blocks],
        pa.large_string(),
    )
    return FitScope(step="handed", cells_digest=sorted_cells_digest(_ascending(ids)), n_cells=len(distinct))


def _ascending(ids: pa.ChunkedArray) -> Iterator[str]:
    """Yield ids as Python sorts them: Arrow compares UTF-8, whose bytes are in the order of code points."""
    order = pc.sort_indices(ids)
    for start in range(0, len(order), _BLOCK_CELLS):
        yield from ids.take(order[start : start + _BLOCK_CELLS]).to_pylist()
