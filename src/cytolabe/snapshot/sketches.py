"""The table of sketches of a data set: written from its counts as they stream by, read without them.

Columns: `hash` (uint64), `n_genes` and `n_counts` over the genes of the alignment, and `entry_00` to `entry_31` as
`encode.sketches` makes them (-1: none). Few genes are kept of any cell, so words of the dictionaries of Parquet stand for
most entries. The table follows from counts and alignment: it enters no id, and an entry of an older version has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt64
from scipy.sparse import csr_matrix

from cytolabe.encode.sketches import SKETCH_GENES, sketch_cells
from cytolabe.errors import IntegrityError
from cytolabe.files import Place, read_verified
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.store.partitions import Partition
from cytolabe.store.table_stream import TableStream
from cytolabe.store.tables import TableEntry

__all__ = ["CellSketches", "SketchTable", "read_sketches", "sketched"]

_ENTRIES = tuple(f"entry_{number:02d}" for number in range(SKETCH_GENES))
_COLUMNS = {
    "hash": np.dtype(np.uint64),
    "n_genes": np.dtype(np.int64),
    "n_counts": np.dtype(np.int64),
    **dict.fromkeys(_ENTRIES, np.dtype(np.int64)),
}


@dataclass(frozen=True, kw_only=True)
class CellSketches:
    """Hash, sketch, and totals (genes, counts) of some cells, in their order."""

    hashes: UInt64[np.ndarray, " cells"]
    entries: Int64[np.ndarray, "cells kept"]
    totals: Int64[np.ndarray, "cells 2"]

    def take(self, rows: np.ndarray) -> "CellSketches":
        """Return those of some cells."""
        return CellSketches(hashes=self.hashes[rows], entries=self.entries[rows], totals=self.totals[rows])

    @staticmethod
    def blank(n_cells: int) -> "CellSketches":
        """Return the sketches of cells without counts."""
        return CellSketches(
            hashes=np.zeros(n_cells, dtype=np.uint64),
            entries=np.full((n_cells, SKETCH_GENES), -1, dtype=np.int64),
            totals=np.zeros((n_cells, 2), dtype=np.int64),
        )


def sketched(counts: csr_matrix, gene_ids: Sequence[str]) -> CellSketches:
    """Return the sketches of cells; `gene_ids` is the gene of each feature, empty where it has none."""
    hashes, entries, totals = sketch_cells(counts, gene_ids)
    return CellSketches(hashes=hashes, entries=entries, totals=totals)


class SketchTable:
    """Writes the sketches of the cells of a data set, in their order, through a file in `folder`; see `close`."""

    def __init__(self, *, n_cells: int, folder: Path) -> None:
        self._table = TableStream(_COLUMNS, n_rows=n_cells, folder=folder)

    def append(self, cells: CellSketches) -> None:
        """Add the next cells."""
        named = {name: cells.entries[:, number] for number, name in enumerate(_ENTRIES)}
        totals = {"n_genes": cells.totals[:, 0], "n_counts": cells.totals[:, 1]}
        self._table.append({"hash": cells.hashes, **totals, **named})

    def append_partition(self, directory: Place, gene_ids: Sequence[str]) -> None:
        """Add the cells of a partition that is written; `gene_ids` in the order of its features."""
        for block in Partition(directory).iter_blocks():
            self.append(sketched(csr_matrix(block.counts), gene_ids))

    def close(self, directory: Place) -> TableEntry:
        """Write the table into a directory, under the digest of its rows."""
        return self._table.close(directory)


def read_sketches(layout: Layout, entry: DatasetEntry, *, kept: np.ndarray) -> CellSketches | None:
    """Return the sketches of some rows of a data set, ascending, or None where its entry has none.

    Raises
    ------
    IntegrityError
        If the table is missing or was changed.
    """
    if "sketches" not in entry.tables:
        return None
    table = entry.tables["sketches"]
    found = CellSketches.blank(len(kept))
    try:
        with pq.ParquetFile(pa.BufferReader(read_verified(layout.tables / table.file, table.sha256))) as file:
            first = 0
            # One row group as columns, the rest as numbers: 3 million cells are 800 MB.
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, use_threads=False)
                low, high = np.searchsorted(kept, [first, first + group.num_rows])
                rows = kept[low:high] - first
                found.hashes[low:high] = group["hash"].to_numpy()[rows]
                for place, name in enumerate(("n_genes", "n_counts")):
                    found.totals[low:high, place] = group[name].to_numpy()[rows]
                for place, name in enumerate(_ENTRIES):
                    found.entries[low:high, place] = group[name].to_numpy()[rows]
                first += group.num_rows
    except (pa.ArrowException, KeyError) as error:
        msg = f"{table.file} holds no sketches of the cells of {entry.dataset_id}: {error}"
        raise IntegrityError(msg) from error
    return found
