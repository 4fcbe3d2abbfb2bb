"""Checks of features: ids of the pinned annotation release, of the organism that the file declares, in both tables.

The ids of man and mouse are looked up in the release that a pack names. For other organisms no table is shipped: an id
of their form is accepted, and a note says that it was not looked up.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cached_property

from cytolabe.genes.reference import release_ids, shipped_spike_ins
from cytolabe.validate.schema import Found, Look, Rule

__all__ = ["FEATURE_CHECKS", "features", "filtered_flag", "many_features", "same_features"]

_VERSIONED = re.compile(r"(ENS[A-Z]*G\d{11})\.\d+\Z")


def features(rule: Rule, look: Look) -> Iterator[Found]:
    """Ids of a table of features."""
    place = rule.word("table", "var")
    table = look.delivered.table(place)
    if table is None:
        return
    names = table.names()
    organism = look.delivered.text_of("organism_ontology_term_id") or _organism_of_obs(look)
    homes = list(zip(names, _homes_of(names, look), strict=True))
    unknown = [name for name, home in homes if home is None]
    where, n_total = f"{place} index", len(names)
    if unknown:
        known = set(names)
        repairs = {name: match[1] for name in unknown if (match := _VERSIONED.match(name)) is not None}
        found = _homes_of(tuple(repairs.values()), look)
        repairs = {
            old: new
            for (old, new), home in zip(repairs.items(), found, strict=True)
            if new not in known and home is not None
        }
        is_distinct = len(set(repairs.values())) == len(repairs)
        yield Found(
            code="E-FEATURE-11",
            where=where,
            n_affected=len(unknown),
            n_total=n_total,
            examples=tuple(unknown[:5]),
            values={"hint": _hint(unknown, repairs), "releases": _releases(look)},
            autofix=_renaming(place, repairs) if repairs and is_distinct else (),
        )
    code = "W-FEATURE-21" if rule.word("foreign") == "passed" else "E-FEATURE-12"
    yield from _foreign(homes, organism, look, where=where, code=code)


def _foreign(
    homes: Sequence[tuple[str, Mapping[str, str] | None]], organism: str, look: Look, *, where: str, code: str
) -> Iterator[Found]:
    """Say which features are of another organism, and which could not be looked up."""
    if organism:
        foreign = [
            name for name, home in homes
            if home is not None and home.get("exempt") != "yes" and not look.descends(organism, [home["taxon"]])
        ]  # fmt: skip
        if foreign:
            values = {"organism": organism}
            yield Found(
                code=code,
                where=where,
                n_affected=len(foreign),
                n_total=len(homes),
                examples=tuple(foreign[:5]),
                values=values,
            )
    by_form = [name for name, home in homes if home is not None and "reference" not in home and "exempt" not in home]
    if by_form:
        yield Found(
            code="N-FEATURE-13", where=where, n_affected=len(by_form), n_total=len(homes), examples=tuple(by_form[:5])
        )


def _renaming(place: str, repairs: Mapping[str, str]) -> tuple[Mapping[str, object], ...]:
    return ({"op": "rename_rows", "table": place, "old": list(repairs), "new": list(repairs.values())},)


def _hint(unknown: Sequence[str], repairs: Mapping[str, str]) -> str:
    if repairs:
        return f" {len(repairs):,} of them are ids with a version behind them."
    if sum(re.match(r"ENS[A-Z]*G\d", name) is None for name in unknown) > len(unknown) // 2:
        return " Most are no Ensembl ids, perhaps symbols."
    return ""


def _releases(look: Look) -> str:
    return ", ".join(f"{entry['reference']} {entry['release']}" for entry in look.organisms if "reference" in entry)


def _homes_of(names: Sequence[str], look: Look) -> list[Mapping[str, str] | None]:
    """Return for each id the entry of the organism that has it, or None."""
    tests = [(re.compile(entry["form"]).fullmatch, _ids_of(entry), entry) for entry in look.organisms]
    return [
        next((entry for fits, ids, entry in tests if fits(name) and (ids is None or name in ids)), None)
        for name in names
    ]


class _IdsOnDemand:
    """The ids of one release, loaded with the first id that has the form of its organism."""

    def __init__(self, entry: Mapping[str, str]) -> None:
        self._entry = entry

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    @cached_property
    def _ids(self) -> Container[object]:
        organism = self._entry["reference"]
        if organism == "spike-ins":
            return shipped_spike_ins()
        return release_ids(organism, self._entry["release"])


def _ids_of(entry: Mapping[str, str]) -> _IdsOnDemand | None:
    """Return the ids of an organism, or None where no table of it is shipped."""
    return _IdsOnDemand(entry) if "reference" in entry else None


def _organism_of_obs(look: Look) -> str:
    """Return the one organism of a column of cells, where older versions of the schema have it."""
    name = "organism_ontology_term_id"
    if name not in look.delivered.obs.columns:
        return ""
    levels = [level for (level,) in look.delivered.obs.count((name,))]
    return levels[0] if len(levels) == 1 and levels[0] is not None else ""


def same_features(_: Rule, look: Look) -> Iterator[Found]:
    """Want the two tables of features to name the same ones in the same order."""
    raw = look.delivered.raw_var
    if raw is None:
        return
    names, raw_names = look.delivered.var.names(), raw.names()
    if len(names) != len(raw_names):
        counts = {"n_raw": f"{len(raw_names):,}"}
        yield Found(
            code="E-FEATURE-14", where="raw.var index", n_affected=len(raw_names), n_total=len(names), values=counts
        )
        return
    differing = [f"{one} / {other}" for one, other in zip(names, raw_names, strict=True) if one != other]
    if differing:
        yield Found(
            code="E-FEATURE-15",
            where="raw.var index",
            n_affected=len(differing),
            n_total=len(names),
            examples=tuple(differing[:5]),
        )


def many_features(rule: Rule, look: Look) -> Iterator[Found]:
    """Want a file that still has the features which were not seen."""
    n_features = look.delivered.var.n_rows
    if n_features < rule.number("at_least"):
        values = {"at_least": f"{rule.number('at_least'):,.0f}"}
        yield Found(code="W-FEATURE-16", where="var", n_affected=n_features, n_total=n_features, values=values)


def filtered_flag(rule: Rule, look: Look) -> Iterator[Found]:
    """Look at the flag of the features that are only in the raw matrix: none without one, and none with values in X."""
    name = rule.word("column")
    column = look.delivered.var.columns.get(name)
    if column is None or column.kind != "bool":
        return
    where = f"var[{name!r}]"
    flagged = look.delivered.var.rows_with(name, "True")
    n_total = look.delivered.var.n_rows
    if "raw.X" not in look.delivered.matrices:
        if flagged:
            yield Found(code="E-FEATURE-17", where=where, n_affected=len(flagged), n_total=n_total)
        return
    matrix, raw = look.delivered.matrices["X"], look.delivered.matrices["raw.X"]
    if matrix.is_read and len(matrix.seen) == n_total:
        filled = [row for row in flagged if matrix.seen[row]]
        code = "E-FEATURE-20" if rule.word("with_values") == "refused" else "W-FEATURE-18"
        if filled:
            names = look.delivered.var.names()
            shown = tuple(names[row] for row in filled[:5])
            yield Found(code=code, where=where, n_affected=len(filled), n_total=n_total, examples=shown)
    if matrix.is_read and raw.is_read and len(matrix.seen) == len(raw.seen):
        n_lost = sum(there and not here for here, there in zip(matrix.seen, raw.seen, strict=True))
        if n_lost > len(flagged):
            yield Found(code="W-FEATURE-19", where=where, n_affected=n_lost - len(flagged), n_total=n_total)


FEATURE_CHECKS = {
    "features": features,
    "same_features": same_features,
    "many_features": many_features,
    "filtered_flag": filtered_flag,
}
