"""Checks of meaning: what obeys every rule of a schema and still is not what it says.

Whole numbers that are no counts, donors that are no persons, statements about one cell that exclude each other; labels
have a module of their own (`check_labels`). Figures are thresholds of the pack, never of this module.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from cytolabe.records import Finding, HopState
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
    "hops_are_told",
    "suspensions_fit",
    "types_lie_in_organs",
]


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


def suspensions_fit(rule: Rule, look: Look) -> Iterator[Found]:
    """Want the suspension that the assay works on, by the table in the pack of a schema."""
    column, assay = rule.word("column"), rule.word("assay")
    for entry in load_schema_pack(rule.word("pack")).rules:
        if entry.check != "values" or entry.word("column") != column or not entry.when:
            continue
        taken = entry.words("allowed")
        for suspension in sorted(set(rule.words("among")) - set(taken)):
            condition = {"column": column, "among": [suspension]}
            of_assay = dataclasses.replace(entry, options={"column": assay}, when=(*entry.when, condition))
            wrong = rows_by_level(of_assay, look)
            if wrong:
                yield Found(
                    code="W-MEANING-01",
                    where=f"obs[{column!r}]",
                    n_affected=sum(wrong.values()),
                    n_total=look.delivered.obs.n_rows,
                    examples=tuple(f"{suspension} of {_called(look, level)}" for level in wrong if level)[:5],
                    values={
                        "because": f"the assay works on {' or '.join(taken)}, and the suspension is {suspension!r}"
                    },
                )


def types_lie_in_organs(rule: Rule, look: Look) -> Iterator[Found]:
    """Cell types of one organ do not lie in another one.

    Silent on tissues that are part of none of the `organs` of the rule, on what is no tissue (a culture, an organoid),
    and on tumors, which carry cells to other places. `lineages` say in which organs each may lie.
    """
    obs, columns = look.delivered.obs, [rule.word("column"), rule.word("tissue")]
    beside = [rule.word(name) for name in ("tissue_type", "disease") if rule.word(name) in obs.columns]
    if any(name not in obs.columns for name in columns):
        return
    wrong: dict[str, int] = {}
    for levels, n_rows in obs.count((*columns, *beside)).items():
        said = dict(zip((*columns, *beside), levels, strict=True))
        cell_type, tissue = levels[0], levels[1]
        if cell_type is None or tissue is None or said.get(rule.word("tissue_type"), "tissue") != "tissue":
            continue
        if _is_out_of_place(rule, look, cell_type=cell_type, tissue=tissue) and not _is_tumor(
            rule, look, said.get(rule.word("disease"))
        ):
            place = f"{_called(look, cell_type)} in {_called(look, tissue)}"
            wrong[place] = wrong.get(place, 0) + n_rows
    if wrong:
        yield Found(
            code="W-MEANING-01",
            where=f"obs[{columns[0]!r}]",
            n_affected=sum(wrong.values()),
            n_total=obs.n_rows,
            examples=tuple(wrong)[:5],
            values={"because": rule.word("because")},
        )


def _is_out_of_place(rule: Rule, look: Look, *, cell_type: str, tissue: str) -> bool:
    table = rule.options["lineages"]
    lineages = table if isinstance(table, Sequence) else ()
    homes = [tuple(entry["organs"]) for entry in lineages if look.descends(cell_type, [entry["type"]])]
    if not homes or not look.descends(tissue, rule.words("organs")):
        return False
    return not any(look.descends(tissue, organs) for organs in homes)


def _is_tumor(rule: Rule, look: Look, diseases: str | None) -> bool:
    return any(look.descends(disease, rule.words("tumors")) for disease in (diseases or "").split(" || "))


def _called(look: Look, term: str) -> str:
    found = look.terms.find(term) if look.terms.ontology_of(term) else None
    return f"{term} ({found.name})" if found is not None else term


def hops_are_told(_: Rule, look: Look) -> Iterator[Found]:
    """Name the steps between the reads and the counts of which nothing is known."""
    hops = look.delivered.hops
    unknown = tuple(hop for hop, state in hops.items() if state == HopState.UNKNOWN)
    if unknown:
        yield Found(
            code="N-HOP-01",
            where="manifest",
            n_affected=len(unknown),
            n_total=len(hops),
            examples=unknown,
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
    "contradiction": contradiction,
    "suspensions_fit": suspensions_fit,
    "types_lie_in_organs": types_lie_in_organs,
    "hops_are_told": hops_are_told,
}
