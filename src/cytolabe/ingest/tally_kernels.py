"""The loops of a tally: one cell at a time, twice over its values, which lie in the processor's cache the second time.

The first look says whether every value is a count; the second sums the cell exactly where they are, and takes the
logarithms back where they are not.
"""

import numpy as np

from cytolabe.compiled import kernel

__all__ = [
    "COUNTERS",
    "FREQUENT",
    "KINDS",
    "LARGEST_COUNT",
    "MIN_GENES",
    "cell_fingerprint",
    "fingerprints_of",
    "tally_cells",
]

LARGEST_COUNT = 2**53
"""Largest integer that every float64 up to it can tell from its neighbors."""
SMALL_VALUES = 9
"""Values from 1 to this one are counted per cell: counts thin out evenly there, scaled values leave holes."""
MIN_GENES = 10
"""A cell with fewer detected genes can lack a gene seen once by chance."""
FREQUENT = 10
"""Genes of one cell with one value from which on the next smaller value cannot be absent by chance (e^-10)."""

_EXP_LIMIT = 30.0
"""expm1 is taken up to here only; no logarithm of a scaled count is larger."""
_TOO_LARGE_TOTAL = float(2**62)

KINDS = ("nonfinite", "negative", "fractional", "oversized")
_NONFINITE, _NEGATIVE, _FRACTIONAL, _OVERSIZED = range(4)
COUNTERS = ("n_nonzero", "n_ones", "n_inexact", "n_divisible", "n_without_ones", "n_testable", "n_holed")
_NONZERO, _ONES, _INEXACT, _DIVISIBLE, _WITHOUT_ONES, _TESTABLE, _HOLED = range(7)


@kernel
def tally_cells(matrix: tuple, per_cell: tuple, found: tuple) -> None:  # type: ignore[type-arg]
    """Tally the cells of one block.

    `matrix` is (data, indices, indptr, exact_below); `per_cell` is (totals, genes, fingerprints, value sums, expm1
    sums); `found` is (counters, feature totals, broken, first places, first values, largest, hole).
    """
    data, indices, indptr, exact_below = matrix
    totals, genes, fingerprints, value_sums, expm1_sums = per_cell
    counters, feature_totals, broken, first, first_values, largest, hole = found
    small = np.zeros(SMALL_VALUES + 1, dtype=np.int64)
    for cell in range(len(indptr) - 1):
        values, columns = data[indptr[cell] : indptr[cell + 1]], indices[indptr[cell] : indptr[cell + 1]]
        is_whole = True
        n_genes, n_ones, value_sum, highest = 0, 0, 0.0, 0.0
        for at in range(len(values)):
            value = values[at]
            if value == 0:
                continue
            n_genes += 1
            kind = _kind_of(value)
            if kind >= 0:
                is_whole = False
                _note(kind, (cell, columns[at], value), (broken, first, first_values))
            if kind != _NONFINITE:
                value_sum += value
                highest = max(highest, float(value))
                n_ones += value == 1
        genes[cell], value_sums[cell] = n_genes, value_sum
        largest[0] = max(largest[0], highest)
        counters[_ONES] += n_ones
        counters[_NONZERO] += n_genes
        if value_sums[cell] > _TOO_LARGE_TOTAL:
            is_whole = False
            _note(_OVERSIZED, (cell, 0, value_sums[cell]), (broken, first, first_values))
        if is_whole:
            totals[cell] = _add_counts(values, exact_below, (small, counters))
            fingerprints[cell] = _add_features(values, columns, feature_totals)
            _look_for_hole(small, cell, (counters, hole))
        else:
            expm1_sums[cell] = _expm1_sum(values)


@kernel
def _kind_of(value: float) -> int:
    """Return what breaks the rule of counts, or -1; a value falls into at most one kind."""
    if value >= 0 and value <= LARGEST_COUNT:
        return -1 if value == np.floor(value) else _FRACTIONAL
    if not np.isfinite(value):
        return _NONFINITE
    return _NEGATIVE if value < 0 else _OVERSIZED


@kernel
def _note(kind: int, place: tuple, found: tuple) -> None:  # type: ignore[type-arg]
    broken, first, first_values = found
    cell, column, value = place
    if broken[kind] == 0:
        first[kind, 0], first[kind, 1], first_values[kind] = cell, column, value
    broken[kind] += 1


@kernel
def _add_counts(values: np.ndarray, exact_below: float, found: tuple) -> int:  # type: ignore[type-arg]
    """Return the exact total of a cell and count what its values are; `small` gets the number of genes by count."""
    small, counters = found
    small[:] = 0
    n_genes, n_inexact, total, divisor, smallest = 0, 0, 0, 0, LARGEST_COUNT
    for at in range(len(values)):
        count = int(values[at])
        if count == 0:
            continue
        n_genes += 1
        total += count
        smallest = min(smallest, count)
        n_inexact += values[at] >= exact_below
        if count <= SMALL_VALUES:
            small[count] += 1
        if divisor != 1:
            left = count
            while left:
                divisor, left = left, divisor % left
    counters[_INEXACT] += n_inexact
    if n_genes >= MIN_GENES:
        counters[_DIVISIBLE] += divisor > 1
        counters[_WITHOUT_ONES] += smallest > 1
    return total


@kernel
def _add_features(values: np.ndarray, columns: np.ndarray, feature_totals: np.ndarray) -> int:
    """Add a cell to the totals of its features and return its fingerprint."""
    for at in range(len(values)):
        feature_totals[columns[at]] += int(values[at])
    return cell_fingerprint(values, columns)


@kernel
def cell_fingerprint(values: np.ndarray, columns: np.ndarray) -> int:
    """Return 64 bits that stand for a cell: the sum over its non-zeros of (feature number, count), mixed; any order."""
    mixed = np.uint64(0)
    for at in range(len(values)):
        count = np.uint64(values[at])
        if count == 0:
            continue
        state = np.uint64(columns[at]) * np.uint64(0x9E3779B97F4A7C15) + count * np.uint64(0xD1B54A32D192ED03)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed += state ^ (state >> np.uint64(31))
    return mixed  # type: ignore[return-value]


@kernel
def fingerprints_of(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return the fingerprint of each cell of a block."""
    found = np.zeros(len(indptr) - 1, dtype=np.uint64)
    for cell in range(len(found)):
        low, high = indptr[cell], indptr[cell + 1]
        found[cell] = cell_fingerprint(data[low:high], indices[low:high])
    return found


@kernel
def _expm1_sum(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        if np.isfinite(value):
            total += np.expm1(min(float(value), _EXP_LIMIT))
    return total


@kernel
def _look_for_hole(small: np.ndarray, cell: int, found: tuple) -> None:  # type: ignore[type-arg]
    counters, hole = found
    is_testable, place = False, 0
    for value in range(1, SMALL_VALUES + 1):
        if small[value] < FREQUENT:
            continue
        is_testable = True
        if place == 0 and value > 1 and small[value - 1] == 0:
            place = value - 1
    counters[_TESTABLE] += is_testable
    if place:
        counters[_HOLED] += 1
        if hole[0] < 0:
            hole[0], hole[1], hole[2] = cell, place, small[place + 1]
