"""Checks of columns: which there are, how they are written, which values they take."""

from collections.abc import Iterator, Mapping

from cytolabe.validate.delivered import ColumnFacts
from cytolabe.validate.schema import Found, Look, Rule, shown
from cytolabe.validate.selecting import column_of, condition_text, rows_by_level, table_of

__all__ = [
    "COLUMN_CHECKS",
    "all_or_none",
    "deprecated",
    "expected",
    "filled",
    "forbidden",
    "hidden_names",
    "moved_to_uns",
    "never_only",
    "plain_columns",
    "replacements",
    "required",
    "reserved",
    "unique_names",
    "values",
    "written_as",
]

_HIDDEN = "__"
_TYPES: Mapping[str, str] = {
    "bool": "true or false (bool)",
    "category": "categories",
    "text category": "categories of text",
}


def required(rule: Rule, look: Look) -> Iterator[Found]:
    """Columns of a table, or keys of `uns`, that have to be there."""
    place = rule.word("table", "obs")
    for name in rule.words("names"):
        if place == "uns":
            is_there = name in look.delivered.uns
        else:
            table = look.delivered.table(place)
            is_there = table is None or name in table.columns
        if not is_there and not _moved(name, place, look):
            yield Found(code="E-SCHEMA-01", where=_place(place, name), values={"name": name, "place": place})


def expected(rule: Rule, look: Look) -> Iterator[Found]:
    """Look for columns that only a file before its analysis may lack."""
    for name in rule.words("names"):
        if name not in look.delivered.obs.columns:
            n_rows = look.delivered.obs.n_rows
            yield Found(
                code="W-SCHEMA-18", where=_place("obs", name), n_affected=n_rows, n_total=n_rows, values={"name": name}
            )


def _moved(name: str, place: str, look: Look) -> bool:
    """Whether a key of `uns` stands in `obs`, where older versions had it: that is told by its own rule."""
    return place == "uns" and name in look.delivered.obs.columns


def moved_to_uns(rule: Rule, look: Look) -> Iterator[Found]:
    """Find a column of `obs` that became a key of `uns`: with one level it can be moved."""
    name = rule.word("column")
    if name not in look.delivered.obs.columns:
        return
    levels = look.delivered.obs.count((name,))
    named = [level for (level,) in levels if level is not None]
    operations: list[Mapping[str, object]] = []
    if len(named) == 1 and len(levels) == 1:
        if name not in look.delivered.uns:
            operations.append({"op": "set_uns", "key": name, "old": None, "new": named[0]})
        operations.append({"op": "drop_column", "table": "obs", "column": name, "old": named[0]})
    is_alone = len(named) <= 1
    yield Found(
        code="E-SCHEMA-02" if is_alone else "E-SCHEMA-03",
        where=_place("obs", name),
        n_affected=sum(levels.values()),
        n_total=look.delivered.obs.n_rows,
        examples=tuple(named),
        values={"name": name, "levels": shown(named)},
        autofix=tuple(operations),
    )


def deprecated(rule: Rule, look: Look) -> Iterator[Found]:
    """Columns or keys that an earlier version had; what they hold may be nowhere else, so nothing removes them."""
    for place, name in _present(rule, look):
        yield Found(code="E-SCHEMA-04", where=_place(place, name), values={"name": name})


def reserved(rule: Rule, look: Look) -> Iterator[Found]:
    """Names that the platform writes when it publishes; a file that was published there may bear them."""
    if all(key in look.delivered.uns for key in rule.words("unless_uns")):
        return
    for place, name in _present(rule, look):
        yield Found(code="E-SCHEMA-05", where=_place(place, name), values={"name": name})


def forbidden(rule: Rule, look: Look) -> Iterator[Found]:
    """Columns or keys that must not be there, always or under conditions on `uns`."""
    if rule.word("absent_uns") in look.delivered.uns or rule.word("absent_column") in look.delivered.obs.columns:
        return
    for place, name in _present(rule, look):
        because = rule.word("because", "the schema forbids it there")
        yield Found(code="E-SCHEMA-06", where=_place(place, name), values={"name": name, "because": because})


