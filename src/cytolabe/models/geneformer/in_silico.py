"""In-silico perturbation: what a cell's vector does when genes are taken away, or ranked first.

`deleted` takes the genes' tokens out and moves the others up; a cell that lacks one of them is not counted.
`overexpressed` puts the tokens in front of all genes, behind `<cls>`, in the order in which the genes are named and whether
or not the cell had them; `<eos>` stays last and what no longer fits is cut off at the end. The effect is the cosine of the vectors before and after (1 = nothing moved) or,
towards a goal state, how much nearer the cell comes: cos(after, goal) - cos(before, goal). Where vectors are means over
genes, the perturbed genes themselves are left out before and after, as published: their own tokens would be most of the
effect.

A cosine alone is no evidence: any change of ranks moves a vector. `null_test` compares the cells' effects with
those of other genes, by ranks and without a sign, and corrects for the number of genes tested.
"""

from collections.abc import Mapping, Sequence
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
    "tokens_of",
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


def deleted(cells: TokenizedCells, genes: str | Sequence[str], *, dictionaries: Dictionaries) -> TokenizedCells:
    """Return cells without some genes; cells that have none of them are as they were.

    Raises
    ------
    UsageError
        If a gene has no token.
    """
    tokens = np.full_like(cells.tokens, dictionaries.pad)
    stands = _stands(cells) & ~np.isin(cells.tokens, tokens_of(genes, dictionaries=dictionaries))
    rows, _ = np.nonzero(stands)
    lengths = stands.sum(axis=1)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tokens[rows, places] = cells.tokens[stands]
    return TokenizedCells(tokens=tokens, lengths=lengths.astype(cells.lengths.dtype))


def overexpressed(cells: TokenizedCells, genes: str | Sequence[str], *, dictionaries: Dictionaries) -> TokenizedCells:
    """Return cells in which some genes rank first, cut off at the end where that makes them too long.

    Raises
    ------
    UsageError
        If a gene has no token.
    """
    first = tokens_of(genes, dictionaries=dictionaries)
    without = deleted(cells, genes, dictionaries=dictionaries)
    n_before = 0 if dictionaries.bounds is None else 1
    n_cells, width = cells.tokens.shape
    wide = np.full((n_cells, width + len(first)), dictionaries.pad, dtype=cells.tokens.dtype)
    wide[:, :n_before] = without.tokens[:, :n_before]
    wide[:, n_before : n_before + len(first)] = first
    wide[:, n_before + len(first) :] = without.tokens[:, n_before:]
    lengths = np.minimum(without.lengths + len(first), width)
    if dictionaries.bounds is not None:
        wide[np.arange(n_cells), lengths - 1] = dictionaries.bounds[1]
    return TokenizedCells(tokens=wide[:, :width], lengths=lengths.astype(cells.lengths.dtype))


def perturbed(
    model: FittedGeneformer,
    cells: TokenizedCells,
    genes: str | Sequence[str],
    *,
    kind: Literal["delete", "overexpress"],
    before: Float[np.ndarray, "cells dims"] | None = None,
) -> PerturbedCells:
    """Perturb genes in the cells where that changes something, and embed them before and after.

    `delete` concerns the cells that have all of the genes, `overexpress` all with another gene.

    Parameters
    ----------
    before
        Vectors of all cells as they are, where they do not depend on the genes (pooling `cls`); embedded here without them.

    Raises
    ------
    UsageError
        If a gene has no token.
    """
    known = model.checkpoint.dictionaries
    tokens = tokens_of(genes, dictionaries=known)
    n_has = (_stands(cells) & np.isin(cells.tokens, tokens)).sum(axis=1)
    n_others = cells.lengths - (0 if known.bounds is None else 2) - n_has
    rows = np.flatnonzero((n_others > 0) & ((n_has == len(tokens)) if kind == "delete" else True))
    part = TokenizedCells(tokens=cells.tokens[rows], lengths=cells.lengths[rows])
    after = (deleted if kind == "delete" else overexpressed)(part, genes, dictionaries=known)
    is_mean = model.pooling == "mean"
    left_out = tokens.tolist() if is_mean else ()
    as_they_are = before[rows] if before is not None and not is_mean else model.embed_tokens(part, left_out=left_out)
    return PerturbedCells(rows=rows, before=as_they_are, after=model.embed_tokens(after, left_out=left_out))


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


def tokens_of(genes: str | Sequence[str], *, dictionaries: Dictionaries) -> Integer[np.ndarray, " genes"]:
    """Return the token of each gene, in the order given.

    Raises
    ------
    UsageError
        If a gene has none, or is named twice.
    """
    names = [genes] if isinstance(genes, str) else list(genes)
    lost = [name for name in names if name not in dictionaries.tokens or name in dictionaries.specials]
    if lost or not names or len(set(names)) < len(names):
        told = (
            f"{', '.join(lost[:5])} has no token in this dictionary of {len(dictionaries.genes):,} genes, so the model "
            "cannot tell what it does. Genes are named by their Ensembl id"
            if lost
            else f"A perturbation of {names} names no gene, or one twice. Name each once"
        )
        msg = f"{told}."
        raise UsageError(msg)
    return np.array([dictionaries.tokens[name] for name in names], dtype=np.int64)


def _stands(cells: TokenizedCells) -> Bool[np.ndarray, "cells positions"]:
    found: np.ndarray = np.arange(cells.tokens.shape[1])[None] < cells.lengths[:, None]
    return found
