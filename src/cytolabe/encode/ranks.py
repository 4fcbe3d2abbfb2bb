"""Counts to rank tokens, as Geneformer reads them: genes by normalized value, highest first, cut at a length.

The value of a gene in a cell is `count / total of the cell * 10,000 / median of the gene`, in float64 and in this
order of operations, where the total is over all genes of the cell, not only those of the vocabulary. Genes without a
count or without a token are left out.

Equal values are the one thing that the rule leaves open. `tie_break="token"` puts the smaller token first and gives
the same tokens on every machine. `tie_break="original"` gives what the original code gives on this machine with this
numpy: it sorts with `np.argsort(-value)`, which is unstable, over the genes in the order of the columns; cells without
equal values have one order, so only cells with equal values are sorted again by that very call.

The kernel does not compare its way through a cell: the top bits of a positive float are a bucket number, so one
counting pass nearly sorts the cell and an insertion pass finishes it. Cells that crowd in one bucket are merge-sorted.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel
from cytolabe.encode.entries import CellEntries, entries_of

__all__ = ["RANK_TARGET", "RankRule", "Ranked", "TieBreak", "rank_entries", "rank_tokens"]

RANK_TARGET = 10_000.0
"""Counts that each cell is scaled to."""

TieBreak = Literal["token", "original"]

_N_BUCKETS = 4096
_BUCKET_SHIFT = 45  # 7 bits of mantissa: 128 buckets to a doubling
_CROWDED = 48


@dataclass(frozen=True, kw_only=True)
class RankRule:
    """A vocabulary of one checkpoint: a token and a median for each gene column.

    Raises
    ------
    ValueError
        If there is not one median per token, or the median of a gene with a token is not positive and finite.
    """

    tokens: Integer[np.ndarray, " vocabulary"]
    """Token of each gene, or -1 for a gene that the vocabulary does not have."""
    medians: Float[np.ndarray, " medians"]
    """Median of the gene over the cells of the pretraining corpus that have it."""
    n_tokens: int = 2048
    """Length of a cell; shorter ones are filled up with `pad_token`."""
    pad_token: int = 0

    def __post_init__(self) -> None:
        """Refuse medians that would give infinite or undefined values."""
        if self.tokens.shape != self.medians.shape:
            msg = f"{self.medians.size} medians were given for {self.tokens.size} tokens."
            raise ValueError(msg)
        used = self.medians[self.tokens >= 0]
        if used.size and not (np.isfinite(used).all() and used.min() > 0):
            msg = "Medians of genes with a token must be positive and finite: a value is divided by them."
            raise ValueError(msg)
        if self.n_tokens < 1:
            msg = f"n_tokens is {self.n_tokens}; a cell has at least one token."
            raise ValueError(msg)


def rank_tokens(
    counts: csr_matrix,
    rule: RankRule,
    *,
    totals: Integer[np.ndarray, " cells"] | None = None,
    tie_break: TieBreak = "token",
) -> tuple[Integer[np.ndarray, "cells tokens"], Integer[np.ndarray, " cells"]]:
    """Return the tokens of each cell, highest value first, and how many each cell has.

    Parameters
    ----------
    counts
        Raw counts, cells x genes, one column per gene of the rule.
    rule
        Tokens, medians and length of the checkpoint.
    totals
        Counts of each cell over all genes that were measured; the row sums without it.
    tie_break
        Which of two genes with the same value comes first (see the module).

    Returns
    -------
    tuple
        Tokens (int32, padded) and lengths (int32). A cell without a count in the vocabulary has length 0.

    Raises
    ------
    ValueError
        If the columns are not the genes of the rule, or a total is smaller than the row sum.
    """
    if counts.shape[1] != rule.tokens.size:
        msg = f"counts have {counts.shape[1]} columns, the rule {rule.tokens.size} genes."
        raise ValueError(msg)
    sums = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
    given = sums if totals is None else totals.astype(np.int64)
    if given.shape != sums.shape or (given < sums).any():
        msg = "totals are of other cells: there must be one per cell, at least as large as the sum of its counts."
        raise ValueError(msg)
    out = np.empty((counts.shape[0], rule.n_tokens), dtype=np.int32)
    lengths = np.empty(counts.shape[0], dtype=np.int32)
    rank_entries(entries_of(counts), rule, Ranked(given, out, lengths), tie_break=tie_break)
    return out, lengths


class Ranked(NamedTuple):
    """The totals of cells that are to be ranked, and where their tokens and lengths go."""

    totals: np.ndarray
    tokens: np.ndarray
    lengths: np.ndarray


def rank_entries(cells: CellEntries, rule: RankRule, ranked: Ranked, *, tie_break: TieBreak = "token") -> None:
    """Write tokens and lengths of cells into arrays of the caller; `rank_tokens` without checks and allocations."""
    tokens, medians = rule.tokens.astype(np.int32), rule.medians.astype(np.float64)
    is_tied = _rank_cells(cells, (tokens, medians, rule.pad_token), ranked)
    if tie_break == "original":
        for cell in np.flatnonzero(is_tied).tolist():
            _sort_as_the_original(cells, rule, ranked, cell=cell)


def _sort_as_the_original(cells: CellEntries, rule: RankRule, ranked: Ranked, *, cell: int) -> None:
    """Sort a cell with equal values again: `np.argsort(-value)` over the genes in the order of the columns."""
    entries = slice(cells.starts[cell], cells.stops[cell])
    genes, counts = cells.columns[entries], cells.counts[entries]
    is_kept = (counts > 0) & (rule.tokens[genes] >= 0)
    genes, counts = genes[is_kept], counts[is_kept].astype(np.float64)
    values = counts / float(ranked.totals[cell]) * RANK_TARGET / rule.medians[genes].astype(np.float64)
    order = np.argsort(-values)[: rule.n_tokens]
    ranked.tokens[cell, : len(order)] = rule.tokens[genes][order]


@kernel
def _rank_cells(cells: CellEntries, vocabulary: tuple[np.ndarray, np.ndarray, int], ranked: Ranked) -> np.ndarray:
    """Write tokens and lengths, and return which cells have equal values."""
    columns, counts, starts, stops = cells
    tokens, medians, pad_token = vocabulary
    totals, out, lengths = ranked
    n_cells, width = out.shape
    longest = np.int64(0)
    for cell in range(n_cells):
        longest = max(longest, stops[cell] - starts[cell])
    values = np.empty(longest, np.float64)
    bits = values.view(np.int64)
    own = np.empty(longest, np.int32)
    ordered = np.empty(longest + 1, np.float64)
    ordered_tokens = np.empty(longest + 1, np.int32)
    places = np.zeros(_N_BUCKETS + 1, np.int64)
    is_tied = np.zeros(n_cells, np.bool_)
    for cell in range(n_cells):
        total = np.float64(totals[cell])
        n = 0
        for entry in range(starts[cell], stops[cell]):
            token = tokens[columns[entry]]
            if token >= 0 and counts[entry] > 0:
                values[n] = np.float64(counts[entry]) / total * RANK_TARGET / medians[columns[entry]]
                own[n] = token
                n += 1
        kept = _bucket(bits[:n], values, own, places, ordered, ordered_tokens, width)
        _finish(ordered, ordered_tokens, kept, places[_N_BUCKETS])
        length = min(kept, width)
        lengths[cell] = length
        for rank in range(length):
            out[cell, rank] = ordered_tokens[rank]
        for rank in range(length, width):
            out[cell, rank] = pad_token
        for rank in range(1, min(kept, width + 1)):
            if ordered[rank] == ordered[rank - 1]:
                is_tied[cell] = True
    return is_tied


@kernel
def _bucket(  # noqa: PLR0913, PLR0917
    bits: np.ndarray,
    values: np.ndarray,
    own: np.ndarray,
    places: np.ndarray,
    ordered: np.ndarray,
    ordered_tokens: np.ndarray,
    width: int,
) -> int:
    """Move values into buckets, the highest first; return how many lie in the buckets that the first `width` reach.

    The last entry of `places` becomes the size of the fullest bucket.
    """
    n = len(bits)
    top, bottom = np.int64(0), np.int64(0x7FFFFFFFFFFFFFFF)
    for entry in range(n):
        top, bottom = max(top, bits[entry]), min(bottom, bits[entry])
    top >>= _BUCKET_SHIFT
    last = min(top - (bottom >> _BUCKET_SHIFT), _N_BUCKETS - 1) if n else np.int64(0)
    for bucket in range(last + 1):
        places[bucket] = 0
    for entry in range(n):
        places[min(top - (bits[entry] >> _BUCKET_SHIFT), last)] += 1
    before, kept, fullest = np.int64(0), np.int64(0), np.int64(0)
    for bucket in range(last + 1):
        size = places[bucket]
        places[bucket] = before
        # A bucket that starts beyond the width is never looked at again, whatever its size.
        if before <= width:
            kept = before + size
            fullest = max(fullest, size)
        before += size
    for entry in range(n):
        bucket = min(top - (bits[entry] >> _BUCKET_SHIFT), last)
        place = places[bucket]
        places[bucket] = place + 1
        if place < kept:
            ordered[place] = values[entry]
            ordered_tokens[place] = own[entry]
    places[_N_BUCKETS] = fullest
    return kept


@kernel
def _finish(ordered: np.ndarray, ordered_tokens: np.ndarray, n: int, fullest: int) -> None:  # noqa: PLR0917
    """Sort what is nearly sorted: by value, the highest first, then by token."""
    if fullest > _CROWDED:
        _merge_sort(ordered, ordered_tokens, n)
        return
    for entry in range(1, n):
        value, token = ordered[entry], ordered_tokens[entry]
        place = entry
        while place > 0 and (
            ordered[place - 1] < value or (ordered[place - 1] == value and ordered_tokens[place - 1] > token)
        ):
            ordered[place] = ordered[place - 1]
            ordered_tokens[place] = ordered_tokens[place - 1]
            place -= 1
        ordered[place] = value
        ordered_tokens[place] = token


@kernel
def _merge_sort(ordered: np.ndarray, ordered_tokens: np.ndarray, n: int) -> None:
    """Sort by value, the highest first, then by token, in n log n steps whatever the order was."""
    others, other_tokens = np.empty(n, np.float64), np.empty(n, np.int32)
    width = 1
    while width < n:
        for low in range(0, n, 2 * width):
            middle, high = min(low + width, n), min(low + 2 * width, n)
            left, right = low, middle
            for place in range(low, high):
                takes_left = left < middle and (
                    right >= high
                    or ordered[left] > ordered[right]
                    or (ordered[left] == ordered[right] and ordered_tokens[left] <= ordered_tokens[right])
                )
                source = left if takes_left else right
                others[place], other_tokens[place] = ordered[source], ordered_tokens[source]
                if takes_left:
                    left += 1
                else:
                    right += 1
        ordered[:n], ordered_tokens[:n] = others, other_tokens
        width *= 2
