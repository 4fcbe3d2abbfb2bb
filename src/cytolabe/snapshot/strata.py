"""The cells of a snapshot as few rows that differ, and for each cell the number of its row.

An atlas of 20 million cells has some thousand different combinations of data set, donor, batch and label. Whatever
treats like cells alike (splits above all) needs these rows with their numbers of cells, and never a table of all cells.
Which row a cell has is not kept either: whoever asks reads the tables a second time, block by block, so that memory
does not grow with the atlas. Tables are read as codes; persons and terms are joined to the rows that differ, not to the
cells.

`extra` names columns of the contributors' own tables: what a lab calls its perturbation or its date of collection
stands there verbatim.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Integer

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.overlays import decided_terms
from cytolabe.snapshot.view import CELL_COLUMNS, SnapshotView
from cytolabe.store.scans import TablePart, opened_table, row_blocks

__all__ = ["N_CELLS", "Strata", "contributed_columns", "strata_of"]

N_CELLS = "n_cells"
"""Column of a table of strata: how many cells are like this row."""

_PERSONS = ("person_id", "person_state")
_TERMS = tuple(column for column in OVERLAY_COLUMNS if column not in _PERSONS)

_MOST_COMBINATIONS = 1 << 62
_LOOKED_UP = 1 << 22
_BLOCK = 1 << 16
"""Cells whose words are looked at together."""

Extra = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Strata:
    """The different rows of some columns, sorted, with their numbers of cells.

    `blocks` yields the row in `table` of each cell, the next cells in canonical order with every block; each call reads
    the tables again.
    """

    table: pd.DataFrame
    blocks: Callable[[], Iterator[Integer[np.ndarray, " block"]]]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self.table[N_CELLS].sum())

    def number_of_row(self) -> Integer[np.ndarray, " cells"]:
        """Return the row of every cell: four bytes for each."""
        found = np.zeros(self.n_cells, dtype=np.int32)
        first = 0
        for numbers in self.blocks():
            found[first : first + len(numbers)] = numbers
            first += len(numbers)
        return found

    def numbers_of(self, positions: Integer[np.ndarray, " some"]) -> Integer[np.ndarray, " some"]:
        """Return the rows of some cells, in the order in which these are given."""
        order = np.argsort(positions, kind="stable")
        ascending = positions[order]
        found = np.zeros(len(positions), dtype=np.int32)
        first = 0
        for numbers in self.blocks():
            low, high = np.searchsorted(ascending, [first, first + len(numbers)])
            found[order[low:high]] = numbers[ascending[low:high] - first]
            first += len(numbers)
        return found


def strata_of(snapshot: SnapshotView, columns: Sequence[str], *, extra: Extra | None = None) -> Strata:
    """Return the different combinations of some columns of the cells of a snapshot.

    Parameters
    ----------
    snapshot
        Any snapshot; of a frozen one no table of all cells is made.
    columns
        Among `CELL_COLUMNS`, texts only.
    extra
        Name of a further column -> data set -> the contributor's column behind it; `unknown` in other data sets.

    Raises
    ------
    UsageError
        If a column is unknown, or a data set has no such contributor's column.
    IntegrityError
        If a table is missing or was changed.
    """
    unknown = [name for name in columns if name not in CELL_COLUMNS]
    if unknown:
        msg = f"{', '.join(unknown)}: name columns among {', '.join(CELL_COLUMNS)}."
        raise UsageError(msg)
    if not isinstance(snapshot, Snapshot):
        return _of_memory(snapshot, columns, extra or {})
    return _of_frozen(snapshot, columns, extra or {})


def contributed_columns(snapshot: Snapshot, dataset_id: str) -> tuple[str, ...]:
    """Return the names of the contributor's own columns of a data set."""
    with opened_table(_contributed_part(snapshot, dataset_id), codes=[]) as file:
        return tuple(file.schema_arrow.names)


def _contributed_part(snapshot: Snapshot, dataset_id: str) -> TablePart:
    entry = snapshot.entries[dataset_id].tables["contributed"]
    return TablePart(place=snapshot.relations.layout.tables / entry.file, entry=entry)


def _of_memory(snapshot: SnapshotView, columns: Sequence[str], extra: Extra) -> Strata:
    """Group the table that is in memory anyway; it has no contributor's columns but those of `cells`."""
    cells = snapshot.cells
    frame = cells[list(columns)].astype(str)
    names = cells["dataset_id"].to_numpy(dtype=object)
    for name, by_dataset in extra.items():
        values = np.full(len(cells), UNKNOWN, dtype=object)
        for dataset_id, column in by_dataset.items():
            own = names == dataset_id
            values[own] = _own_column(cells, column, dataset_id)[own]
        frame = frame.assign(**{name: values})
    numbers = frame.groupby(list(frame.columns), sort=True, observed=True).ngroup().to_numpy(dtype=np.int32)
    first = pd.Series(numbers).drop_duplicates().sort_values().index
    table = frame.iloc[first].reset_index(drop=True)
    n_cells = np.bincount(numbers, minlength=len(table))
    return Strata(table=table.assign(**{N_CELLS: n_cells}), blocks=lambda: iter([numbers]))


