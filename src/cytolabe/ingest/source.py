"""Open a contribution of any format: what it is shows in its content, never in its name.

`scan_source` first, then `open_source`: the readers trust that nothing leads out of the source.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from cytolabe.ingest.h5ad import open_h5ad
from cytolabe.ingest.h5mu import open_h5mu
from cytolabe.ingest.opened import Source
from cytolabe.ingest.refusals import readable
from cytolabe.ingest.safety import scan_h5
from cytolabe.records import Finding

__all__ = ["Source", "format_of", "open_source", "scan_source"]


def scan_source(path: Path) -> tuple[Finding, ...]:
    """Look for what makes a source unreadable or hostile; empty where it may be read."""
    return scan_h5(path)


def format_of(path: Path) -> str:
    """Return h5ad or h5mu, by the content of a scanned source; what looks like nothing else is left to h5ad to refuse."""
    with readable(path.name), h5py.File(path, "r", locking=False) as file:
        return "h5mu" if isinstance(file.get("mod"), h5py.Group) and "X" not in file else "h5ad"


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
    if format_of(path) == "h5mu":
        opening = open_h5mu(path, part=part, is_known=is_known)
    else:
        opening = open_h5ad(path, is_known=is_known)
    with opening as source:
        yield source
