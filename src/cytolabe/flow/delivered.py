"""Read what the checks of a schema look at: each matrix once, block by block, and tables by their levels.

Only HDF5 and vector operations are used, no table library and no compiler: the first look at a file of two cells shall
cost what opening it costs. The file is scanned before (`conform_child`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.errors import RefusedError, UnreadableInputError
from cytolabe.flow.delivered_table import FileTable, text_of
from cytolabe.ingest.hdf5_files import open_hdf5
from cytolabe.ingest.native import native
from cytolabe.ingest.nodes import ArrayNode, GroupNode, Node, is_group
from cytolabe.ingest.refusals import readable, refusal
from cytolabe.records import Block, Finding, Severity
from cytolabe.validate.cell_sums import Entries
from cytolabe.validate.delivered import ArrayFacts, Delivered, MatrixFacts
from cytolabe.validate.marks import HeldMarks, MarksFor
from cytolabe.validate.value_census import ValueCensus

__all__ = ["open_delivered"]

_ENTRIES = 1 << 20
"""Stored values of a block."""
_CELLS = 1 << 16
_WINDOW = 1 << 20
"""Cells of a matrix that lies by features of which sums are held at a time, 40 bytes each."""
_LARGEST_VALUE = 1 << 16
"""Values of an array of uns that are read; what is larger is an image, of which only shape and type are asked."""


@contextmanager
def open_delivered(path: Path, *, with_matrices: bool = True, marks_for: MarksFor = HeldMarks) -> Iterator[Delivered]:
    """Open a scanned h5ad file, run the pass over its matrices, and return what is known; valid while it is open.

    Parameters
    ----------
    path
        The file.
    with_matrices
        Whether the pass over the values is run.
    marks_for
        Where the marks of cells and of names are kept; in memory, 8 bytes for each row of one matrix or table at a time.

    Raises
    ------
    UnreadableInputError
        If it is no AnnData file, or its bytes are damaged.
    """
    with readable(path.name), open_hdf5(path) as file:
        for part in ("obs", "var", "X"):
            if part not in file or (part != "X" and not is_group(file[part])):
                raise refusal(UnreadableInputError, [_incomplete(path, part)])
        if "__categories" in file["obs"]:
            raise refusal(UnreadableInputError, [_incomplete(path, "obs")])
        yield _delivered(file, path.name, with_matrices=with_matrices, marks_for=marks_for)


def _delivered(file: GroupNode, name: str, *, with_matrices: bool, marks_for: MarksFor) -> Delivered:
    obs, var = FileTable(file["obs"], "obs", marks_for=marks_for), FileTable(file["var"], "var", marks_for=marks_for)
    raw = file.get("raw")
    raw = raw if is_group(raw) and "X" in raw else None
    nodes: dict[str, Node] = {"X": file["X"]}
    if raw is not None:
        nodes["raw.X"] = raw["X"]
    layers = file.get("layers")
    nodes |= {f"layers['{key}']": layers[key] for key in layers} if is_group(layers) else {}
    uns = file.get("uns")
    return Delivered(
        name=name,
        obs=obs,
        var=var,
        raw_var=FileTable(raw["var"], "raw.var", marks_for=marks_for) if raw is not None and "var" in raw else None,
        uns=_values_in(uns) if is_group(uns) else {},
        arrays={part: _arrays_in(file.get(part)) for part in ("obsm", "varm", "obsp", "varp")},
        matrices={place: _read_matrix(node, place, obs, marks_for=marks_for) for place, node in nodes.items()}
        if with_matrices
        else {},
    )


# --- matrices -----------------------------------------------------------------------------------------------------


def _read_matrix(node: Node, place: str, obs: FileTable, *, marks_for: MarksFor) -> MatrixFacts:
    """Run the pass over a matrix; one that is neither CSR, CSC nor dense is only described."""
    if not is_group(node):
        shape, dtype = tuple(node.shape or ()), str(node.dtype)
        if len(shape) != 2 or node.dtype.kind not in "biuf":
            return MatrixFacts(encoding="other", shape=shape, dtype=dtype)
        blocks, encoding = _dense_blocks(node, obs), "dense"
    else:
        encoding = text_of(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "other")))
        encoding = encoding.removesuffix("_matrix")
        shape = tuple(
            int(length) for length in np.atleast_1d(node.attrs.get("shape", node.attrs.get("h5sparse_shape", ())))
        )
        dtype = str(node["data"].dtype) if "data" in node else "none"
        if encoding not in {"csr", "csc"} or len(shape) != 2:
            return MatrixFacts(encoding=encoding, shape=shape, dtype=dtype)
        blocks = _csr_blocks(node, place, shape, obs=obs) if encoding == "csr" else iter(())
    census = ValueCensus(shape[0], shape[1], marks=marks_for(shape[0]))
    for block in blocks:
        census.add(block)
    if encoding == "csc":
        _take_by_features(node, place, obs=obs, census=census)
    return census.facts(encoding=encoding, dtype=dtype, names=obs.name_of)


def _dense_blocks(node: ArrayNode, obs: FileTable) -> Iterator[Block]:
    n_cells, n_features = node.shape or (0, 0)
    step = max(1, min(_CELLS, _ENTRIES // max(1, n_features)))
    for start in range(0, n_cells, step):
        values = native(np.asarray(node[start : start + step]))
        yield _block(csr_matrix(values), start, obs)


def _csr_blocks(node: GroupNode, place: str, shape: tuple[int, ...], *, obs: FileTable) -> Iterator[Block]:
    n_cells, n_features = shape
    data, indices, pointers = node["data"], node["indices"], node["indptr"]
    if pointers.shape != (n_cells + 1,) or data.shape != indices.shape:
        raise _damaged(place, f"{pointers.shape[0]:,} pointers for {n_cells:,} cells")
    start = 0
    while start < n_cells:
        ahead = np.asarray(pointers[start : min(n_cells, start + _CELLS) + 1], dtype=np.int64)
        if np.any(np.diff(ahead) < 0) or ahead[-1] > data.shape[0]:
            raise _damaged(place, "its pointers run backwards or beyond its values")
        n_rows = max(1, int(np.searchsorted(ahead, ahead[0] + _ENTRIES, side="right")) - 1)
        low, high = int(ahead[0]), int(ahead[n_rows])
        columns = native(np.asarray(indices[low:high]))
        if len(columns) and (int(columns.min()) < 0 or int(columns.max()) >= n_features):
            raise _damaged(place, f"an entry lies outside of its {n_features:,} features")
        counts = csr_matrix((n_rows, n_features), dtype=native(np.empty(0, dtype=data.dtype)).dtype)
        counts.data, counts.indices = native(np.asarray(data[low:high])), columns
        counts.indptr = (ahead[: n_rows + 1] - low).astype(np.int64)
        yield _block(counts, start, obs)
        start += n_rows


def _take_by_features(node: GroupNode, place: str, *, obs: FileTable, census: ValueCensus) -> None:
    """Run the pass over a CSC matrix: once for each `_WINDOW` cells, because every cell lies all over the file."""
    n_cells, n_features = census.shape
    data, indices = node["data"], node["indices"]
    pointers = np.asarray(node["indptr"][...], dtype=np.int64)
    if pointers.shape != (n_features + 1,) or data.shape != indices.shape:
        raise _damaged(place, f"{len(pointers):,} pointers for {n_features:,} features")
    if np.any(np.diff(pointers) < 0) or pointers[0] < 0 or pointers[-1] > data.shape[0]:
        raise _damaged(place, "its pointers run backwards or beyond its values")
    for first in range(0, n_cells, _WINDOW):
        last = min(n_cells, first + _WINDOW)
        entries = _entries_of_cells(node, place, pointers=pointers, cells=(first, last), n_cells=n_cells)
        census.add_by_features(last - first, entries, name_of=partial(_name_behind, obs, first))


def _name_behind(obs: FileTable, first: int, row: int) -> str:
    return obs.name_of(first + row)


def _entries_of_cells(
    node: GroupNode, place: str, *, pointers: np.ndarray, cells: tuple[int, int], n_cells: int
) -> Iterator[Entries]:
    """Yield the entries of a CSC matrix that are of some cells, which are numbered from the first of them."""
    first, last = cells
    for low in range(int(pointers[0]), int(pointers[-1]), _ENTRIES):
        high = min(int(pointers[-1]), low + _ENTRIES)
        of = np.asarray(node["indices"][low:high], dtype=np.int64)
        if int(of.min()) < 0 or int(of.max()) >= n_cells:
            raise _damaged(place, f"an entry lies outside of its {n_cells:,} cells")
        features = np.searchsorted(pointers, np.arange(low, high), side="right") - 1
        wanted = (of >= first) & (of < last)
        values = native(np.asarray(node["data"][low:high]))
        yield Entries(cells=of[wanted] - first, features=features[wanted], values=values[wanted])


def _block(counts: csr_matrix, start: int, obs: FileTable) -> Block:
    return Block(
        dataset_id="", start=start, cell_names=obs.names_between(start, start + counts.shape[0]), counts=counts
    )


def _damaged(place: str, how: str) -> Exception:
    finding = Finding(
        code="E-MATRIX-02",
        severity=Severity.ERROR,
        where=place,
        n_affected=1,
        n_total=1,
        message=f"The matrix contradicts itself: {how}.",
        remedy="The matrix is damaged or was written wrongly: write the file anew from the object that is right.",
        rule="cytolabe/matrix",
    )
    return refusal(RefusedError, [finding])


# --- beside the matrix --------------------------------------------------------------------------------------------


def _arrays_in(group: Node) -> Mapping[str, ArrayFacts]:
    return {name: _array_facts(group[name]) for name in sorted(group)} if is_group(group) else {}


def _array_facts(node: Node) -> ArrayFacts:
    if is_group(node):
        word = text_of(node.attrs.get("encoding-type", "other"))
        kind = "sparse" if word.endswith("_matrix") else word
        return ArrayFacts(encoding=kind, shape=tuple(int(n) for n in np.atleast_1d(node.attrs.get("shape", ()))))
    shape, n_infinite, n_missing = tuple(node.shape or ()), 0, 0
    if node.dtype.kind == "f" and shape:
        width = max(1, int(np.prod(shape[1:], dtype=np.int64)))
        step = max(1, _ENTRIES // width)
        for start in range(0, shape[0], step):
            values = np.asarray(node[start : start + step])
            n_infinite += int(np.count_nonzero(np.isinf(values)))
            n_missing += int(np.count_nonzero(np.isnan(values)))
    return ArrayFacts(encoding="array", shape=shape, dtype=str(node.dtype), n_infinite=n_infinite, n_missing=n_missing)


def _values_in(group: GroupNode) -> dict[str, object]:
    """Return the values of a group of uns: texts, numbers, truth values, lists, mappings, facts of large arrays."""
    return {name: _value_of(group[name]) for name in sorted(group)}


def _value_of(node: Node) -> object:
    if is_group(node):
        word = text_of(node.attrs.get("encoding-type", "dict"))
        return _values_in(node) if word in {"dict", "none"} else ArrayFacts(encoding=word)
    if node.shape is None:
        return None
    n_values = int(np.prod(node.shape, dtype=np.int64))
    if n_values > _LARGEST_VALUE or len(node.shape) > 1:
        return ArrayFacts(encoding="array", shape=tuple(node.shape), dtype=str(node.dtype))
    return _plain(node[()], node)


def _plain(value: object, node: ArrayNode) -> object:
    if node.shape:
        return [_plain_scalar(item) for item in np.asarray(value).tolist()]
    return _plain_scalar(value.item() if isinstance(value, np.generic) else value)


def _plain_scalar(value: object) -> object:
    return text_of(value) if isinstance(value, bytes) else value


def _incomplete(path: Path, part: str) -> Finding:
    return Finding(
        code="E-H5AD-01",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        message=f"The file is no AnnData file of today: it has no {part!r} as such files hold it.",
        remedy="Read it with a current anndata and write it anew; a schema of CELLxGENE is about .h5ad files only.",
        rule="cytolabe/readable",
    )