def _own_column(table: pd.DataFrame, column: str, dataset_id: str) -> np.ndarray:
    if column not in table:
        msg = f"{dataset_id} has no column {column!r}; it has {', '.join(map(str, table.columns[:12]))}."
        raise UsageError(msg)
    return np.asarray(table[column].astype(str), dtype=object)


def _of_frozen(snapshot: Snapshot, columns: Sequence[str], extra: Extra) -> Strata:
    facts = {"dataset_id", *columns} - set(OVERLAY_COLUMNS)
    facts |= {"donor_id"} if not set(_PERSONS).isdisjoint(columns) else set()
    facts |= {"contributor_label"} if not set(_TERMS).isdisjoint(columns) else set()
    names = (*sorted(facts), *extra)
    n_alike: dict[tuple[str, ...], int] = {}
    for keys, codes in _groups(snapshot, sorted(facts), extra):
        for key, n_cells in zip(keys, np.bincount(codes, minlength=len(keys)).tolist(), strict=True):
            n_alike[key] = n_alike.get(key, 0) + n_cells
    rows = pd.DataFrame(list(n_alike), columns=list(names), dtype=object)
    joined = _with_overlays(rows, snapshot, columns)[[*columns, *extra]]
    if joined.empty:
        return Strata(table=joined.assign(**{N_CELLS: np.zeros(0, dtype=np.int64)}), blocks=lambda: iter(()))
    merged = joined.groupby(list(joined.columns), sort=True, observed=True).ngroup().to_numpy(dtype=np.int32)
    first = pd.Series(merged).drop_duplicates().sort_values().index
    table = joined.iloc[first].reset_index(drop=True)
    total = np.zeros(len(table), dtype=np.int64)
    np.add.at(total, merged, list(n_alike.values()))
    number_of = dict(zip(n_alike, merged.tolist(), strict=True))

    def blocks() -> Iterator[np.ndarray]:
        for keys, codes in _groups(snapshot, sorted(facts), extra):
            yield np.array([number_of[key] for key in keys], dtype=np.int32)[codes]

    return Strata(table=table.assign(**{N_CELLS: total}), blocks=blocks)


def _groups(
    snapshot: Snapshot, facts: Sequence[str], extra: Extra
) -> Iterator[tuple[list[tuple[str, ...]], np.ndarray]]:
    """Yield for each block of cells its different rows and the number of each cell among them, in canonical order."""
    relations = snapshot.relations
    for dataset_id, part in zip(relations.entries, relations.parts, strict=True):
        dropped = relations.excluded.get(dataset_id, np.zeros(0, dtype=np.int64))
        own = _contributed(snapshot, dataset_id, extra)
        wanted = [name for name in facts if name != "dataset_id"]
        first = 0
        for table in _blocks(part, wanted):
            columns = {name: table[name].combine_chunks() for name in wanted}
            columns["dataset_id"] = _one_word(dataset_id, table.num_rows)
            columns |= {name: next_rows(table.num_rows) for name, next_rows in own.items()}
            low, high = np.searchsorted(dropped, [first, first + table.num_rows])
            if low < high:
                places = pa.array(np.delete(np.arange(table.num_rows), dropped[low:high] - first))
                columns = {name: column.take(places) for name, column in columns.items()}
            yield _distinct([columns[name] for name in (*facts, *extra)])
            first += table.num_rows


def _blocks(part: TablePart, names: Sequence[str]) -> Iterator[pa.Table]:
    with opened_table(part, codes=list(names)) as file:
        if file.metadata.num_rows != part.entry.n_rows:
            msg = f"{part.place.name} has {file.metadata.num_rows:,} rows where {part.entry.n_rows:,} are recorded."
            raise IntegrityError(msg)
        if names:
            yield from row_blocks(part, file, names, at_most=_BLOCK)
            return
        for start in range(0, part.entry.n_rows, _BLOCK):
            yield pa.table({"": np.zeros(min(_BLOCK, part.entry.n_rows - start), dtype=np.int8)})


def _contributed(snapshot: Snapshot, dataset_id: str, extra: Extra) -> dict[str, Callable[[int], pa.DictionaryArray]]:
    """Return for each further column what gives its next rows as coded words; `unknown` where a data set has none."""
    found: dict[str, Callable[[int], pa.DictionaryArray]] = {}
    for name, by_dataset in extra.items():
        column = by_dataset.get(dataset_id)
        found[name] = (
            partial(_one_word, UNKNOWN) if column is None else _Rows(_words(snapshot, dataset_id, column)).take
        )
        if column is not None:
            _require_as_many_rows(snapshot, dataset_id)
    return found


