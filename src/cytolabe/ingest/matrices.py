"""Stream a matrix of an AnnData file as blocks of whole cells, whatever its layout, in bounded memory.

The structure is checked while it streams, because nothing else checks it: a column index beyond the last feature makes
a standard reader crash or put counts into another gene, a pointer that runs backwards loses cells, and a column that
occurs twice in a cell is summed or dropped depending on who looks.

CSR is read in runs of cells, dense by rows. CSC is turned over once, through a file in a temporary directory, because
a cell of it is spread over the whole file. `indptr` is the only array that is held whole: 8 bytes per cell.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel
from cytolabe.errors import CytolabeError, RefusedError
from cytolabe.ingest.deflated import unpacked
from cytolabe.ingest.native import native
from cytolabe.ingest.nodes import ArrayNode, GroupNode, Node, is_array, is_group
from cytolabe.ingest.refusals import readable, refusal
from cytolabe.records import Finding, Severity

__all__ = [
    "CompressedRows",
    "MatrixHandle",
    "RowReader",
    "describe_matrix",
    "obstacle_of",
    "obstacle_of_arrays",
    "open_rows",
    "plan_rows",
]

_SPILL_ENTRIES = 4_000_000
_NUMERIC = "biuf"
_PARTS = {"data": _NUMERIC, "indices": "iu", "indptr": "iu"}
"""Arrays of a sparse matrix -> kinds of numbers that they may hold."""


@dataclass(frozen=True, kw_only=True)
class MatrixHandle:
    """A matrix of a file: `X`, `raw/X` or `layers/<name>`.

    `encoding` is csr, csc or dense; `n_nonzero` is the number of stored entries, or None for a dense matrix. `part` is
    what has to be opened to find it: a modality or a genome, empty where the source has one only.
    """

    name: str
    shape: tuple[int, int]
    encoding: str
    dtype: str
    n_nonzero: int | None
    part: str = ""

    @property
    def is_turned(self) -> bool:
        """Whether it has to be turned over, as a whole, before any cell of it can be read."""
        return self.encoding in {"csc", "text"}


@runtime_checkable
class RowReader(Protocol):
    """Random access to runs of whole cells."""

    def entries_before(self) -> np.ndarray | None:
        """Return stored entries before each cell (one more than cells), or None where all cells cost the same."""
        ...

    def read(self, start: int, stop: int) -> csr_matrix:
        """Return cells `start` to `stop` in source order, with indices in the order of the file."""
        ...


def describe_matrix(node: Node, name: str, *, part: str = "") -> MatrixHandle | None:
    """Say what a node is, or None where it is no numeric matrix; `obstacle_of` then says why."""
    if obstacle_of(node):
        return None
    if not is_group(node):
        shape = (int(node.shape[0]), int(node.shape[1]))
        return MatrixHandle(name=name, shape=shape, encoding="dense", dtype=str(node.dtype), n_nonzero=None, part=part)
    shape_value = _declared_shape(node)
    return MatrixHandle(
        name=name,
        shape=(int(shape_value[0]), int(shape_value[1])),
        encoding=_encoding_word(node).removesuffix("_matrix"),
        dtype=str(node["data"].dtype),
        n_nonzero=int(node["data"].shape[0]),
        part=part,
    )


def obstacle_of(node: Node) -> str:
    """Say why a node cannot be read as a matrix of numbers, or return an empty string."""
    if is_group(node):
        return _obstacle_of_sparse(node)
    if len(node.shape or ()) != 2:
        return "it has no cells x features"
    return "" if node.dtype.kind in _NUMERIC else f"its values are no numbers ({node.dtype})"


def _obstacle_of_sparse(node: GroupNode) -> str:
    word, shape = _encoding_word(node), _declared_shape(node)
    if word.removesuffix("_matrix") not in {"csr", "csc"}:
        return f"its encoding is {word!r}"
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        return "its shape is not said"
    return obstacle_of_arrays(node)


def obstacle_of_arrays(node: GroupNode) -> str:
    """Say why the arrays of a sparse matrix cannot be read, or return an empty string."""
    for part, kinds in _PARTS.items():
        array = node.get(part)
        if not is_array(array) or len(array.shape or ()) != 1:
            return f"it has no array {part!r}"
        if array.dtype.kind not in kinds:
            # Positions that are no integers point between two features; rounding them would move counts.
            return f"{part!r} holds {array.dtype} instead of {'numbers' if part == 'data' else 'integers'}"
    return ""


def _encoding_word(node: GroupNode) -> str:
    word = node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "none"))
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)


def _declared_shape(node: GroupNode) -> np.ndarray:
    return np.atleast_1d(node.attrs.get("shape", node.attrs.get("h5sparse_shape", ())))


def open_rows(node: Node, matrix: MatrixHandle, cleanup: ExitStack) -> RowReader:
    """Open a matrix for reading by cells; `cleanup` removes what had to be spilled to disk.

    Raises
    ------
    RefusedError
        If the pointers of the matrix contradict its arrays.
    """
    if matrix.encoding == "dense":
        return _DenseRows(node, matrix)
    with readable(f"{matrix.name}/indptr"):
        indptr = np.asarray(node["indptr"][...], dtype=np.int64)
    _check_pointers(indptr, node, matrix)
    if matrix.encoding == "csr":
        return CompressedRows(indptr, unpacked(node["data"]), unpacked(node["indices"]), matrix=matrix)
    folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="cytolabe-")))
    return _turn_over(node, indptr, matrix=matrix, folder=folder)


def plan_rows(
    reader: RowReader,
    shape: tuple[int, int],
    *,
    cells: tuple[int, int] | None = None,
    max_cells: int,
    max_nonzero: int,
) -> Iterator[tuple[int, int]]:
    """Cut `cells` (or all) into runs of at most `max_cells` and, but for a single cell, at most `max_nonzero` entries."""
    start, last = cells or (0, shape[0])
    n_features = shape[1]
    before = reader.entries_before()
    while start < last:
        stop = min(last, start + max_cells)
        if before is None:
            stop = min(stop, start + max(1, max_nonzero // max(1, n_features)))
        else:
            fitting = int(np.searchsorted(before, before[start] + max_nonzero, side="right")) - 1
            stop = max(start + 1, min(stop, fitting))
        yield start, stop
        start = stop


# --- layouts ------------------------------------------------------------------------------------------------------


class _DenseRows:
    def __init__(self, node: ArrayNode, matrix: MatrixHandle) -> None:
        self._node = node
        self._matrix = matrix

    def entries_before(self) -> np.ndarray | None:
        return None

    def read(self, start: int, stop: int) -> csr_matrix:
        with readable(f"{self._matrix.name}[{start}:{stop}]"):
            values = native(self._node[start:stop])
        return csr_matrix(values)


class CompressedRows:
    """CSR arrays, of the file or of a spill."""

    def __init__(
        self,
        indptr: np.ndarray,
        data: ArrayNode | np.ndarray,
        indices: ArrayNode | np.ndarray,
        *,
        matrix: MatrixHandle,
    ) -> None:
        self._indptr = indptr
        self._data = data
        self._indices = indices
        self._matrix = matrix
        _check_cell_sizes(indptr, matrix)

    def entries_before(self) -> np.ndarray | None:
        """Return stored entries before each cell."""
        return self._indptr

    def read(self, start: int, stop: int) -> csr_matrix:
        """Return cells `start` to `stop`, after their structure was checked."""
        low, high = int(self._indptr[start]), int(self._indptr[stop])
        with readable(f"{self._matrix.name}, cells {start} to {stop}"):
            data = native(np.asarray(self._data[low:high]))
            indices = native(np.asarray(self._indices[low:high]))
        indptr = self._indptr[start : stop + 1] - low
        _check_indices(indices, indptr, start=start, matrix=self._matrix)
        block = csr_matrix((stop - start, self._matrix.shape[1]), dtype=data.dtype)
        block.indptr, block.indices, block.data = indptr.astype(np.int32), indices.astype(np.int32, copy=False), data
        return block


def _turn_over(node: GroupNode, by_feature: np.ndarray, *, matrix: MatrixHandle, folder: Path) -> RowReader:
    """Write a CSC matrix as CSR into `folder`, a slice of entries at a time; features come out ascending per cell."""
    n_cells = matrix.shape[0]
    n_entries = int(by_feature[-1])
    stored_cells, stored_values = unpacked(node["indices"]), unpacked(node["data"])
    per_cell = np.zeros(n_cells, dtype=np.int64)
    for low, high in _slices(n_entries):
        with readable(f"{matrix.name}/indices"):
            cells = np.asarray(stored_cells[low:high], dtype=np.int64)
        wrong = np.flatnonzero((cells < 0) | (cells >= n_cells))
        if len(wrong):
            feature = int(np.searchsorted(by_feature, low + wrong[0], side="right")) - 1
            message = f"Feature {feature} has an entry for cell {cells[wrong[0]]}, but there are {n_cells:,} cells."
            raise _refused(
                code="E-MATRIX-03",
                where=f"{matrix.name}, feature {feature}",
                message=message,
                affected=(len(wrong), n_entries),
            )
        per_cell += np.bincount(cells, minlength=n_cells)
    indptr = np.concatenate([[0], np.cumsum(per_cell)])
    shape = (max(1, n_entries),)
    data = np.memmap(folder / "data", dtype=stored_values.dtype, mode="w+", shape=shape)
    indices = np.memmap(folder / "indices", dtype=np.int32, mode="w+", shape=shape)
    following = indptr[:-1].copy()
    for low, high in _slices(n_entries):
        with readable(matrix.name):
            cells = np.asarray(stored_cells[low:high], dtype=np.int64)
            values = np.asarray(stored_values[low:high])
        features = np.searchsorted(by_feature, np.arange(low, high), side="right") - 1
        order = np.argsort(cells, kind="stable")
        cells = cells[order]
        rank = np.arange(len(cells)) - np.searchsorted(cells, cells, side="left")
        target = following[cells] + rank
        data[target] = values[order]
        indices[target] = features[order]
        following += np.bincount(cells, minlength=n_cells)
    return CompressedRows(indptr, data, indices, matrix=matrix)


def _slices(n_entries: int) -> Iterator[tuple[int, int]]:
    for low in range(0, n_entries, _SPILL_ENTRIES):
        yield low, min(n_entries, low + _SPILL_ENTRIES)


# --- structure ----------------------------------------------------------------------------------------------------


def _check_pointers(indptr: np.ndarray, node: GroupNode, matrix: MatrixHandle) -> None:
    n_major = matrix.shape[0] if matrix.encoding == "csr" else matrix.shape[1]
    major = "cell" if matrix.encoding == "csr" else "feature"
    n_data, n_indices = int(node["data"].shape[0]), int(node["indices"].shape[0])
    where = f"{matrix.name}/indptr"
    if len(indptr) != n_major + 1:
        message = f"There are {len(indptr):,} pointers for {n_major:,} {major}s; one more than {major}s are needed."
        raise _refused(code="E-MATRIX-01", where=where, message=message, affected=(1, 1))
    backwards = np.flatnonzero(indptr[1:] < indptr[:-1])
    if len(backwards):
        message = f"The pointers run backwards at {len(backwards):,} {major}s, first at {major} {backwards[0]}."
        raise _refused(code="E-MATRIX-01", where=where, message=message, affected=(len(backwards), n_major))
    if indptr[0] != 0 or indptr[-1] != n_data or n_data != n_indices:
        message = (
            f"The pointers cover entries {indptr[0]:,} to {indptr[-1]:,}, but there are {n_data:,} values and "
            f"{n_indices:,} indices: entries would be lost."
        )
        raise _refused(
            code="E-MATRIX-02", where=where, message=message, affected=(abs(n_data - int(indptr[-1])), n_data)
        )


def _check_cell_sizes(indptr: np.ndarray, matrix: MatrixHandle) -> None:
    sizes = np.diff(indptr)
    wide = np.flatnonzero(sizes > matrix.shape[1])
    if len(wide):
        message = f"Cell {wide[0]} has {sizes[wide[0]]:,} entries for {matrix.shape[1]:,} features."
        raise _refused(
            code="E-MATRIX-04",
            where=f"{matrix.name}, cell {wide[0]}",
            message=message,
            affected=(len(wide), len(sizes)),
        )


def _check_indices(indices: np.ndarray, indptr: np.ndarray, *, start: int, matrix: MatrixHandle) -> None:
    n_features = matrix.shape[1]
    n_wrong, first, is_ascending = _look_at_indices(indices, indptr, n_features)
    if n_wrong:
        cell = start + int(np.searchsorted(indptr, first, side="right")) - 1
        message = f"Cell {cell} has an entry for feature {indices[first]}, but there are {n_features:,} features."
        raise _refused(
            code="E-MATRIX-03",
            where=f"{matrix.name}, cell {cell}",
            message=message,
            affected=(n_wrong, len(indices)),
        )
    if is_ascending:
        return
    # One number per entry that grows within and across cells: equal neighbors are the same feature twice.
    cells = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))
    keys = np.sort(cells * max(1, n_features) + indices.astype(np.int64))
    repeated = keys[1:][np.diff(keys) == 0]
    if len(repeated):
        cell, feature = start + int(repeated[0] // n_features), int(repeated[0] % n_features)
        message = f"Feature {feature} occurs twice in cell {cell}; which value counts is not said."
        raise _refused(
            code="E-MATRIX-04",
            where=f"{matrix.name}, cell {cell}",
            message=message,
            affected=(len(repeated), len(keys)),
        )


@kernel
def _look_at_indices(indices: np.ndarray, indptr: np.ndarray, n_features: int) -> tuple[int, int, bool]:
    """Return how many indices lie outside of the features, where the first does, and whether every cell ascends."""
    n_wrong, first, n_descents = 0, -1, 0
    for cell in range(len(indptr) - 1):
        last = -1
        for at in range(indptr[cell], indptr[cell + 1]):
            index = int(indices[at])
            if index < 0 or index >= n_features:
                n_wrong += 1
                if first < 0:
                    first = at
            n_descents += index <= last
            last = index
    return n_wrong, first, n_descents == 0


def _refused(*, code: str, where: str, message: str, affected: tuple[int, int]) -> CytolabeError:
    finding = Finding(
        code=code,
        severity=Severity.ERROR,
        where=where,
        n_affected=affected[0],
        n_total=affected[1],
        message=message,
        remedy="The matrix is damaged or was written wrongly: write the file anew from the object that is right.",
        rule="cytolabe/matrix",
    )
    return refusal(RefusedError, [finding])
