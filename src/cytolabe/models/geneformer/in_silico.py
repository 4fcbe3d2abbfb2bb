"""In-silico perturbation: what a cell's vector does when a gene is taken away, or ranked first.

`deleted` takes the gene's token out and moves the others up; a cell without it is unchanged, and is not counted.
`overexpressed` puts the token in front of all genes, behind `<cls>`, whether or not the cell had it; `<eos>` stays last and
what no longer fits is cut off at the end. The effect is the cosine of the vectors before and after (1 = nothing moved) or,
towards a goal state, how much nearer the cell comes: cos(after, goal) - cos(before, goal). Where vectors are means over
genes, the perturbed gene itself is left out before and after, as published: its own token would be most of the effect.

A cosine alone is no evidence: any change of ranks moves a vector. `null_test` compares the cells' effects with
those of other genes, by ranks and without a sign, and corrects for the number of genes tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.stats import false_discovery_control, mannwhitneyu

from cytolabe.errors import UsageError
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.embedder import FittedGeneformer
from cytolabe.models.geneformer.tokenizer import TokenizedCells

__all__ = [
    "GeneEffect",
    "PerturbedCells",
    "cosine",
    "deleted",
    "goal_shift",
    "null_test",
    "overexpressed",
    "perturbed",
]


@dataclass(frozen=True, kw_only=True)
class GeneEffect:
    """What perturbing one gene did: the median over cells, and how surprising it is among other genes.

    `p_value` is two-sided, `q_value` corrected over all genes that were tested together (Benjamini and Hochberg).
    """

    gene: str
    n_cells: int
    median: float
    median_of_null: float
    p_value: float
    q_value: float


@dataclass(frozen=True, kw_only=True)
class PerturbedCells:
    """Vectors of cells before and after; `rows` are places among the cells that were given."""

    rows: Integer[np.ndarray, " perturbed"]
    before: Float[np.ndarray, "perturbed dims"]
    after: Float[np.ndarray, "perturbed dims"]


def deleted(cells: TokenizedCells, gene: str, *, dictionaries: Dictionaries) -> TokenizedCells:
    """Return cells without a gene; cells that do not have it are as they were.

    Raises
    ------
    UsageError
        If the gene has no token.
    """
    token = _token(gene, dictionaries)
    tokens = np.full_like(cells.tokens, dictionaries.pad)
    stands = _stands(cells) & (cells.tokens != token)
    rows, _ = np.nonzero(stands)
    lengths = stands.sum(axis=1)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tokens[rows, places] = cells.tokens[stands]
    return TokenizedCells(tokens=tokens, lengths=lengths.astype(cells.lengths.dtype))


def overexpressed(cells: TokenizedCells, gene: str, *, dictionaries: Dictionaries) -> TokenizedCells:
    """Return cells in which a gene ranks first, cut off at the end where it makes them too long.

    Raises
    ------
    UsageError
        If the gene has no token.
    """
    token = _token(gene, dictionaries)
    without = deleted(cells, gene, dictionaries=dictionaries)
    n_before = 0 if dictionaries.bounds is None else 1
    width = cells.tokens.shape[1]
    wide = np.full((len(cells.lengths), width + 1), dictionaries.pad, dtype=cells.tokens.dtype)
    wide[:, :n_before] = without.tokens[:, :n_before]
    wide[:, n_before] = token
    wide[:, n_before + 1 :] = without.tokens[:, n_before:]
    lengths = np.minimum(without.lengths + 1, width)
    if dictionaries.bounds is not None:
        wide[np.arange(len(lengths)), lengths - 1] = dictionaries.bounds[1]
    return TokenizedCells(tokens=wide[:, :width], lengths=lengths.astype(cells.lengths.dtype))


def perturbed(
    model: FittedGeneformer, cells: TokenizedCells, gene: str, *, kind: Literal["delete", "overexpress"]
) -> PerturbedCells:
    """Perturb a gene in the cells where that changes something, and embed them before and after.

    `delete` concerns the cells that have the gene, `overexpress` all with another gene.

    Raises
    ------
    UsageError
        If the gene has no token.
    """
    known = model.checkpoint.dictionaries
    token = _token(gene, known)
    has_gene = (_stands(cells) & (cells.tokens == token)).any(axis=1)
    n_others = cells.lengths - (0 if known.bounds is None else 2) - has_gene
    rows = np.flatnonzero((n_others > 0) & (has_gene if kind == "delete" else True))
    before = TokenizedCells(tokens=cells.tokens[rows], lengths=cells.lengths[rows])
    after = (deleted if kind == "delete" else overexpressed)(before, gene, dictionaries=known)
    left_out = token if model.pooling == "mean" else None
    return PerturbedCells(
        rows=rows,
        before=model.embed_tokens(before, left_out=left_out),
        after=model.embed_tokens(after, left_out=left_out),
    )


def cosine(
    before: Float[np.ndarray, "cells dims"], after: Float[np.ndarray, "cells dims"]
) -> Float[np.ndarray, " cells"]:
    """Return the cosine of the vectors of each cell, in [-1, 1]; 1 = the perturbation moved nothing."""
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return np.asarray((before * after).sum(axis=1) / np.maximum(lengths, np.finfo(before.dtype).tiny))


def goal_shift(
    before: Float[np.ndarray, "cells dims"], after: Float[np.ndarray, "cells dims"], goal: Float[np.ndarray, " dims"]
) -> Float[np.ndarray, " cells"]:
    """Return how much nearer each cell comes to a goal state, in [-2, 2]; higher is nearer."""
    target = np.broadcast_to(goal, before.shape)
    return np.asarray(cosine(after, target) - cosine(before, target))


def null_test(effects: Mapping[str, np.ndarray], null: np.ndarray) -> tuple[GeneEffect, ...]:
    """Test the effects of genes against those of others, by the rank sum test, two-sided.

    Parameters
    ----------
    effects
        Gene -> effect on each cell that it was perturbed in (a cosine or a shift).
    null
        Effects of perturbing other genes, pooled over cells.

    Returns
    -------
    tuple
        One row a gene, in the order given.

    Raises
    ------
    UsageError
        If a gene or the null has no cell.
    """
    empty = [gene for gene, values in effects.items() if not len(values)]
    if empty or not len(null):
        msg = f"No cell was perturbed by {', '.join(empty[:3]) or 'the null'}: nothing can be tested. Leave it out."
        raise UsageError(msg)
    p_values = [float(mannwhitneyu(values, null, alternative="two-sided").pvalue) for values in effects.values()]
    q_values = np.asarray(false_discovery_control(p_values, method="bh") if p_values else p_values, dtype=np.float64)
    return tuple(
        GeneEffect(
            gene=gene,
            n_cells=len(values),
            median=float(np.median(values)),
            median_of_null=float(np.median(null)),
            p_value=p,
            q_value=float(q),
        )
        for (gene, values), p, q in zip(effects.items(), p_values, q_values, strict=True)
    )


def _token(gene: str, dictionaries: Dictionaries) -> int:
    if gene not in dictionaries.tokens or gene in dictionaries.specials:
        msg = f"{gene} has no token in this dictionary, so the model cannot tell what it does."
        raise UsageError(msg)
    return dictionaries.tokens[gene]


def _stands(cells: TokenizedCells) -> Bool[np.ndarray, "cells positions"]:
    found: np.ndarray = np.arange(cells.tokens.shape[1])[None] < cells.lengths[:, None]
    return found
