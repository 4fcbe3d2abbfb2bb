"""A split before its rows: which groups stand on which side of which fold, decided on the few rows that differ.

Rule -> strata (`snapshot.strata`) -> components -> sides -> status. Nothing here is as long as the snapshot: cells pass
by in blocks, once for the digests of all sides together. Rows are listed only where somebody asks for them
(`SplitPlan.folds`), so that a split of 20 million cells is made, written and digested in memory that grows with the
rows that differ, and not with the cells.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer

from cytolabe.errors import UsageError
from cytolabe.randomness import rng_for
from cytolabe.records import Finding, Fold
from cytolabe.snapshot.strata import N_CELLS, Strata, strata_of
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.components import Components, components_with
from cytolabe.split.keys import CELLS, columns_of
from cytolabe.split.rule import RuleKind, SplitRule
from cytolabe.split.sides import Sides, class_names, dated, sides_of
from cytolabe.split.status import CellFacts, FoldFacts, facts_of, fold_status, split_findings

__all__ = ["PlannedFold", "SplitPlan", "plan_split", "strata_for"]


@dataclass(frozen=True, kw_only=True)
class PlannedFold:
    """One fold in words, the rows of the table of strata on its sides, and its inner folds."""

    facts: FoldFacts
    train: Bool[np.ndarray, " strata"]
    test: Bool[np.ndarray, " strata"]
    inner: tuple["PlannedFold", ...] = ()

    @property
    def train_is_rest(self) -> bool:
        """Whether every cell is on one side or the other."""
        return bool((self.train | self.test).all())


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """A whole split as groups."""

    snapshot_id: str
    rule: SplitRule
    seed: int
    strata: Strata
    components: Components
    planned: tuple[PlannedFold, ...]
    findings: tuple[Finding, ...]

    @cached_property
    def classes(self) -> tuple[Mapping[str, object], ...]:
        """Of each class: cells, persons, groups, and the least that a side of any fold holds of it."""
        return _support(self.strata.table, self.components.label_of_row, self.planned)

    def folds(self) -> tuple[Fold, ...]:
        """Return the folds with their rows."""
        rows = iter(self._rows([side for planned in self.planned for side in _sides_within(planned)]))
        return tuple(self._fold(planned, rows) for planned in self.planned)

    def _fold(self, planned: PlannedFold, rows: Iterator[np.ndarray]) -> Fold:
        facts = planned.facts
        return Fold(
            split_id=facts.split_id,
            held_out=facts.held_out,
            groups_train=facts.groups_train,
            groups_test=facts.groups_test,
            train_rows=next(rows),
            test_rows=next(rows),
            status=facts.status,
            reason=facts.reason,
            inner=tuple(self._fold(inner, rows) for inner in planned.inner),
        )

    def digests(self, sides: Sequence[Bool[np.ndarray, " strata"]]) -> list[str]:
        """Return what `document.rows_digest` says of the rows of each side, without listing them."""
        found = [hashlib.sha256() for _ in sides]
        for number, positions in self._positions(sides):
            found[number].update(positions.astype("<i8", copy=False).data)
        return ["sha256:" + one.hexdigest() for one in found]

    def _rows(self, sides: Sequence[Bool[np.ndarray, " strata"]]) -> list[Integer[np.ndarray, " rows"]]:
        """Return the positions of the cells of each side."""
        n_cells = self.strata.table[N_CELLS].to_numpy()
        found = [np.zeros(int(n_cells[side].sum()), dtype=np.int64) for side in sides]
        n_seen = [0] * len(sides)
        for number, positions in self._positions(sides):
            found[number][n_seen[number] : n_seen[number] + len(positions)] = positions
            n_seen[number] += len(positions)
        return found

    def _positions(
        self, sides: Sequence[Bool[np.ndarray, " strata"]]
    ) -> Iterator[tuple[int, Integer[np.ndarray, " some"]]]:
        """Yield the number of a side and the positions of its next cells, ascending, while the cells pass by once."""
        first = 0
        for numbers in self.strata.blocks():
            positions = np.arange(first, first + len(numbers))
            first += len(numbers)
            present = np.flatnonzero(np.bincount(numbers))
            for number, side in enumerate(sides):
                # Neighbors are of one data set: most sides hold all of a block or nothing of it.
                is_in = side[present]
                if is_in.all():
                    yield number, positions
                elif is_in.any():
                    yield number, positions[side[numbers]]


def plan_split(snapshot: SnapshotView, rule: SplitRule, *, seed: int, strata: Strata | None = None) -> SplitPlan:
    """Run a rule on a snapshot: the same rule, seed and snapshot always give the same sides.

    `strata` may be given by whoever made them for this rule already (`strata_for`).
    """
    strata = strata_for(snapshot, rule, seed=seed) if strata is None else strata
    table = strata.table
    components = components_with(table, by=rule.by, links=rule.links, joins=rule.joins)
    facts = facts_of(table, by=rule.by)
    if any(one.word == "perturbation" for one in rule.columns):
        # What is predicted is an effect, not a type: no cell needs a label.
        facts = dataclasses.replace(facts, labelled=np.ones(len(table), dtype=bool))
    planned = tuple(
        _planned(sides, facts, components, by=rule.by) for sides in sides_of(table, components, rule, seed=seed)
    )
    findings = split_findings(facts, [fold.facts for fold in planned])
    return SplitPlan(
        snapshot_id=snapshot.snapshot_id, rule=rule, seed=seed, strata=strata, components=components, planned=planned,
        findings=findings,
    )  # fmt: skip


def strata_for(snapshot: SnapshotView, rule: SplitRule, *, seed: int) -> Strata:
    """Return the strata that a rule looks at: cells of one stratum are always on one side."""
    extra: dict[str, dict[str, str]] = {}
    for one in rule.columns:
        extra.setdefault(one.word, {})[one.dataset_id] = one.column
    unnamed = [word for word in ("time", "perturbation") if word in _words_read(rule) and word not in extra]
    unnamed = [word for word in unnamed if word != "time" or not any(one.date for one in rule.dates)]
    if unnamed:
        msg = f"Nothing says what {' and '.join(unnamed)} of a cell is: name a column of the contributors, or dates in the manifests."
        raise UsageError(msg)
    strata = strata_of(snapshot, columns_of(rule.by), extra=extra)
    strata = dataclasses.replace(strata, table=dated(strata.table, rule))
    if rule.kind is RuleKind.UNSEEN_PERTURBATION:
        return _sliced(strata, np.array([1 - (rule.test_fraction or 0.0), rule.test_fraction or 0.0]), seed)
    if CELLS not in rule.by:
        return strata
    if len(rule.by) > 1 or rule.kind not in (RuleKind.GROUPED_FOLDS, RuleKind.HOLD_OUT_GROUPS):
        msg = "A split by single cells is random, in folds or a share, and by nothing else."
        raise UsageError(msg)
    shares = np.full(rule.n_folds or 0, 1 / (rule.n_folds or 1))
    if rule.kind is RuleKind.HOLD_OUT_GROUPS:
        shares = np.array([1 - (rule.test_fraction or 0.0), rule.test_fraction or 0.0])
    return _sliced(strata, shares, seed)


def _words_read(rule: SplitRule) -> tuple[str, ...]:
    of_kind = {RuleKind.AFTER_DATE: ("time",), RuleKind.UNSEEN_PERTURBATION: ("perturbation",)}
    return (*rule.by, *of_kind.get(rule.kind, ()))


def _sliced(strata: Strata, shares: np.ndarray, seed: int) -> Strata:
    """Divide every stratum by lot: the column `cells` is the lot of a cell, and says nothing else about it."""
    n_lots = len(shares)

    def drawn() -> Iterator[np.ndarray]:
        # One stream of numbers, however the cells are cut into blocks.
        rng = rng_for(seed, "split", CELLS)
        for numbers in strata.blocks():
            lots = np.searchsorted(np.cumsum(shares), rng.random(len(numbers)), side="right")
            yield numbers * np.int32(n_lots) + np.minimum(lots, n_lots - 1).astype(np.int32)

    n_cells = np.zeros(len(strata.table) * n_lots, dtype=np.int64)
    for numbers in drawn():
        n_cells += np.bincount(numbers, minlength=len(n_cells))
    table = strata.table.loc[strata.table.index.repeat(n_lots)].reset_index(drop=True)
    table[CELLS] = np.tile([f"{lot + 1:03d}" for lot in range(n_lots)], len(strata.table))
    table[N_CELLS] = n_cells
    kept = np.flatnonzero(n_cells)
    place = (np.cumsum(n_cells > 0) - 1).astype(np.int32)
    return Strata(table=table.iloc[kept].reset_index(drop=True), blocks=lambda: (place[numbers] for numbers in drawn()))


def _planned(sides: Sides, facts: CellFacts, components: Components, *, by: Sequence[str]) -> PlannedFold:
    word = "+".join(by)
    train, test = np.flatnonzero(sides.train), np.flatnonzero(sides.test)
    status, reason = fold_status(facts, train_rows=train, test_rows=test)
    said = FoldFacts(
        split_id=f"{word}={sides.name}",
        held_out=word,
        groups_train=_names(components.label_of_row[train]),
        groups_test=_names(components.label_of_row[test]),
        n_train=int(facts.n_cells[train].sum()),
        n_test=int(facts.n_cells[test].sum()),
        status=status.value,
        reason="; ".join(part for part in (reason, sides.remark) if part),
    )
    inner = tuple(_planned(one, facts, components, by=by) for one in sides.inner)
    return PlannedFold(facts=said, train=sides.train, test=sides.test, inner=inner)


def _sides_within(planned: PlannedFold) -> Iterator[Bool[np.ndarray, " strata"]]:
    """Yield the sides of a fold and of its inner folds, in the order in which `SplitPlan.folds` takes their rows."""
    yield from (planned.train, planned.test)
    for inner in planned.inner:
        yield from _sides_within(inner)


def _names(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(sorted(set(labels.tolist())))


def _support(
    table: pd.DataFrame, groups: np.ndarray, planned: Sequence[PlannedFold]
) -> tuple[Mapping[str, object], ...]:
    """Return for each class how many persons carry it, and the least that a side of any fold holds.

    Keys: label, n_cells, n_persons, n_groups, min_test_cells, min_test_persons, min_train_cells, min_train_persons.
    Persons are resolved ones; an unknown person is counted nowhere. Unlabelled cells are no class (rule R4).
    """
    names = class_names(table)
    is_person = ((table["person_state"] == "resolved") & (table["person_id"] != "unknown")).to_numpy()
    n_cells = table[N_CELLS].to_numpy()
    persons = np.where(is_person, pd.factorize(table["person_id"])[0], -1)
    rows: list[Mapping[str, object]] = []
    for label in sorted(set(names.tolist()) - {""}):
        of_class = np.flatnonzero(names == label)
        test = [_cells_and_persons(of_class[fold.test[of_class]], n_cells, persons) for fold in planned]
        train = [_cells_and_persons(of_class[fold.train[of_class]], n_cells, persons) for fold in planned]
        cells, n_persons = _cells_and_persons(of_class, n_cells, persons)
        rows.append({
            "label": label, "n_cells": cells, "n_persons": n_persons, "n_groups": len(set(groups[of_class].tolist())),
            "min_test_cells": min((n for n, _ in test), default=0),
            "min_test_persons": min((n for _, n in test), default=0),
            "min_train_cells": min((n for n, _ in train), default=0),
            "min_train_persons": min((n for _, n in train), default=0),
        })  # fmt: skip
    return tuple(rows)


def _cells_and_persons(rows: np.ndarray, n_cells: np.ndarray, persons: np.ndarray) -> tuple[int, int]:
    return int(n_cells[rows].sum()), len(np.unique(persons[rows][persons[rows] >= 0]))
