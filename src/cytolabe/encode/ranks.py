"""Counts to rank tokens, as Geneformer reads them: genes by normalized value, highest first, cut at a length.

The value of a gene in a cell is `count / total of the cell * 10,000 / median of the gene`, in float64 and in this
order of operations, where the total is over all genes of the cell, not only those of the vocabulary. Genes without a
count or without a token are left out.

Equal values are the one thing that the rule leaves open. `tie_break="token"` puts the smaller token first and gives
the same tokens on every machine. `tie_break="original"` gives what the original code gives on this machine with this
numpy: it sorts with `np.argsort(-value)`, which is unstable, over the genes in the order of the columns; cells without
equal values have one order, so only cells with equal values are sorted again by that very call.

How a cell is sorted without comparing, and still exactly, is told in `rank_kernels`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy.sparse import csr_matrix

from cytolabe.encode.entries import CellEntries, entries_of
from cytolabe.encode.rank_kernels import RANK_TARGET, Vocabulary, rank_cells, vocabulary_of
from cytolabe.errors import RefusedError
from cytolabe.genes.panels import why_not_ranked

__all__ = ["RANK_TARGET", "OnPanel", "RankRule", "Ranked", "TieBreak", "rank_entries", "rank_tokens"]

TieBreak = Literal["token", "original"]
OnPanel = Literal["refuse", "flagged"]


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

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Tables of the kernel."""
        return vocabulary_of(self.tokens, self.medians, self.pad_token)


def rank_tokens(
    counts: csr_matrix,
    rule: RankRule,
    *,
    totals: Integer[np.ndarray, " cells"] | None = None,
    tie_break: TieBreak = "token",
    on_panel: OnPanel = "refuse",
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
    on_panel
        What becomes of columns that are no transcriptome (rule R3): `refuse`, or `flagged` where the caller carries
        the reason with the tokens, as streams and tokenizers do.

    Returns
    -------
    tuple
        Tokens (int32, padded) and lengths (int32). A cell without a count in the vocabulary has length 0.

    Raises
    ------
    ValueError
        If the columns are not the genes of the rule, or a total is smaller than the row sum.
    RefusedError
        If there are fewer columns than a transcriptome has genes, and nobody carries that along.
    """
    why_not = why_not_ranked(counts.shape[1], None) if on_panel == "refuse" else ""
    if why_not:
        msg = (
            f"These cells are of a panel: {why_not}. Tokens of a panel mean other ranks and do not show it (rule R3). "
            "Hand in the whole transcriptome, or say on_panel='flagged' and carry the reason with the tokens."
        )
        raise RefusedError(msg)
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
    is_tied = rank_cells(cells, rule.vocabulary, ranked)
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
