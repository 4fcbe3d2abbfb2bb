"""What perturbing other genes does: those that occur in as many cells and rank as high as the ones that are asked about.

A gene that ranks high moves more of a cell's vector than one that ranks low, whatever it does; so a gene is held against
genes of its own frequency and rank, and against nothing else. The unit is the perturbation, not the cell: a thousand
cells say a thousand times what one pair of tokens does to one network, and a test over cells finds everything significant.

The p-value is the share of perturbations, this one included, that are as extreme (Phipson and Smyth 2010,
doi:10.2202/1544-6115.1585): never 0, and at least 1 / (n + 1) for n matched ones, twice that where both ends count.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.stats import rankdata

from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.tokenizer import TokenizedCells

__all__ = ["LEAST_MATCHED", "GeneOccurrence", "empirical_p_value", "matched_perturbations", "occurrence_of"]

LEAST_MATCHED = 19
"""Matched perturbations from which on a p-value can reach 0.05 at one end; with fewer there is none."""
_POOL_PER_DRAW, _LEAST_POOL = 2, 40
"""How many of the nearest genes are drawn from, for each that is wanted."""
_TRIES_PER_DRAW = 20


@dataclass(frozen=True, kw_only=True)
class GeneOccurrence:
    """How often and how high each gene of a dictionary stands in some cells, by token."""

    tokens: Integer[np.ndarray, " genes"]
    n_cells: Integer[np.ndarray, " genes"]
    """Cells that have the gene."""
    rank_share: Float[np.ndarray, " genes"]
    """Mean over them of (genes above it) / (genes of the cell); 1 where no cell has it."""


def occurrence_of(cells: TokenizedCells, *, dictionaries: Dictionaries) -> GeneOccurrence:
    """Count the genes of some cells."""
    n_before = 0 if dictionaries.bounds is None else 1
    n_genes = np.maximum(cells.lengths - 2 * n_before, 0)
    places = np.arange(cells.tokens.shape[1])[None] - n_before
    inside = (places >= 0) & (places < n_genes[:, None])
    rows, columns = np.nonzero(inside)
    found = cells.tokens[rows, columns]
    n_tokens = len(dictionaries.tokens)
    counts = np.bincount(found, minlength=n_tokens)
    sums = np.bincount(found, weights=places[0, columns] / n_genes[rows], minlength=n_tokens)
    genes = np.array(sorted(dictionaries.tokens[gene] for gene in dictionaries.genes), dtype=np.int64)
    share = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return GeneOccurrence(tokens=genes, n_cells=counts[genes], rank_share=share[genes])


def matched_perturbations(
    asked: Sequence[int],
    occurrence: GeneOccurrence,
    *,
    n: int,
    excluded: Sequence[int],
    rng: np.random.Generator,
) -> Iterator[tuple[int, ...]]:
    """Yield different sets of genes, each gene matched with one of those that are asked about, in their order.

    More are yielded than are wanted, because some may stand in no cell together: whoever draws ends it.

    Parameters
    ----------
    asked
        Tokens of the perturbation.
    n
        How many are wanted.
    excluded
        Tokens that are never drawn: all genes that are asked about in the run.
    """
    candidates = ~np.isin(occurrence.tokens, [*asked, *excluded])
    pools = [_nearest(token, occurrence, candidates, size=max(_POOL_PER_DRAW * n, _LEAST_POOL)) for token in asked]
    if len(pools) == 1:
        yield from ((int(token),) for token in rng.permutation(pools[0]))
        return
    seen: set[frozenset[int]] = set()
    for _ in range(_TRIES_PER_DRAW * n if all(len(pool) for pool in pools) else 0):
        drawn = tuple(int(rng.choice(pool)) for pool in pools)
        key = frozenset(drawn)
        if len(key) == len(drawn) and key not in seen:
            seen.add(key)
            yield drawn


def empirical_p_value(effect: float, null: Float[np.ndarray, " perturbations"], *, both_ends: bool) -> float | None:
    """Return the share of perturbations, this one included, with an effect as low, or as far at either end.

    None where fewer than `LEAST_MATCHED` were matched.
    """
    if len(null) < LEAST_MATCHED:
        return None
    low = (1 + int((null <= effect).sum())) / (len(null) + 1)
    high = (1 + int((null >= effect).sum())) / (len(null) + 1)
    return min(1.0, 2 * min(low, high)) if both_ends else low


def _nearest(
    token: int, occurrence: GeneOccurrence, candidates: Bool[np.ndarray, " genes"], *, size: int
) -> Integer[np.ndarray, " pool"]:
    """Return the candidates that are nearest to a gene in frequency and rank, each as a share of all genes."""
    frequency = rankdata(occurrence.n_cells) / len(occurrence.tokens)
    share = rankdata(occurrence.rank_share) / len(occurrence.tokens)
    (place,) = np.flatnonzero(occurrence.tokens == token)
    distance = np.hypot(frequency - frequency[place], share - share[place])
    order = np.argsort(np.where(candidates, distance, np.inf), kind="stable")[: min(size, int(candidates.sum()))]
    return np.asarray(occurrence.tokens[order])
