"""Which column holds the cell types, and which one their coarser parents.

Names first (the author's column, `cell_type`, common names), then the values of columns whose name says nothing, then
cell lines. Left out: constant columns, numbers, one level per cell, and columns that mostly hold cluster codes. Of
columns that group the cells alike the best-named readable one stands for all. The finest of nested columns is the
label and the next coarser one its parent; where two cross, nobody can tell which one is meant, so the manifest has to.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from cytolabe.ingest.column_names import is_cell_word, is_code, label_tier, may_be_label, normalized, role_of_name
from cytolabe.ingest.partitions import Grouping, grouping_of, is_same, lies_inside, split_example
from cytolabe.records import Finding, Severity

__all__ = ["LabelChoice", "choose_label", "choose_parent"]

_EVIDENCE = 0.6
"""Share of levels that must read like cell types before values alone make a column the label."""
_ID_LIKE = 0.9
_MOSTLY = 0.5
_BY_VALUE, _BY_LINE = 3, 4
_NAMED = 2


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    tier: int
    readable: float
    position: int
    grouping: Grouping
    alike: tuple[str, ...] = ()


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
    candidates, dropped = _candidates(table, tuple(unlabelled))
    if not candidates:
        return LabelChoice(findings=_no_label(table, dropped))
    merged = _merge_alike(candidates)
    contenders = _contenders(merged, table)
    finest = [one for one in contenders if all(lies_inside(one.grouping, other.grouping) for other in contenders)]
    if not finest:
        return LabelChoice(findings=(_crossing(contenders),))
    label = finest[0]
    reasons = [f"label = {label.grouping.name!r} ({label.grouping.n_levels} levels, {_why(label.tier)})"]
    if label.alike:
        reasons.append(f"{', '.join(map(repr, label.alike))} group the cells alike")
    return LabelChoice(
        label=label.grouping.name,
        parent=_coarser(label.grouping, [one.grouping for one in merged]),
        reasons=tuple(reasons),
    )


def choose_parent(table: pd.DataFrame, label: str, *, unlabelled: Iterable[str] = ()) -> str:
    """Return the column that is the next coarser one of a declared label, or an empty string."""
    words = tuple(unlabelled)
    named = [one for one in _candidates(table, words)[0] if one.tier <= _NAMED and one.grouping.name != label]
    return _coarser(grouping_of(table[label], missing=words), [one.grouping for one in _merge_alike(named)])


# --- candidates ---------------------------------------------------------------------------------------------------


def _candidates(table: pd.DataFrame, unlabelled: Sequence[str]) -> tuple[list[_Candidate], dict[str, str]]:
    """Return the columns of the best kind of evidence that there is, and why the others were dropped."""
    found: list[_Candidate] = []
    dropped: dict[str, str] = {}
    for position, name in enumerate(map(str, table.columns)):
        tier = label_tier(name)
        if tier is None and not may_be_label(name):
            continue
        grouping = grouping_of(table[name], missing=unlabelled)
        why_not = _unfit(table[name], grouping)
        if why_not:
            dropped[name] = why_not
            continue
        if tier is None:
            tier = _tier_of_values(grouping)
        if tier is None:
            continue
        readable = 1 - _share(grouping.levels, is_code)
        found.append(_Candidate(tier=tier, readable=readable, position=position, grouping=grouping))
    for tiers in (range(_NAMED + 1), [_BY_VALUE], [_BY_LINE]):
        best = [one for one in found if one.tier in tiers]
        if best:
            return sorted(best, key=lambda one: (one.tier, -one.readable, one.position)), dropped
    return [], dropped


def _unfit(values: pd.Series, grouping: Grouping) -> str:
    if pd.api.types.is_numeric_dtype(values.dtype):
        return "numbers"
    if grouping.n_levels < 2:
        return "constant or empty"
    if grouping.n_labelled >= 10 and grouping.n_levels >= _ID_LIKE * grouping.n_labelled:
        return "one level per cell"
    if _share(grouping.levels, is_code) > _MOSTLY:
        return "mostly codes"
    return ""


def _tier_of_values(grouping: Grouping) -> int | None:
    if "cell_line" in normalized(grouping.name):
        return _BY_LINE
    if grouping.n_levels <= max(2, grouping.n_labelled // 2) and _share(grouping.levels, is_cell_word) >= _EVIDENCE:
        return _BY_VALUE
    return None


def _merge_alike(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Let the first of columns that group the cells alike stand for all; the widest coverage breaks ties of tier."""
    merged: list[_Candidate] = []
    for one in sorted(candidates, key=lambda c: (c.tier, -c.readable, -c.grouping.n_labelled, c.position)):
        for place, kept in enumerate(merged):
            if is_same(kept.grouping, one.grouping):
                alike = (*kept.alike, one.grouping.name)
                merged[place] = _Candidate(
                    tier=kept.tier, readable=kept.readable, position=kept.position, grouping=kept.grouping, alike=alike
                )
                break
        else:
            merged.append(one)
    return merged


def _contenders(merged: Sequence[_Candidate], table: pd.DataFrame) -> list[_Candidate]:
    """Leave `cell_type` out where a term id stands beside the author's column: it is then the term's name, no label."""
    has_author = any(one.tier == 0 for one in merged)
    has_terms = any(role_of_name(str(name)) == "claimed_term" for name in table.columns)
    if has_author and has_terms:
        return [one for one in merged if one.tier != 1]
    return list(merged)


def _coarser(label: Grouping, others: Iterable[Grouping]) -> str:
    coarser = [
        other for other in others
        if other.name != label.name and lies_inside(label, other) and not lies_inside(other, label)
    ]  # fmt: skip
    return max(coarser, key=lambda other: other.n_levels).name if coarser else ""


def _share(levels: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, levels)) / len(levels) if levels else 0.0


# --- findings -----------------------------------------------------------------------------------------------------


def _why(tier: int) -> str:
    return {_BY_VALUE: "its values read like cell types", _BY_LINE: "cell lines"}.get(tier, "by its name")


def _crossing(contenders: Sequence[_Candidate]) -> Finding:
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
        name: why for name, why in dropped.items()
        if why != "numbers" and (label_tier(name) is not None or why == "mostly codes")
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
    return not _unfit(table[name], grouping) and _tier_of_values(grouping) == _BY_VALUE


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
