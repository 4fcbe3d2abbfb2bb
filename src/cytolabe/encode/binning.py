"""Counts to value bins, as scGPT reads them: each cell by its own quantiles, ties over several bins by chance.

The rule, on the counts above zero of one cell: edges are the quantiles `linspace(0, 1, n_bins - 1)` (linear
interpolation, as `np.quantile`); `left` counts the edges up to the value, `right` those below it, and the bin is
`ceil(u * (right - left) + left)` with a uniform u. A count of 1 in a shallow cell equals many edges, so chance decides
over up to twenty bins. Zero is bin 0; others are 1 to `n_bins - 1`.

The u of the original comes from a global generator, so that a cell's bins depend on every cell before it. Here it is
a hash of (seed, cell key, gene key): a cell has the same bins in any order, chunk or company. `ties="lower"` and
`ties="mid"` need no chance: the lowest and the middle one of the bins that the original may choose.

The kernel counts how often each count occurs instead of sorting: the few distinct counts of a cell carry the edges.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Integer
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel
from cytolabe.encode.entries import CellEntries, entries_of
from cytolabe.encode.keyed import mixed

__all__ = ["MAX_BINS", "TIES", "BinRule", "Ties", "bin_entries", "bin_rule", "value_bins"]

MAX_BINS = 256
"""Bins are stored in one byte."""

Ties = Literal["random", "lower", "mid"]
TIES: tuple[Ties, ...] = ("random", "lower", "mid")

_TABLE = 1024  # counts below this are looked up, larger ones are rare and searched


def value_bins(
    counts: csr_matrix,
    *,
    cell_keys: Integer[np.ndarray, " cells"],
    gene_keys: Integer[np.ndarray, " genes"],
    n_bins: int = 51,
    ties: Ties = "random",
    seed: int = 0,
) -> csr_matrix:
    """Return the bin of each count (uint8), with the sparsity of `counts`.

    Parameters
    ----------
    counts
        Raw counts, cells x genes, the genes that the model reads: quantiles are over these.
    cell_keys, gene_keys
        What the chance is keyed by; `keyed.keys_of` makes them of names.
    n_bins
        Number of bins with the one of zero, 3 to 256.
    ties
        What becomes of a value that several edges equal (see the module).
    seed
        Another seed is another draw. Only `ties="random"` depends on it.

    Raises
    ------
    ValueError
        If there is not one key per cell and per gene, or `n_bins` is out of range.
    """
    if cell_keys.shape != (counts.shape[0],) or gene_keys.shape != (counts.shape[1],):
        msg = f"{cell_keys.size} cell keys and {gene_keys.size} gene keys were given for counts of {counts.shape}."
        raise ValueError(msg)
    bins = np.empty(counts.nnz, dtype=np.uint8)
    rule = bin_rule(gene_keys, n_bins=n_bins, ties=ties, seed=seed)
    bin_entries(entries_of(counts), rule, (cell_keys.astype(np.uint64), bins))
    return csr_matrix((bins, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


class BinRule(NamedTuple):
    """What the bins of all cells have in common."""

    gene_keys: np.ndarray
    seed: np.uint64
    fractions: np.ndarray
    """Of the quantiles, `linspace(0, 1, n_bins - 1)`."""
    ties: int
    """Place in `TIES`."""


def bin_rule(gene_keys: Integer[np.ndarray, " genes"], *, n_bins: int, ties: Ties, seed: int) -> BinRule:
    """Return the rule for `bin_entries`.

    Raises
    ------
    ValueError
        If `n_bins` is out of range or `ties` is none of `TIES`.
    """
    if not 3 <= n_bins <= MAX_BINS or ties not in TIES:
        msg = f"n_bins is {n_bins} and ties {ties!r}; they must be 3 to {MAX_BINS} and one of {', '.join(TIES)}."
        raise ValueError(msg)
    return BinRule(gene_keys.astype(np.uint64), np.uint64(seed), np.linspace(0, 1, n_bins - 1), TIES.index(ties))


@kernel
def bin_entries(cells: CellEntries, rule: BinRule, keyed: tuple[np.ndarray, np.ndarray]) -> None:
    """Write the bin of each entry in place of its count into the second array of `keyed`; the first are cell keys."""
    columns, counts, starts, stops = cells
    cell_keys, bins = keyed
    occurrences = np.zeros(_TABLE, np.int64)
    left, right = np.zeros(_TABLE, np.int64), np.zeros(_TABLE, np.int64)
    edges = np.empty(len(rule.fractions), np.float64)
    longest = np.int64(0)
    for cell in range(len(starts)):
        longest = max(longest, stops[cell] - starts[cell])
    large = np.empty(longest, np.uint32)
    for cell in range(len(starts)):
        own = counts[starts[cell] : stops[cell]]
        n, n_large, top = _tally(own, occurrences, large)
        if n:
            large[:n_large].sort()
            _edges(occurrences, large[:n_large], n, rule.fractions, edges)
        for count in range(1, top + 1):
            if occurrences[count]:
                left[count], right[count] = _sides(edges, np.float64(count))
                occurrences[count] = 0
        key = mixed(rule.seed ^ mixed(cell_keys[cell]))
        for entry in range(starts[cell], stops[cell]):
            count = counts[entry]
            if count == 0:
                bins[entry] = 0
                continue
            if count < _TABLE:
                high, low = left[count], right[count]
            else:
                high, low = _sides(edges, np.float64(count))
            bins[entry] = _chosen(high, low, key ^ rule.gene_keys[columns[entry]], rule.ties)


@kernel
def _tally(own: np.ndarray, occurrences: np.ndarray, large: np.ndarray) -> tuple[int, int, int]:
    """Count how often each count occurs; return how many are above zero, how many too large, and the largest other."""
    n, n_large, top = 0, 0, 0
    for count in own:
        if count >= _TABLE:
            large[n_large] = count
            n_large += 1
        elif count > 0:
            occurrences[count] += 1
            top = max(top, np.int64(count))
            n += 1
    return n + n_large, n_large, top


@kernel
def _edges(occurrences: np.ndarray, large: np.ndarray, n: int, fractions: np.ndarray, edges: np.ndarray) -> None:  # noqa: PLR0917
    """Compute the quantiles in the arithmetic of `np.quantile`, walking once through the distinct counts.

    `large` are the counts beyond the table, sorted.
    """
    count, through = np.int64(0), np.int64(0)  # `through` values are up to `count`
    for number in range(len(fractions)):
        virtual = (n - 1) * fractions[number]
        previous = np.int64(np.floor(virtual))
        following = min(previous + 1, n - 1)
        fraction = virtual - previous
        while through <= previous and count < _TABLE - 1:
            count += 1
            through += occurrences[count]
        low = np.float64(count) if previous < through else np.float64(large[previous - through])
        upper, through_upper = count, through
        while through_upper <= following and upper < _TABLE - 1:
            upper += 1
            through_upper += occurrences[upper]
        high = np.float64(upper) if following < through_upper else np.float64(large[following - through_upper])
        if fraction >= 0.5:
            edges[number] = high - (high - low) * (1 - fraction)
        else:
            edges[number] = low + (high - low) * fraction


@kernel
def _sides(edges: np.ndarray, value: float) -> tuple[int, int]:
    """Return how many edges are up to the value, and how many are below it."""
    return np.searchsorted(edges, value, side="right"), np.searchsorted(edges, value, side="left")


@kernel
def _chosen(left: int, right: int, key: int, ties: int) -> int:  # noqa: PLR0917
    """Return one of the bins right + 1 to left, or left where no edge equals the value."""
    if left == right:
        return left
    if ties == 1:
        return right + 1
    if ties == 2:
        return (right + 1 + left) // 2
    uniform = np.float64(mixed(np.uint64(key)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
    return np.int64(np.ceil(uniform * (right - left) + left))
