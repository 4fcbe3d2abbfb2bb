"""The process that looks through one zarr hierarchy: its metadata and names first, then every value a reader would read."""

from collections.abc import Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest.child_limits import run_limited
from cytolabe.ingest.refusals import findings_of, readable
from cytolabe.ingest.zarr_nodes import ZarrArray, ZarrGroup, zarr_root
from cytolabe.ingest.zarr_safety import scan_zarr
from cytolabe.records import Finding, Severity

__all__ = ["look_through"]

_SLICE_BYTES = 64 << 20
_NOT_READ = frozenset({"obsm", "obsp", "varm", "varp"})


def look_through(path: Path) -> tuple[Finding, ...]:
    """Return what makes a hierarchy hostile or unreadable, after all of it was read."""
    found = scan_zarr(path)
    if any(finding.severity is Severity.ERROR for finding in found):
        return found
    try:
        with ExitStack() as cleanup:
            for array in _arrays(zarr_root(path, cleanup)):
                _read_all(array)
    except UnreadableInputError as error:
        return (*found, *findings_of(error))
    return found


def _arrays(group: ZarrGroup) -> Iterator[ZarrArray]:
    for name in group:
        if name not in _NOT_READ:
            with readable(f"{group.name.rstrip('/')}/{name}"):
                node = group[name]
            if isinstance(node, ZarrArray):
                yield node
            else:
                yield from _arrays(node)


def _read_all(array: ZarrArray) -> None:
    """Read an array in slices along its first axis, whole chunks at a time."""
    with readable(array.name):
        if not array.shape:
            _ = array[()]
            return
        per_row = max(1, array.dtype.itemsize * prod(array.shape[1:]))
        n_rows = max(1, _SLICE_BYTES // per_row // array.chunks[0]) * array.chunks[0]
        for start in range(0, array.shape[0], n_rows):
            _ = array[start : start + n_rows]


if __name__ == "__main__":
    run_limited(look_through)
