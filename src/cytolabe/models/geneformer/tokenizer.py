"""Raw counts to the tokens of Geneformer: the published rule on top of the rank kernel.

Columns are led to the genes of the dictionary (upper case, without version suffix, through the collapse table where the
checkpoint has one); columns of one gene are summed. The total of a cell is over all of its columns, whether or not the
dictionary has them. Genes stand by value, highest first; the second generation puts a token before and behind them and
both count for the length.

`compat="original"` breaks ties as the published code does on this machine, `None` by token on every machine. Two
deviations, both of which only ever add genes: version suffixes are stripped where the original loses such columns, and
columns of one gene are summed in both generations. `lost` and `n_versioned` say what became of the columns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Integer
from scipy.sparse import csr_matrix

from cytolabe.encode.ranks import RankRule, rank_tokens
from cytolabe.errors import NotRawCountsError, RefusedError, UsageError
from cytolabe.genes.panels import why_not_ranked
from cytolabe.models.geneformer.dictionaries import Dictionaries

__all__ = ["GeneformerTokenizer", "TokenizedCells"]

_GENE = re.compile(r"ENS[A-Z]*G\d{11}")


@dataclass(frozen=True, kw_only=True)
class TokenizedCells:
    """Tokens of cells, filled up on the right; `lengths` counts special tokens too."""

    tokens: Integer[np.ndarray, "cells positions"]
    lengths: Integer[np.ndarray, " cells"]


@dataclass(frozen=True, kw_only=True)
class GeneformerTokenizer:
    """The tokenizer of one checkpoint for cells over one list of genes.

    Raises
    ------
    UsageError
        If the length leaves no room for a gene.
    RefusedError
        If the genes are too few for a rank to mean what it meant in training (rule R3), and `panels` is `refuse`.
    """

    dictionaries: Dictionaries
    genes: Sequence[str]
    """Ensembl id of each column."""
    max_length: int | None = None
    """Positions of a cell, special tokens among them; that of the published models without it."""
    panels: Literal["refuse", "flag"] = "refuse"
    upstream_fraction_of_counts: float | None = None
    """Share of the declared totals that is left in the file (rule R2); None where nothing says so."""

    def __post_init__(self) -> None:
        """Refuse cells of a panel, and lengths without a gene."""
        if self._n_kept < 1:
            msg = f"max_length is {self.max_length}; with special tokens there is no room for a gene."
            raise UsageError(msg)
        if self.flag and self.panels == "refuse":
            msg = (
                f"These cells cannot be ranked: {self.flag}. Say panels='flag' to look at them all the same (rule R3)."
            )
            raise RefusedError(msg)
        if not len(self.targets):
            msg = (
                f"None of {len(self.genes):,} columns is a gene of the token dictionary, for example "
                f"{next(iter(self.genes), '')!r}. Geneformer reads Ensembl gene ids."
            )
            raise UsageError(msg)

    @cached_property
    def _standing(self) -> tuple[str | None, ...]:
        """The gene of the dictionary that each column stands for, or None."""
        known, collapse = self.dictionaries.tokens.keys() - self.dictionaries.specials, self.dictionaries.collapse
        names = [_unversioned(gene) for gene in self.genes]
        stands = names if collapse is None else [collapse.get(name, "") for name in names]
        return tuple(name if name in known else None for name in stands)

    @cached_property
    def flag(self) -> str:
        """Why these cells should not be ranked, or nothing: genes are counted, not names of anything else."""
        genes = {name for name in map(_unversioned, self.genes) if _GENE.fullmatch(name)}
        return why_not_ranked(len(genes), self.upstream_fraction_of_counts)

    @property
    def lost(self) -> tuple[str, ...]:
        """Columns that no token stands for."""
        return tuple(gene for gene, target in zip(self.genes, self._standing, strict=True) if target is None)

    @property
    def n_versioned(self) -> int:
        """Columns whose version suffix was stripped."""
        return sum("." in gene for gene in self.genes)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Genes that the cells have, in the order in which their first column stands."""
        return tuple(dict.fromkeys(target for target in self._standing if target is not None))

    @cached_property
    def _gather(self) -> csr_matrix:
        """Columns x targets: sums the columns of each target."""
        place = {target: number for number, target in enumerate(self.targets)}
        pairs = [(column, place[target]) for column, target in enumerate(self._standing) if target is not None]
        columns, places = np.array(pairs, dtype=np.int64).T
        ones = np.ones(len(pairs), dtype=np.int64)
        return csr_matrix((ones, (columns, places)), shape=(len(self.genes), len(self.targets)))

    @property
    def n_positions(self) -> int:
        """Positions of a cell, special tokens among them."""
        return self.dictionaries.max_length if self.max_length is None else self.max_length

    @property
    def _n_kept(self) -> int:
        return self.n_positions - (0 if self.dictionaries.bounds is None else 2)

    @cached_property
    def rule(self) -> RankRule:
        """The rule over `targets`, without special tokens."""
        return RankRule(
            tokens=np.array([self.dictionaries.tokens[gene] for gene in self.targets], dtype=np.int64),
            medians=np.array([self.dictionaries.medians[gene] for gene in self.targets], dtype=np.float64),
            n_tokens=self._n_kept,
            pad_token=self.dictionaries.pad,
        )

    def tokenize(
        self,
        counts: csr_matrix,
        *,
        totals: Integer[np.ndarray, " cells"] | None = None,
        compat: Literal["original"] | None = None,
    ) -> TokenizedCells:
        """Return the tokens of cells.

        Parameters
        ----------
        counts
            Raw counts, cells x `genes`.
        totals
            Counts of each cell over all genes that were measured; the sums over all columns without it.
        compat
            `original` breaks ties as the published code does.

        Raises
        ------
        UsageError
            If the columns are not `genes`, or totals are not those of the cells.
        NotRawCountsError
            If a value is no count.
        """
        if counts.shape[1] != len(self.genes):
            msg = f"counts have {counts.shape[1]:,} columns, the tokenizer was made for {len(self.genes):,} genes."
            raise UsageError(msg)
        whole = _whole(counts)
        sums = np.asarray(whole.sum(axis=1), dtype=np.int64).ravel()
        if totals is not None and (totals.shape != sums.shape or (totals < sums).any()):
            msg = "totals are of other cells: one per cell is needed, at least as large as the sum of its counts."
            raise UsageError(msg)
        gathered = csr_matrix(whole @ self._gather)
        gathered.sort_indices()
        tie_break: Literal["token", "original"] = "token" if compat is None else compat
        known = sums if totals is None else totals
        # `flag` goes with the tokens: genes of the file are counted there, columns of the dictionary here.
        tokens, lengths = rank_tokens(gathered, self.rule, totals=known, tie_break=tie_break, on_panel="flagged")
        return self._bounded(tokens, lengths)

    def _bounded(self, tokens: np.ndarray, lengths: np.ndarray) -> TokenizedCells:
        """Put the tokens of the second generation before and behind the genes."""
        bounds = self.dictionaries.bounds
        if bounds is None:
            return TokenizedCells(tokens=tokens, lengths=lengths)
        wide = np.full((len(tokens), tokens.shape[1] + 2), self.dictionaries.pad, dtype=tokens.dtype)
        wide[:, 0] = bounds[0]
        wide[:, 1:-1] = tokens
        wide[np.arange(len(tokens)), lengths + 1] = bounds[1]
        return TokenizedCells(tokens=wide, lengths=lengths + 2)


def _unversioned(gene: str) -> str:
    return gene.upper().split(".", 1)[0]


def _whole(counts: csr_matrix) -> csr_matrix:
    """Return counts as integers, or refuse them."""
    values = counts.data
    if len(values) and not (np.isfinite(values).all() and values.min() >= 0 and (values == np.floor(values)).all()):
        n_bad = int(np.sum(~(np.isfinite(values) & (values >= 0) & (values == np.floor(values)))))
        msg = (
            f"{n_bad:,} of {len(values):,} values are no counts (fractions, negative or not finite): they look "
            "normalized. A rank over normalized values is another rank: hand in raw counts."
        )
        raise NotRawCountsError(msg)
    return csr_matrix((values.astype(np.int64), counts.indices, counts.indptr), shape=counts.shape)
