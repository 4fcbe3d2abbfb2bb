"""The kernel behind rank tokens: a radix sort of logarithms, made exact where they cannot tell two genes apart.

The order of a cell's values `count / total * 10,000 / median` is the order of `log(count) - log(median)`: the total moves
all of them alike. Both logarithms are looked up as integers (2^20 to a doubling), so a cell is sorted without a single
division, by two counting passes over the 20 leading bits of its range.

Integers that are rounded may stand in another order than the values only if they differ by `NEAR` at most. The last
pass, an insertion, computes the values of just these pairs, in the arithmetic of the rule, and puts equal ones in the
order of their tokens. It almost never has to move anything; cells where it would have to, because many values
are equal or lie in a few buckets, are merge-sorted by their values instead. So are all cells of a rule with medians that
could bring values out of the range of normal floats, where unequal logarithms can be equal values.
"""

import math
from typing import NamedTuple

import numpy as np

from cytolabe.compiled import kernel

__all__ = ["RANK_TARGET", "Vocabulary", "rank_cells", "vocabulary_of"]

RANK_TARGET = 10_000.0
"""Counts that each cell is scaled to."""

_PER_DOUBLING = 1 << 20
_NEAR = np.int64(2)  # both keys are off by one at most: half for each of two rounded logarithms
_ABSENT = np.uint32(0xFFFFFFFF)
_DIGIT_BITS = 10
_N_BUCKETS = 1 << _DIGIT_BITS
_DIGIT = np.uint64(_N_BUCKETS - 1)
_KEY_SHIFT = np.uint64(32)
_ENTRY = np.uint64(0xFFFFFFFF)
_LARGEST_LOG = 32 * _PER_DOUBLING
_EXTREME = 900.0  # doublings; counts of 32 bits and totals of 64 then leave every value a normal float
_MOVES_PER_ENTRY = 4
_DISTINCT, _TIED, _CROWDED = 0, 1, 2


def _log_table(n_counts: int) -> np.ndarray:
    """Return for small counts how far each is below the largest, in the units of a key."""
    logs = np.log2(np.maximum(np.arange(n_counts), 1)) * _PER_DOUBLING
    table: np.ndarray = (_LARGEST_LOG - np.rint(logs)).astype(np.uint32)
    return table


_SMALL_COUNTS = _log_table(1024)


class Vocabulary(NamedTuple):
    """What the kernel knows of the genes."""

    tokens: np.ndarray
    """int32."""
    medians: np.ndarray
    """float64."""
    logs: np.ndarray
    """uint32: logarithm of the median, in the units of a key; or that the gene has no token."""
    is_extreme: bool
    """Logarithms do not decide."""
    pad_token: int


def vocabulary_of(tokens: np.ndarray, medians: np.ndarray, pad_token: int) -> Vocabulary:
    """Return the tables of a rule."""
    medians = medians.astype(np.float64)
    is_used = tokens >= 0
    logs = np.log2(np.where(is_used, medians, 1.0))
    is_extreme = bool(np.abs(logs).max(initial=0.0) > _EXTREME)
    logs = np.zeros_like(logs) if is_extreme else logs - logs[is_used].min(initial=np.inf)
    keys = np.where(is_used, np.rint(logs * _PER_DOUBLING), float(_ABSENT)).astype(np.uint32)
    return Vocabulary(tokens.astype(np.int32), medians, keys, is_extreme, pad_token)


