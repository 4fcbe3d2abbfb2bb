"""Open a contribution of any format: what it is shows in its content, never in its name.

`scan_source` first, then `open_source`: the readers trust that nothing leads out of the source.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import h5py

from cytolabe.ingest.census import is_census, open_census
from cytolabe.ingest.h5ad import open_h5ad
from cytolabe.ingest.h5mu import open_h5mu
from cytolabe.ingest.inspection import HDF5_CHILD, TAR_CHILD, ZARR_CHILD, inspect
from cytolabe.ingest.loom import is_loom, open_loom
from cytolabe.ingest.opened import Source
from cytolabe.ingest.refusals import readable
from cytolabe.ingest.safety import denied, scan_trio, sniff
from cytolabe.ingest.tar_listing import is_tar
from cytolabe.ingest.tenx_h5 import is_tenx, open_tenx_h5
from cytolabe.ingest.tenx_mtx import open_tenx_mtx
from cytolabe.ingest.tenx_tar import open_tenx_tar
from cytolabe.ingest.trios import is_zarr, trio_of
from cytolabe.ingest.zarr_anndata import open_zarr
from cytolabe.records import Finding

__all__ = ["Source", "format_of", "open_source", "scan_source"]


def scan_source(path: Path) -> tuple[Finding, ...]:
    """Look for what makes a source unreadable or hostile; empty where it may be read.

    Files whose libraries are C code are read to their end in a process that may die (`inspection`); text is not.
    """
    if is_census(path):
        return ()
    if (refused := denied(path)) is not None:
        return (refused,)
    trio = trio_of(path)
    if trio is not None:
        return tuple(found for part in trio.files if (found := denied(part)) is not None) or scan_trio(trio)
    if is_zarr(path):
        return inspect(path, ZARR_CHILD)
    if is_tar(path):
        return inspect(path, TAR_CHILD)
    sniffed = sniff(path)
    return (sniffed,) if sniffed is not None else inspect(path, HDF5_CHILD)


def format_of(path: Path) -> str:
    """Say what a scanned source is, by its content; what looks like nothing else is left to h5ad to refuse."""
    looks = (
        ("census", is_census),
        ("10x-mtx", lambda at: trio_of(at) is not None),
        ("zarr", is_zarr),
        ("10x-tar", is_tar),
    )
    for name, looks_like_it in looks:
        if looks_like_it(path):
            return name
    with readable(path.name), h5py.File(path, "r", locking=False) as file:
        if isinstance(file.get("mod"), h5py.Group) and "X" not in file:
            return "h5mu"
        if "obs" in file:
            return "h5ad"
        return "loom" if is_loom(file) else "10x-h5" if is_tenx(file) else "h5ad"


@contextmanager
def open_source(path: Path, *, part: str = "", is_known: bool = False) -> Iterator[Source]:
    """Open a scanned source for reading.

    Parameters
    ----------
    path
        A file, or a folder that is one source.
    part
        Which part is meant where a source has several: a modality, a genome.
    is_known
        Whether its tables and matrices were looked at before, so that only what is asked for is read.

    Raises
    ------
    UnreadableInputError
        If bytes are damaged, or the format is not known.
    RefusedError
        If its tables contradict themselves, or the part that is meant is not clear.
    """
    with _opening(path, part=part, is_known=is_known) as source:
        yield source


def _opening(path: Path, *, part: str, is_known: bool) -> AbstractContextManager[Source]:
    match format_of(path):
        case "census":
            return open_census(path)
        case "h5mu":
            return open_h5mu(path, part=part, is_known=is_known)
        case "loom":
            return open_loom(path)
        case "zarr":
            return open_zarr(path, is_known=is_known)
        case "10x-h5" | "10x-mtx" | "10x-tar" as name:
            return _OF_10X[name](path, part=part)
        case _:
            return open_h5ad(path, is_known=is_known)


_OF_10X = {"10x-h5": open_tenx_h5, "10x-mtx": open_tenx_mtx, "10x-tar": open_tenx_tar}
