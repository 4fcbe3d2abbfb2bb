"""Give whole groups to folds so that each fold holds its share of every class, however rare.

Groups cannot be cut, so shares are met as far as groups allow. What counts is the squared distance of each fold from
its share: of all cells, of the cells of each class, and of the groups that hold the class, each measured against its
own total, so that a class of 40 cells weighs as much as one of 40,000. A greedy start in a shuffled order is improved
by moving single groups and exchanging pairs until nothing helps. The same seed gives the same folds.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

__all__ = ["divided", "drawn", "group_profiles"]

_PASSES = 8
_ALL_PARTNERS = 400
"""Up to so many groups every pair is tried; of more, some partners that are drawn for each group."""

_PARTNERS = 64
_LEAST_GAIN = 1e-12


def group_profiles(
    groups: Integer[np.ndarray, " strata"],
    classes: Integer[np.ndarray, " strata"],
    n_cells: Integer[np.ndarray, " strata"],
) -> Float[np.ndarray, "groups columns"]:
    """Return for each group its share of all cells, of each class's cells, and of the groups that hold the class.

    A class of number -1 is none: unlabelled cells count as cells only.
    """
    n_groups, n_classes = int(groups.max(initial=-1)) + 1, int(classes.max(initial=-1)) + 1
    cells = np.bincount(groups, weights=n_cells, minlength=n_groups)
    labelled = classes >= 0
    of_class = np.zeros((n_groups, n_classes))
    np.add.at(of_class, (groups[labelled], classes[labelled]), n_cells[labelled])
    presence = (of_class > 0).astype(float)
    # Cells weigh as much as all classes together: a balanced rare class does not excuse a fold of half the atlas.
    weight = np.sqrt(max(1, n_classes))
    columns = [weight * cells[:, None] / max(1.0, cells.sum())]
    columns += [part / np.maximum(part.sum(axis=0), 1.0) for part in (of_class, presence)]
    return np.concatenate(columns, axis=1)


def divided(
    profiles: Float[np.ndarray, "groups columns"], *, n_folds: int, rng: np.random.Generator
) -> Integer[np.ndarray, " groups"]:
    """Give every group to one of `n_folds` folds of like size and composition; no fold stays empty."""
    n_groups = len(profiles)
    total = profiles.sum(axis=0)
    away = np.repeat(-total[None] / n_folds, n_folds, axis=0)
    sizes = np.zeros(n_folds, dtype=np.int64)
    fold_of = np.zeros(n_groups, dtype=np.int64)
    # Large groups first, shaken a little: repeats shall differ.
    order = np.argsort(-np.linalg.norm(profiles, axis=1) * rng.uniform(0.7, 1.3, n_groups), kind="stable")
    for n_placed, group in enumerate(order):
        n_empty = int((sizes == 0).sum())
        open_folds = np.flatnonzero(sizes == 0) if n_empty >= n_groups - n_placed else np.arange(n_folds)
        gain = 2 * away[open_folds] @ profiles[group]
        best = int(open_folds[np.argmin(gain)])
        fold_of[group] = best
        away[best] += profiles[group]
        sizes[best] += 1
    return _exchanged(_Search(profiles, fold_of, away, sizes), rng, may_move=True)


def drawn(
    profiles: Float[np.ndarray, "groups columns"], *, n_drawn: int, rng: np.random.Generator
) -> Integer[np.ndarray, " groups"]:
    """Return 1 for `n_drawn` groups that are like all groups in their composition, and 0 for the others."""
    n_groups = len(profiles)
    fold_of = np.zeros(n_groups, dtype=np.int64)
    fold_of[rng.permutation(n_groups)[:n_drawn]] = 1
    shares = np.array([1 - n_drawn / max(1, n_groups), n_drawn / max(1, n_groups)])
    held = np.stack([profiles[fold_of == side].sum(axis=0) for side in (0, 1)])
    away = held - shares[:, None] * profiles.sum(axis=0)
    return _exchanged(_Search(profiles, fold_of, away, np.bincount(fold_of, minlength=2)), rng, may_move=False)


@dataclass(frozen=True)
class _Search:
    """Where groups stand, how far each fold is from its share, and how many groups it has; changed in place."""

    profiles: np.ndarray
    fold_of: np.ndarray
    away: np.ndarray
    sizes: np.ndarray

    def move(self, group: int) -> bool:
        """Give a group to the fold where it helps most, if it does."""
        here, own = self.fold_of[group], self.profiles[group]
        if self.sizes[here] == 1:
            return False
        gain = 2 * (self.away - self.away[here]) @ own + 2 * own @ own
        gain[here] = 0.0
        best = int(np.argmin(gain))
        if gain[best] >= -_LEAST_GAIN:
            return False
        self.away[here] -= own
        self.away[best] += own
        self.sizes[here] -= 1
        self.sizes[best] += 1
        self.fold_of[group] = best
        return True

    def swap(self, group: int, partners: np.ndarray) -> bool:
        """Exchange a group with the one of the partners where that helps most, if it does."""
        here = self.fold_of[group]
        others = partners[self.fold_of[partners] != here]
        if not len(others):
            return False
        change = self.profiles[others] - self.profiles[group]
        gain = 2 * np.einsum("ij,ij->i", change, self.away[here] - self.away[self.fold_of[others]] + change)
        best = int(np.argmin(gain))
        if gain[best] >= -_LEAST_GAIN:
            return False
        other = others[best]
        there = self.fold_of[other]
        self.away[here] += change[best]
        self.away[there] -= change[best]
        self.fold_of[group], self.fold_of[other] = there, here
        return True


def _exchanged(search: _Search, rng: np.random.Generator, *, may_move: bool) -> np.ndarray:
    """Move and exchange groups while that brings the folds nearer to their shares."""
    n_groups = len(search.profiles)
    for _ in range(_PASSES):
        n_changes = 0
        for group in range(n_groups):
            n_changes += may_move and search.move(group)
            n_changes += search.swap(group, _partners(n_groups, rng))
        if not n_changes:
            break
    return search.fold_of


def _partners(n_groups: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n_groups) if n_groups <= _ALL_PARTNERS else np.sort(rng.integers(0, n_groups, _PARTNERS))
