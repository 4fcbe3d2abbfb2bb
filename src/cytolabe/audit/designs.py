"""What a design of technical and biological levels can tell: pure arithmetic on level codes, no names, no verdicts.

A design is the set of distinct (unit, technical level, biological level) triples. For one technical factor the additive
model `1 + technique + biology` has rank `levels - components` of the bipartite graph of levels, so the contrasts of
biology that are lost are `components - 1`: a search of the graph answers what a matrix would, at any size. Several
technical factors at once need the rank of the matrix itself.

Cramer's V and Theil's U describe the same table; they decide nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Integer
from scipy.sparse import coo_matrix, csr_matrix, hstack
from scipy.sparse.csgraph import connected_components

__all__ = ["Design", "codes_of", "cramers_v", "design_of", "lost_contrasts", "theils_u"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """Distinct triples of codes, sorted by unit, technical and biological level; codes run from 0 without gaps."""

    units: Integer[np.ndarray, " triples"]
    technical: Integer[np.ndarray, " triples"]
    biological: Integer[np.ndarray, " triples"]
    n_units: int
    n_technical: int
    n_biological: int

    @property
    def is_comparable(self) -> bool:
        """Whether both factors have two levels."""
        return min(self.n_technical, self.n_biological) >= 2

    @cached_property
    def counts(self) -> Integer[np.ndarray, "technical biological"]:
        """Units with each pair of levels."""
        shape = (self.n_technical, self.n_biological)
        flat = np.bincount(self.technical * self.n_biological + self.biological, minlength=shape[0] * shape[1])
        return flat.reshape(shape).astype(np.int64)

    @cached_property
    def components(self) -> Integer[np.ndarray, " triples"]:
        """The piece of the graph of levels that each triple is in; contrasts exist only inside a piece."""
        n_nodes = self.n_technical + self.n_biological
        edges = (np.ones(len(self.units), dtype=np.int8), (self.technical, self.biological + self.n_technical))
        found = connected_components(csr_matrix(edges, shape=(n_nodes, n_nodes)), directed=False)[1]
        return np.asarray(found[self.technical], dtype=np.int64)

    @property
    def n_components(self) -> int:
        """Pieces of the graph of technical and biological levels."""
        return len(np.unique(self.components))

    @property
    def n_outside_largest(self) -> int:
        """Triples that are not in the largest piece."""
        return int(len(self.units) - np.bincount(self.components).max(initial=0))

    @property
    def n_lost(self) -> int:
        """Contrasts between biological levels that no technical level holds, directly or through others."""
        return max(0, self.n_components - 1)

    @property
    def nesting(self) -> str:
        """How the levels lie in each other: one to one, one tells the other, crossed or partly."""
        is_seen = self.counts > 0
        one_biology = bool((is_seen.sum(axis=1) == 1).all())
        one_technique = bool((is_seen.sum(axis=0) == 1).all())
        if one_biology and one_technique:
            return "one_to_one"
        if one_biology:
            return "technique_tells_biology"
        if one_technique:
            return "biology_tells_technique"
        return "crossed" if bool(is_seen.all()) else "partly_crossed"

    @property
    def n_untied(self) -> int:
        """Units beside the commonest biological level of their technical level: they break the association."""
        return int(self.counts.sum() - self.counts.max(axis=1, initial=0).sum())

    @property
    def fewest_units(self) -> int:
        """Fewest units of a pair of levels that occurs."""
        seen = self.counts[self.counts > 0]
        return int(seen.min()) if len(seen) else 0

    def shortcut(self) -> float | None:
        """Return the balanced accuracy of naming a unit's biology by the technique of the *other* units.

        Each unit is left out in turn; the answer is the commonest biological level of its technical level, ties are
        shared. 1 = the technique gives the biology away, 1 / levels = it says nothing; None where no technical level
        has two units, so that every level would be unseen (not applicable, rule R12).
        """
        n_units_at = np.bincount(_distinct(self.technical, self.units, self.n_units)[0], minlength=self.n_technical)
        kept = n_units_at[self.technical] >= 2
        if not kept.any() or not self.is_comparable:
            return None
        technical, biological = self.technical[kept], self.biological[kept]
        place = self.units[kept] * self.n_technical + technical
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        ends = np.append(starts[1:], len(place))
        hits = np.zeros(len(place))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            own = biological[start:end]
            others = self.counts[technical[start]].copy()
            others[own] -= 1
            best = others.max()
            hits[start:end] = (others[own] == best) / np.count_nonzero(others == best)
        n_of = np.bincount(biological, minlength=self.n_biological)
        share = np.bincount(biological, weights=hits, minlength=self.n_biological)[n_of > 0] / n_of[n_of > 0]
        return float(share.mean()) if len(share) >= 2 else None


def codes_of(values: np.ndarray, known: np.ndarray) -> Integer[np.ndarray, " rows"]:
    """Return the number of each value among the sorted known ones, -1 where it is not known."""
    codes = np.full(len(values), -1, dtype=np.int64)
    codes[known] = np.unique(values[known].astype(str), return_inverse=True)[1]
    return codes


def design_of(units: np.ndarray, technical: np.ndarray, biological: np.ndarray) -> Design:
    """Return the distinct triples with all three codes known (not negative)."""
    known = (units >= 0) & (technical >= 0) & (biological >= 0)
    renumbered = [np.unique(codes[known], return_inverse=True) for codes in (units, technical, biological)]
    (_, u), (_, t), (_, b) = renumbered
    sizes = [len(names) for names, _ in renumbered]
    keys = np.unique((u.astype(np.int64) * max(1, sizes[1]) + t) * max(1, sizes[2]) + b)
    rest, b = np.divmod(keys, max(1, sizes[2]))
    u, t = np.divmod(rest, max(1, sizes[1]))
    return Design(
        units=u, technical=t, biological=b, n_units=sizes[0], n_technical=sizes[1], n_biological=sizes[2]
    )  # fmt: skip


def lost_contrasts(technical: Sequence[np.ndarray], biological: np.ndarray) -> int:
    """Return how many contrasts of biology all technical factors together leave undetermined.

    The rank of `1 + every technical factor + biology` over the distinct combinations of levels, against the rank
    without biology. Columns hold codes, one row per observation; -1 (unknown) is a level of its own.
    """
    combinations = np.unique(np.column_stack([*technical, biological]), axis=0)
    blocks = [_indicators(column) for column in combinations.T]
    constant = csr_matrix(np.ones((len(combinations), 1)))
    base = hstack([constant, *blocks[:-1]], format="csr")
    n_biological = blocks[-1].shape[1]
    gained = _rank(hstack([base, blocks[-1]], format="csr")) - _rank(base)
    return int(n_biological - 1 - gained)


def cramers_v(table: Integer[np.ndarray, "rows columns"]) -> float | None:
    """Return the bias-corrected Cramer's V of a table of counts.

    Compares row and column classification; 0 = independent, 1 = one determines the other. None where it is
    undefined: one row, one column, or so few units that every level has its own (the corrected size of the smaller
    side is then 1). Bergsma 2013, doi:10.1016/j.jkss.2012.10.002. It hides which levels are confounded.
    """
    counts = _without_empty(table).astype(float)
    n, (r, k) = counts.sum(), counts.shape
    if min(r, k) < 2 or n < 2:
        return None
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi2 = float(((counts - expected) ** 2 / expected).sum() / n)
    phi2 = max(0.0, phi2 - (k - 1) * (r - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    if smaller <= 1e-12:
        return None
    return float(min(1.0, np.sqrt(phi2 / smaller)))


def theils_u(table: Integer[np.ndarray, "rows columns"]) -> float | None:
    """Return Theil's U(column | row): the share of the column's entropy that the row explains.

    0 = the row says nothing, 1 = it determines the column; None where the column has one level. Not corrected for
    small samples: with one unit per row it is 1 by construction.
    """
    counts = _without_empty(table).astype(float)
    if counts.size == 0 or counts.shape[1] < 2:
        return None
    of_row = counts.sum(axis=1)
    inside = _entropies(counts) @ (of_row / of_row.sum())
    total = _entropies(counts.sum(axis=0, keepdims=True))[0]
    return float(np.clip(1.0 - inside / total, 0.0, 1.0))


def _distinct(first: np.ndarray, second: np.ndarray, n_second: int) -> tuple[np.ndarray, np.ndarray]:
    found = np.divmod(np.unique(first * max(1, n_second) + second), max(1, n_second))
    return found[0], found[1]


def _indicators(codes: np.ndarray) -> csr_matrix:
    levels, places = np.unique(codes, return_inverse=True)
    rows = np.arange(len(codes))
    return coo_matrix((np.ones(len(codes)), (rows, places)), shape=(len(codes), len(levels))).tocsr()


def _rank(matrix: csr_matrix) -> int:
    """Return the rank of a matrix of zeros and ones; its Gram matrix is as large as there are levels, not rows."""
    gram = (matrix.T @ matrix).toarray()
    return int(np.linalg.matrix_rank(gram, hermitian=True))


def _without_empty(table: np.ndarray) -> np.ndarray:
    return np.asarray(table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0])


def _entropies(counts: np.ndarray) -> np.ndarray:
    """Return the entropy of each row."""
    share = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(-(share * logs).sum(axis=1))