@kernel
def rank_cells(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    vocabulary: Vocabulary,
    ranked: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Write the tokens of each cell and how many they are, and return which cells have equal values.

    Parameters
    ----------
    cells
        `CellEntries`.
    vocabulary
        Tables of the rule.
    ranked
        `Ranked`.
    """
    columns, counts, starts, stops = cells
    totals, out, lengths = ranked
    n_cells, width = out.shape
    longest = np.int64(1)
    for cell in range(n_cells):
        longest = max(longest, stops[cell] - starts[cell])
    scratch = np.empty(longest, np.uint64), np.empty(longest, np.uint64), np.empty(2 * _N_BUCKETS, np.int32)
    is_tied = np.zeros(n_cells, np.bool_)
    for cell in range(n_cells):
        entries = columns[starts[cell] : stops[cell]], counts[starts[cell] : stops[cell]], np.float64(totals[cell])
        n, is_tied[cell] = _sorted(entries, vocabulary, (width, scratch))
        length = min(n, width)
        lengths[cell] = length
        words, own, row = scratch[0][:length], entries[0], out[cell]
        for rank in range(length):
            row[rank] = vocabulary.tokens[own[words[rank] & _ENTRY]]
        row[length:] = vocabulary.pad_token
    return is_tied


@kernel
def _sorted(
    entries: tuple[np.ndarray, np.ndarray, float],
    vocabulary: Vocabulary,
    into: tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[int, bool]:
    """Put the words of a cell in order; return how many are, up to the width and beyond, and if values are equal."""
    width, scratch = into
    words = scratch[0]
    n, lowest, highest = _collect(entries, vocabulary.logs, words)
    if not vocabulary.is_extreme:
        n = _radix_sort(scratch, (lowest, highest), (n, width))
        outcome = _finish(words[:n], entries, vocabulary)
        if outcome != _CROWDED:
            return n, outcome == _TIED
    return n, _merge_sort(words[:n], entries, vocabulary)


@kernel
def _collect(
    entries: tuple[np.ndarray, np.ndarray, float], logs: np.ndarray, words: np.ndarray
) -> tuple[int, np.uint64, np.uint64]:
    """Write a word (key, place among the entries) for each count of a gene with a token; return also the range of keys."""
    columns, counts, _ = entries
    n = 0
    lowest, highest = np.uint64(0xFFFFFFFF), np.uint64(0)
    last = np.uint64(len(_SMALL_COUNTS) - 1)
    for entry in range(len(columns)):
        log, count = np.uint64(logs[columns[entry]]), np.uint64(counts[entry])
        key = log + np.uint64(_SMALL_COUNTS[min(count, last)])
        if count > last:
            key = log + np.uint64(_LARGEST_LOG - np.int64(math.log2(np.float64(count)) * _PER_DOUBLING + 0.5))
        # No branch: which genes have a token cannot be guessed.
        is_kept = (log != _ABSENT) & (count != 0)
        words[n] = (key << _KEY_SHIFT) | np.uint64(entry)
        n += is_kept
        lowest = min(lowest, key if is_kept else lowest)
        highest = max(highest, key if is_kept else highest)
    return n, lowest, highest


@kernel
def _radix_sort(
    scratch: tuple[np.ndarray, np.ndarray, np.ndarray], bounds: tuple[np.uint64, np.uint64], sizes: tuple[int, int]
) -> int:
    """Sort words by the leading bits of their keys; return how many were sorted: up to the width, and those near it."""
    words, others, places = scratch
    lowest, highest = bounds
    n, width = sizes
    if n == 0:
        return 0
    extent = highest - lowest
    shift = _KEY_SHIFT
    while extent >> (shift - _KEY_SHIFT) >= _N_BUCKETS * _N_BUCKETS:
        shift += np.uint64(1)
    high_shift = shift + np.uint64(_DIGIT_BITS)
    base = lowest << _KEY_SHIFT
    low, high = places[:_N_BUCKETS], places[_N_BUCKETS:]
    places[:] = 0
    for entry in range(n):
        high[(words[entry] - base) >> high_shift] += 1
    if n > width:
        n = _cut(words[:n], high, (base, high_shift, width))
    for entry in range(n):
        low[((words[entry] - base) >> shift) & _DIGIT] += 1
    before_low, before_high = np.int32(0), np.int32(0)
    for bucket in range(_N_BUCKETS):
        size = low[bucket]
        low[bucket] = before_low
        before_low += size
        size = high[bucket]
        high[bucket] = before_high
        before_high += size
    for entry in range(n):
        bucket = ((words[entry] - base) >> shift) & _DIGIT
        others[low[bucket]] = words[entry]
        low[bucket] += 1
    for entry in range(n):
        bucket = (others[entry] - base) >> high_shift
        words[high[bucket]] = others[entry]
        high[bucket] += 1
    return n


@kernel
def _cut(words: np.ndarray, sizes: np.ndarray, digit: tuple[np.uint64, np.uint64, int]) -> int:
    """Leave out what lies beyond the bucket in which the width ends and the one behind it; return what is left."""
    base, shift, width = digit
    last, before = np.uint64(0), np.int64(sizes[0])
    while before <= width and last < _N_BUCKETS - 1:
        last += np.uint64(1)
        before += sizes[last]
    last += np.uint64(1)
    n = 0
    for entry in range(len(words)):
        words[n] = words[entry]
        n += ((words[entry] - base) >> shift) <= last
    return n


@kernel
def _value(word: np.uint64, entries: tuple[np.ndarray, np.ndarray, float], medians: np.ndarray) -> float:
    """Return the value of the rule, in its order of operations."""
    columns, counts, total = entries
    entry = word & _ENTRY
    value: float = np.float64(counts[entry]) / total * RANK_TARGET / medians[columns[entry]]
    return value


@kernel
def _finish(words: np.ndarray, entries: tuple[np.ndarray, np.ndarray, float], vocabulary: Vocabulary) -> int:
    """Put neighbors right whose keys cannot tell; return `_CROWDED` where too much would have to move."""
    outcome = _DISTINCT
    moves_left = _MOVES_PER_ENTRY * len(words)
    for entry in range(1, len(words)):
        word = words[entry]
        key = np.int64(word >> _KEY_SHIFT)
        place = entry
        while place > 0:
            before = words[place - 1]
            difference = key - np.int64(before >> _KEY_SHIFT)
            if difference > _NEAR:
                break
            if difference >= -_NEAR:
                is_right, is_tied = _compared((before, word), entries, vocabulary)
                outcome = _TIED if is_tied else outcome
                if is_right:
                    break
            words[place] = before
            place -= 1
        if place < entry:
            words[place] = word
            moves_left -= entry - place
            if moves_left < 0:
                return _CROWDED
    return outcome


@kernel
def _compared(
    pair: tuple[np.uint64, np.uint64], entries: tuple[np.ndarray, np.ndarray, float], vocabulary: Vocabulary
) -> tuple[bool, bool]:
    """Tell whether two words are in the order of the rule (value, the highest first, then token), and if values are equal."""
    columns = entries[0]
    left, right = _value(pair[0], entries, vocabulary.medians), _value(pair[1], entries, vocabulary.medians)
    if left != right:
        return left > right, False
    return vocabulary.tokens[columns[pair[0] & _ENTRY]] < vocabulary.tokens[columns[pair[1] & _ENTRY]], True


@kernel
def _merge_sort(words: np.ndarray, entries: tuple[np.ndarray, np.ndarray, float], vocabulary: Vocabulary) -> bool:
    """Sort words by value, the highest first, then by token, whatever the order was; tell whether values are equal."""
    n = len(words)
    values, others, other_words = np.empty(n, np.float64), np.empty(n, np.float64), np.empty(n, np.uint64)
    for place in range(n):
        values[place] = _value(words[place], entries, vocabulary.medians)
    width = 1
    is_tied = False
    while width < n:
        for low in range(0, n, 2 * width):
            left, right = low, min(low + width, n)
            middle, high = right, min(low + 2 * width, n)
            for place in range(low, high):
                takes_left = right >= high
                if left < middle and right < high:
                    takes_left = values[left] > values[right]
                    if values[left] == values[right]:
                        is_tied = True
                        takes_left = _compared((words[left], words[right]), entries, vocabulary)[0]
                source = left if takes_left else right
                others[place], other_words[place] = values[source], words[source]
                left += takes_left
                right += not takes_left
        values, others = others, values
        words[:] = other_words
        width *= 2
    return is_tied
