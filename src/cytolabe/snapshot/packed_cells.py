"""Cells packed for reading alone: a byte for a gap between genes, four bits for a count, and no entropy decoder.

A training cache is read again and again, and zstd, which the store uses, would be most of that work. Here a cell is
decoded by two loops that hardly branch, straight into the minibatch that wants it, so that a pool is held packed. That
costs half a byte a count more than zstd, and is lossless for every column and every count of 32 bits.

A cell of n entries is runs of bytes, one behind the other (`docs/formats/cache.md`):

* gaps: for each entry column - column before - 1 (the first counts from -1), as many bytes of 255 as go into it and one
  with the rest, which is below 255;
* a byte that tells how the counts are coded, whichever is shorter: in halves of bytes or in whole ones;
* counts in halves: four bits each, count - 1, low half first; 15 means that the count is among the escapes, which follow:
  for each its place among the entries, coded like a column, and count - 16 modulo 2^32 as LEB128; a last place of n ends
  them, so that nobody has to look for them;
* or counts in whole bytes, for cells of deep sequencing: count - 1 modulo 2^32 as LEB128.

Bytes whose crc32c was right are still not trusted: no loop reads or writes beyond its cell, and one that does not come
out even, or has columns beyond the genes, is reported.
"""

import numpy as np

from cytolabe.compiled import kernel
from cytolabe.store.native import crc32c, pread

__all__ = ["pack_cells", "packed_room", "read_blocks", "unpack_cells"]

_RUN = 255
_HALVES, _WHOLE = 0, 1
_ESCAPE = np.uint32(15)
_FIRST_ESCAPED = np.uint32(16)
_LEB_BITS = 7
_LEB_MORE = 0x80
_LEB_BYTES = 5
_MASK = np.uint64(0xFFFFFFFF)
_DAMAGED = -1


