"""Which columns could hold cell types at all, and what speaks against one beside others.

A column is asked for its name, then for its values. What is left out is kept with the reason, so that a person who
expected that column to be the label can read why it is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from cytolabe.ingest.column_names import (
    is_cell_word,
    is_code,
    is_condition,
    is_condition_name,
    is_truth_word,
    label_tier,
    may_be_label,
    normalized,
    role_of_name,
)
from cytolabe.ingest.partitions import Grouping, grouping_of, lies_inside

__all__ = [
    "BY_LINE",
    "BY_VALUE",
    "LabelCandidate",
    "candidate_columns",
    "tier_of_values",
    "unfit",
    "without_interactions",
    "without_narrow",
]

BY_VALUE, BY_LINE = 3, 4
"""Tiers after those of names: the values read like cell types; the column names cell lines."""
_EVIDENCE = 0.6
"""Share of levels that must read like cell types before values alone make a column the label."""
_ID_LIKE = 0.9
_MOSTLY = 0.5
_NO_TYPES = 0.8
_AUTHOR_OR_CELL_TYPE = 1
_COVERAGE = 0.95
"""Share of the cells of the widest candidate that another one must label to stand beside it."""


@dataclass(frozen=True, kw_only=True)
class LabelCandidate:
    """A column that may hold cell types; `alike` are the names of columns that group the cells in the same way."""

    tier: int
    readable: float
    position: int
    grouping: Grouping
    alike: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.grouping.name

    @property
    def rank(self) -> tuple[int, float, int, int]:
        """Order of preference, least first."""
        return self.tier, -self.readable, -self.grouping.n_labelled, self.position


def candidate_columns(table: pd.DataFrame, unlabelled: Sequence[str]) -> tuple[list[LabelCandidate], dict[str, str]]:
    """Return the columns that could hold cell types, best first, and why others were left out.

    Cell lines stand only where nothing else does.
    """
    found: list[LabelCandidate] = []
    dropped: dict[str, str] = {}
    for position, name in enumerate(map(str, table.columns)):
        tier = label_tier(name)
        if tier is None and not may_be_label(name):
            continue
        grouping = grouping_of(table[name], missing=unlabelled)
        why_not = unfit(table[name], grouping)
        if not why_not and (tier is None or tier > _AUTHOR_OR_CELL_TYPE):
            why_not = _other_meaning(grouping)
        if why_not:
            dropped[name] = why_not
            continue
        tier = tier_of_values(grouping) if tier is None else tier
        if tier is not None:
            readable = 1 - _share(grouping.levels, is_code)
            found.append(LabelCandidate(tier=tier, readable=readable, position=position, grouping=grouping))
    types = [one for one in found if one.tier != BY_LINE]
    return sorted(types or found, key=lambda one: one.rank), dropped


def unfit(values: pd.Series, grouping: Grouping) -> str:
    """Say why a column cannot be a label whatever its name, or return an empty string."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        return "numbers"
    if grouping.n_levels < 2:
        return "constant or empty"
    if grouping.n_labelled >= 10 and grouping.n_levels >= _ID_LIKE * grouping.n_labelled:
        return "one level per cell"
    if _share(grouping.levels, is_code) > _MOSTLY:
        return "mostly codes"
    return "yes or no" if _share(grouping.levels, is_truth_word) == 1 else ""


def tier_of_values(grouping: Grouping) -> int | None:
    """Return the tier that the values of a column give it, or None."""
    if "cell_line" in normalized(grouping.name):
        return BY_LINE
    if grouping.n_levels <= max(2, grouping.n_labelled // 2) and _share(grouping.levels, is_cell_word) >= _EVIDENCE:
        return BY_VALUE
    return None


def without_narrow(
    candidates: Sequence[LabelCandidate],
) -> tuple[list[LabelCandidate], list[LabelCandidate]]:
    """Split candidates into those that label about as many cells as the widest, and the others.

    Finding a finer label for some cells is no reason to leave all other cells without one.
    """
    widest = max((one.grouping.n_labelled for one in candidates), default=0)
    wide = [one for one in candidates if one.grouping.n_labelled >= _COVERAGE * widest]
    return wide, [one for one in candidates if one not in wide]


def without_interactions(
    candidates: Sequence[LabelCandidate], table: pd.DataFrame
) -> tuple[list[LabelCandidate], list[tuple[LabelCandidate, str]]]:
    """Leave out types crossed with samples or conditions, and name what they are crossed with.

    Such a column refines a candidate and a column of samples alike, which the candidate itself does not do.
    """
    own = {name for one in candidates for name in (one.name, *one.alike)}
    contexts = [
        grouping for name in map(str, table.columns)
        if name not in own
        if role_of_name(name) in {"donor", "batch", "disease", "sex"} or is_condition_name(name)
        if (grouping := grouping_of(table[name])).n_levels > 1
    ]  # fmt: skip
    kept: list[LabelCandidate] = []
    crossed: list[tuple[LabelCandidate, str]] = []
    for one in candidates:
        context = _crossed_with(one, candidates, contexts)
        if context:
            crossed.append((one, context))
        else:
            kept.append(one)
    return kept, crossed


def _crossed_with(one: LabelCandidate, candidates: Sequence[LabelCandidate], contexts: Sequence[Grouping]) -> str:
    coarser = [other for other in candidates if other is not one and _refines(one.grouping, other.grouping)]
    for context in contexts:
        if lies_inside(one.grouping, context) and any(not lies_inside(other.grouping, context) for other in coarser):
            return context.name
    return ""


def _refines(fine: Grouping, coarse: Grouping) -> bool:
    return lies_inside(fine, coarse) and not lies_inside(coarse, fine)


def _other_meaning(grouping: Grouping) -> str:
    return "sexes, ages, states or treatments" if _share(grouping.levels, is_condition) >= _NO_TYPES else ""


def _share(levels: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, levels)) / len(levels) if levels else 0.0
