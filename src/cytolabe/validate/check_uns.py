"""Checks of `uns`: texts, lists that name columns, colors, nothing empty."""

import re
from collections.abc import Iterator, Mapping

from cytolabe.validate.delivered import ArrayFacts
from cytolabe.validate.schema import Found, Look, Rule, shown

__all__ = ["UNS_CHECKS", "colors", "list_of_columns", "nothing_empty", "perturbations", "text"]

_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")
_COLORS = "_colors"
_NAME = re.compile(r"[^\s/,\"']+")
_GUIDE = re.compile(r"[ACGT]{14,22}")
_MOTIF = re.compile(r"3' [ABCDGHKMNRSTVWY]+")


def text(rule: Rule, look: Look) -> Iterator[Found]:
    """Want a text without blanks at its ends or twice in a row, perhaps one of a list, perhaps the name of an embedding."""
    key = rule.word("uns")
    if key not in look.delivered.uns:
        return
    value, where = look.delivered.uns[key], f"uns[{key!r}]"
    if not isinstance(value, str):
        yield Found(code="E-UNS-01", where=where, examples=(str(value)[:80],), values={"demand": "one text"})
        return
    tidy = " ".join(value.split())
    if value != tidy:
        operation = {"op": "set_uns", "key": key, "old": value, "new": tidy}
        yield Found(code="E-UNS-02", where=where, examples=(value,), autofix=(operation,) if tidy else ())
        return
    allowed = rule.words("allowed")
    if allowed and value not in allowed:
        yield Found(code="E-UNS-01", where=where, examples=(value,), values={"demand": f"one of {shown(allowed)}"})
    named = look.delivered.arrays.get(rule.word("names_array"), {}) if "names_array" in rule.options else None
    if named is not None and value not in named:
        demand = f"a key of {rule.word('names_array')} ({shown(tuple(named)) or 'it has none'})"
        yield Found(code="E-UNS-01", where=where, examples=(value,), values={"demand": demand})


def list_of_columns(rule: Rule, look: Look) -> Iterator[Found]:
    """Want a list of names of columns of `obs`."""
    key = rule.word("uns")
    if key not in look.delivered.uns:
        return
    value, where = look.delivered.uns[key], f"uns[{key!r}]"
    if not isinstance(value, list):
        demand = {"demand": "a list of columns of obs"}
        yield Found(code="E-UNS-01", where=where, examples=(str(value)[:80],), values=demand)
        return
    absent = [str(name) for name in value if name not in look.delivered.obs.columns]
    if absent:
        yield Found(
            code="E-UNS-03", where=where, n_affected=len(absent), n_total=len(value), examples=tuple(absent[:5])
        )


def nothing_empty(_: Rule, look: Look) -> Iterator[Found]:
    """No value of `uns`, and no array of other parts, that holds nothing."""
    for key, value in look.delivered.uns.items():
        is_empty = value.size == 0 if isinstance(value, ArrayFacts) else value in ("", [], {})
        if is_empty:
            yield Found(code="E-UNS-04", where=f"uns[{key!r}]", autofix=({"op": "drop_uns", "key": key},))
    for part, arrays in look.delivered.arrays.items():
        for name, array in arrays.items():
            if array.encoding == "array" and array.size == 0:
                yield Found(code="E-UNS-04", where=f"{part}[{name!r}]")


def colors(rule: Rule, look: Look) -> Iterator[Found]:
    """Colors of the categories of a column: enough of them, all `#rrggbb` or all names of CSS."""
    for key, value in look.delivered.uns.items():
        if key.endswith(_COLORS):
            problem = _problem_of_colors(key.removesuffix(_COLORS), value, rule, look=look)
            if problem:
                yield Found(code="E-UNS-05", where=f"uns[{key!r}]", values={"problem": problem})


def _problem_of_colors(name: str, value: object, rule: Rule, *, look: Look) -> str:
    column = look.delivered.obs.columns.get(name)
    if column is None or column.kind != "category":
        return f"there is no column of categories {name!r} in obs"
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return "it is no list of texts"
    n_levels = sum(level is not None for (level,) in look.delivered.obs.count((name,)))
    if len(value) < n_levels:
        return f"it has {len(value)} colors for {n_levels} categories"
    if not all(_HEX.match(item) for item in value) and not all(item in rule.words("named") for item in value):
        return f"colors are neither all #rrggbb nor all names of CSS ({shown(value, 3)})"
    return ""


