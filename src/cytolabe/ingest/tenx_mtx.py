"""Read a folder of Cell Ranger: `matrix.mtx`, `barcodes.tsv` and `features.tsv` (`genes.tsv` before), gzipped or not.

The text is read once, as a stream, into numbers in a temporary directory: 12 bytes per entry. 10x writes features x
cells by columns, so that the entries of a cell follow each other; entries in any other order are sorted by cell there.
A path to a matrix stands for the three files that share its prefix (`GSM1_matrix.mtx.gz`, `GSM1_barcodes.tsv.gz`, ...).
"""

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from cytolabe.ingest.genes_of_10x import GeneChoice, choose_genes, empty_table
from cytolabe.ingest.matrices import CompressedRows, MatrixHandle, RowReader
from cytolabe.ingest.mtx_text import MtxHeader, iter_entries, mtx_problem, read_header
from cytolabe.ingest.opened import Contents, OpenSource, StoredMatrix
from cytolabe.ingest.refusals import readable
from cytolabe.ingest.rows import SelectedFeatures
from cytolabe.ingest.tables import ContributedTable, text_of
from cytolabe.ingest.trios import Trio, trio_of

__all__ = ["contents_of", "open_tenx_mtx"]

_MAX_TABLE_BYTES = 1 << 30
_GZIP = b"\x1f\x8b"


@contextmanager
def open_tenx_mtx(path: Path, *, part: str = "") -> Iterator[OpenSource]:
    """Open a folder of 10x, or the matrix in it, for reading.

    Raises
    ------
    UnreadableInputError
        If one of the files is damaged, or the header of the matrix is not true.
    RefusedError
        If it has genes of several genomes and `part` names none.
    """
    trio = trio_of(path)
    if trio is None:
        raise mtx_problem(path.name, "Barcodes, features and one matrix do not lie together here.")
    with ExitStack() as cleanup:
        yield OpenSource(path, contents_of(path, trio, part), cleanup)


