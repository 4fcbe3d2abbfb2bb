"""Blosc frames decoded by a kernel: parse, decode each block with zstd, and put the bytes of a value together.

The layout of a frame is that of Blosc 1: 16 bytes (versions, flags, size of a value, bytes, bytes of a block, bytes of
the frame), then where each block starts, then blocks of one stream, or of one stream for each byte of a value. With the
byte shuffle a block holds all lowest bytes, then all second ones; a kernel that adds them up while it copies needs no
pass to unshuffle. Whatever is not of this kind - another compressor, bit shuffle, a wrong length - is not decoded here:
the caller then asks Blosc, which says what is wrong.
"""

import numpy as np

from cytolabe.compiled import kernel
from cytolabe.store.native import decompress

__all__ = ["decode_frame"]

_HEADER = 16
_SHUFFLED, _PLAIN, _BITS, _UNSPLIT = 1, 2, 4, 16
_ZSTD = 4

Whole = int | np.int64


@kernel
def decode_frame(frame: np.ndarray, decoder: int, out: tuple[np.ndarray, np.ndarray]) -> bool:
    """Decode one frame of unsigned values of up to 4 bytes.

    Parameters
    ----------
    frame
        The frame, bytes, without a checksum behind it.
    decoder
        Address of a zstd decoder that no other thread uses.
    out
        (bytes, values): room for all bytes of the chunk, and one uint32 per value, which are filled.

    Returns
    -------
    :
        False where the frame is of another kind, or damaged.
    """
    room, values = out
    if len(frame) <= _HEADER:
        return False
    flags = np.int64(frame[2])
    size = np.int64(frame[3])
    if flags & _BITS or size < 1 or size > 4 or _number(frame, 4) != len(values) * size:
        return False
    if flags & _PLAIN:
        return _copy(frame, size, values)
    if flags >> 5 != _ZSTD or (size > 1 and not flags & _SHUFFLED):
        return False
    return _unpack(frame, (decoder, size, flags & _UNSPLIT), (room, values))


@kernel
def _number(frame: np.ndarray, at: Whole) -> np.int64:
    return (
        np.int64(frame[at])
        | (np.int64(frame[at + 1]) << 8)
        | (np.int64(frame[at + 2]) << 16)
        | (np.int64(frame[at + 3]) << 24)
    )


@kernel
def _copy(frame: np.ndarray, size: Whole, values: np.ndarray) -> bool:
    """Take the values of a frame that holds them as they are."""
    if len(frame) != _HEADER + len(values) * size:
        return False
    for position in range(len(values)):
        value = np.uint32(0)
        for byte in range(size):
            value |= np.uint32(frame[_HEADER + position * size + byte]) << np.uint32(8 * byte)
        values[position] = value
    return True


@kernel
def _unpack(frame: np.ndarray, kind: tuple[int, Whole, Whole], out: tuple[np.ndarray, np.ndarray]) -> bool:
    """Decode block after block."""
    decoder, size, is_unsplit = kind
    room, values = out
    n_bytes = len(values) * size
    per_block = _number(frame, 8)
    if per_block < size or per_block % size:
        return False
    for block in range((n_bytes + per_block - 1) // per_block):
        start = block * per_block
        length = min(per_block, n_bytes - start)
        pointer = _HEADER + 4 * block
        if pointer + 4 > len(frame):
            return False
        n_streams = 1 if is_unsplit or length != per_block else size
        if not _decode_block(frame, (_number(frame, pointer), start, length, n_streams), (decoder, room)):
            return False
        _join(room, (start, length, size), values)
    return True


@kernel
def _decode_block(frame: np.ndarray, place: tuple[Whole, Whole, Whole, Whole], target: tuple[int, np.ndarray]) -> bool:
    """Decode the streams of one block to where the block begins in the room."""
    at, start, length, n_streams = place
    decoder, room = target
    part = length // n_streams
    for stream in range(n_streams):
        if at < _HEADER or at + 4 > len(frame):
            return False
        stored = _number(frame, at)
        at += 4
        low = start + stream * part
        if stored < 1 or at + stored > len(frame) or low + part > len(room):
            return False
        if stored == part:
            room[low : low + part] = frame[at : at + stored]
        else:
            written = decompress(
                np.uintp(decoder),
                np.uintp(room.ctypes.data + low),
                np.uintp(part),
                np.uintp(frame.ctypes.data + at),
                np.uintp(stored),
            )
            if written != np.uintp(part):
                return False
        at += stored
    return True


@kernel
def _join(room: np.ndarray, place: tuple[Whole, Whole, Whole], values: np.ndarray) -> None:
    """Put the bytes of the values of one block together."""
    start, length, size = place
    n_values = length // size
    # Slices, so that every index below counts from 0: the compiler then makes vector code of the loops.
    joined = values[start // size : start // size + n_values]
    lowest = room[start : start + n_values]
    if size == 1:
        for position in range(n_values):
            joined[position] = lowest[position]
    else:
        second = room[start + n_values : start + 2 * n_values]
        for position in range(n_values):
            joined[position] = np.uint32(lowest[position]) | (np.uint32(second[position]) << np.uint32(8))
        for byte in range(2, size):
            higher = room[start + byte * n_values : start + (byte + 1) * n_values]
            for position in range(n_values):
                joined[position] |= np.uint32(higher[position]) << np.uint32(8 * byte)
