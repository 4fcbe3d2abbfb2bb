"""Blocks of whole cells from any matrix: what every source does alike, once it can open the rows of a matrix."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from scipy.sparse import csr_matrix

from cytolabe.ingest.matrices import MatrixHandle, RowReader, plan_rows
from cytolabe.records import Block

__all__ = ["RowStream"]


class RowStream(ABC):
    """A source of blocks. Readers are opened once and kept."""

    def __init__(self) -> None:
        self._readers: dict[str, RowReader] = {}

    @abstractmethod
    def names_of_cells(self, start: int, stop: int) -> tuple[str, ...]:
        """Return the names of cells `start` to `stop`."""

    @abstractmethod
    def _open_rows(self, matrix: MatrixHandle) -> RowReader:
        """Open a matrix for reading by cells."""

    def read_cells(self, matrix: MatrixHandle, *, start: int, stop: int) -> csr_matrix:
        """Return cells `start` to `stop` of a matrix, in source order."""
        return self._reader(matrix).read(start, stop)

    def iter_blocks(
        self,
        matrix: MatrixHandle,
        *,
        dataset_id: str,
        cells: tuple[int, int] | None = None,
        max_cells: int = 4096,
        max_nonzero: int = 2_000_000,
    ) -> Iterator[Block]:
        """Stream a matrix as blocks of whole cells in source order.

        Parameters
        ----------
        cells
            First cell, and the one behind the last; all of them where it is not given.
        max_cells, max_nonzero
            Bounds on one block; a single cell over `max_nonzero` is a block of its own.

        Raises
        ------
        RefusedError
            If the structure of the matrix is damaged; `findings_of` says where.
        """
        reader = self._reader(matrix)
        runs = plan_rows(reader, matrix.shape, cells=cells, max_cells=max_cells, max_nonzero=max_nonzero)
        for start, stop in runs:
            yield Block(
                dataset_id=dataset_id,
                start=start,
                cell_names=self.names_of_cells(start, stop),
                counts=reader.read(start, stop),
            )

    def _reader(self, matrix: MatrixHandle) -> RowReader:
        if matrix.name not in self._readers:
            self._readers[matrix.name] = self._open_rows(matrix)
        return self._readers[matrix.name]
