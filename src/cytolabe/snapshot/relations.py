"""What a question can be asked of: `cells`, `datasets` and `contributed.<dataset_id>`, as lazily read relations.

`cells` is the fact tables of all data sets as one Arrow data set, with persons and terms joined from their small
overlay tables in SQL. A join is left out where no column of it is asked for: counting 170 million cells by tissue
reads one column of codes and nothing else. `contributed` tables stay apart, verbatim; they have no columns in common
that would mean the same.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from cytolabe.records import UNKNOWN, LabelMapping
from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.overlays import decided_terms
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.scans import TablePart, scan_tables

__all__ = ["HIDDEN", "QUERY_COLUMNS", "Relations", "type_of"]

HIDDEN = "cytolabe_"
"""Relations of this prefix stand behind the public ones; a question cannot name them."""

_FACTS, _PERSONS, _TERMS = "cytolabe_facts", "cytolabe_persons", "cytolabe_terms"
_PERSON_JOIN = "LEFT JOIN cytolabe_persons AS p ON f.dataset_id = p.dataset_id AND f.donor_id = p.donor_id"
_TERM_JOIN = (
    "LEFT JOIN cytolabe_terms AS m ON f.dataset_id = m.dataset_id AND f.contributor_label = m.contributor_label"
)
_FIRST_POSITION = "first_position"
_PERSON_COLUMNS = ("person_id", "person_state")
_TERM_COLUMNS = tuple(column for column in OVERLAY_COLUMNS if column not in _PERSON_COLUMNS)

QUERY_COLUMNS: Mapping[str, str] = {**CELL_COLUMNS, "position": "int64: place of the cell in the canonical order"}
"""Columns of `cells` in a question."""


def type_of(column: str) -> str:
    """Return `number` or `text`."""
    return "number" if QUERY_COLUMNS[column].startswith("int64") else "text"


@dataclass(frozen=True)
class Relations:
    """The tables of one snapshot. `persons` and `mappings` are called when a question needs them."""

    layout: Layout
    entries: Mapping[str, DatasetEntry]
    persons: Callable[[], pd.DataFrame]
    mappings: Callable[[], Sequence[LabelMapping]]

    @cached_property
    def n_cells(self) -> int:
        """Number of cells."""
        return sum(entry.n_cells for entry in self.entries.values())

    def create_cells(self, connection: duckdb.DuckDBPyConnection, columns: Collection[str]) -> None:
        """Make `cells` with all facts, and of the overlays those that `columns` ask for."""
        connection.register(_FACTS, self._facts)
        selected = [f"f.{_quoted(name)}" for name in CELL_COLUMNS if name not in OVERLAY_COLUMNS]
        selected.append(f"f.{_FIRST_POSITION} + f.row AS position")
        joins = []
        if not set(_PERSON_COLUMNS).isdisjoint(columns):
            connection.register(_PERSONS, self._persons)
            selected += [f"coalesce(p.{name}, '{UNKNOWN}') AS {name}" for name in _PERSON_COLUMNS]
            joins.append(_PERSON_JOIN)
        if not set(_TERM_COLUMNS).isdisjoint(columns):
            connection.register(_TERMS, self._terms)
            selected += [_term_column(name) for name in _TERM_COLUMNS]
            joins.append(_TERM_JOIN)
        known = [name for name in QUERY_COLUMNS if name not in OVERLAY_COLUMNS or name in _added(selected)]
        inner = " ".join(["SELECT", ", ".join(selected), "FROM", _FACTS, "AS f", *joins])
        connection.execute(
            " ".join(["CREATE VIEW cells AS SELECT", ", ".join(map(_quoted, known)), "FROM (", inner, ")"])
        )

    def create_datasets(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make `datasets`: one row per data set, what its record says."""
        connection.register("cytolabe_datasets", self.datasets)
        connection.execute("CREATE VIEW datasets AS FROM cytolabe_datasets")

    def create_contributed(self, connection: duckdb.DuckDBPyConnection, dataset_ids: Collection[str]) -> None:
        """Make `contributed.<dataset_id>` for some data sets: the contributor's columns, verbatim."""
        connection.execute("CREATE SCHEMA contributed")
        for number, dataset_id in enumerate(sorted(dataset_ids)):
            entry = self.entries[dataset_id].tables["contributed"]
            place = self.layout.tables / entry.file
            scanned = scan_tables([TablePart(place=place, entry=entry)])
            hidden = f"cytolabe_contributed_{number}"
            connection.register(hidden, scanned)
            connection.execute(" ".join(["CREATE VIEW", f"contributed.{_quoted(dataset_id)}", "AS FROM", hidden]))

    @cached_property
    def datasets(self) -> pa.Table:
        """One row per data set."""
        names = (
            "dataset_id", "title", "study", "organism", "n_cells", "n_features", "n_nonzero", "label_origin",
            "genes_mapped_fraction_of_counts", "source_digest",
        )  # fmt: skip
        records = [entry.record for entry in self.entries.values()]
        columns: dict[str, list[object]] = {name: [getattr(record, name) for record in records] for name in names}
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
        sizes = [entry.n_cells for entry in self.entries.values()]
        firsts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()
        parts = [
            TablePart(
                place=self.layout.tables / entry.tables["cells"].file,
                entry=entry.tables["cells"],
                known={"dataset_id": dataset_id, _FIRST_POSITION: first},
            )
            for first, (dataset_id, entry) in zip(firsts, self.entries.items(), strict=False)
        ]
        return scan_tables(parts, schema)

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


def _added(selected: Sequence[str]) -> set[str]:
    return {text.rsplit(" AS ", 1)[1] for text in selected if " AS " in text}
