"""Cells out of a snapshot into a file of their own, block by block: h5ad, zarr v3, or a SOMA experiment.

A file has the layout that anndata (or tiledbsoma) writes itself, so that nothing of Cytolabe is needed to open it;
what it came from stands in `uns`. Counts are float32, and float64 throughout where one count exceeds 2^24. Everything
is written under a staged name and takes its own name last: an interrupted export leaves nothing under it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr
from scipy.sparse import csr_matrix

from cytolabe.errors import ConflictError, MissingExtraError, RefusedError, UsageError
from cytolabe.files import publish_directory, publish_file, staged_directory
from cytolabe.snapshot.access import require_access
from cytolabe.snapshot.selection import EXACT_FLOAT32, Selection, select

if TYPE_CHECKING:
    from cytolabe.snapshot.frozen import Snapshot

__all__ = ["SUFFIXES", "export_cells", "require_name", "write_cells"]

SUFFIXES = (".h5ad", ".zarr", ".soma")
_CHUNK_VALUES = 1 << 18
_SAID_EVERY = 20

Told = Callable[[str], None]


def export_cells(
    snapshot: "Snapshot",
    path: Path,
    *,
    where: str = "",
    genes: Sequence[str] | None = None,
    access: str = "",
    on_progress: Told = lambda _message: None,
) -> Selection:
    """Write cells of a snapshot to `x.h5ad`, `x.zarr` or `x.soma`, and return what was written.

    Parameters
    ----------
    snapshot
        Where the cells are.
    path
        A name that is not taken; its suffix is the format.
    where
        A filter; without it all cells.
    genes
        Reference genes; without them those that every data set among the cells measures.
    access
        The strictest access class that may leave (`registered`, `managed`); empty for open and undeclared cells only.
    on_progress
        Told how far it is.

    Raises
    ------
    UsageError
        If the name is taken, its suffix is unknown, or the filter cannot be read.
    RefusedError
        If no cell matches, one is of a stricter access class, or a text has a NUL that an h5ad cannot hold.
    UnmeasuredGeneError
        If a data set among the cells does not measure a gene that was named.
    MissingExtraError
        If a SOMA experiment is asked for and tiledbsoma is not installed.
    """
    require_name(path)
    selection = select(snapshot, where=where, genes=genes)
    write_cells(selection, path, access=access, on_progress=on_progress)
    return selection


def require_name(path: Path) -> None:
    """Refuse a name that is taken, or has no suffix of a format."""
    if path.suffix not in SUFFIXES:
        msg = f"{path.name} names no format; a name ends with {', '.join(SUFFIXES)}."
        raise UsageError(msg)
    if path.exists():
        msg = f"{path} is there already and is not replaced. Name another place, or remove it."
        raise UsageError(msg)


def write_cells(
    selection: Selection, path: Path, *, access: str = "", on_progress: Told = lambda _message: None
) -> None:
    """Write what was selected under a name that is not taken; parameters and errors are those of `export_cells`."""
    require_access(selection.n_by_access, access)
    on_progress(f"{len(selection.positions):,} cells x {len(selection.genes):,} genes to {path.name}")
    write = {".h5ad": _write_h5ad, ".zarr": _write_zarr, ".soma": _write_soma}[path.suffix]
    with staged_directory(path.parent) as staged:
        whole = staged / path.name
        try:
            write(whole, _Blocks(selection, np.dtype(np.float32), on_progress))
        except _TooWideError:
            # Rare enough to begin again: one count is beyond the integers that float32 holds.
            with staged_directory(staged) as again:
                whole = again / path.name
                write(whole, _Blocks(selection, np.dtype(np.float64), on_progress))
                _publish(whole, path)
        else:
            _publish(whole, path)


class _TooWideError(Exception):
    """A count that float32 does not hold exactly."""


def _publish(whole: Path, path: Path) -> None:
    is_mine = publish_directory(whole, path) if whole.is_dir() else publish_file(whole, path)
    if not is_mine:
        msg = f"{path} was written by somebody else in the meantime and is not replaced."
        raise ConflictError(msg)


def _as_floats(counts: csr_matrix, dtype: np.dtype) -> np.ndarray:
    if dtype == np.float32 and counts.nnz and int(counts.data.max()) > EXACT_FLOAT32:
        raise _TooWideError
    return np.asarray(counts.data.astype(dtype))


def _write_h5ad(path: Path, blocks: "_Blocks") -> None:
    _require_no_nul(blocks.selection)
    with h5py.File(path, "w") as file:
        # gzip is the one filter that every HDF5 library has.
        options = {"chunks": (_CHUNK_VALUES,), "maxshape": (None,), "compression": "gzip", "compression_opts": 1}
        _write_group(
            file,
            lambda group, name, kind: group.create_dataset(name, shape=(0,), dtype=kind, shuffle=True, **options),
            blocks,
        )


def _require_no_nul(selection: Selection) -> None:
    """Refuse texts that HDF5 would cut off or cannot hold: those of other formats may have a NUL in them."""
    texts = {"cell_id": selection.obs.index.to_series(), **{str(name): selection.obs[name] for name in selection.obs}}
    for name, column in texts.items():
        values = column.cat.categories.to_series() if isinstance(column.dtype, pd.CategoricalDtype) else column
        if not pd.api.types.is_string_dtype(values.dtype) and values.dtype != object:
            continue
        found = values[values.str.contains("\0", regex=False).fillna(value=False).astype(bool)]
        if len(found):
            msg = (
                f"{len(found)} values of {name} have a NUL in them, the first one {found.iloc[0]!r}, which HDF5 cannot hold. "
                "Write a .zarr, or leave these cells out with --where."
            )
            raise RefusedError(msg)


def _write_zarr(path: Path, blocks: "_Blocks") -> None:
    # One file per table column: they are small, and every reader of zarr v3 knows plain chunks.
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        root = zarr.open_group(path, mode="w", zarr_format=3)
        _write_group(
            root,
            lambda group, name, kind: group.create_array(name, shape=(0,), chunks=(_CHUNK_VALUES,), dtype=kind),
            blocks,
        )


class _Blocks:
    """The counts of a selection as floats of one width, with a word on the way."""

    def __init__(self, selection: Selection, dtype: np.dtype, on_progress: Told) -> None:
        self.selection = selection
        self.dtype = dtype
        self._on_progress = on_progress

    def __iter__(self) -> Any:  # noqa: ANN401 - (first row, matrix, values)
        done, total = 0, len(self.selection.positions)
        for number, counts in enumerate(self.selection.blocks(), start=1):
            yield done, counts, _as_floats(counts, self.dtype)
            done += counts.shape[0]
            if number % _SAID_EVERY == 0:
                self._on_progress(f"{done:,} of {total:,} cells")


def _write_group(
    root: Any,  # noqa: ANN401 - an h5py or a zarr group
    create: Callable[[Any, str, type], Any],
    blocks: _Blocks,
) -> None:
    """Write the AnnData layout: tables by anndata itself, the matrix in pieces of whole chunks."""
    selection = blocks.selection
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    elements: dict[str, Any] = {"obs": selection.obs, "var": selection.var, "uns": selection.provenance}
    for name, element in elements.items():
        anndata.io.write_elem(root, name, element)
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        anndata.io.write_elem(root, name, {})
    matrix = root.create_group("X")
    shape = [len(selection.positions), len(selection.genes)]
    matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    data = _Appended(create(matrix, "data", blocks.dtype.type))
    indices = _Appended(create(matrix, "indices", np.int32))
    indptr = _Appended(create(matrix, "indptr", np.int64))
    indptr.append(np.zeros(1, dtype=np.int64))
    n_values = 0
    for _, counts, values in blocks:
        data.append(values)
        indices.append(counts.indices.astype(np.int32))
        indptr.append(counts.indptr[1:].astype(np.int64) + n_values)
        n_values += counts.nnz
    for array in (data, indices, indptr):
        array.finish()


class _Appended:
    """A one-dimensional array on disk that grows by whole chunks; what does not fill one waits."""

    def __init__(self, array: Any) -> None:  # noqa: ANN401 - an h5py data set or a zarr array
        self._array = array
        self._waiting: list[np.ndarray] = []
        self._n_written = 0

    def append(self, values: np.ndarray) -> None:
        self._waiting.append(values)
        if sum(map(len, self._waiting)) >= _CHUNK_VALUES:
            together = np.concatenate(self._waiting)
            whole = len(together) // _CHUNK_VALUES * _CHUNK_VALUES
            self._write(together[:whole])
            self._waiting = [together[whole:]]

    def finish(self) -> None:
        self._write(np.concatenate(self._waiting))

    def _write(self, values: np.ndarray) -> None:
        if len(values):
            self._array.resize((self._n_written + len(values),))
            self._array[self._n_written : self._n_written + len(values)] = values
            self._n_written += len(values)


def _write_soma(path: Path, blocks: "_Blocks") -> None:
    try:
        from cytolabe.snapshot.soma import write_experiment  # noqa: PLC0415 - an extra
    except ImportError:
        msg = "a SOMA experiment needs tiledbsoma: pip install 'cytolabe[soma]'. Or write an .h5ad or a .zarr."
        raise MissingExtraError(msg) from None
    write_experiment(path, blocks.selection, dtype=blocks.dtype, blocks=iter(blocks))
