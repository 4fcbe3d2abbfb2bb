"""An open source: what each format has to say about a file, and the one reader that streams it.

A format only fills in `Contents`: the tables as delivered, the matrices with a way to open each, and what it had to
leave out. Choosing the names of features, cutting matrices into blocks and digests are the same for all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.ingest.features import choose_features, kinds_of_features
from cytolabe.ingest.identity import digest_of
from cytolabe.ingest.matrices import MatrixHandle, RowReader
from cytolabe.ingest.row_stream import RowStream
from cytolabe.ingest.tables import ContributedTable
from cytolabe.records import Block, Finding

__all__ = ["Contents", "OpenSource", "Source", "StoredMatrix"]


@runtime_checkable
class Source(Protocol):
    """An open contribution, whatever its format. It is valid inside the context that opened it."""

    @property
    def path(self) -> Path:
        """The file or folder."""
        ...

    @property
    def source_digest(self) -> str:
        """`sha256:` and the digest of the bytes."""
        ...

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        ...

    @property
    def cell_names(self) -> Sequence[str]:
        """Names of the cells, as delivered."""
        ...

    @property
    def cell_table(self) -> pd.DataFrame:
        """Columns of the cells as delivered, rows 0..n-1. Do not modify."""
        ...

    @property
    def matrices(self) -> tuple[MatrixHandle, ...]:
        """Matrices that can be read, in the order in which raw counts are looked for."""
        ...

    @property
    def uns_keys(self) -> tuple[str, ...]:
        """Names of what is said beside the tables, sorted."""
        ...

    @property
    def title(self) -> str:
        """Title of the data set, or an empty string."""
        ...

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What could not be read or is not kept."""
        ...

    @property
    def feature_findings(self) -> tuple[Finding, ...]:
        """What had to be decided for the names of the features."""
        ...

    def features(self, matrix: MatrixHandle) -> tuple[str, ...]:
        """Return one name per feature of a matrix, in its order."""
        ...

    def feature_kinds(self, matrix: MatrixHandle) -> tuple[str, ...]:
        """Return what the file says that each feature is, or nothing."""
        ...

    def names_of_cells(self, start: int, stop: int) -> tuple[str, ...]:
        """Return the names of cells `start` to `stop`."""
        ...

    def read_cells(self, matrix: MatrixHandle, *, start: int, stop: int) -> csr_matrix:
        """Return cells `start` to `stop` of a matrix, in source order."""
        ...

    def iter_blocks(
        self,
        matrix: MatrixHandle,
        *,
        dataset_id: str,
        cells: tuple[int, int] | None = None,
        max_cells: int = 4096,
        max_nonzero: int = 2_000_000,
    ) -> Iterator[Block]:
        """Stream a matrix as blocks of whole cells in source order."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoredMatrix:
    """A matrix of a file: what it is, which table names its features, and how it is opened by cells."""

    handle: MatrixHandle
    features: str
    open_rows: Callable[[ExitStack], RowReader]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a format found in a file. `features` maps the name of a table of features to the table."""

    cells: ContributedTable
    features: Mapping[str, ContributedTable]
    matrices: tuple[StoredMatrix, ...]
    findings: tuple[Finding, ...] = ()
    uns_keys: tuple[str, ...] = ()
    title: str = field(default="")


class OpenSource(RowStream):
    """The `Source` over the contents that a format found."""

    def __init__(self, path: Path, contents: Contents, cleanup: ExitStack) -> None:
        self.path = path
        self._contents = contents
        self._cleanup = cleanup
        super().__init__()
        self._stored = {stored.handle.name: stored for stored in contents.matrices}

    @cached_property
    def source_digest(self) -> str:
        """`sha256:` and the digest of the bytes of the file, or of the files of a folder."""
        return "sha256:" + digest_of(self.path)

    @property
    def matrices(self) -> tuple[MatrixHandle, ...]:
        """Matrices that can be read, in the order in which raw counts are looked for."""
        return tuple(stored.handle for stored in self._contents.matrices)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self._contents.cells.names)

    @property
    def cell_names(self) -> Sequence[str]:
        """Names of the cells, as delivered."""
        return self._contents.cells.names

    @property
    def cell_table(self) -> pd.DataFrame:
        """Columns of the cells as delivered, rows 0..n-1; categories are text, a missing one is None. Do not modify."""
        return self._contents.cells.columns

    @property
    def uns_keys(self) -> tuple[str, ...]:
        """Names of what is said beside the tables, sorted."""
        return self._contents.uns_keys

    @property
    def title(self) -> str:
        """Title of the data set, or an empty string."""
        return self._contents.title

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What could not be read or is not kept of the file."""
        return self._contents.findings

    @property
    def feature_findings(self) -> tuple[Finding, ...]:
        """What had to be decided for the names of the features, over all tables of features."""
        tables = sorted({stored.features for stored in self._contents.matrices})
        return tuple(finding for table in tables for finding in self._features[table][1])

    def features(self, matrix: MatrixHandle) -> tuple[str, ...]:
        """Return one name per feature of a matrix, in its order."""
        return self._features[self._stored[matrix.name].features][0]

    def feature_kinds(self, matrix: MatrixHandle) -> tuple[str, ...]:
        """Return what the file says that each feature is (`Gene Expression`, `Peaks`), or nothing."""
        return kinds_of_features(self._contents.features[self._stored[matrix.name].features].columns)

    def names_of_cells(self, start: int, stop: int) -> tuple[str, ...]:
        """Return the names of cells `start` to `stop`."""
        return tuple(self.cell_names[start:stop])

    def _open_rows(self, matrix: MatrixHandle) -> RowReader:
        return self._stored[matrix.name].open_rows(self._cleanup)

    @cached_property
    def _features(self) -> Mapping[str, tuple[tuple[str, ...], tuple[Finding, ...]]]:
        return {table: choose_features(read, table) for table, read in self._contents.features.items()}
