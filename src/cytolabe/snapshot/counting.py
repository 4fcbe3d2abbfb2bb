"""A question that only counts, asked of groups of like cells instead of all cells.

`SELECT tissue, assay, count(*) FROM cells GROUP BY ALL` has the same answer over the few different pairs of tissue and
assay, each with its number of cells, if `count(*)` becomes the sum of these numbers. Which questions may be rewritten
is decided on DuckDB's own parse tree by lists of what is known to be safe: one SELECT from `cells` alone, columns that
repeat, functions that always give the same for the same values, and aggregates that count or do not mind how often a
value occurs. Everything else, whatever a later DuckDB adds, is asked of the cells themselves.

The rewritten question must give columns of the same names and types as the one that was asked; `query` sees to that.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from cytolabe.snapshot.relations import FACTOR_COLUMNS, HIDDEN, QUERY_COLUMNS
from cytolabe.snapshot.statements import nodes_of

__all__ = ["Counting", "counting_of"]

Node = dict[str, Any]

_CLASSES = frozenset({"BETWEEN", "CASE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "PARAMETER"})
"""Expressions that are safe where their parts are; functions and operators are looked at one by one."""

_OPERATORS = frozenset({"COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_COALESCE", "OPERATOR_IS_NOT_NULL", "OPERATOR_IS_NULL",
                        "OPERATOR_NOT"})  # fmt: skip
_MODIFIERS = frozenset({"DISTINCT_MODIFIER", "LIMIT_MODIFIER", "ORDER_MODIFIER"})
_COUNTS = frozenset({"count", "count_star"})
_ONCE = frozenset({"bool_and", "bool_or", "max", "min"})
"""Aggregates of one argument for which a value may as well occur once."""

_SAME = frozenset(
    {
        "!~~", "!~~*", "%", "*", "+", "-", "/", "//", "concat", "contains", "ends_with", "left", "length", "lower",
        "ltrim", "nullif", "prefix", "regexp_extract", "regexp_matches", "replace", "right", "round", "rtrim",
        "split_part", "starts_with", "strlen", "strpos", "substr", "substring", "suffix", "trim", "upper", "||", "~~",
        "~~*",
    }
)  # fmt: skip
"""Functions and operators that are no aggregates and always give the same for the same values."""

_SUM = "SELECT CAST(coalesce(sum(CASE WHEN cytolabe_n_like IS NULL THEN 0 ELSE cytolabe_n_like END), 0) AS BIGINT)"
"""What takes the place of `count(x)`, with x in the condition; DuckDB's own parser makes the nodes of it."""


@dataclass(frozen=True)
class Counting:
    """A question that only counts: its parse tree, and the columns of `cells` that it needs."""

    tree: Mapping[str, object]
    columns: frozenset[str]

    def rewritten(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> str:
        """Return the question over groups; its columns are called `names`, like those of the one that was asked."""
        tree = json.loads(json.dumps(self.tree))
        for expression, name in zip(_select_of(tree)["select_list"], names, strict=True):
            if expression["class"] != "COLUMN_REF":
                expression["alias"] = expression["alias"] or name
        for node in list(nodes_of(tree)):
            if _counts_cells(node):
                _become_sum(node, connection)
        # The parser's own words for its own tree; values stay parameters.
        found = connection.execute("SELECT json_deserialize_sql($tree::JSON)", {"tree": json.dumps(tree)}).fetchall()
        return str(found[0][0])


def counting_of(tree: Mapping[str, object]) -> Counting | None:
    """Return a parsed question as one that only counts; None where it is not known to be one."""
    select = _select_of(tree)
    if select.get("type") != "SELECT_NODE" or not _is_of_cells_alone(select):
        return None
    nodes = list(nodes_of(tree))
    expressions = [node for node in nodes if "class" in node]
    if not all(map(_is_safe, expressions)) or not _forgets_rows(select, nodes):
        return None
    aliases = {str(expression["alias"]).lower() for expression in select["select_list"]} - {""}
    references = [node["column_names"] for node in expressions if node["class"] == "COLUMN_REF"]
    names = {str(reference[-1]).lower() for reference in references}
    columns = names & set(FACTOR_COLUMNS)
    is_known = names - columns <= aliases and not (names | aliases) & (set(QUERY_COLUMNS) - set(FACTOR_COLUMNS))
    is_hidden = any(name.startswith(HIDDEN) for name in names | aliases)
    is_row = str(select["from_table"]["alias"] or "cells").lower() in names | aliases
    return Counting(tree, frozenset(columns)) if is_known and not is_hidden and not is_row else None


def _select_of(tree: Mapping[str, Any]) -> Node:
    (statement,) = tree["statements"]
    node: Node = statement["node"]
    return node


def _is_of_cells_alone(select: Node) -> bool:
    """Whether nothing but rows of `cells` enters, each as it is."""
    table = select["from_table"]
    is_cells = (
        table["type"] == "BASE_TABLE" and str(table["table_name"]).lower() == "cells" and not table["schema_name"]
    )
    is_changed = any(table.get(key) for key in ("sample", "at_clause", "column_name_alias"))
    return is_cells and not is_changed and not (select["sample"] or select["qualify"] or select["cte_map"]["map"])


def _forgets_rows(select: Node, nodes: Sequence[Node]) -> bool:
    """Whether the answer has no row for each cell: it groups, aggregates or leaves out what is alike."""
    modifiers = {modifier["type"]: modifier for modifier in select["modifiers"]}
    if not modifiers.keys() <= _MODIFIERS or modifiers.get("DISTINCT_MODIFIER", {}).get("distinct_on_targets"):
        return False
    is_grouped = bool(select["group_expressions"]) or select["aggregate_handling"] == "FORCE_AGGREGATES"
    is_aggregate = any(str(node.get("function_name")).lower() in _COUNTS | _ONCE for node in nodes)
    return is_grouped or is_aggregate or "DISTINCT_MODIFIER" in modifiers


def _is_safe(node: Node) -> bool:
    """Whether an expression, its parts aside, gives for a group of like cells what it gives for each of them."""
    if node["class"] == "OPERATOR":
        return node["type"] in _OPERATORS
    if node["class"] != "FUNCTION":
        return node["class"] in _CLASSES
    name, n_arguments = str(node["function_name"]).lower(), len(_arguments(node))
    if node["schema"] or node["catalog"] or node["order_bys"]["orders"] or node["export_state"]:
        return False
    if name in _SAME:
        return not node["filter"] and not node["distinct"]
    return n_arguments <= 1 if name in _COUNTS else name in _ONCE and n_arguments == 1


def _counts_cells(node: Node) -> bool:
    return str(node.get("function_name")).lower() in _COUNTS and not node["distinct"]


def _become_sum(node: Node, connection: duckdb.DuckDBPyConnection) -> None:
    """Turn the node of a count into that of a sum over groups, in its place."""
    ((text,),) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": _SUM}).fetchall()
    (template,) = _select_of(json.loads(text))["select_list"]
    parts = list(nodes_of(template))
    (total,) = (part for part in parts if part.get("function_name") == "sum")
    (condition,) = (part for part in parts if part.get("type") == "OPERATOR_IS_NULL")
    total["filter"] = node["filter"]
    condition["children"] = _arguments(node) or condition["children"]
    alias = node["alias"]
    node.clear()
    node.update(template, alias=alias)


def _arguments(node: Node) -> list[Node]:
    """Return what a function is given; DuckDB 2 wraps each argument, with its name."""
    if "arguments" in node:
        return [argument["expression"] for argument in node["arguments"]]
    return list(node["children"])
