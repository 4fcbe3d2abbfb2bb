"""Which rows a rule is about: conditions over levels of columns and texts of `uns`, never over rows.

A condition names a `column` of the same table or a key of `uns`, and `among`, `under` (equal to or descending from a
term) or `outside` (neither listed nor under `outside_under`). A rule with several holds where all of them do. A column
that is absent holds for nothing: that it is absent is said once, by the rule that requires it.
"""

from collections.abc import Mapping

from cytolabe.validate.delivered import ColumnFacts, Table
from cytolabe.validate.schema import Look, Rule

__all__ = ["column_of", "condition_text", "rows_by_level", "table_of"]


def table_of(rule: Rule, look: Look) -> Table | None:
    """Return the table that a rule is about."""
    return look.delivered.table(rule.word("table", "obs"))


def column_of(rule: Rule, look: Look) -> ColumnFacts | None:
    """Return the column that a rule is about, or None where the file has none."""
    table = table_of(rule, look)
    return None if table is None else table.columns.get(rule.word("column"))


def rows_by_level(rule: Rule, look: Look) -> Mapping[str | None, int]:
    """Return level -> rows, over the rows for which the conditions of a rule hold.

    A rule on a key of `uns` has its text as the one level; a missing value is None.
    """
    if key := rule.word("uns"):
        value = look.delivered.uns.get(key)
        is_text = isinstance(value, str) and _holds_beside(rule, look)
        return {str(value): 1} if is_text else {}
    table = table_of(rule, look)
    asked = [rule.word("column"), *_columns_of_conditions(rule)]
    if table is None or any(name not in table.columns for name in asked) or not _holds_beside(rule, look):
        return {}
    tests = [condition for condition in rule.when if "column" in condition]
    found: dict[str | None, int] = {}
    for levels, n_rows in table.count(tuple(asked)).items():
        if all(_holds(test, level, look) for test, level in zip(tests, levels[1:], strict=True)):
            found[levels[0]] = found.get(levels[0], 0) + n_rows
    return found


def condition_text(rule: Rule) -> str:
    """Say the conditions of a rule in words, or nothing where it has none."""
    said = [_said(condition) for condition in rule.when]
    return f" where {' and '.join(said)}" if said else ""


def _columns_of_conditions(rule: Rule) -> list[str]:
    return [str(condition["column"]) for condition in rule.when if "column" in condition]


def _holds_beside(rule: Rule, look: Look) -> bool:
    """Whether the conditions on `uns` hold."""
    for condition in rule.when:
        if "uns" in condition:
            value = look.delivered.uns.get(str(condition["uns"]))
            if not isinstance(value, str) or not _holds(condition, value, look):
                return False
    return True


def _holds(condition: Mapping[str, object], level: str | None, look: Look) -> bool:
    if level is None:
        return False
    if "outside" in condition or "outside_under" in condition:
        return level not in _list(condition, "outside") and not _is_under(condition, "outside_under", level, look=look)
    return level in _list(condition, "among") or _is_under(condition, "under", level, look=look)


def _is_under(condition: Mapping[str, object], key: str, level: str, *, look: Look) -> bool:
    above = _list(condition, key)
    return bool(above) and look.descends(level, above)


def _list(condition: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = condition.get(key, ())
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)


def _said(condition: Mapping[str, object]) -> str:
    place = str(condition.get("column", condition.get("uns")))
    outside = [*_list(condition, "outside"), *_list(condition, "outside_under")]
    inside = [*_list(condition, "among"), *_list(condition, "under")]
    words = outside or inside
    text = ", ".join(words[:4]) + (", ..." if len(words) > 4 else "")
    return f"{place} is {'not ' if outside else ''}{text}"