def hidden_names(_: Rule, look: Look) -> Iterator[Found]:
    """Names that begin with two underscores, and names that several columns bear."""
    places: dict[str, tuple[str, ...]] = {"uns": tuple(look.delivered.uns)}
    for name in ("obs", "var", "raw.var"):
        table = look.delivered.table(name)
        if table is not None:
            places[name] = tuple(table.columns)
            for twice in table.doubled:
                yield Found(code="E-SCHEMA-07", where=_place(name, twice), values={"name": twice})
    for place, names in {**places, **{key: tuple(found) for key, found in look.delivered.arrays.items()}}.items():
        for name in names:
            if name.startswith(_HIDDEN):
                yield Found(code="E-SCHEMA-08", where=_place(place, name), values={"name": name})


def written_as(rule: Rule, look: Look) -> Iterator[Found]:
    """How a column has to be written: `bool`, `category` or `text category`."""
    column = column_of(rule, look)
    if column is None:
        return
    wanted = rule.word("type")
    is_right = {
        "bool": column.kind == "bool",
        "category": column.kind == "category",
        "text category": column.kind == "category" and column.level_kind == "text",
    }[wanted]
    if not is_right:
        found = f"categories of {column.level_kind}" if column.kind == "category" else column.kind
        where = _where(rule)
        yield Found(code="E-SCHEMA-09", where=where, values={"wanted": _TYPES[wanted], "found": found})
    elif wanted == "text category":
        empty = sum(not level.strip() for level in column.levels)
        if empty:
            yield Found(code="E-SCHEMA-11", where=_where(rule), n_affected=empty, n_total=len(column.levels))


def filled(rule: Rule, look: Look) -> Iterator[Found]:
    """Want a column without missing values."""
    levels = rows_by_level(rule, look)
    if levels.get(None):
        table = table_of(rule, look)
        n_total = table.n_rows if table is not None else 0
        yield Found(code="E-SCHEMA-10", where=_where(rule), n_affected=levels[None], n_total=n_total)


def values(rule: Rule, look: Look) -> Iterator[Found]:
    """Values that are listed, or that are excluded, over the rows for which the conditions hold."""
    levels = rows_by_level(rule, look)
    allowed, excluded = rule.words("allowed"), rule.words("excluded")
    wrong = {
        level: rows
        for level, rows in levels.items()
        if level is not None and ((allowed and level not in allowed) or level in excluded)
    }
    if not wrong:
        return
    renamed = rule.options.get("renamed", {})
    repairs = {old: str(new) for old, new in dict(renamed if isinstance(renamed, dict) else {}).items() if old in wrong}
    guessed = {level: _near_word(level or "", allowed) for level in wrong if level not in repairs}
    repairs |= {str(level): near for level, near in guessed.items() if near}
    demand = f"one of {shown(allowed, 12)}" if allowed else f"not {shown(excluded)}"
    yield Found(
        code="E-SCHEMA-12",
        where=_where(rule),
        n_affected=sum(wrong.values()),
        n_total=sum(levels.values()),
        examples=tuple(str(level) for level in wrong),
        values={"demand": demand + condition_text(rule)},
        autofix=replacements(rule, repairs),
    )


def all_or_none(rule: Rule, look: Look) -> Iterator[Found]:
    """Want a value that all rows under the conditions bear, or none of them."""
    levels = rows_by_level(rule, look)
    value = rule.word("value")
    n_bearing = levels.get(value, 0)
    if 0 < n_bearing < sum(levels.values()):
        n_total = sum(levels.values())
        shown_condition = condition_text(rule)
        said = {"value": value, "condition": shown_condition}
        yield Found(code="E-SCHEMA-13", where=_where(rule), n_affected=n_bearing, n_total=n_total, values=said)


