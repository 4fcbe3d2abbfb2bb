"""One pass over the blocks of a matrix: what the rules of a schema ask of its values, in memory of 8 bytes a cell.

Or of none, where the marks of cells are kept elsewhere. Vector operations only: for the two cells of a first look, loading a compiler would cost more than all checks together.
"""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.records import Block
from cytolabe.validate.cell_sums import CellSums, Entries, prints_of_entries
from cytolabe.validate.delivered import MatrixFacts
from cytolabe.validate.marks import HeldMarks, Marks, rows_alike

__all__ = ["ValueCensus"]

_MIN_GENES = 10
"""A cell with fewer detected genes can lack a gene seen once by chance."""
_N_EXAMPLES = 5


class ValueCensus:
    """Takes in the blocks of a matrix from the first cell to the last; `facts` says what was found.

    `marks` keeps 64 bits for each cell; without it they are held.
    """

    def __init__(self, n_cells: int, n_features: int, *, marks: Marks | None = None) -> None:
        self._n_cells = n_cells
        self._prints = HeldMarks(n_cells) if marks is None else marks
        self._seen = np.zeros(n_features, dtype=bool)
        self._counters = dict.fromkeys(
            ("n_nonzero", "n_invalid", "n_negative", "n_empty", "n_testable", "n_without_ones", "n_divisible"), 0
        )
        self._invalid: list[str] = []
        self._empty: list[str] = []
        self._low, self._high, self._sum = np.inf, -np.inf, 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and features."""
        return self._n_cells, len(self._seen)

    def add(self, block: Block) -> None:
        """Take in a block."""
        counts = _without_zeros(block.counts)
        values, indices, indptr = counts.data, counts.indices, counts.indptr
        sizes = np.diff(indptr)
        self._seen[indices] = True
        self._count("n_nonzero", len(values))
        self._prints.append(_prints_of(values, indices, indptr))
        self._look_for_empty(sizes, lambda row: block.cell_names[row])
        is_whole = self._look_for_invalid(
            values, lambda at: block.cell_names[int(np.searchsorted(indptr, at, side="right")) - 1]
        )
        full = np.flatnonzero(sizes)
        totals = np.zeros(len(sizes))
        if len(full):
            totals[full] = np.add.reduceat(values, indptr[:-1][full], dtype=np.float64)
            if is_whole:
                self._look_for_scaling(values, indptr[:-1], sizes)
        self._take_totals(totals)

    def add_by_features(self, n_cells: int, entries: Iterable[Entries], *, name_of: Callable[[int], str]) -> None:
        """Take in the next `n_cells` cells of a matrix that lies by features, from all their entries in any order.

        What is found is what `add` finds of the same cells. `name_of` gives the name of one of them.
        """
        sums, is_whole = CellSums(n_cells), True
        for delivered in entries:
            part = delivered.by_cell()
            self._seen[part.features] = True
            self._count("n_nonzero", len(part.values))
            is_whole &= self._look_for_invalid(part.values, _names_at(part.cells, name_of))
            sums.add(part)
            if is_whole:
                sums.add_divisors(part)
        self._prints.append(sums.prints)
        self._look_for_empty(sums.sizes, name_of)
        if is_whole:
            testable = sums.sizes >= _MIN_GENES
            without = testable & (sums.least > 1)
            self._count("n_testable", int(np.count_nonzero(testable)))
            self._count("n_without_ones", int(np.count_nonzero(without)))
            self._count("n_divisible", int(np.count_nonzero(without & (sums.divisors > 1))))
        self._take_totals(sums.totals)

    def facts(self, *, encoding: str, dtype: str, names: Callable[[int], str]) -> MatrixFacts:
        """Return what was found; `names` gives the names of cells where examples are needed."""
        n_repeated, rows = rows_alike(self._prints)
        n_cells = self._n_cells
        return MatrixFacts(
            encoding=encoding,
            shape=(n_cells, len(self._seen)),
            dtype=dtype,
            is_read=True,
            invalid_examples=tuple(self._invalid),
            empty_examples=tuple(self._empty),
            n_repeated=n_repeated,
            repeated_examples=tuple(names(row) for row in rows),
            totals=(self._low, self._high) if n_cells else (0.0, 0.0),
            mean_total=self._sum / n_cells if n_cells else 0.0,
            seen=self._seen.tolist(),
            **self._counters,
        )

    def _count(self, name: str, number: int) -> None:
        self._counters[name] += number

    def _take_totals(self, totals: np.ndarray) -> None:
        if len(totals):
            self._low, self._high = min(self._low, float(totals.min())), max(self._high, float(totals.max()))
            self._sum += float(totals.sum())

    def _look_for_empty(self, sizes: np.ndarray, name_of: Callable[[int], str]) -> None:
        empty = np.flatnonzero(sizes == 0)
        self._count("n_empty", len(empty))
        self._empty += [name_of(int(row)) for row in empty[: _N_EXAMPLES - len(self._empty)]]

    def _look_for_invalid(self, values: np.ndarray, name_at: Callable[[int], str]) -> bool:
        """Count what is no count, and say whether there is none among these; `name_at` names the cell of one."""
        if values.dtype.kind in "ub":
            return True
        is_negative = values < 0
        wrong = is_negative if values.dtype.kind == "i" else is_negative | ~(values == np.floor(values))
        n_wrong = int(np.count_nonzero(wrong))
        if n_wrong:
            self._count("n_invalid", n_wrong)
            self._count("n_negative", int(np.count_nonzero(is_negative)))
            for at in np.flatnonzero(wrong)[: _N_EXAMPLES - len(self._invalid)]:
                self._invalid.append(f"{values[at]:.6g} in {name_at(int(at))}")
        return not n_wrong

    def _look_for_scaling(self, values: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> None:
        testable = np.flatnonzero(sizes >= _MIN_GENES)
        if not len(testable):
            return
        full = np.flatnonzero(sizes)
        least = np.zeros(len(sizes), dtype=values.dtype)
        least[full] = np.minimum.reduceat(values, starts[full])
        without = testable[least[testable] > 1]
        self._count("n_testable", len(testable))
        self._count("n_without_ones", len(without))
        for row in without:  # a cell with a value of 1 has no divisor, so few are left to look at
            cell = values[starts[row] : starts[row] + sizes[row]].astype(np.int64)
            self._count("n_divisible", int(np.gcd.reduce(cell) > 1))


def _names_at(cells: np.ndarray, name_of: Callable[[int], str]) -> Callable[[int], str]:
    """Return what names the cell of an entry, of which `cells` has the cell of each."""
    return lambda at: name_of(int(cells[at]))


def _without_zeros(counts: csr_matrix) -> csr_matrix:
    """Return a block whose stored values are all non-zero."""
    if np.count_nonzero(counts.data) == len(counts.data):
        return counts
    kept = counts.data != 0
    before = np.concatenate([[0], np.cumsum(kept)])
    left = csr_matrix(counts.shape, dtype=counts.dtype)
    left.data, left.indices, left.indptr = counts.data[kept], counts.indices[kept], before[counts.indptr]
    return left


def _prints_of(values: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return 64 bits for each cell: the sum over its non-zeros of (feature, value), mixed, whatever their order."""
    prints = np.zeros(len(indptr) - 1, dtype=np.uint64)
    full = np.flatnonzero(np.diff(indptr))
    if not len(full):
        return prints
    prints[full] = np.add.reduceat(prints_of_entries(indices, values), indptr[:-1][full])
    return prints
