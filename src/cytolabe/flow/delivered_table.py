"""A table of an AnnData file for the checks of a schema: how its columns are written, and how often levels occur.

Nothing is held per row but codes of the columns that a rule asks for, a block at a time: a rule about sex where the
tissue is a cell line counts pairs of levels, whatever the number of cells.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import h5py
import numpy as np

from cytolabe.ingest.nodes import ArrayNode, GroupNode, Node, is_array, is_group
from cytolabe.ingest.refusals import readable
from cytolabe.validate.delivered import ColumnFacts, Levels
from cytolabe.validate.marks import HeldMarks, MarksFor, repeated_marks

__all__ = ["FileTable", "text_of"]

_ROWS = 1 << 16
_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float"}


def text_of(value: object) -> str:
    """Return text as delivered."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class FileTable:
    """The `Table` over a group of a file, valid while the file is open."""

    def __init__(self, group: GroupNode, where: str, *, marks_for: MarksFor = HeldMarks) -> None:
        self._group = group
        self._marks_for = marks_for
        self._where = where
        self._counted: dict[tuple[str, ...], Levels] = {}

    @cached_property
    def _index(self) -> ArrayNode:
        with readable(self._where):
            name = text_of(self._group.attrs.get("_index", "_index"))
            node = self._group[name]
            index: ArrayNode = node["values"] if is_group(node) else node
            return index

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int((self._index.shape or (0,))[0])

    @cached_property
    def columns(self) -> Mapping[str, ColumnFacts]:
        """Columns in the order of the file."""
        with readable(self._where):
            return {name: _facts_of(self._group[name]) for name in self._declared if name in self._group}

    @cached_property
    def _declared(self) -> tuple[str, ...]:
        return tuple(text_of(name) for name in np.atleast_1d(self._group.attrs.get("column-order", [])))

    @property
    def doubled(self) -> tuple[str, ...]:
        """Names that several columns bear."""
        return tuple(name for name, times in Counter(self._declared).items() if times > 1)

    def count(self, columns: Sequence[str]) -> Levels:
        """Count the rows of each combination of levels of these columns."""
        found = self.count_up_to(columns, self.n_rows)
        return {} if found is None else found

    def count_up_to(self, columns: Sequence[str], most: int) -> Levels | None:
        """Count as `count` does, or return None where there are over `most` combinations, without holding them."""
        asked = tuple(columns)
        if asked not in self._counted:
            with readable(self._where):
                found = self._count(asked, most)
            if found is None:
                return None
            self._counted[asked] = found
        found = self._counted[asked]
        return found if len(found) <= most else None

    def _count(self, columns: tuple[str, ...], most: int) -> Levels | None:
        readers = [_LevelReader(self._group[name]) for name in columns]
        total: Counter[tuple[int, ...]] = Counter()
        for start in range(0, self.n_rows, _ROWS):
            codes = np.stack([reader.codes(start, min(self.n_rows, start + _ROWS)) for reader in readers])
            for combination, n_rows in _combinations(codes):
                total[combination] += n_rows
            if len(total) > most:
                return None
        named = {
            tuple(reader.level(code) for reader, code in zip(readers, codes, strict=True)): times
            for codes, times in total.items()
        }
        return dict(sorted(named.items(), key=lambda pair: [level or "" for level in pair[0]]))

    def names(self) -> Sequence[str]:
        """Return the index, read whole."""
        with readable(self._where):
            return tuple(text_of(value) for value in self._index[...])

    def name_of(self, row: int) -> str:
        """Return the name of one row."""
        with readable(self._where):
            return text_of(self._index[row])

    def names_between(self, start: int, stop: int) -> tuple[str, ...]:
        """Return the names of some rows."""
        with readable(self._where):
            return tuple(text_of(value) for value in self._index[start:stop])

    def rows_with(self, column: str, level: str) -> Sequence[int]:
        """Return the rows that carry a level of a column, which is read whole."""
        with readable(self._where):
            reader = _LevelReader(self._group[column])
            codes = reader.codes(0, self.n_rows)
        named = [code for code in np.unique(codes).tolist() if reader.level(code) == level]
        found: list[int] = np.flatnonzero(np.isin(codes, named)).tolist()
        return found

    def repeated_names(self) -> tuple[int, tuple[str, ...]]:
        """Return how many rows bear a name that an earlier row bears, and up to five such names."""
        marks = self._marks_for(self.n_rows)
        for names in self._blocks_of_names():
            marks.append(np.array([_mark(name) for name in names], dtype=np.uint64))
        n_repeated, wanted = repeated_marks(marks)
        if not n_repeated:
            return 0, ()
        shown = {text_of(name) for names in self._blocks_of_names() for name in names if _mark(name) in wanted}
        return n_repeated, tuple(sorted(shown))

    def _blocks_of_names(self) -> Iterator[Sequence[object]]:
        for start in range(0, self.n_rows, _ROWS):
            with readable(self._where):
                names = self._index[start : start + _ROWS].tolist()
            yield names