def _opened_text(path: Path) -> BufferedIOBase:
    """Open a file of text, decompressed where its content says that it is compressed."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
    return gzip.GzipFile(path, "rb") if packed else path.open("rb")


def contents_of(path: Path, trio: Trio, part: str) -> Contents:
    """Read the tables of a matrix and say how it is opened; `path` is what findings name."""
    barcodes = tuple(row[0] for row in _rows(trio.barcodes))
    table = _feature_table(trio.features)
    with readable(trio.matrix.name), _opened_text(trio.matrix) as stream:
        header = read_header(stream, trio.matrix.name)
    named = (len(table.names), len(barcodes))
    if (header.n_rows, header.n_columns) != named:
        message = (
            f"The header says {header.n_rows:,} x {header.n_columns:,}, but {named[0]:,} features and {named[1]:,} cells "
            "are named beside it."
        )
        raise mtx_problem(trio.matrix.name, message)
    if header.n_entries > named[0] * named[1]:
        raise mtx_problem(
            trio.matrix.name, f"The header says {header.n_entries:,} entries, more than there are places."
        )
    genes = choose_genes(table, part=part, path=path)
    handle = MatrixHandle(
        name="X", shape=(named[1], len(genes.positions)), encoding="text", dtype="float64",
        n_nonzero=header.n_entries, part=part,
    )  # fmt: skip

    def open_rows(cleanup: ExitStack) -> RowReader:
        return _open_rows(trio.matrix, genes, cleanup)

    return Contents(
        cells=empty_table(barcodes),
        features={"features": genes.table},
        matrices=(StoredMatrix(handle=handle, features="features", open_rows=open_rows),),
        findings=genes.findings,
    )


def _rows(path: Path) -> list[list[str]]:
    """Read a table without a header; its lines are bounded, and so is all of it."""
    with readable(path.name), _opened_text(path) as stream:
        content = stream.read(_MAX_TABLE_BYTES + 1)
    if len(content) > _MAX_TABLE_BYTES:
        raise mtx_problem(path.name, f"The table has over {_MAX_TABLE_BYTES:,} bytes.")
    lines = content.split(b"\n")
    if lines and not lines[-1].strip():
        lines.pop()
    return [text_of(line.rstrip(b"\r")).split("\t") for line in lines]


def _feature_table(path: Path) -> ContributedTable:
    rows = _rows(path)
    columns = {
        name: pd.Series([row[place] if len(row) > place else "" for row in rows], dtype=object)
        for place, name in ((1, "gene_name"), (2, "feature_types"))
        if any(len(row) > place for row in rows)
    }
    table = pd.DataFrame(columns, index=range(len(rows)))
    return ContributedTable(names=tuple(row[0] for row in rows), columns=table)


# --- from text to rows --------------------------------------------------------------------------------------------


def _open_rows(path: Path, genes: GeneChoice, cleanup: ExitStack) -> RowReader:
    """Turn the text into rows of numbers on disk, and keep the genes of them."""
    folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="cytolabe-")))
    with readable(path.name), _opened_text(path) as stream:
        header = read_header(stream, path.name)
        per_cell, is_by_cell = _spill(stream, header, path.name, folder=folder)
    indptr = np.concatenate([[0], np.cumsum(per_cell)]).astype(np.int64)
    n_entries = int(indptr[-1])
    data, features = _mapped(folder / "values", np.float64, n_entries), _mapped(folder / "rows", np.int32, n_entries)
    if not is_by_cell:
        data, features = _sorted_by_cell(folder, indptr, data, features=features)
    whole = MatrixHandle(
        name="X", shape=(header.n_columns, header.n_rows), encoding="text", dtype="float64", n_nonzero=n_entries
    )
    rows = CompressedRows(indptr, data, features, matrix=whole)
    if len(genes.positions) == header.n_rows:
        return rows
    return SelectedFeatures(rows, genes.positions, n_features=header.n_rows)


def _spill(stream: BufferedIOBase, header: MtxHeader, where: str, *, folder: Path) -> tuple[np.ndarray, bool]:
    """Write the entries as they come and return how many each cell has, and whether they came by cell."""
    per_cell = np.zeros(header.n_columns, dtype=np.int64)
    is_by_cell, last = True, -1
    with (
        (folder / "rows").open("wb") as rows_file,
        (folder / "values").open("wb") as values_file,
        (folder / "cells").open("wb") as cells_file,
    ):
        for rows, cells, values in iter_entries(stream, header, where):
            per_cell += np.bincount(cells, minlength=header.n_columns)
            steps = np.diff(cells, prepend=last)
            is_by_cell = is_by_cell and (not len(cells) or steps.min() >= 0)
            last = int(cells[-1]) if len(cells) else last
            rows_file.write(rows.astype(np.int32).tobytes())
            values_file.write(values.tobytes())
            cells_file.write(cells.astype(np.int32).tobytes())
    return per_cell, bool(is_by_cell)


def _mapped(path: Path, dtype: type, n_entries: int) -> np.ndarray:
    return np.memmap(path, dtype=dtype, mode="r", shape=(n_entries,)) if n_entries else np.zeros(0, dtype)


def _sorted_by_cell(
    folder: Path, indptr: np.ndarray, data: np.ndarray, *, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put the entries of each cell together, a slice at a time."""
    n_entries = len(data)
    cells = _mapped(folder / "cells", np.int32, n_entries)
    sorted_data = np.memmap(folder / "values.sorted", dtype=np.float64, mode="w+", shape=(n_entries,))
    sorted_features = np.memmap(folder / "rows.sorted", dtype=np.int32, mode="w+", shape=(n_entries,))
    following = indptr[:-1].copy()
    step = 4_000_000
    for low in range(0, n_entries, step):
        here = np.asarray(cells[low : low + step], dtype=np.int64)
        order = np.argsort(here, kind="stable")
        ordered = here[order]
        target = following[ordered] + np.arange(len(ordered)) - np.searchsorted(ordered, ordered, side="left")
        sorted_data[target] = data[low : low + step][order]
        sorted_features[target] = features[low : low + step][order]
        following += np.bincount(here, minlength=len(following))
    return sorted_data, sorted_features
