"""HDF5 files opened for reading from the first cell to the last: as much of a cache as that needs, and no more.

A chunk that lies across the end of a block is asked for twice. HDF5 keeps decoded chunks of every array up to a bound
that is the same for all arrays of a file; its own bound of 1 MiB decodes larger chunks again and again, and a bound of
many chunks holds them all without use, for every array and in every process. What HDF5 reads beside the values, the
heaps of texts among them, it keeps up to 32 MiB, more with every cell; read from first to last, none is asked for again.
"""

from math import ceil, prod
from pathlib import Path

import h5py

__all__ = ["bound_metadata", "chunk_cache_bytes", "open_hdf5"]

_LEAST_BYTES = 1 << 20
_MOST_BYTES = 64 << 20
_METADATA_BYTES = 2 << 20
_UNREAD = frozenset({"uns", "obsm", "obsp", "varm", "varp"})
"""What no block of cells is read from; `uns` may hold thousands of small arrays."""


def open_hdf5(path: Path, *, cells_are_columns: bool = False) -> h5py.File:
    """Open a scanned file for reading; no lock is taken."""
    with h5py.File(path, "r", locking=False) as file:
        bound_metadata(file)
        n_bytes = chunk_cache_bytes(file, cells_are_columns=cells_are_columns)
    file = h5py.File(path, "r", locking=False, rdcc_nbytes=n_bytes)
    bound_metadata(file)
    return file


def bound_metadata(file: h5py.File) -> None:
    """Bound what is kept of an open file beside values: places of chunks, heaps of texts."""
    bound = file.id.get_mdc_config()
    bound.max_size, bound.min_size = _METADATA_BYTES, min(bound.min_size, _METADATA_BYTES)
    bound.set_initial_size, bound.initial_size = True, _METADATA_BYTES
    file.id.set_mdc_config(bound)


def chunk_cache_bytes(file: h5py.File, *, cells_are_columns: bool = False) -> int:
    """Return the bytes of the largest run of chunks across the cells of a file, between 1 and 64 MiB.

    That is whatever a block of cells can leave half read: one chunk of a list, and of a table the chunks that hold all
    values of a cell.
    """
    found = [_LEAST_BYTES]

    def look(_: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset) and node.chunks:
            n_across = [ceil(width / chunk) for width, chunk in zip(node.shape, node.chunks, strict=True)]
            across = n_across[0] if cells_are_columns and len(n_across) > 1 else prod(n_across[1:])
            found.append(across * prod(node.chunks) * node.id.get_type().get_size())

    for name in sorted(set(file) - _UNREAD):
        node = file[name]
        look(name, node) if isinstance(node, h5py.Dataset) else node.visititems(look)
    return min(_MOST_BYTES, max(found))
