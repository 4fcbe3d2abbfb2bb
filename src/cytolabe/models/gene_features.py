"""What a network says of genes over many cells: the mean state of each, and the mean attention of each pair.

Features of a model's inside, and no claim about regulation: a gene may attend to another because both stand high.

Two measures of attention. `raw` is the weight that a query gives to a key, softmax over all tokens of the cell. `rank` is
how the published tutorial of scGPT reads it (Tutorial_Attention_GRN): weights are ranked along each row, these ranks along
each column, both from 0 and divided by the tokens of the cell, special tokens among them. Weights that tie share their
mean rank, where the published code lets the sort decide. Both are taken head by head, and the mean is over the heads that
are asked for, then over the cells in which both genes are tokens. A pair that no cell reads together is missing: it has no
attention of 0.

Sums are kept in fixed point (2^-32), so that neither the order of the cells nor how they are cut into blocks moves a bit.
Memory is that of the chosen genes: 12 bytes a pair, 8 a number of a state.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import softmax
from scipy.stats import rankdata

from cytolabe.errors import ModelFailedError, UsageError
from cytolabe.models.protocols import AttendedCell

__all__ = ["MEASURES", "MOST_GENES", "AttentionRule", "GeneFeatures", "GeneSums", "NearestGenes", "nearest_genes"]

MOST_GENES = 2_000
"""Genes of which pairs are kept at most: 48 MB of sums."""
MEASURES = ("rank", "raw", "none")
_SCALE = 2.0**32
_MOST = 2.0**30
"""Sum of largest values from which on fixed point could overflow, with a bit to spare."""


@dataclass(frozen=True, kw_only=True)
class AttentionRule:
    """Which heads are read, and how; `none` reads no attention."""

    measure: str = "rank"
    """One of `MEASURES`."""
    heads: tuple[int, ...] = ()
    """From 0; all of the layer without it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be read.

        Raises
        ------
        UsageError
            If the measure is not known, or a head is named twice or below 0.
        """
        if self.measure not in MEASURES:
            msg = f"The measure of attention {self.measure!r} is none of {', '.join(MEASURES)}."
            raise UsageError(msg)
        if len(set(self.heads)) < len(self.heads) or any(head < 0 for head in self.heads):
            msg = f"Heads {self.heads}: name each once, from 0."
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneFeatures:
    """Means over cells, float32; NaN where no cell had the gene, or both genes of a pair."""

    states: Float[np.ndarray, "genes dims"]
    n_cells: Int[np.ndarray, " genes"]
    """Cells in which each gene is a token."""
    attention: Float[np.ndarray, "queries keys"] | None
    """What the gene of the row gives to that of the column; None where none was asked for."""
    n_cells_of_pair: Int[np.ndarray, "genes genes"]
    heads: tuple[int, ...]


class GeneSums:
    """Sums over cells, for some chosen genes.

    Parameters
    ----------
    n_genes
        Chosen genes.
    rule
        How attention is read.

    Raises
    ------
    UsageError
        If there are no genes, or more than `MOST_GENES`.
    """

    def __init__(self, n_genes: int, *, rule: AttentionRule) -> None:
        if not 1 <= n_genes <= MOST_GENES:
            msg = (
                f"{n_genes:,} genes were chosen; pairs are kept of 1 to {MOST_GENES:,}, because memory grows with their square. "
                "Name fewer, or take fewer of the most frequent."
            )
            raise UsageError(msg)
        self._rule, self._heads = rule, rule.heads
        self._n_pairs = np.zeros((n_genes, n_genes), dtype=np.int32)
        self._pairs = np.zeros((n_genes, n_genes) if rule.measure != "none" else (0, 0), dtype=np.int64)
        self._states = np.zeros((n_genes, 0), dtype=np.int64)
        self._reach = 0.0

    def add(self, cell: AttendedCell, chosen: Integer[np.ndarray, " known_genes"]) -> None:
        """Add a cell.

        Parameters
        ----------
        chosen
            Place of each known gene of the model among the chosen ones; -1 where it is none of them.

        Raises
        ------
        UsageError
            If the layer lacks one of the heads.
        ModelFailedError
            If a value is not finite, or too large to be summed.
        """
        if not self._states.shape[1]:
            self._begin(cell)
        mine = np.where(cell.places >= 0, chosen[cell.places], -1)
        tokens = np.flatnonzero(mine >= 0)
        genes = mine[tokens]
        self._states[genes] += self._fixed(cell.states[tokens])
        pairs = np.ix_(genes, genes)
        self._n_pairs[pairs] += 1
        if self._rule.measure != "none" and len(tokens):
            self._pairs[pairs] += self._fixed(self._mean_attention(cell, tokens))

    def features(self) -> GeneFeatures:
        """Return the means over what was added."""
        n_cells = np.diagonal(self._n_pairs).astype(np.int64)
        return GeneFeatures(
            states=_means(self._states, n_cells[:, None]),
            n_cells=n_cells,
            attention=None if self._rule.measure == "none" else _means(self._pairs, self._n_pairs),
            n_cells_of_pair=self._n_pairs.astype(np.int64),
            heads=self._heads if self._rule.measure != "none" else (),
        )

    def _begin(self, cell: AttendedCell) -> None:
        """Take over the width of the states and the number of heads."""
        n_heads = len(cell.queries)
        if any(head >= n_heads for head in self._rule.heads):
            msg = f"The layer has heads 0 to {n_heads - 1}; asked for are {', '.join(map(str, self._rule.heads))}."
            raise UsageError(msg)
        self._heads = self._rule.heads or tuple(range(n_heads))
        self._states = np.zeros((len(self._n_pairs), cell.states.shape[1]), dtype=np.int64)

    def _mean_attention(self, cell: AttendedCell, tokens: np.ndarray) -> Float[np.ndarray, "chosen chosen"]:
        """Return the attention among some tokens, mean over heads; one head at a time is in memory."""
        total = np.zeros((len(tokens), len(tokens)))
        for head in self._heads:
            query, key = cell.queries[head], cell.keys[head]
            asking = query[tokens] if self._rule.measure == "raw" else query
            scores = (asking @ key.T).astype(np.float64) / query.shape[1] ** 0.5
            if self._rule.measure == "raw":
                total += softmax(scores, axis=1)[:, tokens]
            else:
                total += _ranked(scores)[np.ix_(tokens, tokens)]
        return total / len(self._heads)

    def _fixed(self, values: np.ndarray) -> Int[np.ndarray, "rows columns"]:
        """Return values in fixed point, or refuse them before a sum can overflow."""
        largest = float(np.abs(values).max(initial=0.0))
        self._reach += largest
        if not self._reach < _MOST:
            told = "a value that is not finite" if not np.isfinite(largest) else f"values as large as {largest:.3g}"
            msg = f"The network gives {told} to the genes of a cell: a mean over cells would be no number of it. Look at the weights."
            raise ModelFailedError(msg)
        return np.rint(values.astype(np.float64) * _SCALE).astype(np.int64)


def _ranked(scores: Float[np.ndarray, "queries keys"]) -> Float[np.ndarray, "queries keys"]:
    """Return ranks along columns of the ranks along rows, in [0, 1): softmax keeps the order of a row."""
    if not np.isfinite(scores).all():
        return scores
    n_tokens = len(scores)
    return np.asarray((rankdata(rankdata(scores, axis=1), axis=0) - 1) / n_tokens)


def _means(sums: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Return sums over numbers of cells, NaN where there is none."""
    means = sums / _SCALE / np.maximum(n_cells, 1)
    return np.where(n_cells > 0, means, np.nan).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestGenes:
    """Neighbors of each gene, nearest first; -1 and NaN where a gene has fewer."""

    places: Int[np.ndarray, "genes neighbors"]
    cosines: Float[np.ndarray, "genes neighbors"]


def nearest_genes(vectors: Float[np.ndarray, "genes dims"], *, n_neighbors: int) -> NearestGenes:
    """Return the genes whose vectors point nearest to that of each gene, by cosine in [-1, 1]; itself is not among them.

    A vector of zeros, or one that is missing, has no direction: it is nobody's neighbor and has none. Ties go to the
    gene that stands first.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    known = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    unit = vectors[known].astype(np.float64) / lengths[known, None]
    places = np.full((len(vectors), n_neighbors), -1, dtype=np.int64)
    cosines = np.full((len(vectors), n_neighbors), np.nan, dtype=np.float32)
    for number, gene in enumerate(known.tolist()):
        # Rounded as they are given, so that what ties does not hang on the last digit of a product.
        found = np.clip(unit @ unit[number], -1.0, 1.0).astype(np.float32)
        found[number] = -np.inf
        order = np.argsort(-found, kind="stable")[: min(n_neighbors, len(known) - 1)]
        places[gene, : len(order)], cosines[gene, : len(order)] = known[order], found[order]
    return NearestGenes(places=places, cosines=cosines)
