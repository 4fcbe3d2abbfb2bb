"""Checks of meaning: what obeys every rule of a schema and still is not what it says.

Whole numbers that are no counts, donors that are no persons, labels that say nothing or lie in a second column too,
statements about one cell that exclude each other. Figures are thresholds of the pack, never of this module.
"""

import re
from collections.abc import Iterator, Mapping

from cytolabe.records import Finding
from cytolabe.validate.delivered import MatrixFacts
from cytolabe.validate.schema import MEANING_PACK, Found, Look, Rule, finding_of, load_schema_pack, shown
from cytolabe.validate.selecting import rows_by_level

__all__ = [
    "MEANING_CHECKS",
    "colliding_donors",
    "contradiction",
    "counts_are_counts",
    "counts_not_swapped",
    "donors_are_persons",
    "labels_are_names",
    "labels_lie_once",
    "labels_match_ids",
    "labels_say_something",
]

_ID = "_ontology_term_id"
_NUMBER = re.compile(r"(cluster|c|clu|x|k|group)?[ _.-]*\d+(\.0)?\Z", re.IGNORECASE)


def counts_are_counts(rule: Rule, look: Look) -> Iterator[Found]:
    """Whole numbers that were made by scaling: no value 1 in most cells, one divisor, or one sum for all cells.

    Values that nobody could read are told, so that a file of which nothing was found is not taken for a right one.
    """
    place = look.delivered.raw_place
    matrix = look.delivered.matrices.get(place)
    if matrix is None:
        return
    n_cells = matrix.n_cells
    if not matrix.is_read:
        values = {"encoding": matrix.encoding}
        yield Found(code="N-COUNTS-24", where=place, n_affected=n_cells, n_total=n_cells, values=values)
    n_scaled, evidence = _evidence_of_scaling(matrix, rule) if matrix.is_counts else (0, "")
    if evidence:
        values = {"evidence": evidence}
        yield Found(code="E-COUNTS-21", where=place, n_affected=n_scaled, n_total=n_cells, values=values)


def _evidence_of_scaling(matrix: MatrixFacts, rule: Rule) -> tuple[int, str]:
    """Return how many cells were scaled and what speaks for it, the most telling first."""
    least, most = matrix.totals
    limit = rule.number("most_cells") * matrix.n_testable
    if matrix.n_testable and matrix.n_divisible > limit:
        return matrix.n_divisible, f"the values of {matrix.n_divisible:,} cells share a divisor"
    if matrix.n_testable and matrix.n_without_ones > limit:
        lacking = f"{matrix.n_without_ones:,} of {matrix.n_testable:,} cells have no gene that was seen once"
        return matrix.n_without_ones, lacking
    is_many = matrix.n_cells >= rule.number("cells_for_sums")
    if is_many and matrix.mean_total and (most - least) / matrix.mean_total < rule.number("sums_within"):
        return matrix.n_cells, f"all cells sum to about the same ({least:,.0f} to {most:,.0f})"
    return 0, ""


def counts_not_swapped(rule: Rule, look: Look) -> Iterator[Found]:
    """Want counts to lie where they are said to lie: in raw.X, and in layers that are named after them."""
    raw, matrix = look.delivered.matrices.get("raw.X"), look.delivered.matrices.get("X")
    if raw is not None and matrix is not None and matrix.is_counts and raw.is_read and not raw.is_counts:
        yield Found(code="E-COUNTS-22", where="raw.X", n_affected=raw.n_invalid, n_total=raw.n_nonzero)
    for place, layer in look.delivered.matrices.items():
        if place in {f"layers['{name}']" for name in rule.words("layers")} and layer.is_read and layer.n_invalid:
            yield Found(
                code="W-COUNTS-23",
                where=place,
                n_affected=layer.n_invalid,
                n_total=layer.n_nonzero,
                examples=layer.invalid_examples,
            )


def donors_are_persons(rule: Rule, look: Look) -> Iterator[Found]:
    """Donors that are known, one for each cell, more than one."""
    column = rule.word("column")
    levels = rows_by_level(rule, look)
    if not levels:
        return
    unclear = {level: rows for level, rows in levels.items() if level is None or level.lower() in rule.words("unclear")}
    persons = [level for level in levels if level not in unclear]
    n_cells, where = sum(levels.values()), f"obs[{column!r}]"
    if not persons:
        yield Found(code="W-DONOR-01", where=where, n_affected=n_cells, n_total=n_cells, examples=_texts(unclear))
    elif unclear:
        n_unclear = sum(unclear.values())
        yield Found(code="W-DONOR-02", where=where, n_affected=n_unclear, n_total=n_cells, examples=_texts(unclear))
    if len(persons) == 1:
        yield Found(
            code="N-DONOR-03", where=where, n_affected=n_cells, n_total=n_cells, examples=tuple(str(p) for p in persons)
        )


def labels_say_something(rule: Rule, look: Look) -> Iterator[Found]:
    """Labels below the root of the ontology."""
    levels = rows_by_level(rule, look)
    labelled = {level: rows for level, rows in levels.items() if level is not None and level not in rule.words("none")}
    n_root = sum(rows for level, rows in labelled.items() if level in rule.words("roots"))
    n_labelled = sum(labelled.values())
    if n_root > rule.number("most_cells") * n_labelled:
        examples = tuple(level for level in labelled if level in rule.words("roots"))
        where = f"obs[{rule.word('column')!r}]"
        yield Found(code="W-CLASS-06", where=where, n_affected=n_root, n_total=n_labelled, examples=examples)


