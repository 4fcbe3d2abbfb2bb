"""Divide the cells of a snapshot by whole groups that share nothing (rule R11)."""

from cytolabe.split.components import Components, Link, connected_components
from cytolabe.split.document import read_split, split_document, write_split
from cytolabe.split.groups import grouped_folds, hold_out_groups, leave_one_group_out

__all__ = [
    "Components",
    "Link",
    "connected_components",
    "grouped_folds",
    "hold_out_groups",
    "leave_one_group_out",
    "read_split",
    "split_document",
    "write_split",
]
