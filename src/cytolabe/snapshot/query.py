"""Questions to a snapshot: SQL, and filters that answer with positions.

Both are compiled to one SELECT with bound parameters over `relations.Relations`. Nothing is read before it is asked
for, and the answer streams: only what the caller keeps is in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from cytolabe.errors import UsageError
from cytolabe.snapshot.cell_quality import QUALITY_COLUMNS
from cytolabe.snapshot.conditions import AllOf, Comparison, Condition, Not, comparisons_of, near, parse_condition
from cytolabe.snapshot.counting import Counting, counting_of
from cytolabe.snapshot.gene_tables import GENE_COLUMNS
from cytolabe.snapshot.relations import QUERY_COLUMNS, Relations, type_of
from cytolabe.snapshot.statements import MEMORY_LIMIT, locked_connection, parsed, read_question, told_errors

__all__ = ["Answer", "ask", "count_cells", "matching_positions", "select_cells", "unknown_values"]

Parameters = Mapping[str, object] | Sequence[object] | None

_INLINE_VALUES = 100
_BATCH_ROWS = 65_536
_HINT_VALUES = 2_000


@dataclass(frozen=True)
class Answer:
    """An answer that streams; the connection lives as long as the answer."""

    reader: pa.RecordBatchReader
    connection: duckdb.DuckDBPyConnection

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield record batches; see `read_all` for errors."""
        while True:
            with told_errors({}):
                try:
                    batch = self.reader.read_next_batch()
                except StopIteration:
                    return
                except pa.ArrowException as error:
                    raise duckdb.IOException(str(error)) from None
            yield batch

    def read_all(self) -> pa.Table:
        """Return the whole answer.

        Raises
        ------
        UsageError
            If it cannot be computed within the memory that it may use.
        IntegrityError
            If a table that it reads was changed.
        """
        return pa.Table.from_batches(self.batches(), schema=self.reader.schema)


def ask(
    relations: Relations,
    sql: str,
    parameters: Parameters = None,
    *,
    memory_limit: str = MEMORY_LIMIT,
    n_threads: int = 0,
) -> Answer:
    """Answer one SELECT over `cells`, `datasets`, `quality`, `genes` and `contributed.<dataset_id>`.

    Parameters
    ----------
    relations
        The tables.
    sql
        One SELECT.
    parameters
        Values for `$name` (a mapping) or `?` (a sequence); they are bound, never pasted into the text.
    memory_limit, n_threads
        What DuckDB may use; 0 threads = all cores.

    Raises
    ------
    UsageError
        If it is anything but one SELECT over these tables, or a column or parameter does not exist.
    IntegrityError
        If a table that it reads is missing or was changed.
    """
    connection = locked_connection(memory_limit=memory_limit, n_threads=n_threads)
    question = read_question(connection, sql, relations.entries)
    counting = counting_of(question.tree) if question.uses_cells else None
    if counting is not None:
        if relations.create_groups(connection, counting.columns, n_threads=n_threads):
            counted = _run_counting(connection, counting, sql, parameters=parameters)
            if counted is not None:
                return counted
        connection = locked_connection(memory_limit=memory_limit, n_threads=n_threads)
    columns: dict[str, Sequence[str]] = {}
    if question.uses_cells:
        columns["cells"] = list(QUERY_COLUMNS)
        relations.create_cells(connection, columns["cells"] if question.reads_all else question.words)
    if question.uses_datasets:
        columns["datasets"] = relations.datasets.column_names
        relations.create_datasets(connection)
    if question.uses_quality:
        columns["quality"] = ["dataset_id", *QUALITY_COLUMNS]
        relations.create_quality(connection)
    if question.uses_genes:
        columns["genes"] = list(GENE_COLUMNS)
        relations.create_genes(connection, columns["genes"] if question.reads_all else question.words)
    if question.contributed:
        relations.create_contributed(connection, question.contributed)
    return _run(connection, sql, parameters, columns=columns)


def select_cells(relations: Relations, columns: Sequence[str], where: str = "") -> Answer:
    """Return columns of the cells that a filter matches, in no order; without a filter of all cells."""
    condition = parse_condition(where, _types()) if where.strip() else None
    text, values = _compiled(condition) if condition is not None else ("TRUE", [])
    connection = locked_connection()
    used = {comparison.column for comparison in comparisons_of(condition)} if condition is not None else set()
    relations.create_cells(connection, {*columns, *used})
    # The names are of our own list, the values are bound.
    sql = " ".join(["SELECT", ", ".join(columns), "FROM cells WHERE", text])
    return _run(connection, sql, values, columns={"cells": list(QUERY_COLUMNS)})


def matching_positions(relations: Relations, where: str) -> np.ndarray:
    """Return the positions of the cells that a filter matches, ascending.

    Raises
    ------
    UsageError
        If the filter cannot be read; the message points at the place.
    """
    table = select_cells(relations, ["position"], where).read_all()
    return np.sort(table["position"].to_numpy().astype(np.int64))


