"""Which strata stand on which side: the kinds of splits, each a generator of `Sides`.

* one group out, or a share of the groups, or folds: whole components, chosen so that classes are shared out (`balance`);
* after a date: test cells are of groups of which nothing is known to be older, training cells are known to be older
  or of that day, and what nobody can date is on neither side;
* unseen perturbations: single genes are held out, and with them every combination that contains one; combinations are
  scored apart by how many of their parts training has seen; controls are divided as well, never shared.

A cell may be on neither side of a fold; it is on both sides of none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from cytolabe.errors import UsageError
from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.strata import N_CELLS
from cytolabe.split.balance import divided, drawn, group_profiles
from cytolabe.split.components import Components
from cytolabe.split.keys import CELLS
from cytolabe.split.rule import RuleKind, SplitRule

__all__ = ["Sides", "class_names", "dated", "days_of", "sides_of"]

COMBINED = "+"
"""What stands between the parts of a combination."""


@dataclass(frozen=True, kw_only=True)
class Sides:
    """One fold over the table of strata; `remark` joins the reason of the fold."""

    name: str
    train: Bool[np.ndarray, " strata"]
    test: Bool[np.ndarray, " strata"]
    remark: str = ""
    inner: tuple["Sides", ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """The components by number, and what each holds."""

    names: list[str]
    numbers: np.ndarray
    profiles: np.ndarray


def sides_of(table: pd.DataFrame, components: Components, rule: SplitRule, *, seed: int) -> Iterator[Sides]:
    """Yield the folds of a rule.

    Raises
    ------
    UsageError
        If there are fewer groups than folds, or nothing that could be held out.
    """
    groups = _groups_of(table, components)
    if rule.kind is RuleKind.AFTER_DATE:
        yield _after(table, groups, rule)
    elif rule.kind is RuleKind.UNSEEN_PERTURBATION:
        yield from _unseen(table, rule, seed)
    elif rule.kind is RuleKind.LEAVE_ONE_GROUP_OUT:
        for number, name in enumerate(groups.names):
            yield _with_inner(_whole(groups, name, np.array([number])), groups, rule, seed=seed)
    elif rule.kind is RuleKind.HOLD_OUT_GROUPS:
        yield from _shares(groups, rule, seed)
    else:
        for fold in _folds(groups, np.arange(len(groups.names)), rule.n_folds or 0, rule=rule, seed=seed):
            yield _with_inner(fold, groups, rule, seed=seed)


def class_names(table: pd.DataFrame) -> Shaped[np.ndarray, " strata"]:
    """Return the class of each stratum: its term, else its label, else nothing (rule R4)."""
    term = table["cell_type_ontology_term_id"]
    label = table["contributor_label"].where(table["contributor_label"] != UNKNOWN, "")
    return term.where(~term.isin(["", UNKNOWN]), label).to_numpy(dtype=object)


def dated(table: pd.DataFrame, rule: SplitRule) -> pd.DataFrame:
    """Add the column `time` where the dates of whole data sets are meant and no column of cells."""
    if not rule.dates:
        return table
    dates = {one.dataset_id: one.date or UNKNOWN for one in rule.dates}
    of_dataset = table["dataset_id"].map(dates).fillna(UNKNOWN)
    own = table["time"] if "time" in table else pd.Series(UNKNOWN, index=table.index)
    return table.assign(time=own.where(~own.isin(["", UNKNOWN, "nan"]), of_dataset))


def _groups_of(table: pd.DataFrame, components: Components) -> _Groups:
    names = sorted(components.table["component"])
    number = {name: place for place, name in enumerate(names)}
    numbers = np.array([number[name] for name in components.label_of_row.tolist()], dtype=np.int64)
    classes, known = pd.factorize(class_names(table), sort=True)
    nothing = [place for place, name in enumerate(known) if name == ""]
    classes = np.where(np.isin(classes, nothing), -1, classes)
    return _Groups(
        names=names, numbers=numbers, profiles=group_profiles(numbers, classes, table[N_CELLS].to_numpy(dtype=np.int64))
    )


def _whole(groups: _Groups, name: str, held: np.ndarray, *, among: np.ndarray | None = None) -> Sides:
    """Hold out whole groups; training is every other group among those that take part."""
    test = np.isin(groups.numbers, held)
    rest = ~test if among is None else np.isin(groups.numbers, among) & ~test
    return Sides(name=name, train=rest, test=test)


def _shares(groups: _Groups, rule: SplitRule, seed: int) -> Iterator[Sides]:
    fraction, n_groups = rule.test_fraction or 0.0, len(groups.names)
    n_test = min(max(1, round(fraction * n_groups)), max(1, n_groups - 1))
    for repeat in range(rule.n_repeats):
        if rule.by == (CELLS,):
            held = np.array([n_groups - 1])
        else:
            rng = rng_for(seed, "split", rule.kind.value, *rule.by, str(repeat))
            held = np.flatnonzero(drawn(groups.profiles, n_drawn=n_test, rng=rng))
        name = f"held_out_{fraction:g}_seed_{seed}{_repeat_name(rule, repeat)}"
        yield _with_inner(_whole(groups, name, held), groups, rule, seed=seed)


def _folds(
    groups: _Groups, among: np.ndarray, n_folds: int, *, rule: SplitRule, seed: int, within: str = ""
) -> Iterator[Sides]:
    if not 2 <= n_folds <= len(among):
        msg = f"{n_folds} folds were asked for, and there are {len(among)} groups; ask for 2 to {len(among)} folds."
        raise UsageError(msg)
    for repeat in range(1 if within else rule.n_repeats):
        rng = rng_for(seed, "split", rule.kind.value, *rule.by, within, str(repeat))
        fold_of = divided(groups.profiles[among], n_folds=n_folds, rng=rng)
        for number in range(n_folds):
            name = f"fold_{number + 1}_of_{n_folds}_seed_{seed}{_repeat_name(rule, repeat)}"
            if within:
                name = f"{within}/inner_{number + 1}_of_{n_folds}"
            yield _whole(groups, name, among[fold_of == number], among=among if within else None)


def _repeat_name(rule: SplitRule, repeat: int) -> str:
    return f"_repeat_{repeat + 1}" if rule.n_repeats > 1 else ""


def _with_inner(sides: Sides, groups: _Groups, rule: SplitRule, *, seed: int) -> Sides:
    """Divide the training side again: what is chosen there never sees the test side."""
    if not rule.n_inner:
        return sides
    among = np.unique(groups.numbers[sides.train])
    inner = tuple(_folds(groups, among, rule.n_inner, rule=rule, seed=seed, within=sides.name))
    return Sides(name=sides.name, train=sides.train, test=sides.test, remark=sides.remark, inner=inner)


# --- time ---------------------------------------------------------------------------------------------------------


def _after(table: pd.DataFrame, groups: _Groups, rule: SplitRule) -> Sides:
    """Hold out the groups of which every cell is known to be younger than a day."""
    first, last = zip(*map(days_of, table["time"]), strict=True) if len(table) else ((), ())
    younger = np.array([day > rule.after if day else False for day in first], dtype=bool)
    older = np.array([day <= rule.after if day else False for day in last], dtype=bool)
    n_strata = np.bincount(groups.numbers, minlength=len(groups.names))
    n_younger = np.bincount(groups.numbers, weights=younger, minlength=len(groups.names))
    test = (n_younger == n_strata)[groups.numbers]
    whose = f" of {rule.cutoff_of}" if rule.cutoff_of else ""
    n_left = int(table.loc[~(test | older), N_CELLS].sum())
    remark = f"{n_left} cells on neither side: undated, or younger with an older part of their group" if n_left else ""
    return Sides(name=f"after_{rule.after}{whose.replace(' ', '_')}", train=older & ~test, test=test, remark=remark)


def days_of(date: str) -> tuple[str, str]:
    """Return the first and the last day that a date may mean, empty where open: a year may be any day of it.

    `2019-03/..` is an interval of ISO 8601: not before March 2019.
    """
    first, _, last = date.partition("/") if "/" in date else (date, "", date)
    return _padded(first, "-01-01"), _padded(last, "-12-31")


def _padded(date: str, rest: str) -> str:
    text = date[:10]
    if not text[:4].isdigit() or len(text) not in (4, 7, 10):
        return ""
    return text + rest[len(text) - 4 :]


# --- perturbations ------------------------------------------------------------------------------------------------


def _unseen(table: pd.DataFrame, rule: SplitRule, seed: int) -> Iterator[Sides]:
    """Hold out single genes; combinations are told apart by how many of their parts training has seen alone."""
    controls = frozenset(rule.controls)
    names = table["perturbation"].to_numpy(dtype=object)
    parts = {name: frozenset(name.split(COMBINED)) - controls for name in set(names.tolist()) - {UNKNOWN, "", "nan"}}
    genes = sorted(set().union(*parts.values())) if parts else []
    if len(genes) < 2:
        msg = f"{len(genes)} perturbed gene(s) in the column of perturbations: name it with --perturbation, and the unperturbed cells with --control."
        raise UsageError(msg)
    fraction = rule.test_fraction or 0.0
    rng = rng_for(seed, "split", rule.kind.value)
    n_held = min(max(1, round(fraction * len(genes))), len(genes) - 1)
    held = frozenset(np.array(genes, dtype=object)[rng.permutation(len(genes))[:n_held]].tolist())
    untouched = sorted(name for name, own in parts.items() if len(own) > 1 and not own & held)
    n_combinations = min(len(untouched), max(1, round(fraction * len(untouched))))
    left_out = frozenset(np.array(untouched, dtype=object)[rng.permutation(len(untouched))[:n_combinations]].tolist())
    trained = {name for name, own in parts.items() if not own & held and name not in left_out}
    alone = {next(iter(parts[name])) for name in trained if len(parts[name]) == 1}
    is_control = np.array([name in parts and not parts[name] for name in names])
    is_test_lot = table[CELLS].to_numpy() == "002"
    train = np.isin(names, sorted(trained)) & ~is_control | is_control & ~is_test_lot
    kinds = {name: _kind(own, alone) for name, own in parts.items() if own and name not in trained}
    for kind in sorted(set(kinds.values())):
        of_kind = np.isin(names, sorted(name for name, found in kinds.items() if found == kind))
        test = of_kind | is_control & is_test_lot
        n_controls = int(table.loc[is_control & is_test_lot, N_CELLS].sum())
        remark = "" if n_controls else "no control on the test side"
        yield Sides(name=f"{kind}_seed_{seed}", train=train, test=test, remark=remark)


def _kind(parts: frozenset[str], alone: set[str]) -> str:
    if len(parts) == 1:
        return "unseen_single"
    return f"combination_of_{len(parts)}_with_{len(parts & alone)}_seen"
