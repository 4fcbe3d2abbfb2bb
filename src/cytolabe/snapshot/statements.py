"""One SELECT over known tables, and nothing else, in a database that can reach nothing.

Three walls, each enough alone for most attacks. The connection has no file system, no extensions, no view of Python's
variables, and its settings are locked. DuckDB's own parser must see exactly one SELECT. Of the parsed tree every table
must be one that a snapshot has (or a name that the question defines), and every table function one of three that only
count; so no function that reads, serializes or runs something is ever bound, whatever a later DuckDB adds.
"""

import itertools
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.snapshot.conditions import near
from cytolabe.snapshot.relations import HIDDEN

__all__ = [
    "MEMORY_LIMIT",
    "Question",
    "locked_connection",
    "nodes_of",
    "parsed",
    "read_question",
    "told_errors",
]

MEMORY_LIMIT = "2GiB"
MAX_CHARACTERS = 100_000
TABLES = ("cells", "datasets", "quality", "genes")
"""Tables that every snapshot has, beside `contributed.<dataset_id>`."""

MAX_BRACKETS = 100

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})
_MISSING_COLUMN = re.compile(r'(?:Referenced column|does not have a column named) "([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a SELECT speaks of: `cells`, `datasets`, `quality`, `genes`, some `contributed` tables, and the words in it.

    `words` are all names in lower case; `reads_all` is true where it asks for columns without naming them.
    `tree` is what DuckDB's parser made of it.
    """

    uses_cells: bool
    uses_datasets: bool
    uses_quality: bool
    uses_genes: bool
    contributed: frozenset[str]
    words: frozenset[str]
    reads_all: bool
    tree: Mapping[str, object]


def locked_connection(*, memory_limit: str = MEMORY_LIMIT, n_threads: int = 0) -> duckdb.DuckDBPyConnection:
    """Open an empty database in memory without access to anything; what it may use is bounded.

    Parameters
    ----------
    memory_limit
        In DuckDB's words; nothing spills to a disk.
    n_threads
        0 = as many as there are cores.
    """
    settings = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
        "temp_directory": "",
        "memory_limit": memory_limit,
    }
    if n_threads:
        settings["threads"] = str(n_threads)
    try:
        connection = duckdb.connect(":memory:", config=settings)
        # Arrow tells no number of rows, so that cells would look like the smaller side of a join and be held in memory.
        connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        connection.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        msg = (
            f"the database cannot start within {memory_limit} of memory; give it 64MiB or more. ({_first_line(error)})"
        )
        raise UsageError(msg) from None
    return connection


def read_question(connection: duckdb.DuckDBPyConnection, sql: str, dataset_ids: Collection[str]) -> Question:
    """Read an SQL text and refuse everything but one SELECT over the tables of a snapshot.

    Raises
    ------
    UsageError
        If it is no SELECT, several statements, too long, or names other tables or functions of tables.
    """
    if len(sql) > MAX_CHARACTERS:
        msg = (
            f"the query has {len(sql):,} characters; at most {MAX_CHARACTERS:,} are read. Pass long lists as a bound "
            "parameter: WHERE cell_id IN (SELECT unnest($ids))."
        )
        raise UsageError(msg)
    depths = itertools.accumulate({"(": 1, ")": -1}.get(sign, 0) for sign in _QUOTED.sub("", sql))
    if max(depths, default=0) > MAX_BRACKETS:
        msg = f"brackets of a query may be nested {MAX_BRACKETS} deep; the parser slows down with the square of it."
        raise UsageError(msg)
    with told_errors({}):
        statements = connection.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        found = f"{len(kinds)} statements" if len(kinds) != 1 else kinds[0]
        msg = f"a query is one SELECT, found {found}. A snapshot is only read; nothing can be written, set or attached."
        raise UsageError(msg)
    return _question(parsed(connection, sql), dataset_ids)


def parsed(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """Return what DuckDB's parser makes of a SELECT.

    Raises
    ------
    UsageError
        If it makes nothing of it.
    """
    ((text,),) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    tree: dict[str, Any] = json.loads(text)
    if tree.get("error", True):
        msg = f"a query is one plain SELECT; this one cannot be read: {tree.get('error_message', 'unknown reason')}"
        raise UsageError(msg)
    return tree


@contextmanager
def told_errors(columns: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Turn an error of DuckDB into one of ours; `columns` are those of each table in the question."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        msg = f"the query needs more memory than it may use. Aggregate, add a LIMIT or a WHERE. ({_first_line(error)})"
        raise UsageError(msg) from None
    except duckdb.Error as error:
        text = str(error)
        if re.search("reading the stream registered", text):
            msg = f"a table of the snapshot cannot be read: {_first_line(error)} Run `cytolabe verify`."
            raise IntegrityError(msg) from None
        found = _MISSING_COLUMN.search(text)
        if found:
            raise UsageError(_missing_column(found[1], columns)) from None
        raise UsageError(_placed(text)) from None


def _question(tree: Mapping[str, object], dataset_ids: Collection[str]) -> Question:
    nodes = list(nodes_of(tree))
    defined = {str(entry["key"]).lower() for node in nodes for entry in _cte_entries(node)}
    tables = [node for node in nodes if node.get("type") == "BASE_TABLE"]
    for node in nodes:
        _refuse_function(node)
    named = [_table(node, defined, dataset_ids) for node in tables]
    contributed = frozenset(name for schema, name in named if schema == "contributed")
    words = frozenset(word.lower() for node in nodes for word in _strings(node))
    aliases = {str(node["alias"] or node["table_name"]).lower() for node in tables}
    references = [node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF"]
    # A table's own name as a column is the whole row.
    is_row = any(isinstance(names, list) and str(names[-1]).lower() in aliases for names in references)
    is_star = any(node.get("class") == "STAR" or node.get("ref_type") == "NATURAL" for node in nodes)
    return Question(
        uses_cells=("", "cells") in named,
        uses_datasets=("", "datasets") in named,
        uses_quality=("", "quality") in named and "quality" not in defined,
        uses_genes=("", "genes") in named and "genes" not in defined,
        contributed=contributed,
        words=words,
        reads_all=is_star or is_row,
        tree=tree,
    )


def _table(node: Mapping[str, object], defined: Collection[str], dataset_ids: Collection[str]) -> tuple[str, str]:
    """Return schema and name of a table that the question may read."""
    catalog, schema, name = (str(node[key]) for key in ("catalog_name", "schema_name", "table_name"))
    if name.lower().startswith(HIDDEN):
        msg = f"{name!r} is no table of a snapshot."
        raise UsageError(msg)
    if not catalog and not schema and (name.lower() in TABLES or name.lower() in defined):
        return "", name.lower()
    if not catalog and schema.lower() == "contributed":
        if name in dataset_ids:
            return "contributed", name
        hint = near(name, list(dataset_ids)) or f" There are {', '.join(list(dataset_ids)[:8])}."
        msg = f"the snapshot has no data set {name!r}.{hint} An id with signs in it stands in double quotes."
        raise UsageError(msg)
    shown = ".".join(part for part in (catalog, schema, name) if part)
    hint = near(name, list(TABLES))
    msg = f"there is no table {shown[:80]!r}.{hint} A snapshot has {', '.join(TABLES)} and contributed.<dataset_id>."
    raise UsageError(msg)


def _refuse_function(node: Mapping[str, object]) -> None:
    """Refuse what stands in the place of a table but is none, unless it only counts."""
    if node.get("type") == "SHOW_REF" and node.get("query") is None:
        msg = "SHOW lists what is behind the tables. Use DESCRIBE cells, or `cytolabe snapshot query --help`."
        raise UsageError(msg)
    if node.get("type") == "TABLE_FUNCTION":
        function = node["function"]
        name = str(function.get("function_name", "")) if isinstance(function, dict) else ""
        if name.lower() not in _TABLE_FUNCTIONS:
            msg = (
                f"the table function {name!r} is not allowed: a query reads the tables of the snapshot and nothing "
                f"else. Allowed are {', '.join(sorted(_TABLE_FUNCTIONS))}."
            )
            raise UsageError(msg)


def nodes_of(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a parsed statement; a stack of our own, because the tree may be deep."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _cte_entries(node: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    found = node.get("cte_map")
    entries = found.get("map", []) if isinstance(found, dict) else []
    return entries if isinstance(entries, list) else []


def _strings(node: Mapping[str, object]) -> Iterator[str]:
    for value in node.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))


def _missing_column(name: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Return what to say about a column that no table has."""
    known = sorted({column for names in columns.values() for column in names})
    hint = near(name, known)
    lists = "" if hint else "".join(f" {table} has {', '.join(names)}." for table, names in columns.items())
    return f"there is no column {name!r}.{hint}{lists} A text stands in single quotes."


def _placed(text: str) -> str:
    """Return DuckDB's message with the place that it points at, without its advice about settings."""
    lines = [line for line in text.splitlines() if line.strip() and 'Use "SET' not in line]
    return "the query cannot be answered: " + "\n    ".join(lines[:6])


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
