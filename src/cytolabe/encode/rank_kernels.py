"""The kernel behind rank tokens: a radix sort of logarithms, made exact where they cannot tell two genes apart.

The order of a cell's values `count / total * 10,000 / median` is the order of `log(count) - log(median)`: the total moves
all of them alike. Both logarithms are looked up as integers (2^20 to a doubling), so a cell is sorted without a single
division, by two counting passes over the 20 leading bits of its range.

Integers that are rounded may stand in another order than the values only if they differ by `NEAR` at most. The last
pass, an insertion, computes the values of just these pairs, in the arithmetic of the rule, and puts equal ones in the
order of their tokens. It almost never has to move anything. A cell where it would have to, because many values are equal,
is sorted by token first: counting passes keep that order. One that is crowded even then is merge-sorted by its values, and
so are all cells of a rule with medians that could bring values out of the range of normal floats, where unequal logarithms
can be equal values.
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
_FEW_MOVES, _MANY_MOVES = 1 / 8, 4.0  # for each entry: what costs less than to sort again, and to merge
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
    token_places: np.ndarray
    """uint32: where the token of the gene stands among all."""
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
    places = np.empty(len(tokens), dtype=np.uint32)
    places[np.argsort(tokens, kind="stable")] = np.arange(len(tokens))
    return Vocabulary(tokens.astype(np.int32), medians, keys, places, is_extreme, pad_token)


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
        known = entries, vocabulary
        outcome = _finish(words[:n], known, 32 + _FEW_MOVES * n)
        if outcome == _CROWDED:
            _sort_by_token(scratch, n, known)
            n = _radix_sort(scratch, (lowest, highest), (n, width))
            outcome = _finish(words[:n], known, _MANY_MOVES * n)
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
    for entry in range(len(columns)):
        log = logs[columns[entry]]
        key = _key(log, counts[entry])
        # No branch: which genes have a token cannot be guessed.
        is_kept = (log != _ABSENT) & (counts[entry] != 0)
        words[n] = (key << _KEY_SHIFT) | np.uint64(entry)
        n += is_kept
        lowest = min(lowest, key if is_kept else lowest)
        highest = max(highest, key if is_kept else highest)
    return n, lowest, highest


@kernel
def _key(log: np.uint32, count: np.uint32) -> np.uint64:
    """Return log(median) - log(count), counted from the largest count: the lower, the higher the value."""
    last = np.uint64(len(_SMALL_COUNTS) - 1)
    if np.uint64(count) <= last:
        return np.uint64(log) + np.uint64(_SMALL_COUNTS[count])
    logarithm = np.int64(math.log2(np.float64(count)) * _PER_DOUBLING + 0.5)
    return np.uint64(log) + np.uint64(_LARGEST_LOG - logarithm)


@kernel
def _sort_by_token(
    scratch: tuple[np.ndarray, np.ndarray, np.ndarray],
    n: int,
    known: tuple[tuple[np.ndarray, np.ndarray, float], Vocabulary],
) -> None:
    """Put words in the order of their tokens, keys as they were."""
    words = scratch[0]
    (columns, counts, _), vocabulary = known
    for place in range(n):
        entry = words[place] & _ENTRY
        words[place] = (np.uint64(vocabulary.token_places[columns[entry]]) << _KEY_SHIFT) | entry
    _radix_sort(scratch, (np.uint64(0), np.uint64(len(vocabulary.token_places))), (n, n))
    for place in range(n):
        entry = words[place] & _ENTRY
        key = _key(vocabulary.logs[columns[entry]], counts[entry])
        words[place] = (key << _KEY_SHIFT) | entry


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
def _finish(
    words: np.ndarray, known: tuple[tuple[np.ndarray, np.ndarray, float], Vocabulary], moves_left: float
) -> int:
    """Put neighbors right whose keys cannot tell; return `_CROWDED` where too much would have to move."""
    entries, vocabulary = known
    outcome = _DISTINCT
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
    columns, counts, _ = entries
    first, second = pair[0] & _ENTRY, pair[1] & _ENTRY
    medians, tokens = vocabulary.medians, vocabulary.tokens
    is_same = counts[first] == counts[second] and medians[columns[first]] == medians[columns[second]]
    if not is_same:
        left, right = _value(first, entries, medians), _value(second, entries, medians)
        if left != right:
            return left > right, False
    return tokens[columns[first]] < tokens[columns[second]], True


@kernel
def _merge_sort(words: np.ndarray, entries: tuple[np.ndarray, np.ndarray, float], vocabulary: Vocabulary) -> bool:
    """Sort words by value, the highest first, then by token, whatever the order was; tell whether values are equal."""
    n = len(words)
    values, tokens = np.empty(n, np.float64), np.empty(n, np.int32)
    for place in range(n):
        values[place] = _value(words[place], entries, vocabulary.medians)
        tokens[place] = vocabulary.tokens[entries[0][words[place] & _ENTRY]]
    order, other = np.arange(n), np.empty(n, np.int64)
    width = 1
    is_tied = False
    while width < n:
        for low in range(0, n, 2 * width):
            left, right = low, min(low + width, n)
            middle, high = right, min(low + 2 * width, n)
            for place in range(low, high):
                takes_left = right >= high
                if left < middle and right < high:
                    a, b = order[left], order[right]
                    is_equal = values[a] == values[b]
                    is_tied |= is_equal
                    takes_left = values[a] > values[b] or (is_equal and tokens[a] < tokens[b])
                other[place] = order[left if takes_left else right]
                left += takes_left
                right += not takes_left
        order, other = other, order
        width *= 2
    words[:] = words[order]
    return is_tied
