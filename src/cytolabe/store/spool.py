"""Cells on their way into a partition whose widths nobody knows yet, kept on disk as plain arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.files import GrowingFile, remove_directory
from cytolabe.records import Block
from cytolabe.store.plan import PartitionPlan

__all__ = ["Spool"]

_BLOCK_VALUES = 1 << 21


class Spool:
    """Entries of cells in the order of a partition; a context that removes its files."""

    def __init__(self, folder: Path) -> None:
        self._paths = folder / "columns", folder / "counts"
        self._folder = folder
        self._streams = [GrowingFile(path) for path in self._paths]
        self._lengths: list[np.ndarray] = []
        self.largest = 0

    def __enter__(self) -> "Spool":  # noqa: PYI034 - the type checker of the tests knows Self only in classes it decorates
        """Return the spool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is on disk."""
        self.remove()

    def append(self, indptr: np.ndarray, *, columns: np.ndarray, counts: np.ndarray) -> None:
        """Add cells."""
        self._lengths.append(np.diff(indptr))
        self.largest = max(self.largest, int(counts.max(initial=0)))
        for stream, values, kind in zip(self._streams, (columns, counts), ("<u4", "<u8"), strict=True):
            stream.append(values.astype(kind, copy=False).tobytes())

    def indptr(self) -> np.ndarray:
        """Return the pointers of all cells that were added."""
        return np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *self._lengths]))]).astype(
            np.int64
        )

    def blocks(self, plan: PartitionPlan, cell_names: Sequence[str]) -> Iterator[Block]:
        """Yield the cells again, in the columns of the source, as `write_shards` takes them."""
        first, stop = plan.cells_of_shards(0, plan.n_shards)
        n_features = len(plan.features)
        while first < stop:
            fitting = int(np.searchsorted(plan.indptr, plan.indptr[first] + _BLOCK_VALUES, side="right")) - 1
            last = min(stop, max(first + 1, fitting))
            low, high = int(plan.indptr[first]), int(plan.indptr[last])
            columns = np.fromfile(self._paths[0], dtype="<u4", count=high - low, offset=4 * low)
            counts = np.fromfile(self._paths[1], dtype="<u8", count=high - low, offset=8 * low)
            features = plan.order[columns]
            matrix = csr_matrix(
                (counts, features, plan.indptr[first : last + 1] - low), shape=(last - first, n_features)
            )
            names = tuple(cell_names[first:last])
            yield Block(dataset_id=plan.dataset_id, start=plan.first_row + first, cell_names=names, counts=matrix)
            first = last

    def remove(self) -> None:
        """Remove the files; a second time does nothing."""
        for stream in self._streams:
            stream.close()
        remove_directory(self._folder)
