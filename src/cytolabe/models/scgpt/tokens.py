"""Counts to what scGPT reads of a cell: `<cls>`, then the genes that it has counts of, each with the bin of its count.

In this order, as the published embedding task: columns that the vocabulary has; bins by the quantiles of the cell over
these genes; where a cell has more genes than there is room for, a sample of them. The published code draws bins and
samples from global generators, so that a cell's embedding depends on the cells before it. Here both are keyed by
(seed, cell id, gene name), and tokens stand in the order of the vocabulary: a cell has the same tokens in any order,
chunk or company, and over any superset of columns that the vocabulary does not have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.sparse import csr_matrix

from cytolabe.encode import keys_of, sampled_entries, value_bins
from cytolabe.encode.binning import Ties
from cytolabe.errors import NotRawCountsError, UsageError
from cytolabe.genes.reference import GeneReference
from cytolabe.models.scgpt.vocabulary import CLS, PAD, ScgptVocabulary

__all__ = ["PaddedCells", "ScgptTokenizer", "TokenizedCells"]

_BUCKET = 32  # cells are filled up to a multiple of this many tokens, so that their shape depends on their own length


@dataclass(frozen=True, kw_only=True)
class PaddedCells:
    """Some cells, filled up on the right; `rows` says which."""

    rows: Integer[np.ndarray, " cells"]
    genes: Integer[np.ndarray, "cells tokens"]
    values: Float[np.ndarray, "cells tokens"]
    padding: Bool[np.ndarray, "cells tokens"]


@dataclass(frozen=True, kw_only=True)
class TokenizedCells:
    """Tokens of all cells behind each other: those of cell i are at `bounds[i]` to `bounds[i + 1]`, `<cls>` first."""

    genes: Integer[np.ndarray, " tokens"]
    values: Float[np.ndarray, " tokens"]
    bounds: Integer[np.ndarray, " cells_and_one"]
    pad_token: int
    pad_value: int
    keys: Integer[np.ndarray, " cells"]
    """What chance is keyed by, one per cell."""

    @property
    def lengths(self) -> Integer[np.ndarray, " cells"]:
        """Tokens of each cell, `<cls>` among them."""
        return np.diff(self.bounds)

    def padded(self, rows: Integer[np.ndarray, " cells"], *, width: int = 0) -> PaddedCells:
        """Return cells filled up to `width` tokens, or to the longest of them."""
        lengths = self.lengths[rows]
        place = np.arange(max(width, int(lengths.max(initial=1))))
        padding = place[None, :] >= lengths[:, None]
        source = np.where(padding, 0, self.bounds[rows][:, None] + place[None, :])
        return PaddedCells(
            rows=rows,
            genes=np.where(padding, self.pad_token, self.genes[source]),
            values=np.where(padding, np.float32(self.pad_value), self.values[source]),
            padding=padding,
        )

    def width_of(self, rows: Integer[np.ndarray, " cells"]) -> int:
        """Return the width to which these cells are filled up: a multiple of 32."""
        return int(-(-self.lengths[rows].max(initial=1) // _BUCKET) * _BUCKET)

    def by_length(self, *, tokens_per_minibatch: int) -> Iterator[PaddedCells]:
        """Yield all cells, those of like length together, so that little is computed over padding."""
        widths = -(-self.lengths // _BUCKET) * _BUCKET
        for width in np.unique(widths).tolist():
            rows = np.flatnonzero(widths == width)
            step = max(1, tokens_per_minibatch // width)
            for start in range(0, len(rows), step):
                yield self.padded(rows[start : start + step], width=width)


@dataclass(frozen=True, kw_only=True)
class ScgptTokenizer:
    """The tokens of one vocabulary for cells over one list of genes.

    Raises
    ------
    UsageError
        If no gene is in the vocabulary, two columns are one token, or the length leaves no room for a gene.
    """

    vocabulary: ScgptVocabulary
    genes: Sequence[str]
    """Name of each column: as the vocabulary writes it, or an id of `reference`."""
    reference: GeneReference | None = None
    max_length: int = 1200
    """Tokens of a cell, `<cls>` among them."""
    n_bins: int = 51
    ties: Ties = "random"
    pad_value: int = -2
    cls_value: int = -2
    """Value that stands at `<cls>`: that of padding in the published embedding task, 0 in its tutorials."""
    keeps_zeros: bool = False
    """Whether genes without counts are tokens too, with bin 0 (the published integration tutorial)."""

    def __post_init__(self) -> None:
        """Refuse genes that the vocabulary does not know."""
        if self.max_length < 2:
            msg = f"max_length is {self.max_length}; behind <cls> there is no room for a gene."
            raise UsageError(msg)
        known = self.tokens[self.tokens >= 0]
        if not len(known):
            msg = (
                f"None of {len(self.genes):,} genes is in the vocabulary, for example {next(iter(self.genes), '')!r}. scGPT "
                "reads HGNC symbols; ids are led to them by a gene reference of the organism."
            )
            raise UsageError(msg)
        if len(np.unique(known)) < len(known):
            numbers, n_columns = np.unique(known, return_counts=True)
            twice = [self.genes[c] for c in np.flatnonzero(self.tokens == numbers[n_columns > 1][0]).tolist()]
            msg = f"{', '.join(twice)} are one gene of the vocabulary. Sum them, or leave out all but one."
            raise UsageError(msg)

    @cached_property
    def tokens(self) -> Integer[np.ndarray, " genes"]:
        """Token of each column, -1 where the vocabulary has none."""
        return self.vocabulary.columns(self.genes, self.reference)

    @property
    def lost(self) -> tuple[str, ...]:
        """Columns that the vocabulary does not have."""
        return tuple(self.genes[column] for column in np.flatnonzero(self.tokens < 0).tolist())

    @cached_property
    def columns(self) -> Integer[np.ndarray, " read_genes"]:
        """Columns that are read, in the order of their tokens."""
        known = np.flatnonzero(self.tokens >= 0)
        return known[np.argsort(self.tokens[known])]

    @cached_property
    def _gene_keys(self) -> np.ndarray:
        names = {token: name for name, token in self.vocabulary.tokens.items()}
        return keys_of(names[token] for token in self.tokens[self.columns].tolist())

    def tokenize(self, counts: csr_matrix, *, cell_ids: Sequence[str] | np.ndarray, seed: int) -> TokenizedCells:
        """Return the tokens of cells.

        Parameters
        ----------
        counts
            Raw counts, cells x `genes`.
        cell_ids
            What chance is keyed by, one per cell.
        seed
            Another seed is another draw of tied bins (`ties="random"`), and of genes where a cell has too many.

        Raises
        ------
        UsageError
            If the columns are not `genes`, or there is not one id per cell.
        NotRawCountsError
            If a value is no count.
        """
        if counts.shape != (len(cell_ids), len(self.genes)):
            msg = f"counts are {counts.shape[0]:,} x {counts.shape[1]:,}, for {len(cell_ids):,} ids and {len(self.genes):,} genes."
            raise UsageError(msg)
        read = self._read(counts)
        keys = keys_of(map(str, cell_ids))
        bins = self._bins(read, keys, seed)
        kept = sampled_entries(bins, cell_keys=keys, gene_keys=self._gene_keys, n_kept=self.max_length - 1, seed=seed)
        return self._framed(bins, kept, keys)

    def _read(self, counts: csr_matrix) -> csr_matrix:
        """Return the columns that the vocabulary has, sorted by token, without stored zeros unless these are kept."""
        read = csr_matrix(counts[:, self.columns])
        if self.keeps_zeros:
            shape = read.shape
            bounds = np.arange(shape[0] + 1) * shape[1]
            return csr_matrix((read.toarray().ravel(), np.tile(np.arange(shape[1]), shape[0]), bounds), shape=shape)
        read.eliminate_zeros()
        read.sort_indices()
        return read

    def _bins(self, read: csr_matrix, keys: np.ndarray, seed: int) -> csr_matrix:
        try:
            return value_bins(
                read, cell_keys=keys, gene_keys=self._gene_keys, n_bins=self.n_bins, ties=self.ties, seed=seed
            )
        except ValueError as error:
            msg = f"{error} Bins over normalized values would be other bins: hand in raw counts."
            raise NotRawCountsError(msg) from None

    def _framed(self, bins: csr_matrix, kept: np.ndarray, keys: np.ndarray) -> TokenizedCells:
        """Put `<cls>` before the kept genes of each cell."""
        per_cell = np.add.reduceat(np.append(kept, False), bins.indptr[:-1]) if bins.shape[0] else np.empty(0)
        n_genes = np.where(np.diff(bins.indptr) > 0, per_cell, 0).astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(n_genes + 1)])
        genes = np.full(bounds[-1], self.vocabulary.tokens[CLS], dtype=np.int64)
        values = np.full(bounds[-1], self.cls_value, dtype=np.float32)
        is_gene = np.ones(bounds[-1], dtype=bool)
        is_gene[bounds[:-1]] = False
        genes[is_gene] = self.tokens[self.columns][bins.indices[kept]]
        values[is_gene] = bins.data[kept]
        return TokenizedCells(
            genes=genes,
            values=values,
            bounds=bounds,
            pad_token=self.vocabulary.tokens[PAD],
            pad_value=self.pad_value,
            keys=keys,
        )
