"""What the checks of a schema look at: the parts of an AnnData file as they were delivered, without its values.

A check never sees a row. A table answers how many rows carry which combination of levels, so a column of three million
cells costs as much as its levels; a matrix is what one pass over its blocks found. Whoever reads the file fills these
records in: nothing here opens one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

__all__ = ["ArrayFacts", "ColumnFacts", "Delivered", "Levels", "MatrixFacts", "Table"]

Levels = Mapping[tuple[str | None, ...], int]
"""Combination of levels of some columns -> rows that carry it; None is a missing value."""


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """How a column is written: `kind` is category, text, bool, integer, float, nullable or other.

    `levels` are the categories that are declared, as text; `level_kind` is what they are (text, bool, integer, float).
    """

    kind: str
    levels: tuple[str, ...] = ()
    level_kind: str = "text"


@runtime_checkable
class Table(Protocol):
    """A table of cells or of features."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def columns(self) -> Mapping[str, ColumnFacts]:
        """Columns in the order of the file."""
        ...

    @property
    def doubled(self) -> tuple[str, ...]:
        """Names that several columns bear."""
        ...

    def count(self, columns: Sequence[str]) -> Levels:
        """Count the rows of each combination of levels of these columns."""
        ...

    def count_up_to(self, columns: Sequence[str], most: int) -> Levels | None:
        """Count as `count` does, or return None where there are over `most` combinations, without holding them."""
        ...

    def names(self) -> Sequence[str]:
        """Return the index; for tables of features only, it is read whole."""
        ...

    def rows_with(self, column: str, level: str) -> Sequence[int]:
        """Return the rows that carry a level of a column; for tables of features only, it is read whole."""
        ...

    def repeated_names(self) -> tuple[int, tuple[str, ...]]:
        """Return how many rows bear a name that an earlier row bears, and up to five such names."""
        ...


@dataclass(frozen=True, kw_only=True)
class ArrayFacts:
    """An array beside the matrix, or what stands in its place; `encoding` is array, sparse, dataframe or other."""

    encoding: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    n_infinite: int = 0
    n_missing: int = 0

    @property
    def size(self) -> int:
        """Number of values."""
        size = 1
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True, kw_only=True)
class MatrixFacts:
    """What one pass over a matrix found; `encoding` is csr, csc, dense or what else it says.

    `n_invalid` counts non-zeros that are negative, fractional or no number; `totals` are the least and the largest sum
    of a cell. `n_testable` cells have enough genes to tell counts from scaled values: of these `n_without_ones` have no
    value 1 and `n_divisible` share a divisor. `seen` says of each feature whether any cell has it.
    """

    encoding: str
    shape: tuple[int, ...]
    dtype: str
    is_read: bool = False
    n_nonzero: int = 0
    n_invalid: int = 0
    n_negative: int = 0
    invalid_examples: tuple[str, ...] = ()
    n_empty: int = 0
    empty_examples: tuple[str, ...] = ()
    n_repeated: int = 0
    repeated_examples: tuple[str, ...] = ()
    totals: tuple[float, float] = (0.0, 0.0)
    mean_total: float = 0.0
    n_testable: int = 0
    n_without_ones: int = 0
    n_divisible: int = 0
    seen: Sequence[bool] = ()

    @property
    def n_cells(self) -> int:
        """Number of rows."""
        return self.shape[0] if self.shape else 0

    @property
    def zero_fraction(self) -> float:
        """Share of zeros, in [0, 1]."""
        n_values = self.shape[0] * self.shape[1] if len(self.shape) == 2 else 0
        return 1.0 - self.n_nonzero / n_values if n_values else 0.0

    @property
    def is_counts(self) -> bool:
        """Whether every value is a whole number, none below 0, and one is above."""
        return self.is_read and self.n_nonzero > 0 and self.n_invalid == 0


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """One AnnData file. `arrays` maps obsm, varm, obsp and varp to what they hold; matrices are X, raw.X, layers[...].

    `hops` says of each step from the reads to the counts how well it is known, in the words of `HopState`; it is empty
    where nobody looked for a manifest.
    """

    name: str
    obs: Table
    var: Table
    raw_var: Table | None
    uns: Mapping[str, object]
    arrays: Mapping[str, Mapping[str, ArrayFacts]] = field(default_factory=dict)
    matrices: Mapping[str, MatrixFacts] = field(default_factory=dict)
    hops: Mapping[str, str] = field(default_factory=dict)

    @property
    def raw_place(self) -> str:
        """Name of the matrix that has to hold raw counts."""
        return "raw.X" if "raw.X" in self.matrices else "X"

    def table(self, name: str) -> Table | None:
        """Return obs, var or raw.var; None where there is none."""
        return {"obs": self.obs, "var": self.var, "raw.var": self.raw_var}[name]

    def text_of(self, key: str) -> str:
        """Return a text of uns, or an empty string."""
        value = self.uns.get(key)
        return value if isinstance(value, str) else ""
