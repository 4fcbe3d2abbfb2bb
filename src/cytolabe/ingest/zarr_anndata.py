"""Open an AnnData hierarchy of zarr, version 2 or 3, in a folder or a zip archive.

Scan it first (`zarr_safety.scan_zarr`): this reader trusts that its codecs are harmless and that no chunk is absent.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest.anndata import AnnDataSource
from cytolabe.ingest.refusals import refusal
from cytolabe.ingest.zarr_nodes import zarr_root
from cytolabe.records import Finding, Severity

__all__ = ["open_zarr"]


@contextmanager
def open_zarr(path: Path, *, is_known: bool = False) -> Iterator[AnnDataSource]:
    """Open a scanned hierarchy for reading.

    Parameters
    ----------
    path
        The folder, or the archive.
    is_known
        Whether its tables and matrices were looked at before, so that only what is asked for is read.

    Raises
    ------
    UnreadableInputError
        If bytes are damaged, or it is no AnnData hierarchy.
    RefusedError
        If its tables contradict themselves.
    """
    with ExitStack() as cleanup:
        root = zarr_root(path, cleanup)
        if "obs" not in root:
            raise refusal(UnreadableInputError, [_no_anndata(path, list(root))])
        opened = AnnDataSource(path, root, cleanup)
        if not is_known:
            opened.look()
        yield opened


def _no_anndata(path: Path, found: list[str]) -> Finding:
    return Finding(
        code="E-H5AD-01",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        examples=tuple(found[:5]),
        message=f"The hierarchy of zarr is no AnnData: it has no table of cells 'obs' (found: {', '.join(found[:5])}).",
        remedy="Give the folder that AnnData wrote, not one inside or around it.",
        rule="cytolabe/readable",
    )