def _require_as_many_rows(snapshot: Snapshot, dataset_id: str) -> None:
    """Rows are joined by their order, so a table that is longer would give cells the words of others, as a shorter one would."""
    tables = snapshot.entries[dataset_id].tables
    n_rows, n_cells = tables["contributed"].n_rows, tables["cells"].n_rows
    if n_rows > n_cells:
        msg = (
            f"{dataset_id}: the contributor's table has {n_rows:,} rows for {n_cells:,} cells. Rows are joined by their order, so which "
            "belongs to which cell is not said, and a split by such a column would divide the wrong cells. Run `cytolabe verify`."
        )
        raise IntegrityError(msg)


def _one_word(word: str, n_rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, dtype=np.int32)), [word])


def _words(snapshot: Snapshot, dataset_id: str, column: str) -> Iterator[pa.Array]:
    """Yield a contributor's column as texts, block by block."""
    part = _contributed_part(snapshot, dataset_id)
    with opened_table(part, codes=[]) as file:
        if column not in file.schema_arrow.names:
            msg = f"{dataset_id} has no column {column!r}; it has {', '.join(file.schema_arrow.names[:12])}."
            raise UsageError(msg)
        for table in row_blocks(part, file, [column], at_most=_BLOCK):
            values = table[column].combine_chunks()
            if pa.types.is_dictionary(values.type):
                values = values.cast(values.type.value_type)
            yield pc.fill_null(values.cast(pa.string()), UNKNOWN)


class _Rows:
    """A column that comes in blocks, handed on in blocks of other sizes: two tables need not be divided alike."""

    def __init__(self, blocks: Iterator[pa.Array]) -> None:
        self._blocks = blocks
        self._waiting = pa.array([], type=pa.string())

    def take(self, n_rows: int) -> pa.DictionaryArray:
        """Return the next rows, as coded words."""
        while len(self._waiting) < n_rows:
            block = next(self._blocks, None)
            if block is None:
                msg = f"a contributor's table ends {n_rows - len(self._waiting):,} rows before its cells. Run `cytolabe verify`."
                raise IntegrityError(msg)
            self._waiting = pa.concat_arrays([self._waiting, block])
        taken, self._waiting = self._waiting.slice(0, n_rows), self._waiting.slice(n_rows)
        return taken.dictionary_encode()


def _distinct(columns: Sequence[pa.DictionaryArray]) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Return the different rows of coded columns as words, and for each row the number of its words."""
    combined, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    words = []
    for column in columns:
        known = [*column.dictionary.to_pylist(), UNKNOWN]
        codes = np.asarray(column.indices.fill_null(len(known) - 1), dtype=np.int64)
        words.append((known, codes))
        if len(known) > 2 or column.null_count:
            if size > _MOST_COMBINATIONS // len(known):
                combined, size = _small(combined, size)
            combined, size = combined * len(known) + codes, size * len(known)
    numbers, n_groups = _small(combined, size)
    first = np.zeros(n_groups, dtype=np.int64)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]
    picked = [[str(known[code]) for code in codes[first]] for known, codes in words]
    return list(zip(*picked, strict=True)), numbers


def _small(values: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Give values below `size` numbers without gaps; few possible values are looked up in an array."""
    if not len(values):
        return values, 0
    if size > _LOOKED_UP:
        numbers, found = pd.factorize(values)
        return numbers.astype(np.int64), len(found)
    seen = np.zeros(size, dtype=np.int64)
    seen[values] = 1
    place = np.cumsum(seen) - 1
    return place[values], int(place[-1]) + 1


def _with_overlays(rows: pd.DataFrame, snapshot: Snapshot, columns: Sequence[str]) -> pd.DataFrame:
    """Join persons and terms to the rows that differ; texts everywhere."""
    if not set(_PERSONS).isdisjoint(columns):
        persons = snapshot.persons[["dataset_id", "donor_id", *_PERSONS]]
        rows = rows.merge(persons, how="left", on=["dataset_id", "donor_id"])
        for name in _PERSONS:
            rows[name] = rows[name].where(rows[name].notna(), UNKNOWN)
    if not set(_TERMS).isdisjoint(columns):
        rows = rows.merge(decided_terms(snapshot.mappings), how="left", on=["dataset_id", "contributor_label"])
        missing = {"mapping_decision": "", "mapping_confidence": "0"}
        for name in _TERMS:
            rows[name] = rows[name].astype(object).where(rows[name].notna(), missing.get(name, UNKNOWN))
    return rows.astype(str)
