"""Read a loom file: one dense matrix of genes x cells, layers of the same shape, attributes of both axes.

Cells are columns there. Chunks of a loom are square, so that a run of cells is read without its neighbors; the names of
cells and genes are attributes whose names differ from tool to tool.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from cytolabe.ingest.anndata import said_beside
from cytolabe.ingest.hdf5_files import open_hdf5
from cytolabe.ingest.matrices import MatrixHandle, RowReader
from cytolabe.ingest.native import native
from cytolabe.ingest.nodes import ArrayNode, GroupNode, is_array, is_group
from cytolabe.ingest.opened import Contents, OpenSource, StoredMatrix
from cytolabe.ingest.refusals import readable
from cytolabe.ingest.rows import SidewaysRows
from cytolabe.ingest.tables import ContributedTable, text_of, unread_finding
from cytolabe.records import Finding, Severity

__all__ = ["is_loom", "open_loom"]

_CELL_NAMES = ("CellID", "obs_names", "cell_id", "cell_names", "Cell", "Barcode", "barcode", "barcodes")
_GENE_NAMES = ("Accession", "var_names", "gene_ids", "Gene", "gene", "gene_names", "GeneName")
_UNREAD = "attributes are not one value for each row and are not read"
_REMEDY = "Nothing to do for embeddings; write anything else as one text or number for each row."
_KEPT = {"matrix", "layers", "row_attrs", "col_attrs", "attrs"}


def is_loom(root: GroupNode) -> bool:
    """Tell whether an HDF5 file is laid out as loom."""
    return is_array(root.get("matrix")) and is_group(root.get("col_attrs")) and is_group(root.get("row_attrs"))


@contextmanager
def open_loom(path: Path) -> Iterator[OpenSource]:
    """Open a scanned loom file for reading.

    Raises
    ------
    UnreadableInputError
        If bytes are damaged.
    """
    with ExitStack() as cleanup:
        with readable(path.name):
            file = cleanup.enter_context(open_hdf5(path, cells_are_columns=True))
            contents = _contents(path, file)
        yield OpenSource(path, contents, cleanup)


def _contents(path: Path, file: GroupNode) -> Contents:
    shape = tuple(int(length) for length in file["matrix"].shape or ())
    n_genes, n_cells = shape if len(shape) == 2 else (0, 0)
    cells = _table(file["col_attrs"], "col_attrs", _CELL_NAMES, n_rows=n_cells)
    genes = _table(file["row_attrs"], "row_attrs", _GENE_NAMES, n_rows=n_genes)
    nodes = {"X": file["matrix"]}
    layers = file.get("layers")
    nodes |= {f"layers/{name}": layers[name] for name in sorted(layers)} if is_group(layers) else {}
    matrices, findings = [], []
    for name, node in nodes.items():
        if not is_array(node) or node.shape != (n_genes, n_cells) or node.dtype.kind not in "biuf":
            findings.append(_no_matrix(name))
            continue
        handle = MatrixHandle(
            name=name, shape=(n_cells, n_genes), encoding="dense", dtype=str(node.dtype), n_nonzero=None
        )
        matrices.append(StoredMatrix(handle=handle, features="row_attrs", open_rows=partial(_open, node, handle)))
    others = [f"{name}/{key}" for name in sorted(set(file) - _KEPT) for key in sorted(file[name])]
    said = file.get("attrs")
    return Contents(
        cells=cells,
        features={"row_attrs": genes},
        matrices=tuple(matrices),
        findings=(*cells.findings, *findings, *_not_kept(path, others)),
        uns_keys=said_beside(said) if is_group(said) else tuple(sorted(file.attrs)),
        title=_title(file),
    )


def _open(node: ArrayNode, handle: MatrixHandle, _cleanup: ExitStack) -> RowReader:
    return SidewaysRows(node, handle)


def _table(group: GroupNode, where: str, name_columns: tuple[str, ...], *, n_rows: int) -> ContributedTable:
    """Read the attributes of an axis; those of several values per row are named, not read."""
    columns, unread = {}, []
    for name in sorted(group):
        values = _values(group[name])
        if values is None or len(values) != n_rows:
            unread.append(name)
        else:
            columns[name] = pd.Series(values, index=range(n_rows))
    index = next((name for name in name_columns if name in columns), "")
    if index:
        names = tuple(str(value) for value in columns[index])
    else:
        names = tuple(str(position) for position in range(n_rows))
    findings = unread_finding(unread, len(columns), where, why=_UNREAD, remedy=_REMEDY)
    return ContributedTable(names=names, columns=pd.DataFrame(columns, index=range(n_rows)), findings=findings)


def _values(node: ArrayNode | GroupNode) -> list[str] | np.ndarray | None:
    if not is_array(node) or len(node.shape or ()) not in {1, 2} or (node.shape or (0, 1))[1:] not in {(), (1,)}:
        return None
    values = node[...].ravel()
    if h5py.check_string_dtype(node.dtype) is not None or values.dtype.kind == "S":
        return [text_of(value) for value in values]
    return native(values) if values.dtype.kind in "biuf" else None


def _title(file: GroupNode) -> str:
    said = file.get("attrs")
    for name in ("title", "Title", "Name"):
        if is_group(said) and is_array(said.get(name)) and said[name].shape == ():
            return text_of(said[name][()])
        if name in file.attrs:
            return text_of(file.attrs[name])
    return ""


def _no_matrix(name: str) -> Finding:
    return Finding(
        code="W-MATRIX-05",
        severity=Severity.WARNING,
        where=name,
        n_affected=1,
        n_total=1,
        message=f"{name} is no matrix of numbers with one row per gene and one column per cell. It is left out.",
        remedy="If it holds the counts, write it as a layer of the shape of the main matrix.",
        rule="cytolabe/matrix",
    )


def _not_kept(path: Path, others: list[str]) -> tuple[Finding, ...]:
    if not others:
        return ()
    finding = Finding(
        code="N-H5AD-02",
        severity=Severity.NOTE,
        where=path.name,
        n_affected=len(others),
        n_total=len(others),
        examples=tuple(others[:5]),
        message=f"{len(others)} elements are not taken into the atlas ({', '.join(others[:5])}).",
        remedy="Nothing to do: embeddings and graphs are computed anew; the file itself is named by its digest.",
        rule="cytolabe/facts",
    )
    return (finding,)
