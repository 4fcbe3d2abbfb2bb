"""The synthetic atlas as the peers get it: arrays of 16 bits, one compiled gather, and an experiment for TileDB-SOMA."""

# ruff: noqa: PLC0415 - a peer is imported where it is needed
from dataclasses import dataclass
from pathlib import Path

import h5py
import numba
import numpy as np


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """All data sets one after the other, as CSR with 16-bit indices and counts."""

    paths: list[str]
    indptr: np.ndarray
    indices: np.ndarray
    counts: np.ndarray
    dataset: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1


def read_atlas(folder: Path) -> Atlas:
    """Return the atlas of a folder of uncompressed h5ad files, its arrays kept beside it as memory maps."""
    paths = sorted(str(path) for path in folder.glob("ds*.h5ad"))
    indptr, dataset = [np.zeros(1, dtype=np.int64)], []
    home = folder / "arrays"
    made = home.exists()
    home.mkdir(exist_ok=True)
    for number, path in enumerate(paths):
        with h5py.File(path, "r") as file:
            starts = file["X/indptr"][:]
            indptr.append(starts[1:] + indptr[-1][-1])
            dataset.append(np.full(len(starts) - 1, number))
            if not made:
                for name in ("indices", "data"):
                    with (home / name).open("ab") as stream:
                        for first in range(0, int(starts[-1]), 1 << 24):
                            file["X"][name][first : first + (1 << 24)].astype(np.uint16).tofile(stream)
    indices, counts = (np.memmap(home / name, np.uint16, "r") for name in ("indices", "data"))
    return Atlas(
        paths=paths, indptr=np.concatenate(indptr), indices=indices, counts=counts, dataset=np.concatenate(dataset)
    )


Matrix = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Offsets, columns and values."""


@numba.njit(nogil=True, cache=True)
def gather(matrix: Matrix, rows: np.ndarray) -> Matrix:
    """Return some rows as CSR with int32 indices and float32 counts."""
    indptr, indices, counts = matrix
    starts = np.zeros(len(rows) + 1, np.int64)
    for place in range(len(rows)):
        starts[place + 1] = starts[place] + indptr[rows[place] + 1] - indptr[rows[place]]
    own, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    for place in range(len(rows)):
        first = indptr[rows[place]]
        for entry in range(starts[place + 1] - starts[place]):
            own[starts[place] + entry] = indices[first + entry]
            values[starts[place] + entry] = counts[first + entry]
    return starts, own, values


def write_soma(atlas: Atlas, uri: str, *, n_cells: int) -> None:
    """Write the first cells of each data set as an experiment."""
    import anndata
    import tiledbsoma.io

    parts = [anndata.read_h5ad(path, backed="r")[:n_cells].to_memory() for path in atlas.paths]
    tiledbsoma.io.from_anndata(uri, anndata.concat(parts), "RNA", X_layer_name="raw")
