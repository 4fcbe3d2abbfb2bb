"""Splits by whole groups (rule R11): leave one out, hold a share out, or rotate through folds.

Order: components of what was asked for, then the assignment of components to sides, then the status of each fold. A
fold whose person question cannot be answered is REFUSED, never silently turned into something else:

* a split between persons is REFUSED where the study of a test cell has unknown persons; unknown persons elsewhere
  only qualify it, because they are assumed to be other people;
* a split by whole data sets or components is QUALIFIED by unknown persons;
* a split by anything else is QUALIFIED by the persons that it leaves on both sides.

Unlabelled cells stay in the rows of both sides: only the harness knows whether a model may use them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from cytolabe.errors import UsageError
from cytolabe.randomness import rng_for
from cytolabe.records import Fold, Split
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.components import Components, Link, components_with, joins_between
from cytolabe.split.keys import check_words
from cytolabe.split.rule import RuleKind, SplitRule, rule_text
from cytolabe.split.status import CellFacts, facts_of, fold_status, split_findings

__all__ = ["apply_rule", "grouped_folds", "hold_out_groups", "leave_one_group_out"]

_Sides = Iterator[tuple[str, set[str]]]


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
    words = check_words(by)
    joins = joins_between(snapshot.cells, by=words, duplicates=duplicates)
    rule = SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=words, links=tuple(links), joins=joins)
    return apply_rule(snapshot, rule, seed=0)


def hold_out_groups(
    snapshot: SnapshotView,
    *,
    by: Sequence[str],
    test_fraction: float,
    seed: int,
    links: Sequence[Link] = (),
    duplicates: pd.DataFrame | None = None,
) -> Split:
    """Make one fold that holds out a random share of the groups.

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
    if not 0.0 < test_fraction < 1.0:
        msg = f"test_fraction is {test_fraction}; it is a share of the groups, above 0 and below 1."
        raise UsageError(msg)
    words = check_words(by)
    joins = joins_between(snapshot.cells, by=words, duplicates=duplicates)
    rule = SplitRule(
        kind=RuleKind.HOLD_OUT_GROUPS, by=words, links=tuple(links), joins=joins, test_fraction=float(test_fraction)
    )
    return apply_rule(snapshot, rule, seed=seed)


def grouped_folds(
    snapshot: SnapshotView,
    *,
    by: Sequence[str],
    n_folds: int,
    seed: int,
    links: Sequence[Link] = (),
    duplicates: pd.DataFrame | None = None,
) -> Split:
    """Divide the groups into `n_folds` test sides of similar numbers of cells.

    Parameters
    ----------
    snapshot, by, links, duplicates
        As in `leave_one_group_out`.
    n_folds
        2 or more, and not more than there are groups.
    seed
        Decides between groups of equal size.

    Raises
    ------
    UsageError
        If there are fewer groups than folds, or a word or link is unknown.
    """
    words = check_words(by)
    joins = joins_between(snapshot.cells, by=words, duplicates=duplicates)
    rule = SplitRule(kind=RuleKind.GROUPED_FOLDS, by=words, links=tuple(links), joins=joins, n_folds=n_folds)
    return apply_rule(snapshot, rule, seed=seed)


def apply_rule(snapshot: SnapshotView, rule: SplitRule, *, seed: int) -> Split:
    """Run a rule on a snapshot: the same rule, seed and snapshot always give the same rows."""
    cells = snapshot.cells
    components = components_with(cells, by=rule.by, links=rule.links, joins=rule.joins)
    facts = facts_of(cells, by=rule.by)
    names, codes = np.unique(components.label_of_row.astype(str), return_inverse=True)
    folds = tuple(
        _fold(facts, names, codes, fold_name=name, held_out=held_out)
        for name, held_out in _sides(components, rule, seed)
    )
    findings = split_findings(facts, folds)
    return Split(snapshot_id=snapshot.snapshot_id, rule=rule_text(rule), seed=seed, folds=folds, findings=findings)


def _sides(components: Components, rule: SplitRule, seed: int) -> _Sides:
    """Yield the name and the held-out components of each fold."""
    sizes = dict(zip(components.table["component"], components.table["n_cells"], strict=True))
    if rule.kind is RuleKind.LEAVE_ONE_GROUP_OUT:
        for component in sorted(sizes):
            yield component, {component}
        return
    shuffled = rng_for(seed, "split", rule.kind.value, *rule.by).permutation(sorted(sizes)).tolist()
    if rule.kind is RuleKind.HOLD_OUT_GROUPS:
        fraction = rule.test_fraction or 0.0
        n_test = min(max(1, round(fraction * len(sizes))), max(1, len(sizes) - 1))
        yield f"held_out_{fraction:g}_seed_{seed}", set(shuffled[:n_test])
        return
    yield from _balanced(shuffled, sizes, n_folds=rule.n_folds or 0, seed=seed)


def _balanced(shuffled: list[str], sizes: dict[str, int], *, n_folds: int, seed: int) -> _Sides:
    """Give the largest remaining group to the smallest fold; shuffling decides between equals."""
    if not 2 <= n_folds <= len(sizes):
        msg = f"{n_folds} folds were asked for, and there are {len(sizes)} groups; ask for 2 to {len(sizes)} folds."
        raise UsageError(msg)
    folds: list[set[str]] = [set() for _ in range(n_folds)]
    loads = [0] * n_folds
    for group in sorted(shuffled, key=lambda name: -sizes[name]):
        smallest = min(range(n_folds), key=lambda number: (loads[number], len(folds[number]), number))
        folds[smallest].add(group)
        loads[smallest] += sizes[group]
    for number, held_out in enumerate(folds, start=1):
        yield f"fold_{number}_of_{n_folds}_seed_{seed}", held_out


def _fold(facts: CellFacts, names: np.ndarray, codes: np.ndarray, *, fold_name: str, held_out: set[str]) -> Fold:
    in_test = np.isin(names, sorted(held_out))
    train_rows, test_rows = np.flatnonzero(~in_test[codes]), np.flatnonzero(in_test[codes])
    status, reason = fold_status(facts, train_rows=train_rows, test_rows=test_rows)
    by = "+".join(facts.by)
    return Fold(
        split_id=f"{by}={fold_name}",
        held_out=by,
        groups_train=tuple(names[~in_test].tolist()),
        groups_test=tuple(names[in_test].tolist()),
        train_rows=train_rows,
        test_rows=test_rows,
        status=status.value,
        reason=reason,
    )
