"""What a question can be asked of: `cells`, `datasets`, `quality`, `genes`, `contributed.<dataset_id>`; lazily read relations.

`cells` is the fact tables of all data sets as one Arrow data set, with persons and terms joined from their small
overlay tables in SQL. A join is left out where no column of it is asked for: counting 170 million cells by tissue
reads one column of codes and nothing else. `contributed` tables stay apart, verbatim; they have no columns in common
that would mean the same.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from cytolabe.errors import UsageError
from cytolabe.records import UNKNOWN, LabelMapping
from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.cell_quality import QUALITY_COLUMNS, quality_key, read_quality
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.gene_tables import alignment_of, symbols_of
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.overlays import decided_terms
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.groups import N_ROWS, count_groups
from cytolabe.store.scans import TablePart, scan_tables
from cytolabe.store.tables import read_table

__all__ = ["FACTOR_COLUMNS", "HIDDEN", "N_LIKE", "QUERY_COLUMNS", "Relations", "type_of"]

HIDDEN = "cytolabe_"
"""Relations of this prefix stand behind the public ones; a question cannot name them."""

_FACTS, _PERSONS, _TERMS = "cytolabe_facts", "cytolabe_persons", "cytolabe_terms"
_PERSON_JOIN = "LEFT JOIN cytolabe_persons AS p ON f.dataset_id = p.dataset_id AND f.donor_id = p.donor_id"
_TERM_JOIN = (
    "LEFT JOIN cytolabe_terms AS m ON f.dataset_id = m.dataset_id AND f.contributor_label = m.contributor_label"
)
_QUALITY = "cytolabe_quality"
_EXCLUDED, _HELD = "cytolabe_excluded", "cytolabe_held"
_WHOLE = "CREATE VIEW cytolabe_held AS SELECT f.*, f.first_position + f.row AS position FROM cytolabe_facts AS f"
_OTHERS = "WHERE f.dataset_id NOT IN ("
# The last excluded row up to a row says how many stand before it, or is this row itself.
_PARTLY = """) UNION ALL SELECT f.*, f.first_position + f.row - coalesce(x.n_before, 0) AS position
FROM (SELECT * FROM cytolabe_facts WHERE dataset_id IN ("""
_EXCLUDING = """)) AS f ASOF LEFT JOIN cytolabe_excluded AS x ON f.dataset_id = x.dataset_id AND f.row >= x.row
WHERE x.row IS NULL OR x.row <> f.row"""
_ALIGNMENT, _SYMBOLS = "cytolabe_alignment", "cytolabe_symbols"
_GENES_WITHOUT_SYMBOLS = "CREATE VIEW genes AS FROM cytolabe_alignment"
_GENES = """CREATE VIEW genes AS SELECT a.dataset_id, a.feature, a.gene_id, coalesce(s.symbol, '') AS symbol, a.status,
a.count_fraction FROM cytolabe_alignment AS a LEFT JOIN cytolabe_symbols AS s ON a.gene_id = s.gene_id"""
_FIRST_POSITION = "first_position"
_PERSON_COLUMNS = ("person_id", "person_state")
_TERM_COLUMNS = tuple(column for column in OVERLAY_COLUMNS if column not in _PERSON_COLUMNS)

QUERY_COLUMNS: Mapping[str, str] = {**CELL_COLUMNS, "position": "int64: place of the cell in the canonical order"}
"""Columns of `cells` in a question."""

FACTOR_COLUMNS = tuple(name for name in CELL_COLUMNS if name not in ("cell_id", "row", "n_counts", "n_genes"))
"""Columns of `cells` whose values repeat: what a contributor wrote about many cells, and what is joined by it."""

N_LIKE = "cytolabe_n_like"
"""Column of the groups of `Relations.create_groups`: how many cells there are of each."""


def type_of(column: str) -> str:
    """Return `number` or `text`."""
    return "number" if QUERY_COLUMNS[column].startswith("int64") else "text"


@dataclass(frozen=True)
class Relations:
    """The tables of one snapshot. `persons` and `mappings` are called when a question needs them.

    `excluded` are the rows of each data set that belong to persons who withdrew, ascending.
    """

    layout: Layout
    entries: Mapping[str, DatasetEntry]
    persons: Callable[[], pd.DataFrame]
    mappings: Callable[[], Sequence[LabelMapping]]
    excluded: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is open: another process opens its own files."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def n_cells(self) -> int:
        """Number of cells."""
        return sum(self._size(dataset_id) for dataset_id in self.entries)

    def create_cells(self, connection: duckdb.DuckDBPyConnection, columns: Collection[str]) -> None:
        """Make `cells` with all facts, and of the overlays those that `columns` ask for."""
        connection.register(_FACTS, self._facts)
        self._create_held(connection)
        facts = [f"f.{_quoted(name)}" for name in CELL_COLUMNS if name not in OVERLAY_COLUMNS]
        self._create_joined(connection, columns, [*facts, "f.position"])

    def create_groups(
        self, connection: duckdb.DuckDBPyConnection, columns: Collection[str], *, n_threads: int = 0
    ) -> bool:
        """Make `cells` with one row for cells that are alike in some of `FACTOR_COLUMNS`, and their number `N_LIKE`.

        One group may come several times. False, and nothing is made, where the cells are too little alike for it.
        """
        facts = {"dataset_id", *columns} - set(OVERLAY_COLUMNS)
        if not set(_PERSON_COLUMNS).isdisjoint(columns):
            facts.add("donor_id")
        if not set(_TERM_COLUMNS).isdisjoint(columns):
            facts.add("contributor_label")
        nothing = np.zeros(0, dtype=np.int64)
        dropped = [self.excluded.get(dataset_id, nothing) for dataset_id in self.entries]
        groups = count_groups(self.parts, sorted(facts), dropped=dropped, n_threads=n_threads)
        if groups is None:
            return False
        connection.register(_HELD, groups)
        self._create_joined(
            connection, columns, [*(f"f.{_quoted(name)}" for name in sorted(facts)), f"f.{N_ROWS} AS {N_LIKE}"]
        )
        return True

    def _create_joined(
        self, connection: duckdb.DuckDBPyConnection, columns: Collection[str], facts: Sequence[str]
    ) -> None:
        """Make `cells` of the held facts, with the overlays that `columns` ask for, in the order of `QUERY_COLUMNS`."""
        selected, joins = list(facts), []
        if not set(_PERSON_COLUMNS).isdisjoint(columns):
            connection.register(_PERSONS, self._persons)
            selected += [f"coalesce(p.{name}, '{UNKNOWN}') AS {name}" for name in _PERSON_COLUMNS]
            joins.append(_PERSON_JOIN)
        if not set(_TERM_COLUMNS).isdisjoint(columns):
            connection.register(_TERMS, self._terms)
            selected += [_term_column(name) for name in _TERM_COLUMNS]
            joins.append(_TERM_JOIN)
        made = {_name_of(text) for text in selected}
        known = [name for name in (*QUERY_COLUMNS, N_LIKE) if name in made]
        inner = " ".join(["SELECT", ", ".join(selected), "FROM", _HELD, "AS f", *joins])
        connection.execute(
            " ".join(["CREATE VIEW cells AS SELECT", ", ".join(map(_quoted, known)), "FROM (", inner, ")"])
        )

    def _create_held(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the facts of the cells that the snapshot holds, with their positions.

        An ASOF join sorts, which 170 million cells would not survive; only data sets with excluded cells go through it.
        """
        if not self.excluded:
            connection.execute(_WHOLE)
            return
        connection.register(_EXCLUDED, self._excluded_rows)
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(self.excluded))
        connection.execute(" ".join([_WHOLE, _OTHERS, names, _PARTLY, names, _EXCLUDING]))

    def create_datasets(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make `datasets`: one row per data set, what its record says."""
        connection.register("cytolabe_datasets", self.datasets)
        connection.execute("CREATE VIEW datasets AS FROM cytolabe_datasets")

    def create_quality(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make `quality`: one row per cell of every data set, as `cytolabe snapshot quality` measured it.

        Raises
        ------
        UsageError
            If a data set was not measured: an answer without its cells would look whole.
        """
        excluded = {name: rows.tolist() for name, rows in self.excluded.items()}
        records = {
            name: read_quality(self.layout, quality_key(entry, excluded.get(name, ())))
            for name, entry in self.entries.items()
        }
        missing = [name for name, record in records.items() if record is None]
        if missing:
            msg = (
                f"the quality of {len(missing)} of {len(records)} data sets was not measured: {', '.join(missing[:5])}. "
                "Run `cytolabe snapshot quality ATLAS` first; it is not part of ingest."
            )
            raise UsageError(msg)
        parts = [
            TablePart(place=self.layout.quality / found.table.file, entry=found.table, known={"dataset_id": name})
            for name, found in records.items()
            if found is not None
        ]
        types = {"int64": pa.int64(), "str": pa.string(), "double": pa.float64(), "bool": pa.bool_()}
        fields = [(name, types[meaning.partition(":")[0]]) for name, meaning in QUALITY_COLUMNS.items()]
        connection.register(_QUALITY, scan_tables(parts, pa.schema([("dataset_id", pa.string()), *fields])))
        connection.execute("CREATE VIEW quality AS FROM cytolabe_quality")

    def create_genes(self, connection: duckdb.DuckDBPyConnection, columns: Collection[str]) -> None:
        """Make `genes`: what became of each feature of each data set; symbols are looked up where they are asked for."""
        connection.register(_ALIGNMENT, alignment_of(self.layout, self.entries))
        if "symbol" in columns:
            connection.register(_SYMBOLS, symbols_of(self.entries))
        connection.execute(_GENES if "symbol" in columns else _GENES_WITHOUT_SYMBOLS)

    def create_contributed(self, connection: duckdb.DuckDBPyConnection, dataset_ids: Collection[str]) -> None:
        """Make `contributed.<dataset_id>` for some data sets: the contributor's columns, verbatim."""
        connection.execute("CREATE SCHEMA contributed")
        for number, dataset_id in enumerate(sorted(dataset_ids)):
            entry = self.entries[dataset_id].tables["contributed"]
            place = self.layout.tables / entry.file
            if dataset_id in self.excluded:
                table = read_table(self.layout.tables, entry)
                kept = np.setdiff1d(np.arange(len(table)), self.excluded[dataset_id])
                table = table.iloc[kept]
                scanned: object = pa.Table.from_pandas(table, preserve_index=False)
            else:
                scanned = scan_tables([TablePart(place=place, entry=entry)])
            hidden = f"cytolabe_contributed_{number}"
            connection.register(hidden, scanned)
            connection.execute(" ".join(["CREATE VIEW", f"contributed.{_quoted(dataset_id)}", "AS FROM", hidden]))

    @cached_property
    def datasets(self) -> pa.Table:
        """One row per data set."""
        names = (
            "dataset_id", "title", "study", "organism", "n_cells", "n_features", "n_nonzero", "label_origin",
            "genes_mapped_fraction_of_counts", "annotation", "annotation_evidence", "source_digest",
            "label_origin_suspected", "upstream_fraction_of_counts",
        )  # fmt: skip
        records = [entry.record for entry in self.entries.values()]
        columns: dict[str, list[object]] = {name: [getattr(record, name) for record in records] for name in names}
        columns["n_cells"] = [self._size(dataset_id) for dataset_id in self.entries]
        columns["matrix_kind"] = [str(record.matrix_kind.value) for record in records]
        columns["gene_reference"] = [entry.gene_reference for entry in self.entries.values()]
        columns["n_partitions"] = [len(entry.partitions) for entry in self.entries.values()]
        integers = ("n_cells", "n_features", "n_nonzero", "n_partitions")
        schema = {
            name: pa.int64() if name in integers else pa.float64() if name.endswith("_of_counts") else pa.string()
            for name in columns
        }
        return pa.table(columns, schema=pa.schema(list(schema.items())))

    @cached_property
    def _facts(self) -> object:
        schema = pa.schema(
            [
                *((name, _fact_type(name)) for name in CELL_COLUMNS if name not in OVERLAY_COLUMNS),
                (_FIRST_POSITION, pa.int64()),
            ]
        )
        return scan_tables(self.parts, schema)

    @cached_property
    def parts(self) -> list[TablePart]:
        """The tables of cells, in the order of `entries`."""
        sizes = [self._size(dataset_id) for dataset_id in self.entries]
        firsts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()
        return [
            TablePart(
                place=self.layout.tables / entry.tables["cells"].file,
                entry=entry.tables["cells"],
                known={"dataset_id": dataset_id, _FIRST_POSITION: first},
            )
            for first, (dataset_id, entry) in zip(firsts, self.entries.items(), strict=False)
        ]

    @cached_property
    def _excluded_rows(self) -> pa.Table:
        """One row per excluded cell: data set, row, and how many are excluded up to it."""
        names = [name for name, rows in self.excluded.items() for _ in rows]
        rows = np.concatenate(list(self.excluded.values()))
        n_before = np.concatenate([np.arange(1, len(rows) + 1) for rows in self.excluded.values()])
        return pa.table({"dataset_id": pa.array(names, type=pa.string()), "row": rows, "n_before": n_before})

    def _size(self, dataset_id: str) -> int:
        return self.entries[dataset_id].n_cells - len(self.excluded.get(dataset_id, ()))

    @cached_property
    def _persons(self) -> pa.Table:
        frame = self.persons()[["dataset_id", "donor_id", *_PERSON_COLUMNS]]
        return pa.table({name: pa.array(frame[name], type=pa.string()) for name in frame.columns})

    @cached_property
    def _terms(self) -> pa.Table:
        frame = decided_terms(self.mappings())
        types = {name: pa.int64() if name == "mapping_confidence" else pa.string() for name in frame.columns}
        return pa.table({name: pa.array(frame[name].tolist(), type=types[name]) for name in frame.columns})


def _quoted(name: str) -> str:
    """Return a name as an SQL identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def _fact_type(name: str) -> pa.DataType:
    if type_of(name) == "number":
        return pa.int64()
    return pa.string() if name == "cell_id" else pa.dictionary(pa.int32(), pa.string())


def _term_column(name: str) -> str:
    missing = {"mapping_decision": "''", "mapping_confidence": "0"}.get(name, f"'{UNKNOWN}'")
    return f"coalesce(m.{name}, {missing}) AS {name}"


def _name_of(selected: str) -> str:
    """Return the column that `f.name`, `f."name"` or `... AS name` makes."""
    return selected.rsplit(" AS ", 1)[-1].removeprefix("f.").strip('"')
