"""Before hours of reading: what an ingest will read and write, and whether the disk has room for it.

What is written cannot be known before the counts are: of an uncompressed file it was between an eighth and a sixth, of
a compressed one up to six tenths. So the look before the first pass takes six tenths as the most, and once every
non-zero was counted there is a second look with two bytes for each, before anything is written.
"""

import shutil
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files import Place

__all__ = ["estimate", "require_room"]

_MOST_WRITTEN = 0.6
_BYTES_PER_NONZERO = 2
_SPARE = 64 << 20


def estimate(atlas: Place, n_bytes: int) -> str:
    """Say what will be read and written for sources of `n_bytes`.

    Raises
    ------
    UsageError
        If the disk of the atlas has no room for it.
    """
    needed = int(_MOST_WRITTEN * n_bytes)
    free = _require(atlas, needed)
    room = "" if free is None else f", {_size(free)} are free"
    return f"{_size(n_bytes)} to read twice, at most about {_size(needed)} to write{room}"


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
            f"{atlas}: the disk has {_size(free)} free, and up to {_size(needed)} will be written. Free some space, or "
            "put the atlas elsewhere. Nothing was written."
        )
        raise UsageError(msg)
    return free


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 10**9 else f"{n_bytes / 1e6:,.1f} MB"
