"""Which column holds the cell types, and which one their coarser parents.

Names first (the author's column, `cell_type`, common names), then the values of columns whose name says nothing, then
cell lines. Left out: constant columns, numbers, one level per cell, columns that mostly hold cluster codes, answers
(`True`, `no`) or conditions, columns that label far fewer cells than the widest one (an annotation of T cells alone
would turn every other cell into an unlabelled one), and types crossed with samples (`B cell_stim`). Of columns that
group the cells alike the best-named readable one stands for all. The finest of nested columns is the label and the next
coarser one its parent; where named columns cross, nobody can tell which one is meant, so the manifest has to. A column
found by its values alone replaces a named one only where it refines it; where it crosses it, that is said.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from cytolabe.ingest.column_names import label_tier, role_of_name
from cytolabe.ingest.label_candidates import (
    BY_LINE,
    BY_VALUE,
    LabelCandidate,
    candidate_columns,
    tier_of_values,
    unfit,
    without_interactions,
    without_narrow,
)
from cytolabe.ingest.partitions import Grouping, grouping_of, is_same, lies_inside, split_example
from cytolabe.records import Finding, Severity

__all__ = ["LabelChoice", "choose_label", "choose_parent"]

_NUMBER_OF_CLUSTER = re.compile(r"\A\(?\d+\)?[ ._:#-]+|[ ._:#-]+\(?\d+\)?\Z")


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """The label column and its parent (empty where there is none), why, and what stood against others."""

    label: str = ""
    parent: str = ""
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


def choose_label(table: pd.DataFrame, *, unlabelled: Iterable[str] = ()) -> LabelChoice:
    """Choose the label column of a table of cells.

    Parameters
    ----------
    unlabelled
        Further words that mean no label, from the manifest.
    """
    found, dropped = candidate_columns(table, tuple(unlabelled))
    merged = _merge_alike(_without_term_names(found, table))
    wide, narrow = without_narrow(merged)
    contenders, interactions = without_interactions(wide, table)
    if not contenders:
        return LabelChoice(findings=_no_label(table, dropped))
    best = [one for one in contenders if one.tier == contenders[0].tier or max(one.tier, contenders[0].tier) < BY_VALUE]
    finest = _finest(best)
    if finest is None:
        return LabelChoice(findings=(_crossing(best),))
    label, crossing = _refined_by_values(finest, [one for one in contenders if one not in best])
    reasons = [f"label = {label.name!r} ({label.grouping.n_levels} levels, {_why(label.tier)})"]
    if label.alike:
        reasons.append(f"{', '.join(map(repr, label.alike))} group the cells alike")
    reasons += [f"{one.name!r} labels only {one.grouping.n_labelled:,} of {len(table):,} cells" for one in narrow]
    reasons += [f"{one.name!r} holds types crossed with {other!r}" for one, other in interactions]
    return LabelChoice(
        label=label.name,
        parent=_coarser(label.grouping, [one.grouping for one in contenders if one.tier != BY_LINE]),
        reasons=tuple(reasons),
        findings=tuple(_also_types(one, label) for one in crossing),
    )


def choose_parent(table: pd.DataFrame, label: str, *, unlabelled: Iterable[str] = ()) -> str:
    """Return the column that is the next coarser one of a declared label, or an empty string."""
    words = tuple(unlabelled)
    named = [one for one in candidate_columns(table, words)[0] if one.tier < BY_VALUE and one.name != label]
    return _coarser(grouping_of(table[label], missing=words), [one.grouping for one in _merge_alike(named)])


# --- candidates ---------------------------------------------------------------------------------------------------


def _merge_alike(candidates: Sequence[LabelCandidate]) -> list[LabelCandidate]:
    """Let one of the columns that group the cells alike stand for all: the best-named of those that label most cells."""
    groups: list[list[LabelCandidate]] = []
    for one in sorted(candidates, key=lambda c: c.rank):
        for group in groups:
            if is_same(group[0].grouping, one.grouping):
                group.append(one)
                break
        else:
            groups.append([one])
    merged = []
    for group in groups:
        kept = min(without_narrow(group)[0], key=lambda c: c.rank)
        merged.append(replace(kept, alike=tuple(one.name for one in group if one is not kept)))
    return sorted(merged, key=lambda c: c.rank)


def _without_term_names(candidates: Sequence[LabelCandidate], table: pd.DataFrame) -> list[LabelCandidate]:
    """Leave `cell_type` out where a term id stands beside the author's column: it is then the term's name, no label."""
    has_author = any(one.tier == 0 for one in candidates)
    has_terms = any(role_of_name(str(name)) == "claimed_term" for name in table.columns)
    names = [one for one in candidates if one.tier == 1]
    if not (has_author and has_terms):
        return list(candidates)
    kept = [one for one in candidates if one.tier != 1]
    # A term's name is still a parent where it is coarser than what the author wrote.
    author = next(one for one in candidates if one.tier == 0)
    coarser = [one for one in names if lies_inside(author.grouping, one.grouping)]
    return [*kept, *coarser]


def _finest(contenders: Sequence[LabelCandidate]) -> LabelCandidate | None:
    inside = (one for one in contenders if all(lies_inside(one.grouping, other.grouping) for other in contenders))
    return next(inside, None)


def _refined_by_values(
    named: LabelCandidate, others: Sequence[LabelCandidate]
) -> tuple[LabelCandidate, tuple[LabelCandidate, ...]]:
    """Return the label after columns found by their values were asked, and those of them that cross it.

    What the author named as cell types is never replaced by a column that merely reads like it.
    """
    crossing = tuple(
        one for one in others
        if one.tier == BY_VALUE and not lies_inside(one.grouping, named.grouping)
        and not lies_inside(named.grouping, one.grouping)
    )  # fmt: skip
    finer = [
        one for one in others
        if one.tier == BY_VALUE and one not in crossing and not lies_inside(named.grouping, one.grouping)
        and not _is_numbered(one, named)
    ]  # fmt: skip
    finest = _finest(finer) if finer and named.tier > 0 else None
    return finest or named, crossing


def _is_numbered(finer: LabelCandidate, named: LabelCandidate) -> bool:
    """Tell whether a finer column only numbers the clusters of each type (`B cells_0`, `3: B cells`)."""
    bare = {_NUMBER_OF_CLUSTER.sub("", level).lower() for level in finer.grouping.levels}
    return len(bare) <= named.grouping.n_levels


def _coarser(label: Grouping, others: Iterable[Grouping]) -> str:
    coarser = [
        other for other in others
        if other.name != label.name and lies_inside(label, other) and not lies_inside(other, label)
    ]  # fmt: skip
    return max(coarser, key=lambda other: other.n_levels).name if coarser else ""


# --- findings -----------------------------------------------------------------------------------------------------


def _why(tier: int) -> str:
    return {BY_VALUE: "its values read like cell types", BY_LINE: "cell lines"}.get(tier, "by its name")


def _also_types(one: LabelCandidate, label: LabelCandidate) -> Finding:
    return Finding(
        code="W-COLUMN-05",
        severity=Severity.WARNING,
        where=f"obs[{one.name!r}]",
        n_affected=one.grouping.n_levels,
        n_total=one.grouping.n_levels,
        examples=one.grouping.levels[:5],
        message=(
            f"Its values read like cell types ({', '.join(one.grouping.levels[:4])}) and cross those of {label.name}, which "
            f"is the label by its name: {split_example(label.grouping, one.grouping)}."
        ),
        remedy=f"If {one.name} is meant, write label = {one.name!r} into the manifest.",
        rule="cytolabe/columns",
    )


def _crossing(contenders: Sequence[LabelCandidate]) -> Finding:
    for place, one in enumerate(contenders):
        for other in contenders[place + 1 :]:
            a, b = one.grouping, other.grouping
            if not lies_inside(a, b) and not lies_inside(b, a):
                shown = tuple(f"{g.name}: {', '.join(g.levels[:4])} ({g.n_levels} levels)" for g in (a, b))
                return Finding(
                    code="E-COLUMN-02",
                    severity=Severity.ERROR,
                    where=f"obs[{a.name!r}] and obs[{b.name!r}]",
                    n_affected=2,
                    n_total=len(contenders),
                    examples=shown,
                    message=(
                        f"Both could hold the cell types, and neither refines the other: {split_example(a, b)}, "
                        f"while {split_example(b, a)}. {shown[0]}; {shown[1]}."
                    ),
                    remedy=f"Say which one it is in the manifest: label = {a.name!r} or label = {b.name!r}.",
                    rule="cytolabe/columns",
                )
    names = [one.grouping.name for one in contenders]
    return Finding(
        code="E-COLUMN-02",
        severity=Severity.ERROR,
        where=", ".join(names),
        n_affected=len(names),
        n_total=len(names),
        examples=tuple(names[:5]),
        message=f"{', '.join(names)} could hold the cell types, and none of them refines all others.",
        remedy=f"Say which one it is in the manifest: label = {names[0]!r}, for example.",
        rule="cytolabe/columns",
    )


def _no_label(table: pd.DataFrame, dropped: dict[str, str]) -> tuple[Finding, ...]:
    """Say that the cells are unlabelled, and name the columns that somebody may have expected to be the label."""
    findings = [_competing(name, table) for name in map(str, table.columns) if _reads_like_label(name, table)]
    expected = {
        name: why for name, why in dropped.items() if label_tier(name) is not None or why == "mostly codes"
    }  # fmt: skip
    texts = tuple(f"{name} ({why})" for name, why in expected.items())
    findings.append(
        Finding(
            code="W-COLUMN-06",
            severity=Severity.WARNING,
            where="obs",
            n_affected=len(table),
            n_total=len(table),
            examples=texts[:5],
            message=(
                "No column holds cell types; the cells are taken as unlabelled."
                + (f" Looked at and left out: {', '.join(texts[:5])}." if texts else "")
            ),
            remedy="If a column does hold labels, name it in the manifest: label = '...'.",
            rule="R4",
        )
    )
    return tuple(findings)


def _reads_like_label(name: str, table: pd.DataFrame) -> bool:
    if role_of_name(name) not in {"batch", "donor"} or pd.api.types.is_numeric_dtype(table[name].dtype):
        return False
    grouping = grouping_of(table[name])
    return not unfit(table[name], grouping) and tier_of_values(grouping) == BY_VALUE


def _competing(name: str, table: pd.DataFrame) -> Finding:
    levels = grouping_of(table[name]).levels
    return Finding(
        code="W-COLUMN-05",
        severity=Severity.WARNING,
        where=f"obs[{name!r}]",
        n_affected=len(levels),
        n_total=len(levels),
        examples=levels[:5],
        message=f"Its name says {role_of_name(name)}, its values read like cell types ({', '.join(levels[:4])}).",
        remedy=f"It is not taken as the label; if it is meant so, write label = {name!r} into the manifest.",
        rule="cytolabe/columns",
    )
