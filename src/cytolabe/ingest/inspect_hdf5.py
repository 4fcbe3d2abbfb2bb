"""The process that looks through one HDF5 file: its structure first, then every value that a reader would read.

Run by `inspection.inspect`; it imports as little as it can, because it starts once for every file.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest.child_limits import run_limited
from cytolabe.ingest.deflated import unpacked
from cytolabe.ingest.refusals import findings_of, readable
from cytolabe.ingest.safety import scan_h5
from cytolabe.records import Finding

__all__ = ["is_plain_bytes", "look_through"]

_SLICE_BYTES = 8 << 20
"""What is read at a time; a larger chunk is read whole."""
_CACHE_BYTES = 64 << 20
_NOT_READ = frozenset({"obsm", "obsp", "varm", "varp", "row_graphs", "col_graphs"})
"""Groups that no reader opens."""


def look_through(path: Path) -> tuple[Finding, ...]:
    """Return what makes a file hostile or unreadable, after all of it was read."""
    found = scan_h5(path)
    if found:
        return found
    try:
        with h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES) as file:
            for dataset in _datasets(file):
                _read_all(dataset)
    except UnreadableInputError as error:
        return findings_of(error)
    return ()


def _datasets(group: h5py.Group) -> Iterator[h5py.Dataset]:
    with readable(group.name):
        dict(group.attrs)
        names = [name for name in group if name not in _NOT_READ]
    for name in names:
        with readable(f"{group.name.rstrip('/')}/{name}"):
            node = group[name]
            dict(node.attrs)
        if isinstance(node, h5py.Dataset):
            yield node
        elif isinstance(node, h5py.Group):
            yield from _datasets(node)


def _read_all(dataset: h5py.Dataset) -> None:
    """Read a data set in slices along its first axis, whole chunks at a time."""
    with readable(dataset.name):
        if is_plain_bytes(dataset):
            return
        if not dataset.shape:
            _ = dataset[()]
            return
        per_row = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64)))
        chunk = dataset.chunks[0] if dataset.chunks else 1
        n_rows = max(1, _SLICE_BYTES // per_row // chunk) * chunk
        values = unpacked(dataset)
        for start in range(0, dataset.shape[0], n_rows):
            _ = values[start : start + n_rows]


def is_plain_bytes(dataset: h5py.Dataset) -> bool:
    """Tell whether values are numbers as they lie in one run of the file: no decoder takes part in reading these.

    The run can only end behind the end of the file, and that HDF5 refuses when it opens the data set.
    """
    if dataset.chunks is not None or dataset.dtype.kind not in "iufb" or dataset.external or dataset.is_virtual:
        return False
    return dataset.id.get_offset() is not None


if __name__ == "__main__":
    run_limited(look_through)
