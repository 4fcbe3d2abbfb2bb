"""Checks of labels: whether they say something, are names, belong to their ids, and lie nowhere else.

A column of labels is the one of ids, and those whose names say that they hold cell types (`named` of a rule). Figures
are thresholds of the pack, never of this module.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from cytolabe.validate.delivered import Levels, Table
from cytolabe.validate.schema import Found, Look, Rule

__all__ = ["LABEL_CHECKS", "labels_are_names", "labels_lie_once", "labels_match_ids", "labels_say_something"]

_ID = "_ontology_term_id"
_NUMBER = re.compile(r"(cluster|c|clu|x|k|group)?[ _.-]*\d+(\.0)?\Z", re.IGNORECASE)
_N_EXAMPLES = 5


def labels_say_something(rule: Rule, look: Look) -> Iterator[Found]:
    """Labels below the root of the ontology, and a label at all where there are columns of them."""
    obs, ids = look.delivered.obs, rule.word("column")
    columns = [*([ids] if ids in obs.columns else []), *_named_labels(rule, obs)]
    labelled = {name: _classes(rule, obs, name) for name in columns}
    for name, classes in labelled.items():
        roots = [
            level
            for level in classes or {}
            if level in rule.words("roots") or _plain(level) in rule.words("root_names")
        ]
        n_labelled, n_root = sum((classes or {}).values()), sum((classes or {})[level] for level in roots)
        if n_root > rule.number("most_cells") * n_labelled:
            where = f"obs[{name!r}]"
            yield Found(code="W-CLASS-06", where=where, n_affected=n_root, n_total=n_labelled, examples=tuple(roots))
    if columns and all(classes == {} for classes in labelled.values()):
        said = sorted({level or "(none)" for name in columns for (level,) in obs.count((name,))})
        if said == ["na"]:  # a cell line has no type
            return
        n_rows, where = obs.n_rows, ", ".join(f"obs[{name!r}]" for name in columns)
        yield Found(code="W-CLASS-03", where=where, n_affected=n_rows, n_total=n_rows, examples=tuple(said))


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
    """No other column tells the label: a model that reads it has read the answer.

    Asked of the ids, or of the labels of the authors where ids say little. Columns that are labels by their names may
    tell one; how far any other one does is Goodman and Kruskal's lambda (doi:10.1080/01621459.1954.10501231), each cell
    taken out of its own level: a level that one cell bears tells nothing.
    """
    obs = look.delivered.obs
    labels = _informative_labels(rule, obs)
    beside = {rule.word("column"), *rule.words("beside"), *_named_labels(rule, obs)}
    for name, column in obs.columns.items():
        if name in beside or column.kind == "other":
            continue
        for label in labels:
            pairs = obs.count_up_to((label, name), int(rule.number("combinations_up_to")))
            found = _told(
                rule, {pair: n for pair, n in (pairs or {}).items() if None not in pair and _is_class(rule, pair[0])}
            )
            if found is None:
                continue
            told, n_cells = found
            yield Found(
                code="W-CLASS-09",
                where=f"obs[{name!r}]",
                n_affected=sum(n for _, _, n in told),
                n_total=n_cells,
                examples=tuple(f"{one} = {other}" for one, other, _ in told)[:_N_EXAMPLES],
                values={"name": name, "label": label},
            )
            break


def _told(rule: Rule, pairs: Levels) -> tuple[Sequence[tuple[str, str, int]], int] | None:
    """Return (label, level, cells) of the commonest label of each level, and the number of cells; None if it tells little.

    `pairs` maps (label, level) to cells.
    """
    levels: dict[str, Counter[str]] = {}
    of_label: Counter[str] = Counter()
    for (label, level), n_cells in pairs.items():
        levels.setdefault(str(level), Counter())[str(label)] += n_cells
        of_label[str(label)] += n_cells
    n_all = of_label.total()
    shared = {level: labels for level, labels in levels.items() if labels.total() > 1}
    n_shared = sum(labels.total() for labels in shared.values())
    if len(of_label) < rule.number("levels_from") or n_shared <= rule.number("most_cells") * n_all:
        return None
    best = {level: labels.most_common(1)[0] for level, labels in shared.items()}
    right = sum(n_cells - 1 for _, n_cells in best.values()) / (n_shared - len(shared))
    blind = (max(of_label.values()) - 1) / (n_all - 1)
    if right - blind < rule.number("told_from") * (1 - blind):
        return None
    return [(label, level, n_cells) for level, (label, n_cells) in sorted(best.items())], n_all


def _informative_labels(rule: Rule, obs: Table) -> Sequence[str]:
    """Return the column of ids if it tells classes apart, else the columns of authors that do, the first few."""
    ids = rule.word("column")
    columns = [name for name in (ids, *_named_labels(rule, obs)) if name in obs.columns]
    telling = [name for name in columns if len(_classes(rule, obs, name) or ()) >= rule.number("levels_from")]
    return telling[:1] if ids in telling else telling[: int(rule.number("labels_up_to"))]


def _named_labels(rule: Rule, obs: Table) -> Sequence[str]:
    """Return the columns of text whose names say that they hold labels, but for the names beside ids."""
    ids = rule.word("column")
    derived = {ids, ids.removesuffix(_ID)} if ids in obs.columns else {ids}
    return [
        name
        for name, column in obs.columns.items()
        if column.kind in {"category", "text"}
        and name not in derived
        and re.search(rule.word("named"), name, re.IGNORECASE)
    ]


def _classes(rule: Rule, obs: Table, name: str) -> Mapping[str, int] | None:
    """Return the labels of a column that name something with their cells; None where they are too many for classes."""
    levels = obs.count_up_to((name,), int(rule.number("combinations_up_to")))
    if levels is None:
        return None
    return {str(level): n_cells for (level,), n_cells in levels.items() if _is_class(rule, level)}


def _is_class(rule: Rule, level: str | None) -> bool:
    return level is not None and _plain(level) not in rule.words("none")


def _plain(level: str) -> str:
    return level.strip().casefold()


LABEL_CHECKS = {
    "labels_say_something": labels_say_something,
    "labels_are_names": labels_are_names,
    "labels_match_ids": labels_match_ids,
    "labels_lie_once": labels_lie_once,
}