def _combinations(codes: np.ndarray) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield each combination of (columns, rows) codes with its rows."""
    widths = [int(column.max()) + 2 for column in codes]
    if math.prod(widths) < 1 << 62:  # one number for each, which is sorted many times faster than columns are
        flat = np.ravel_multi_index(tuple(codes + 1), widths)
        found, times = np.unique(flat, return_counts=True)
        columns = np.stack(np.unravel_index(found, widths)) - 1
    else:
        columns, times = np.unique(codes, axis=1, return_counts=True)
    yield from zip(map(tuple, columns.T.tolist()), times.tolist(), strict=True)


def _mark(name: object) -> int:
    """Return 64 bits of a name, in the order of its hash; of texts it is drawn anew in each process."""
    return hash(name) + (1 << 63)


class _LevelReader:
    """Codes of one column, and what they stand for; levels of text are numbered as they come."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._levels: list[str] = []
        self._numbers: dict[str, int] = {}
        self._is_category = is_group(node) and "codes" in node
        if self._is_category:
            self._levels = _words(node["categories"])

    def level(self, code: int) -> str | None:
        """Return what a code stands for."""
        return None if code < 0 else self._levels[code]

    def codes(self, start: int, stop: int) -> np.ndarray:
        """Return the codes of some rows; -1 is missing."""
        if self._is_category:
            return np.asarray(self._node["codes"][start:stop], dtype=np.int64)
        if is_group(self._node):
            codes = self._numbered(np.asarray(self._node["values"][start:stop]))
            codes[np.asarray(self._node["mask"][start:stop], dtype=bool)] = -1
            return codes
        return self._numbered(np.asarray(self._node[start:stop]))

    def _numbered(self, values: np.ndarray) -> np.ndarray:
        levels, places = np.unique(values, return_inverse=True)
        is_missing = np.isnan(levels) if levels.dtype.kind == "f" else np.zeros(len(levels), dtype=bool)
        numbers = np.array(
            [-1 if gone else self._number(text_of(level)) for level, gone in zip(levels, is_missing, strict=True)]
        )
        return numbers[places].astype(np.int64) if len(numbers) else np.zeros(len(values), dtype=np.int64)

    def _number(self, level: str) -> int:
        if level not in self._numbers:
            self._numbers[level] = len(self._levels)
            self._levels.append(level)
        return self._numbers[level]


def _facts_of(node: Node) -> ColumnFacts:
    if is_group(node):
        if "codes" in node and "categories" in node:
            return ColumnFacts(
                kind="category", levels=tuple(_words(node["categories"])), level_kind=_kind_of(node["categories"])
            )
        return ColumnFacts(kind="nullable" if "mask" in node else "other")
    return ColumnFacts(kind=_kind_of(node))


def _kind_of(node: Node) -> str:
    values = node.get("values") if is_group(node) else node
    if not is_array(values):
        return "other"
    if h5py.check_string_dtype(values.dtype) is not None or values.dtype.kind == "S":
        return "text"
    if h5py.check_enum_dtype(values.dtype) is not None:
        return "bool"
    return _KINDS.get(values.dtype.kind, "other")


def _words(node: Node) -> list[str]:
    values = node["values"] if is_group(node) else node
    return [text_of(value) for value in values[...]]
