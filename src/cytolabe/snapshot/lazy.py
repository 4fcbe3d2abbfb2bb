"""A view of cells whose counts stay where they are until somebody asks for some of them.

It speaks the part of AnnData that reading needs: `obs`, `var`, `shape`, `X[rows, genes]`, `chunked_X`, slicing, and
`to_memory()` for the AnnData itself. It is a class of its own because AnnData accepts only matrices of one file as
backed, and the counts of a snapshot lie in many, each over the features of its own data set.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.snapshot.selection import EXACT_FLOAT32, Selection, select

if TYPE_CHECKING:
    from anndata import AnnData

    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["LazyCells", "LazyCounts", "lazy_cells"]

Index = int | np.integer | slice | str | Sequence[int] | Sequence[str] | np.ndarray | pd.Series | pd.Index


def lazy_cells(snapshot: "Snapshot", *, where: str = "", genes: Sequence[str] | None = None) -> "LazyCells":
    """Return the cells of a filter as a view; see `selection.select` for what is refused."""
    return LazyCells(select(snapshot, where=where, genes=genes))


class LazyCells:
    """Cells x genes; the table of the cells is in memory, the counts are not."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    @property
    def obs(self) -> pd.DataFrame:
        """One row per cell, index: cell id. Do not modify."""
        return self._selection.obs

    @property
    def var(self) -> pd.DataFrame:
        """One row per gene, index: gene id."""
        return pd.DataFrame(index=self.var_names)

    @property
    def uns(self) -> dict[str, str]:
        """What the cells were taken from."""
        return dict(self._selection.provenance)

    @property
    def obs_names(self) -> pd.Index:
        """The cell ids."""
        return self.obs.index

    @property
    def var_names(self) -> pd.Index:
        """The genes."""
        return pd.Index(list(self._selection.genes), name="gene_id")

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self._selection.positions)

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return len(self._selection.genes)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.n_obs, self.n_vars

    @property
    def X(self) -> "LazyCounts":  # noqa: N802 - AnnData's name
        """The raw counts, read where they are indexed."""
        return LazyCounts(self)

    def __getitem__(self, index: Index | tuple[Index, Index]) -> "LazyCells":
        """Return a view of some cells, or of some cells and genes: numbers, slices, masks or names."""
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        chosen = _numbers(rows, self.obs_names)
        genes = _numbers(columns, self.var_names)
        selection = self._selection
        return LazyCells(
            Selection(
                snapshot=selection.snapshot,
                positions=selection.positions[chosen],
                obs=selection.obs.iloc[chosen],
                genes=tuple(selection.genes[gene] for gene in genes.tolist()),
                provenance=selection.provenance,
            )
        )

    def chunked_X(self, chunk_size: int = 6000) -> Iterator[tuple[csr_matrix, int, int]]:  # noqa: N802 - AnnData's name
        """Yield (counts, first, last) for so many cells at a time, as AnnData does."""
        first = 0
        for counts in self._selection.blocks(chunk_size):
            yield _floats(counts), first, first + counts.shape[0]
            first += counts.shape[0]

    def to_memory(self) -> "AnnData":
        """Read everything that this view shows into an AnnData."""
        import anndata  # noqa: PLC0415 - it takes a second to import

        counts = self._selection.snapshot.counts(self._selection.positions, self._selection.genes)
        return anndata.AnnData(X=_floats(counts), obs=self.obs.copy(), var=self.var, uns=self.uns)

    def __repr__(self) -> str:
        return f"LazyCells of {self.n_obs:,} cells x {self.n_vars:,} genes; counts are read where X is indexed"


class LazyCounts:
    """The matrix of a view: indexing it reads, and gives a CSR matrix of floats."""

    def __init__(self, cells: LazyCells) -> None:
        self._cells = cells

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self._cells.shape

    def __getitem__(self, index: Index | tuple[Index, Index]) -> csr_matrix:
        """Return the counts of some cells, or of some cells over some genes, in the order given."""
        counts = self._cells[index].to_memory().X
        return csr_matrix(counts)


def _floats(counts: csr_matrix) -> csr_matrix:
    is_wide = counts.nnz > 0 and int(counts.data.max()) > EXACT_FLOAT32
    return csr_matrix(counts.astype(np.float64 if is_wide else np.float32))


def _numbers(index: Index, names: pd.Index) -> np.ndarray:
    """Return the numbers that an index means along an axis."""
    if isinstance(index, slice):
        return np.arange(len(names))[index]
    values = np.atleast_1d(np.asarray(index))
    if values.dtype == bool:
        if values.shape != (len(names),):
            msg = f"a mask of {values.size} does not fit {len(names)} {names.name}s."
            raise UsageError(msg)
        return np.flatnonzero(values)
    if values.size == 0:
        return np.zeros(0, dtype=np.int64)
    if values.dtype.kind in "iu":
        if values.min() < -len(names) or values.max() >= len(names):
            msg = f"an index is outside of the {len(names)} {names.name}s of this view."
            raise UsageError(msg)
        return np.where(values < 0, values + len(names), values).astype(np.int64)
    found = names.get_indexer(pd.Index(values.astype(object)))
    if (found < 0).any():
        missing = [str(name) for name in values[found < 0][:5]]
        msg = f"{int((found < 0).sum())} name(s) are no {names.name} of this view: {', '.join(missing)}."
        raise UsageError(msg)
    return found.astype(np.int64)
