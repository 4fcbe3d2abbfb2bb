"""The kernels of the reader: decode chunks, undo gaps, and put the values where the caller wants them.

A chunk holds values of the positions `origin`, `origin` + 1, ... of an array. Pieces are ranges of positions that
somebody wants, ascending and apart from each other; each goes to a place of its own in `out`. So cells that lie side
by side and cells picked at random are read by the same loop, and no chunk is gone through twice.
"""

import numpy as np

from cytolabe.compiled import kernel
from cytolabe.store.frames import decode_frame
from cytolabe.store.native import crc32c, pread

__all__ = ["is_sealed", "place_gaps", "place_values", "read_chunks"]


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
        # Slices, so that every index counts from 0: the compiler then makes vector code of the loop.
        source = chunk[low - origin : high - origin]
        target = out[targets[piece] + low - starts[piece] : targets[piece] + high - starts[piece]]
        for position in range(len(source)):
            target[position] = source[position]
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
    _place_gaps(chunk, (starts, stops, targets), (out, mask, origin, end))


@kernel
def _place_gaps(
    chunk: np.ndarray,
    wanted: tuple[np.ndarray, np.ndarray, np.ndarray],
    into: tuple[np.ndarray, np.uint64, int, int],
) -> None:
    starts, stops, targets = wanted
    out, mask, origin, end = into
    piece = np.searchsorted(stops, origin, side="right")
    running = np.uint32(0)
    position = origin
    while piece < len(starts) and starts[piece] < end:
        low = max(starts[piece], origin)
        high = min(stops[piece], end)
        before = chunk[position - origin : low - origin]
        for value in before:
            running += np.uint32(value)
        source = chunk[low - origin : high - origin]
        target = out[targets[piece] + low - starts[piece] : targets[piece] + high - starts[piece]]
        for number in range(len(source)):
            running += np.uint32(source[number])
            target[number] = running & mask
        position = high
        piece += 1


@kernel
def read_chunks(
    chunks: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    buffers: tuple[int, np.ndarray, np.ndarray, np.ndarray],
    wanted: tuple[np.uint64, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> int:
    """Read chunks from files, check and decode them, and copy what the pieces want, without the interpreter.

    Chunks that lie one behind the other in a file are read together.

    Parameters
    ----------
    chunks
        (numbers, handles, starts, stops): ascending numbers of chunks; for each the open file, and where it starts and
        stops in it, crc32c included.
    buffers
        (decoder, read, room, values): address of a zstd decoder of this thread; room for what is read together, for the
        bytes of a chunk and for its values (uint32).
    wanted
        (mask, n_values, starts, stops, targets, out): the largest value of the stored type where the array holds gaps,
        else 0; number of values of the array; pieces, and where they go.

    Returns
    -------
    :
        -1, or the place in `chunks` of the first one that could not be read or decoded here.
    """
    numbers, handles, starts, stops = chunks
    decoder, read, room, values = buffers
    mask, n_values, firsts, lasts, targets, out = wanted
    done = 0
    while done < len(numbers):
        base = starts[done]
        end = done + 1
        while (
            end < len(numbers)
            and handles[end] == handles[done]
            and starts[end] == stops[end - 1]
            and stops[end] - base <= len(read)
        ):
            end += 1
        length = stops[end - 1] - base
        if length > len(read):
            return done
        found = pread(np.int32(handles[done]), np.uintp(read.ctypes.data), np.uintp(length), np.int64(base))
        if found != length:
            return done
        for place in range(done, end):
            low, high = starts[place] - base, stops[place] - base - 4
            if high <= low or not is_sealed(read[low : high + 4]):
                return place
            if not decode_frame(read[low:high], decoder, (room, values)):
                return place
            origin = numbers[place] * len(values)
            chunk = values[: min(len(values), n_values - origin)]
            if mask:
                _place_gaps(chunk, (firsts, lasts, targets), (out, mask, origin, origin + len(chunk)))
            else:
                place_values(chunk, (origin, firsts, lasts, targets), out)
        done = end
    return -1


@kernel
def is_sealed(frame: np.ndarray) -> bool:
    """Tell whether the last four bytes are the crc32c of those before."""
    n_bytes = len(frame) - 4
    found = crc32c(np.uintp(frame.ctypes.data), np.uintp(n_bytes))
    stored = np.uint32(0)
    for byte in range(4):
        stored |= np.uint32(frame[n_bytes + byte]) << np.uint32(8 * byte)
    return bool(found == stored)
