"""Splits by whole groups (rule R11): leave one out, hold a share out, rotate through folds, after a day, unseen genes.

Order (`plan`): components of what was asked for, their assignment to sides, the status of each fold. A
fold whose person question cannot be answered is REFUSED, never silently turned into something else:

* a split between persons is REFUSED where the study of a test cell has unknown persons; unknown persons elsewhere
  only qualify it, because they are assumed to be other people;
* a split by whole data sets or components is QUALIFIED by unknown persons;
* a split by anything else is QUALIFIED by the persons that it leaves on both sides.

Unlabelled cells stay in the rows of both sides: only the harness knows whether a model may use them.
"""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from cytolabe.errors import UsageError
from cytolabe.records import Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.components import Link, joins_between
from cytolabe.split.keys import CELLS, check_words
from cytolabe.split.plan import SplitPlan, plan_split, strata_for
from cytolabe.split.rule import RuleKind, SplitRule, rule_text

__all__ = [
    "apply_rule",
    "grouped_folds",
    "hold_out_groups",
    "leave_one_group_out",
    "plan_rule",
    "split_of",
]


def leave_one_group_out(
    snapshot: SnapshotView,
    *,
    by: Sequence[str] = ("component",),
    links: Sequence[Link] = (),
    duplicates: pd.DataFrame | None = None,
) -> Split:
    """Make one fold per group, each holding that group out.

    Parameters
    ----------
    snapshot
        The frozen snapshot.
    by
        Words of `keys.VOCABULARY`; nothing that they name is on both sides of a fold.
    links
        Data sets to keep together whatever their names say.
    duplicates
        Pairs of identical cells (`audit.find_duplicates(...).pairs`); the groups that share them are kept together.

    Raises
    ------
    UsageError
        If a word is unknown, or a link names no data set of the snapshot.
    """
    rule = SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=check_words(by), links=tuple(links))
    return split_of(plan_rule(snapshot, rule, seed=0, duplicates=duplicates))


def hold_out_groups(
    snapshot: SnapshotView,
    *,
    by: Sequence[str],
    test_fraction: float,
    seed: int,
    links: Sequence[Link] = (),
    duplicates: pd.DataFrame | None = None,
) -> Split:
    """Make one fold that holds out a share of the groups which is like the rest, as far as groups allow.

    Parameters
    ----------
    snapshot, by, links, duplicates
        As in `leave_one_group_out`.
    test_fraction
        Share of the groups (not of the cells), between 0 and 1, both excluded; at least one group is held out and at
        least one is kept.
    seed
        Which groups; the same seed gives the same groups on the same snapshot.

    Raises
    ------
    UsageError
        If the share is outside of (0, 1), a word is unknown, or a link names no data set of the snapshot.
    """
    rule = SplitRule(
        kind=RuleKind.HOLD_OUT_GROUPS, by=check_words(by), links=tuple(links), test_fraction=float(test_fraction)
    )
    return split_of(plan_rule(snapshot, rule, seed=seed, duplicates=duplicates))


def grouped_folds(
    snapshot: SnapshotView,
    *,
    by: Sequence[str],
    n_folds: int,
    seed: int,
    links: Sequence[Link] = (),
    duplicates: pd.DataFrame | None = None,
) -> Split:
    """Divide the groups into `n_folds` test sides of similar size and composition.

    Parameters
    ----------
    snapshot, by, links, duplicates
        As in `leave_one_group_out`.
    n_folds
        2 or more, and not more than there are groups.
    seed
        Decides where the search for balance begins.

    Raises
    ------
    UsageError
        If there are fewer groups than folds, or a word or link is unknown.
    """
    rule = SplitRule(kind=RuleKind.GROUPED_FOLDS, by=check_words(by), links=tuple(links), n_folds=n_folds)
    return split_of(plan_rule(snapshot, rule, seed=seed, duplicates=duplicates))


def plan_rule(
    snapshot: SnapshotView, rule: SplitRule, *, seed: int, duplicates: pd.DataFrame | None = None
) -> SplitPlan:
    """Plan a split by a rule whose joins are not known yet: identical cells become joins between its groups.

    Raises
    ------
    UsageError
        If a share is outside of (0, 1), there are fewer groups than folds, or a word or link is unknown.
    """
    if rule.test_fraction is not None and not 0.0 < rule.test_fraction < 1.0:
        msg = f"test_fraction is {rule.test_fraction}; it is a share of the groups, above 0 and below 1."
        raise UsageError(msg)
    strata = strata_for(snapshot, rule, seed=seed)
    if duplicates is not None and not duplicates.empty and rule.by != (CELLS,):
        numbered = pd.DataFrame({
            side: strata.numbers_of(duplicates[side].to_numpy()) for side in ("a_row", "b_row")
        })  # fmt: skip
        joins = joins_between(strata.table, by=rule.by, duplicates=numbered)
        rule = dataclasses.replace(rule, joins=joins)
    return plan_split(snapshot, rule, seed=seed, strata=strata)


def apply_rule(snapshot: SnapshotView, rule: SplitRule, *, seed: int) -> Split:
    """Run a rule on a snapshot: the same rule, seed and snapshot always give the same rows."""
    return split_of(plan_split(snapshot, rule, seed=seed))


def split_of(plan: SplitPlan) -> Split:
    """Return a plan as a split, with all rows listed."""
    return Split(
        snapshot_id=plan.snapshot_id,
        rule=rule_text(plan.rule),
        seed=plan.seed,
        folds=plan.folds(),
        findings=plan.findings,
        classes=plan.classes,
        n_cells=plan.strata.n_cells,
    )
