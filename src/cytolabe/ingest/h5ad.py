"""Read an AnnData file with HDF5 alone, never as a whole: tables as delivered, matrices as streams of whole cells.

Scan the file first (`safety.scan_h5`): this reader trusts that no link leaves the file. It keeps to what the file
says: nothing is renamed, converted or left out without a finding. Old layouts (`raw.X`, compound tables) are read too.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cytolabe.errors import UnreadableInputError
from cytolabe.ingest.anndata import AnnDataSource
from cytolabe.ingest.hdf5_files import open_hdf5
from cytolabe.ingest.refusals import readable, refusal
from cytolabe.records import Finding, Severity

__all__ = ["open_h5ad"]


@contextmanager
def open_h5ad(path: Path, *, is_known: bool = False) -> Iterator[AnnDataSource]:
    """Open a scanned file for reading.

    Parameters
    ----------
    path
        The file.
    is_known
        Whether its tables and matrices were looked at before, so that only what is asked for is read.

    Raises
    ------
    UnreadableInputError
        If bytes are damaged, or the file is HDF5 but no AnnData file.
    RefusedError
        If its tables contradict themselves.
    """
    with ExitStack() as cleanup:
        with readable(path.name):
            file = cleanup.enter_context(open_hdf5(path))
        if "obs" not in file or ("mod" in file and "X" not in file):
            raise refusal(UnreadableInputError, [_no_anndata(path, sorted(file))])
        opened = AnnDataSource(path, file, cleanup)
        if not is_known:
            opened.look()
        yield opened


def _no_anndata(path: Path, found: list[str]) -> Finding:
    message = f"The file is HDF5, but no AnnData file: it has no table of cells 'obs' (found: {', '.join(found[:5])})."
    remedy = "Give an .h5ad, .h5mu or .loom file, or an .h5 file of Cell Ranger; convert anything else to .h5ad first."
    if "mod" in found:
        message = "The file is a MuData file of several modalities (it has a group 'mod'), and one matrix is needed."
        remedy = "Write its gene expression out: mudata.read_h5mu(...)['rna'].write_h5ad(...)."
    return Finding(
        code="E-H5AD-01",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        examples=tuple(found[:5]),
        message=message,
        remedy=remedy,
        rule="cytolabe/readable",
    )