def packed_room(n_entries: int, n_cells: int, n_genes: int) -> int:
    """Return bytes in which cells surely fit: an entry with an escape takes 7.5, and long gaps are shared by a cell."""
    return 8 * n_entries + n_cells * (n_genes // _RUN + 4)


@kernel
def pack_cells(cells: tuple[np.ndarray, np.ndarray, np.ndarray], packed: np.ndarray, offsets: np.ndarray) -> int:
    """Pack cells one behind the other.

    Parameters
    ----------
    cells
        (indptr, columns, counts): columns ascend in each cell; counts are taken modulo 2^32.
    packed
        Room for them (`packed_room`).
    offsets
        Is filled with where each begins, one more than cells.

    Returns
    -------
    :
        -1, or the first cell whose columns do not ascend.
    """
    indptr, columns, counts = cells
    offsets[0] = 0
    for cell in range(len(indptr) - 1):
        entries = slice(indptr[cell], indptr[cell + 1])
        own, values = columns[entries], counts[entries]
        before = np.int64(-1)
        for column in own:
            if np.int64(column) <= before:
                return cell
            before = np.int64(column)
        place = _pack_columns(own, packed, offsets[cell])
        offsets[cell + 1] = _pack_counts(values, packed, place)
    return -1


@kernel
def _pack_columns(columns: np.ndarray, packed: np.ndarray, place: int) -> int:
    before = np.int64(-1)
    for column in columns:
        place = _put_gap(np.int64(column) - before - 1, packed, place)
        before = np.int64(column)
    return place


@kernel
def _put_gap(gap: np.int64, packed: np.ndarray, place: int) -> int:
    while gap >= _RUN:
        packed[place] = _RUN
        place += 1
        gap -= np.int64(_RUN)
    packed[place] = gap
    return place + 1


@kernel
def _pack_counts(counts: np.ndarray, packed: np.ndarray, place: int) -> int:
    packed[place] = _HALVES
    end = _pack_halves(counts, packed, place + 1)
    n_whole = 0
    for count in counts:
        n_whole += _leb_size(np.uint32(np.uint32(count) - np.uint32(1)))
    if place + 1 + n_whole >= end:
        return end
    packed[place] = _WHOLE
    end = place + 1
    for count in counts:
        end = _put_leb(np.uint32(np.uint32(count) - np.uint32(1)), packed, end)
    return end


@kernel
def _pack_halves(counts: np.ndarray, packed: np.ndarray, place: int) -> int:
    n_bytes = (len(counts) + 1) // 2
    packed[place : place + n_bytes] = 0
    for entry in range(len(counts)):
        code = min(np.uint32(counts[entry]) - np.uint32(1), _ESCAPE) & _ESCAPE
        packed[place + entry // 2] |= code << (4 * (entry & 1))
    place += n_bytes
    before = np.int64(-1)
    for entry in range(len(counts)):
        count = np.uint32(counts[entry])
        if np.uint32(1) <= count < _FIRST_ESCAPED:
            continue
        place = _put_gap(entry - before - 1, packed, place)
        before = np.int64(entry)
        place = _put_leb(np.uint32(count - _FIRST_ESCAPED), packed, place)
    return _put_gap(len(counts) - before - 1, packed, place)


@kernel
def _leb_size(value: np.uint32) -> int:
    size = 1
    while value >= _LEB_MORE:
        value >>= np.uint32(_LEB_BITS)
        size += 1
    return size


@kernel
def _put_leb(value: np.uint32, packed: np.ndarray, place: int) -> int:
    while value >= _LEB_MORE:
        packed[place] = (value & np.uint32(_LEB_MORE - 1)) | np.uint32(_LEB_MORE)
        place += 1
        value >>= np.uint32(_LEB_BITS)
    packed[place] = value
    return place + 1


@kernel
def unpack_cells(
    pool: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    picked: np.ndarray,
    out: tuple[int, np.ndarray, np.ndarray, np.ndarray, int],
) -> int:
    """Append picked cells of packed ones to a minibatch.

    Parameters
    ----------
    pool
        (packed, starts, stops, lengths): bytes, where each cell begins and ends in them, and its number of entries.
    picked
        The cells that are wanted.
    out
        (first, indptr, columns, counts, n_genes): number of the first cell, and the arrays of the minibatch.

    Returns
    -------
    :
        -1, or the place in `picked` of a cell whose bytes are none.
    """
    packed, starts, stops, lengths = pool
    first, indptr, columns, counts, n_genes = out
    end = indptr[first]
    for place in range(len(picked)):
        cell = picked[place]
        own, n = packed[starts[cell] : stops[cell]], lengths[cell]
        entries = columns[end : end + n], counts[end : end + n]
        behind = _unpack_columns(own, entries[0], n_genes)
        if behind == _DAMAGED or not _unpack_counts(own, behind, entries[1]):
            return place
        end += n
        indptr[first + place + 1] = end
    return -1


@kernel
def _unpack_columns(packed: np.ndarray, columns: np.ndarray, n_genes: int) -> int:
    """Return where the gaps end."""
    n, n_bytes = len(columns), len(packed)
    place, entry = 0, np.int64(0)
    column = np.int64(-1)
    while entry < n and place < n_bytes:
        byte = np.int64(packed[place])
        is_whole = np.int64(byte != _RUN)
        column += byte + is_whole
        columns[entry] = column
        entry += is_whole
        place += 1
    return place if entry == n and column < n_genes else _DAMAGED


@kernel
def _unpack_counts(packed: np.ndarray, place: int, counts: np.ndarray) -> bool:
    """Fill in the counts; False where they and the end of the cell do not meet."""
    if place >= len(packed) or packed[place] > _WHOLE:
        return False
    if packed[place] == _HALVES:
        return _unpack_halves(packed[place + 1 :], counts)
    place += 1
    for entry in range(len(counts)):
        rest, place = _leb(packed, place)
        counts[entry] = np.uint32((rest + np.uint64(1)) & _MASK)
    return place == len(packed)


@kernel
def _unpack_halves(packed: np.ndarray, counts: np.ndarray) -> bool:
    n = len(counts)
    behind = (n + 1) // 2
    if behind > len(packed):
        return False
    halves = packed[:behind]
    for pair in range(n // 2):
        byte = np.int32(halves[pair])
        counts[2 * pair] = (byte & np.int32(15)) + np.int32(1)
        counts[2 * pair + 1] = (byte >> np.int32(4)) + np.int32(1)
    if n % 2:
        counts[n - 1] = (np.int32(halves[n // 2]) & np.int32(15)) + np.int32(1)
    return _unpack_escapes(packed[behind:], counts)


@kernel
def _unpack_escapes(packed: np.ndarray, counts: np.ndarray) -> bool:
    place = 0
    entry = np.int64(-1)
    while place < len(packed):
        byte = np.int64(packed[place])
        place += 1
        entry += byte + np.int64(byte != _RUN)
        if byte == _RUN:
            continue
        if entry >= len(counts):
            return entry == len(counts) and place == len(packed)
        rest, place = _leb(packed, place)
        counts[entry] = np.uint32((rest + np.uint64(_FIRST_ESCAPED)) & _MASK)
    return False


@kernel
def _leb(packed: np.ndarray, place: int) -> tuple[np.uint64, int]:
    """Return a number and where the next one begins: beyond the end where this one has none."""
    rest = np.uint64(0)
    for number in range(_LEB_BYTES):
        if place >= len(packed):
            return rest, len(packed) + 1
        byte = np.uint64(packed[place])
        place += 1
        rest |= (byte & np.uint64(_LEB_MORE - 1)) << np.uint64(_LEB_BITS * number)
        if byte < _LEB_MORE:
            break
    return rest, place


@kernel
def read_blocks(handle: int, blocks: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], packed: np.ndarray) -> int:
    """Read blocks of a file, those that lie one behind the other together, and check each.

    Parameters
    ----------
    handle
        The open file.
    blocks
        (starts, stops, targets, checks): where each begins and ends in the file, where it goes in `packed`, and its
        crc32c. Neighbors in the file are neighbors in `packed`.

    Returns
    -------
    :
        -1, or the place in `blocks` of the first one that could not be read, or has another crc32c.
    """
    starts, stops, targets, checks = blocks
    address = np.uintp(packed.ctypes.data)
    done = 0
    while done < len(starts):
        end = done + 1
        while end < len(starts) and starts[end] == stops[end - 1]:
            end += 1
        place, behind = starts[done], stops[end - 1]
        target = address + np.uintp(targets[done])
        while place < behind:
            found = pread(np.int32(handle), target, np.uintp(behind - place), np.int64(place))
            if found <= 0:
                return done
            place += found
            target += np.uintp(found)
        for block in range(done, end):
            size = np.uintp(stops[block] - starts[block])
            if crc32c(address + np.uintp(targets[block]), size) != checks[block]:
                return block
        done = end
    return -1