def count_cells(relations: Relations, where: str) -> dict[str, int]:
    """Return how many cells of each data set a filter matches; data sets without any are left out."""
    condition, values = _compiled(parse_condition(where, _types()))
    sql = " ".join(["SELECT dataset_id, count(*) AS n FROM cells WHERE", condition, "GROUP BY dataset_id"])
    connection = locked_connection()
    counting = counting_of(parsed(connection, sql))
    if counting is not None and relations.create_groups(connection, counting.columns):
        counted = _run_counting(connection, counting, sql, parameters=values)
        if counted is not None:
            found = {str(row["dataset_id"]): int(row["n"]) for row in counted.read_all().to_pylist()}
            return {dataset_id: found[dataset_id] for dataset_id in relations.entries if dataset_id in found}
    counts = dict.fromkeys(relations.entries, 0)
    for batch in select_cells(relations, ["dataset_id"], where).batches():
        for found in batch.column(0).cast(pa.string()).value_counts().to_pylist():
            counts[str(found["values"])] += int(found["counts"])
    return {dataset_id: count for dataset_id, count in counts.items() if count}


def unknown_values(relations: Relations, where: str) -> tuple[str, ...]:
    """Return one sentence for each text of a filter that no cell has, with those that look like it."""
    asked: dict[str, dict[str, None]] = {}
    for comparison in comparisons_of(parse_condition(where, _types())):
        if comparison.operator in ("=", "in") and type_of(comparison.column) == "text":
            asked.setdefault(comparison.column, {}).update(dict.fromkeys(map(str, comparison.values[:_INLINE_VALUES])))
    told = []
    for column, values in asked.items():
        found = ask(relations, " ".join(["SELECT DISTINCT", column, "FROM cells LIMIT", str(_HINT_VALUES)]))
        known = [str(value) for value in found.read_all()[column].to_pylist() if value]
        if len(known) == _HINT_VALUES:
            continue
        for value in values:
            if value not in known:
                hint = near(value, known) or f" There are {', '.join(map(repr, sorted(known)[:8]))}."
                told.append(f"no cell has {column} {value!r}.{hint}")
    return tuple(told)


def _run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters, *, columns: Mapping[str, Sequence[str]]
) -> Answer:
    with told_errors(columns):
        relation = _bound(connection, sql, parameters)
        if relation is None:
            msg = "the query gives no rows and no columns; ask for something."
            raise UsageError(msg)
        return Answer(relation.to_arrow_reader(_BATCH_ROWS), connection)


def _run_counting(
    connection: duckdb.DuckDBPyConnection, counting: Counting, sql: str, *, parameters: Parameters
) -> Answer | None:
    """Return the answer to a question that only counts, over groups; None where it would be another kind of answer."""
    with told_errors({"cells": list(QUERY_COLUMNS)}):
        # What was asked is bound first: its errors, names and types are those of the answer.
        asked = _bound(connection, sql, parameters)
    try:
        relation = _bound(connection, counting.rewritten(connection, asked.columns), parameters)
        is_same = relation.columns == asked.columns and relation.types == asked.types
        # A value that cannot be compared shows only here; the question that was asked tells of it.
        return Answer(relation.to_arrow_reader(_BATCH_ROWS), connection) if is_same else None
    except duckdb.Error:
        return None


def _bound(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters) -> "duckdb.DuckDBPyRelation":
    values = dict(parameters) if isinstance(parameters, Mapping) else list(parameters or ())
    return connection.sql(sql, params=values) if values else connection.sql(sql)


def _types() -> dict[str, str]:
    return {column: type_of(column) for column in QUERY_COLUMNS}


def _compiled(condition: Condition) -> tuple[str, list[object]]:
    """Return an SQL condition with a `?` for each value, and the values."""
    if isinstance(condition, Comparison):
        return _compiled_comparison(condition)
    if isinstance(condition, Not):
        text, values = _compiled(condition.condition)
        # A null compares as neither true nor false; here a cell either matches or it does not.
        return f"NOT coalesce({text}, FALSE)", values
    word = " AND " if isinstance(condition, AllOf) else " OR "
    parts = [_compiled(part) for part in condition.conditions]
    return "(" + word.join(text for text, _ in parts) + ")", [value for _, values in parts for value in values]


def _compiled_comparison(comparison: Comparison) -> tuple[str, list[object]]:
    column, operator, values = comparison.column, comparison.operator, list(comparison.values)
    if operator == "unknown":
        is_text = type_of(column) == "text"
        return (f"coalesce({column}, '') IN ('', 'unknown')" if is_text else f"{column} IS NULL"), []
    if operator == "in" and len(values) > _INLINE_VALUES:
        return f"{column} IN (SELECT unnest(?))", [values]
    if operator == "in":
        return f"{column} IN ({', '.join('?' * len(values))})", [*values]
    word = {"!=": "IS DISTINCT FROM", "like": "LIKE"}.get(operator, operator)
    return f"{column} {word} ?", [*values]
