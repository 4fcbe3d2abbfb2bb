"""The rules as their authors wrote them, cell by cell: what the kernels of a stream are compared with.

Geneformer's tokenizer normalizes a block of 512 cells as a dense matrix and sorts each cell with `argsort`; scGPT's
preprocessor takes quantiles of each cell and digitizes it twice, ties drawn at random. Both are written anew from their
description; arithmetic and order are theirs.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csr_matrix

TARGET = 10_000.0
N_TOKENS = 2_048
N_BINS = 51


def rank_rule(n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a token and a median for each gene, made up and the same on every run."""
    medians = np.exp(np.random.default_rng(0).normal(0, 0.5, n_genes)).astype(np.float32)
    return np.arange(n_genes) + 4, medians


def ranks(counts: csr_matrix) -> Iterator[np.ndarray]:
    """Yield the tokens of each cell."""
    tokens, medians = rank_rule(counts.shape[1])
    totals = np.asarray(counts.sum(axis=1)).ravel()
    for first in range(0, counts.shape[0], 512):
        block = counts[first : first + 512]
        scaled = csr_matrix(block.toarray() / totals[first : first + 512, None] * TARGET / medians)
        for row in range(scaled.shape[0]):
            cell = scaled[row]
            yield tokens[cell.indices][np.argsort(-cell.data)][:N_TOKENS]


def value_bins(counts: csr_matrix) -> Iterator[np.ndarray]:
    """Yield the bins of each cell over all genes."""
    rng = np.random.default_rng(0)
    for row in range(counts.shape[0]):
        values = counts[row].toarray().ravel()
        used = values.nonzero()[0]
        edges = np.quantile(values[used], np.linspace(0, 1, N_BINS - 1))
        left, right = np.digitize(values[used], edges), np.digitize(values[used], edges, right=True)
        binned = np.zeros(len(values), dtype=np.int64)
        binned[used] = np.ceil(rng.random(len(used)) * (right - left) + left).astype(np.int64)
        yield binned


def cells_per_second(
    rule: Callable[[csr_matrix], Iterator[np.ndarray]], counts: csr_matrix, *, seconds: float
) -> float:
    """Return how many cells a second a rule does on one core."""
    start = time.perf_counter()
    done = 0
    for _ in rule(counts):
        done += 1
        if time.perf_counter() - start > seconds:
            break
    return done / (time.perf_counter() - start)