def labels_are_names(rule: Rule, look: Look) -> Iterator[Found]:
    """Columns that are named like labels hold names, and not the numbers of factor levels."""
    for name, column in look.delivered.obs.columns.items():
        if re.search(rule.word("named"), name, re.IGNORECASE) is None or column.kind not in {"category", "integer"}:
            continue
        if column.kind == "integer" or (column.levels and all(_NUMBER.match(level) for level in column.levels)):
            n_levels = len(column.levels)
            yield Found(
                code="W-CLASS-07",
                where=f"obs[{name!r}]",
                n_affected=n_levels,
                n_total=n_levels,
                examples=column.levels[:5],
                values={"name": name},
            )


def labels_match_ids(_: Rule, look: Look) -> Iterator[Found]:
    """Want the name beside an id to be the name of that term."""
    columns = look.delivered.obs.columns
    for name in columns:
        label = name.removesuffix(_ID)
        if label == name or label not in columns or columns[label].kind not in {"category", "text"}:
            continue
        wrong: dict[str, int] = {}
        pairs = look.delivered.obs.count((name, label))
        for (term, text), n_rows in pairs.items():
            found = look.terms.find(term) if term is not None and look.terms.ontology_of(term) else None
            if found is not None and text is not None and text.casefold() != found.name.casefold():
                wrong[f"{term} ({found.name}) is called {text!r}"] = n_rows
        if wrong:
            n_total = sum(pairs.values())
            yield Found(
                code="W-CLASS-08",
                where=f"obs[{label!r}]",
                n_affected=sum(wrong.values()),
                n_total=n_total,
                examples=tuple(wrong)[:5],
            )


def labels_lie_once(rule: Rule, look: Look) -> Iterator[Found]:
    """No other column tells the label: a model that reads it has read the answer."""
    obs, label = look.delivered.obs, rule.word("column")
    if label not in obs.columns:
        return
    n_levels = len({level for (level,) in obs.count((label,)) if level is not None})
    if n_levels < rule.number("levels_from"):
        return
    for name, column in obs.columns.items():
        is_other = name not in {label, label.removesuffix(_ID), *rule.words("beside")}
        if not is_other or column.kind != "category" or len(column.levels) < n_levels:
            continue
        if len(column.levels) > rule.number("levels_up_to"):
            continue
        pairs = [pair for pair in obs.count((label, name)) if None not in pair]
        if len(pairs) == n_levels == len({other for _, other in pairs}):
            n_rows = obs.n_rows
            yield Found(
                code="W-CLASS-09",
                where=f"obs[{name!r}]",
                n_affected=n_rows,
                n_total=n_rows,
                examples=tuple(f"{one} = {other}" for one, other in pairs[:5]),
                values={"name": name, "label": label},
            )


def contradiction(rule: Rule, look: Look) -> Iterator[Found]:
    """Statements about one cell that exclude each other: `when` says all but the first, which `column` and `under` say."""
    levels = rows_by_level(rule, look)
    above = rule.words("under")
    wrong: dict[str | None, int] = {
        level: rows
        for level, rows in levels.items()
        if level is not None and (level in rule.words("among") or (above and look.descends(level, above)))
    }
    if wrong:
        yield Found(
            code="W-MEANING-01",
            where=f"obs[{rule.word('column')!r}]",
            n_affected=sum(wrong.values()),
            n_total=look.delivered.obs.n_rows,
            examples=_texts(wrong),
            values={"because": rule.word("because")},
        )


def colliding_donors(donors: Mapping[str, Mapping[str, int]]) -> Mapping[str, tuple[Finding, ...]]:
    """Return for each data set which of its donors bear a name that another one uses, by any case or blanks.

    Words that name nobody (`unknown`, `pooled`) collide with nothing.
    """
    pack = load_schema_pack(MEANING_PACK)
    rule = next(rule for rule in pack.rules if rule.check == "donors_are_persons")
    bearers: dict[str, set[str]] = {}
    for dataset, names in donors.items():
        for name in names:
            if (plain := name.strip().casefold()) not in rule.words("unclear"):
                bearers.setdefault(plain, set()).add(dataset)
    shared = {plain for plain, datasets in bearers.items() if len(datasets) > 1}
    found = {}
    for dataset, names in donors.items():
        mine = [name for name in names if name.strip().casefold() in shared]
        if mine:
            others = sorted(set().union(*(bearers[name.strip().casefold()] for name in mine)) - {dataset})
            hit = Found(
                code="W-DONOR-05",
                where=f"obs[{rule.word('column')!r}]",
                n_affected=sum(names[name] for name in mine),
                n_total=sum(names.values()),
                examples=tuple(mine[:5]),
                values={"others": shown([other.rsplit("/", 1)[-1] for other in others])},
            )
            found[dataset] = (finding_of(hit, f"{pack.title}, {rule.section}"),)
    return found


def _texts(levels: Mapping[str | None, int]) -> tuple[str, ...]:
    return tuple("(none)" if level is None else level for level in levels)[:5]


MEANING_CHECKS = {
    "counts_are_counts": counts_are_counts,
    "counts_not_swapped": counts_not_swapped,
    "donors_are_persons": donors_are_persons,
    "labels_say_something": labels_say_something,
    "labels_are_names": labels_are_names,
    "labels_match_ids": labels_match_ids,
    "labels_lie_once": labels_lie_once,
    "contradiction": contradiction,
}
