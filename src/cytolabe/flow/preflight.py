"""Before hours of reading: what an ingest will read and write, and whether the disk has room for it.

What is written cannot be known before the counts are. The numbers here are estimates from a few files, not bounds: of
an uncompressed file between an eighth and a sixth was written, of a compressed one up to six tenths. So the look before
the first pass takes six tenths, `expectation` says what a file that was opened is about to cost, and once every non-zero
was counted there is a look with two bytes for each, before anything is written.
"""

import shutil
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files import Place
from cytolabe.flow.budget import expected_peak
from cytolabe.ingest.census import is_census
from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.source import Source

__all__ = ["estimate", "expectation", "require_room"]

_MOST_WRITTEN = 0.6
_BYTES_PER_NONZERO = 2
_SPARE = 64 << 20
_READINGS = 4
"""A file is looked through, hashed, proven and read to be written; matrices that are not the counts are not written."""


def estimate(atlas: Place, n_bytes: int, *, n_remote: int = 0) -> str:
    """Say what will be read and written for files of `n_bytes`, and that `n_remote` data sets lie elsewhere.

    Raises
    ------
    UsageError
        If the disk of the atlas has no room for it.
    """
    needed = int(_MOST_WRITTEN * n_bytes)
    free = _require(atlas, needed)
    room = "" if free is None else f", {_size(free)} are free"
    elsewhere = f"; {n_remote} data set(s) of a SOMA experiment come on top, as large as they are" if n_remote else ""
    return f"{_size(n_bytes)} to read {_READINGS} times, about {_size(needed)} or less to write{room}{elsewhere}"


def expectation(opened: Source, n_bytes: int, *, n_workers: int, max_nonzero: int) -> str:
    """Say what a source that is open will cost: its cells and entries, what is read and written, and memory.

    Which matrix has the counts is not known yet, so the entries are those of the largest one. `n_workers`
    tasks hold `max_nonzero` entries each at most.
    """
    if is_census(opened.path):
        # The file only says where the cells are; how many counts they have is known once these are read.
        return (
            f"{opened.path.name}: {opened.n_cells:,} cells of a SOMA experiment; about {_BYTES_PER_NONZERO} bytes to write for "
            f"each non-zero count, about {_size(expected_peak(n_workers, max_nonzero=max_nonzero, n_cells=opened.n_cells))} "
            "of memory at the peak"
        )
    stored = max((_n_stored(matrix) for matrix in opened.matrices), default=0)
    memory = expected_peak(n_workers, max_nonzero=min(max_nonzero, stored), n_cells=opened.n_cells)
    written = int(min(_MOST_WRITTEN * n_bytes, _BYTES_PER_NONZERO * stored))
    return (
        f"{opened.path.name}: {opened.n_cells:,} cells, {stored:,} stored values in the largest of "
        f"{len(opened.matrices)} matrices; about {_size(_READINGS * n_bytes)} to read, {_size(written)} to write, "
        f"about {_size(memory)} of memory at the peak"
    )


def _n_stored(matrix: MatrixHandle) -> int:
    n_cells, n_features = matrix.shape
    return n_cells * n_features if matrix.n_nonzero is None else matrix.n_nonzero


def require_room(atlas: Place, n_nonzero: int) -> None:
    """Stop before the second pass where its output would not fit.

    Raises
    ------
    UsageError
        If the disk of the atlas has no room for it.
    """
    _require(atlas, _BYTES_PER_NONZERO * n_nonzero)


def _require(atlas: Place, needed: int) -> int | None:
    if not isinstance(atlas, Path):
        return None
    free = shutil.disk_usage(next(path for path in (atlas, *atlas.absolute().parents) if path.exists())).free
    if free < needed + _SPARE:
        msg = (
            f"{atlas}: the disk has {_size(free)} free, and up to {_size(needed)} will be written, with {_size(_SPARE)} "
            "to spare. Free some space, or put the atlas elsewhere. Nothing was written."
        )
        raise UsageError(msg)
    return free


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 10**9 else f"{n_bytes / 1e6:,.1f} MB"
