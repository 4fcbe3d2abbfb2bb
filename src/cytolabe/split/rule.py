"""The rule of a split: everything that its rows follow from, in a few lines of canonical JSON.

A list of cells proves nothing and is long; a rule can be run again on the snapshot that it names. `Split.rule` holds
the text of a `SplitRule`. Identical cells enter as joins between groups, not as pairs of rows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cytolabe.errors import UsageError
from cytolabe.provenance import canonical_json, jsonable
from cytolabe.split.components import Join, Link
from cytolabe.split.keys import check_words

__all__ = ["ColumnOfWord", "DateOf", "RuleKind", "SplitRule", "parse_rule", "rule_of_document", "rule_text"]


class RuleKind(StrEnum):
    """How groups are divided between the two sides."""

    LEAVE_ONE_GROUP_OUT = "leave_one_group_out"
    HOLD_OUT_GROUPS = "hold_out_groups"
    GROUPED_FOLDS = "grouped_folds"
    AFTER_DATE = "after_date"
    UNSEEN_PERTURBATION = "unseen_perturbation"


@dataclass(frozen=True, kw_only=True)
class ColumnOfWord:
    """Which column of a contributor's own table stands behind a word of the split, in one data set."""

    word: str
    dataset_id: str
    column: str


@dataclass(frozen=True, kw_only=True)
class DateOf:
    """What is known of the date of one data set: a day, month, year or interval of ISO 8601, or nothing."""

    dataset_id: str
    date: str


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """What was asked for. `test_fraction` is a share of groups; numbers are None where they play no part.

    `n_repeats` divides anew so many times; `n_inner` divides the training side of each fold again (nested). `columns`
    and `dates` say what stands behind `perturbation`, `time` and `contributed.` words. `after` is the day after which
    cells are test cells, and `cutoff_of` the model whose cut-off it is. `controls` are the words for unperturbed cells.
    """

    kind: RuleKind
    by: tuple[str, ...]
    links: tuple[Link, ...] = ()
    joins: tuple[Join, ...] = ()
    test_fraction: float | None = None
    n_folds: int | None = None
    n_repeats: int = 1
    n_inner: int = 0
    columns: tuple[ColumnOfWord, ...] = ()
    dates: tuple[DateOf, ...] = ()
    after: str = ""
    cutoff_of: str = ""
    controls: tuple[str, ...] = ()


def rule_text(rule: SplitRule) -> str:
    """Return the one text of a rule (canonical JSON)."""
    return canonical_json(rule).decode()


def parse_rule(text: str) -> SplitRule:
    """Read the text of a rule again.

    Raises
    ------
    UsageError
        If the text is not the rule of a split.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        msg = f"The rule of the split is not JSON ({error}); make the split again."
        raise UsageError(msg) from None
    return rule_of_document(document)


def rule_of_document(document: object) -> SplitRule:
    """Turn parsed JSON into a rule.

    Raises
    ------
    UsageError
        If a key is missing or unknown, or a value has the wrong form.
    """
    if not isinstance(document, Mapping):
        msg = "The rule of a split is a table with kind, by, links and joins."
        raise UsageError(msg)
    try:
        known = dict(document)
        by, links, joins = known.pop("by"), known.pop("links"), known.pop("joins")
        rule = SplitRule(
            kind=RuleKind(known.pop("kind")),
            by=check_words(by, may_leak=True),
            links=tuple(Link(**link) for link in links),
            joins=tuple(Join(**join) for join in joins),
            columns=tuple(ColumnOfWord(**one) for one in known.pop("columns")),
            dates=tuple(DateOf(**one) for one in known.pop("dates")),
            controls=tuple(known.pop("controls")),
            **known,
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"The rule of the split is malformed ({error}); make the split again."
        raise UsageError(msg) from None
    if jsonable(rule) != dict(document):
        msg = "The rule of the split does not read back as it was written; make the split again."
        raise UsageError(msg)
    return rule
