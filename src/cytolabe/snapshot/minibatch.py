"""One training step of a stream: the cells, and what a model reads of them."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_matrix

__all__ = ["Minibatch"]


@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """Cells x genes of one step.

    `rows` are positions in `snapshot.cells`. `indptr`, `columns` and `counts` are the raw counts as CSR over the genes of
    the stream, columns ascending; `n_counts` is the total of each cell over all features of its data set. Of `dense`
    (cells x genes), `tokens` (cells x length, with `lengths`) and `bins` (one per entry of `counts`) that one is there
    which the layout of the stream makes. `codes` holds what `label_codes` of the stream names.

    With `reuse_buffers` the arrays are those of the stream and hold the next minibatch when it is drawn: `copy` keeps.
    """

    rows: Int[np.ndarray, " cells"]
    indptr: Int[np.ndarray, " starts"]
    columns: Int[np.ndarray, " entries"]
    counts: Int[np.ndarray, " entries"]
    n_genes: int
    n_counts: Int[np.ndarray, " cells"]
    dense: np.ndarray | None = None
    tokens: np.ndarray | None = None
    lengths: np.ndarray | None = None
    bins: np.ndarray | None = None
    codes: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.rows)

    def to_csr(self) -> csr_matrix:
        """Return the counts as a matrix, cells x genes; it shares the arrays of the minibatch."""
        return csr_matrix((self.counts, self.columns, self.indptr), shape=(self.n_cells, self.n_genes), copy=False)

    def copy(self) -> "Minibatch":
        """Return a minibatch that keeps its values when the stream goes on."""
        arrays: dict[str, Any] = {
            name: value.copy() for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        codes = {name: values.copy() for name, values in self.codes.items()}
        return replace(self, **arrays, codes=codes)
