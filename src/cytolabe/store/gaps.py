"""The kernels of the reader: undo gaps, widen counts, and put both where the caller wants them.

A chunk holds values of the positions `origin`, `origin` + 1, ... of an array. Pieces are ranges of positions that
somebody wants, ascending and apart from each other; each goes to a place of its own in `out`. So cells that lie side
by side and cells picked at random are read by the same loop, and no chunk is gone through twice.
"""

import numpy as np

from cytolabe.compiled import kernel

__all__ = ["place_gaps", "place_values"]


@kernel
def place_values(chunk: np.ndarray, wanted: tuple[int, np.ndarray, np.ndarray, np.ndarray], out: np.ndarray) -> None:
    """Copy what the pieces want of a chunk of plain values.

    Parameters
    ----------
    chunk
        Values of the positions from `origin` on.
    wanted
        (origin, starts, stops, targets): pieces, ascending; piece p wants the positions `starts[p]` to `stops[p]`, and
        they go to `out[targets[p]]` and on.
    """
    origin, starts, stops, targets = wanted
    end = origin + len(chunk)
    piece = np.searchsorted(stops, origin, side="right")
    while piece < len(starts) and starts[piece] < end:
        low = max(starts[piece], origin)
        high = min(stops[piece], end)
        shift = targets[piece] - starts[piece]
        for position in range(low, high):
            out[position + shift] = chunk[position - origin]
        piece += 1


@kernel
def place_gaps(chunk: np.ndarray, wanted: tuple[int, np.ndarray, np.ndarray, np.ndarray], out: np.ndarray) -> None:
    """Undo the gaps of a chunk and copy what the pieces want of it; see `place_values`.

    Gaps wrap around at the width of the chunk: the first entry of a cell is most often smaller than the last one of
    the cell before.
    """
    origin, starts, stops, targets = wanted
    end = origin + len(chunk)
    mask = np.uint64(0xFFFF) if chunk.itemsize == 2 else np.uint64(0xFFFFFFFF)
    piece = np.searchsorted(stops, origin, side="right")
    running = np.uint64(0)
    position = origin
    while piece < len(starts) and starts[piece] < end:
        low = max(starts[piece], origin)
        high = min(stops[piece], end)
        while position < low:
            running += np.uint64(chunk[position - origin])
            position += 1
        shift = targets[piece] - starts[piece]
        while position < high:
            running += np.uint64(chunk[position - origin])
            out[position + shift] = running & mask
            position += 1
        piece += 1
