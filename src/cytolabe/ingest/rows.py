"""Readers of rows that stand on another one: a choice of features, and a matrix that lies on its side."""

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.ingest.matrices import MatrixHandle, RowReader
from cytolabe.ingest.native import native
from cytolabe.ingest.nodes import ArrayNode
from cytolabe.ingest.refusals import readable

__all__ = ["SelectedFeatures", "SidewaysRows"]


class SelectedFeatures:
    """The chosen features of a matrix, in the given order; entries of the others are left out."""

    def __init__(self, rows: RowReader, features: np.ndarray, *, n_features: int) -> None:
        self._rows = rows
        self._place = np.full(n_features, -1, dtype=np.int64)
        self._place[features] = np.arange(len(features))
        self._n_kept = len(features)

    def entries_before(self) -> np.ndarray | None:
        """Return stored entries before each cell, those of the features that are left out included."""
        return self._rows.entries_before()

    def read(self, start: int, stop: int) -> csr_matrix:
        """Return cells `start` to `stop`."""
        block = self._rows.read(start, stop)
        places = self._place[block.indices]
        kept = places >= 0
        before = np.concatenate([[0], np.cumsum(kept)])
        chosen = csr_matrix((block.shape[0], self._n_kept), dtype=block.dtype)
        chosen.indptr = before[block.indptr].astype(np.int32)
        chosen.indices, chosen.data = places[kept].astype(np.int32), block.data[kept]
        return chosen


class SidewaysRows:
    """A dense array of features x cells, read by runs of cells."""

    def __init__(self, node: ArrayNode, matrix: MatrixHandle) -> None:
        self._node = node
        self._matrix = matrix

    def entries_before(self) -> np.ndarray | None:
        """Return None: all cells cost the same."""
        return None

    def read(self, start: int, stop: int) -> csr_matrix:
        """Return cells `start` to `stop`."""
        with readable(f"{self._matrix.name}[:, {start}:{stop}]"):
            values = native(self._node[:, start:stop])
        return csr_matrix(np.ascontiguousarray(values.T))