def perturbations(rule: Rule, look: Look) -> Iterator[Found]:
    """Genetic perturbations: each in `uns` is described, and each of `obs` is one of them."""
    described = look.delivered.uns.get("genetic_perturbations")
    ids, strategy = "genetic_perturbation_id", "genetic_perturbation_strategy"
    columns = look.delivered.obs.columns
    if described is None and ids not in columns and strategy not in columns:
        return
    for problem in _problems_of_pairing(described, ids in columns, strategy in columns):
        yield Found(code="E-PERTURB-01", where="uns['genetic_perturbations']", values={"problem": problem})
    if not isinstance(described, Mapping):
        return
    for name, entry in described.items():
        if problem := _problem_of_perturbation(name, entry, rule):
            where = f"uns['genetic_perturbations'][{name!r}]"
            yield Found(code="E-PERTURB-02", where=where, values={"problem": problem})
    if ids in columns and strategy in columns:
        yield from _used(described, look.delivered.obs.count((ids, strategy)))


def _problems_of_pairing(described: object, has_ids: bool, has_strategy: bool) -> Iterator[str]:  # noqa: FBT001
    if described is None and has_ids:
        yield "obs['genetic_perturbation_id'] is there, but not uns['genetic_perturbations']"
    elif described is not None and not isinstance(described, Mapping):
        yield "it is no mapping from a perturbation to its description"
    elif described is not None and not (has_ids and has_strategy):
        yield "obs has not both genetic_perturbation_id and genetic_perturbation_strategy"
    elif has_strategy and not has_ids:
        yield "obs['genetic_perturbation_strategy'] is there without genetic_perturbation_id"


def _problem_of_perturbation(name: str, entry: object, rule: Rule) -> str:
    """Return the first thing that is wrong with the description of one perturbation, or nothing."""
    if name == "na":
        return "'na' means no perturbation, and can name none"
    if _NAME.fullmatch(name) is None:
        return ""  # such a name is outside of the schema's pattern, and what it holds is not looked at
    if not isinstance(entry, Mapping):
        return "it is no mapping"
    reserved = rule.words("reserved")
    tests = {
        "it has keys that the schema does not know": set(entry) <= {*rule.words("keys"), *reserved},
        "it has keys that the platform writes": set(entry).isdisjoint(reserved),
        "its role is neither control nor targeting": entry.get("role") in {"control", "targeting"},
        "its protospacer_sequence is not 14 to 22 of A, C, G, T": _fits(entry, "protospacer_sequence", _GUIDE),
        "its protospacer_adjacent_motif is not written as 3' NGG": _fits(entry, "protospacer_adjacent_motif", _MOTIF),
    }
    return next((problem for problem, is_right in tests.items() if not is_right), "")


def _fits(entry: Mapping[str, object], key: str, pattern: re.Pattern[str]) -> bool:
    value = entry.get(key)
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _used(described: Mapping[str, object], pairs: Mapping[tuple[str | None, ...], int]) -> Iterator[Found]:
    where = "obs['genetic_perturbation_id']"
    n_total = sum(pairs.values())
    for (ids, strategy), n_rows in pairs.items():
        parts = (ids or "").split(" || ")
        problem = ""
        if ids == "na":
            problem = "" if strategy == "no perturbations" else f"no perturbation, but the strategy is {strategy!r}"
        elif unknown := [part for part in parts if part not in described]:
            problem = f"{shown(unknown)} is not described in uns"
        elif parts != sorted(set(parts)):
            problem = f"{ids!r} is not in ascending order, each once"
        elif strategy == "no perturbations":
            problem = f"{ids!r} has the strategy 'no perturbations'"
        elif strategy == "control" and any(_role(described[part]) != "control" for part in parts):
            problem = f"{ids!r} has the strategy 'control', but not the role"
        if problem:
            yield Found(
                code="E-PERTURB-03", where=where, n_affected=n_rows, n_total=n_total, values={"problem": problem}
            )


def _role(entry: object) -> object:
    return entry.get("role") if isinstance(entry, Mapping) else None


UNS_CHECKS = {
    "text": text,
    "list_of_columns": list_of_columns,
    "nothing_empty": nothing_empty,
    "colors": colors,
    "perturbations": perturbations,
}