def never_only(rule: Rule, look: Look) -> Iterator[Found]:
    """Find a column that must not be there when all of its rows bear one value."""
    levels = rows_by_level(rule, look)
    value = rule.word("value")
    if levels and set(levels) == {value}:
        name = rule.word("column")
        operation = {"op": "drop_column", "table": rule.word("table", "obs"), "column": name, "old": value}
        n_rows = sum(levels.values())
        said = {"value": value, "name": name}
        yield Found(
            code="E-SCHEMA-14", where=_where(rule), n_affected=n_rows, n_total=n_rows, values=said, autofix=(operation,)
        )


def unique_names(rule: Rule, look: Look) -> Iterator[Found]:
    """Want an index in which no name occurs twice."""
    table = table_of(rule, look)
    if table is None:
        return
    n_repeated, examples = table.repeated_names()
    if n_repeated:
        where = f"{rule.word('table', 'obs')} index"
        yield Found(code="E-SCHEMA-15", where=where, n_affected=n_repeated, n_total=table.n_rows, examples=examples)


def plain_columns(_: Rule, look: Look) -> Iterator[Found]:
    """No categories of truth values in any column, and no category that no cell bears."""
    for place in ("obs", "var", "raw.var"):
        table = look.delivered.table(place)
        for name, column in table.columns.items() if table is not None else ():
            if column.kind == "category" and column.level_kind == "bool":
                yield Found(code="W-SCHEMA-16", where=_place(place, name), examples=column.levels)
    for name, column in look.delivered.obs.columns.items():
        if column.kind == "category":
            yield from _empty_categories(name, column, look)


def _empty_categories(name: str, column: ColumnFacts, look: Look) -> Iterator[Found]:
    borne = {level for (level,) in look.delivered.obs.count((name,))}
    empty = tuple(level for level in column.levels if level not in borne)
    if empty:
        operation = {"op": "drop_categories", "table": "obs", "column": name, "old": list(empty)}
        n_total = len(column.levels)
        where = _place("obs", name)
        yield Found(
            code="W-SCHEMA-17",
            where=where,
            n_affected=len(empty),
            n_total=n_total,
            examples=empty[:5],
            autofix=(operation,),
        )


def replacements(rule: Rule, repairs: Mapping[str, str]) -> tuple[Mapping[str, object], ...]:
    """Return the operations that put other values in the place of some, in a column or in `uns`."""
    if key := rule.word("uns"):
        return tuple({"op": "set_uns", "key": key, "old": old, "new": new} for old, new in sorted(repairs.items()))
    place, column = rule.word("table", "obs"), rule.word("column")
    return tuple(
        {"op": "replace_value", "table": place, "column": column, "old": old, "new": new}
        for old, new in sorted(repairs.items())
    )


def _near_word(value: str, allowed: tuple[str, ...]) -> str:
    """Return the allowed word that differs from a value in case and blanks only, or nothing."""
    plain = value.strip().casefold().replace("_", " ")
    return next((word for word in allowed if word.casefold() == plain), "")


def _present(rule: Rule, look: Look) -> Iterator[tuple[str, str]]:
    place = rule.word("table", "obs")
    names: tuple[str, ...] = tuple(look.delivered.uns)
    if place != "uns":
        table = look.delivered.table(place)
        names = tuple(table.columns) if table is not None else ()
    for name in rule.words("names"):
        if name in names:
            yield place, name


def _where(rule: Rule) -> str:
    key = rule.word("uns")
    return _place("uns", key) if key else _place(rule.word("table", "obs"), rule.word("column"))


def _place(table: str, name: str) -> str:
    return f"{table}[{name!r}]"


COLUMN_CHECKS = {
    "required": required,
    "expected": expected,
    "moved_to_uns": moved_to_uns,
    "deprecated": deprecated,
    "reserved": reserved,
    "forbidden": forbidden,
    "hidden_names": hidden_names,
    "written_as": written_as,
    "filled": filled,
    "values": values,
    "all_or_none": all_or_none,
    "never_only": never_only,
    "unique_names": unique_names,
    "plain_columns": plain_columns,
}
