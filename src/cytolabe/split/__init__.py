"""Divide the cells of a snapshot by whole groups that share nothing (rule R11)."""

from cytolabe.split.components import Components, Link, connected_components
from cytolabe.split.dates import dividing_day
from cytolabe.split.document import plan_document, read_split, split_document, write_split
from cytolabe.split.groups import (
    grouped_folds,
    hold_out_groups,
    leave_one_group_out,
    plan_rule,
    split_of,
)
from cytolabe.split.rule import ColumnOfWord, DateOf, RuleKind, SplitRule

__all__ = [
    "ColumnOfWord",
    "Components",
    "DateOf",
    "Link",
    "RuleKind",
    "SplitRule",
    "connected_components",
    "dividing_day",
    "grouped_folds",
    "hold_out_groups",
    "leave_one_group_out",
    "plan_document",
    "plan_rule",
    "read_split",
    "split_document",
    "split_of",
    "write_split",
]
