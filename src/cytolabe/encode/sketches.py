"""Sketches of cells: a few numbers that tell, for any set of genes, which cells may have equal counts on it.

Two data sets share other genes with each partner, so no hash over fixed genes finds their common cells. Each gene has a
priority, a hash of its id that is the same everywhere. The sketch of a cell keeps its `SKETCH_GENES` expressed genes of
lowest priority, with their counts. What is known of a cell is then complete below its threshold: the priority of the
last gene kept, or no bound where all of its genes were. Two cells with equal counts on a set of genes have equal entries
on that set below the smaller of their thresholds; so cells that disagree there differ, and those that agree are
nominated, to be confirmed on the counts.

Beside it stand a sum over all genes of a 64-bit hash of (gene, count), the same for cells that are equal on everything,
and how many genes and counts the cell holds.
Counts of features that are one gene are added up first. Nothing depends on the order of features or on their names.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int64, UInt64
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel

__all__ = [
    "SKETCH_GENES", "agree_below_threshold", "gene_hashes", "priorities_of", "shared_prefixes", "sketch_cells",
]  # fmt: skip

SKETCH_GENES = 32
"""Genes of a sketch. Part of the definition."""
_COUNT_BITS = 16
_PRIORITY_SHIFT = 17
"""Of the 64 bits of a gene's hash the upper 47 are its priority: with 16 bits of count an entry is a positive int64."""
_LARGEST_COUNT = (1 << _COUNT_BITS) - 1
_NO_BOUND = int(np.iinfo(np.int64).max)


def gene_hashes(genes: Sequence[str]) -> UInt64[np.ndarray, " genes"]:
    """Return 64 bits of the SHA-256 of each gene id."""
    return np.array(
        [int.from_bytes(hashlib.sha256(gene.encode()).digest()[:8], "little") for gene in genes], dtype=np.uint64
    )


def priorities_of(genes: Sequence[str]) -> Int64[np.ndarray, " genes"]:
    """Return the priority of each gene id; genes of low priority are kept first."""
    return (gene_hashes(genes) >> np.uint64(_PRIORITY_SHIFT)).astype(np.int64)


def sketch_cells(
    counts: csr_matrix, genes: Sequence[str]
) -> tuple[UInt64[np.ndarray, " cells"], Int64[np.ndarray, "cells kept"], Int64[np.ndarray, "cells 2"]]:
    """Return the hash of each cell over all genes, its sketch, and its totals.

    Parameters
    ----------
    counts
        Cells x features, proven counts; the order of the features of a cell does not matter.
    genes
        The gene of each feature; empty where it has none, which leaves it out.

    Returns
    -------
    hashes
        Sums modulo 2^64, zero for a cell without counts.
    entries
        `SKETCH_GENES` per cell, ascending: priority * 2^16 + count (at most 65,535), -1 where a cell has fewer genes.
    totals
        Genes with a count, and counts, of each cell.
    """
    gene_of_feature, hash_of_gene = _numbered(tuple(genes))
    is_one_each = _is_one_each(tuple(genes))
    hashes = np.zeros(counts.shape[0], dtype=np.uint64)
    entries = np.full((counts.shape[0], SKETCH_GENES), -1, dtype=np.int64)
    totals = np.zeros((counts.shape[0], 2), dtype=np.int64)
    _sketch(
        (
            counts.indptr.astype(np.int64),
            counts.indices.astype(np.int32, copy=False),
            counts.data.astype(np.int64, copy=False),
        ),
        (gene_of_feature, hash_of_gene, is_one_each),
        (hashes, entries, totals),
    )
    return hashes, entries, totals


@lru_cache(maxsize=4)
def _numbered(genes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the gene of each feature, -1 for none, and the hash of each gene."""
    known = sorted({gene for gene in genes if gene})
    place = {gene: number for number, gene in enumerate(known)}
    return np.array([place.get(gene, -1) for gene in genes], dtype=np.int64), gene_hashes(known)


@lru_cache(maxsize=4)
def _is_one_each(genes: tuple[str, ...]) -> bool:
    """Tell whether no two features are one gene."""
    known = [gene for gene in genes if gene]
    return len(set(known)) == len(known)


def agree_below_threshold(
    one: Int64[np.ndarray, "pairs kept"],
    other: Int64[np.ndarray, "pairs kept"],
    shared_priorities: Int64[np.ndarray, " shared"],
) -> Bool[np.ndarray, " pairs"]:
    """Tell for pairs of sketches whether the cells may be equal on the shared genes; equal cells always do.

    Counts above 65,535 are compared as if they were 65,535.
    """
    threshold = np.minimum(_threshold(one), _threshold(other))
    found = []
    for entries in (one, other):
        priorities = entries >> _COUNT_BITS
        inside = (entries >= 0) & (priorities <= threshold[:, None]) & np.isin(priorities, shared_priorities)
        # Entries ascend, so those that count come first in the same order once the others are pushed to the end.
        found.append(np.sort(np.where(inside, entries, np.iinfo(np.int64).max), axis=1))
    return np.asarray((found[0] == found[1]).all(axis=1))


def shared_prefixes(
    entries: Int64[np.ndarray, "cells kept"], shared_priorities: Int64[np.ndarray, " shared"]
) -> tuple[Int64[np.ndarray, " cells"], UInt64[np.ndarray, "lengths cells"]]:
    """Return how many entries of each cell are of shared genes, and a hash of the first 0, 1, 2 ... of these.

    Of two cells that are equal on the shared genes, the list of one is the start of that of the other.
    `shared_priorities` ascend. Hashes beyond the length of a cell are zero.
    """
    lengths = np.zeros(len(entries), dtype=np.int64)
    starts = np.zeros((SKETCH_GENES + 1, len(entries)), dtype=np.uint64)
    _hash_prefixes(np.ascontiguousarray(entries), shared_priorities, (lengths, starts))
    return lengths, starts


@kernel
def _hash_prefixes(entries: np.ndarray, shared_priorities: np.ndarray, out: tuple[np.ndarray, np.ndarray]) -> None:
    lengths, starts = out
    for cell in range(len(entries)):
        state = np.uint64(0)
        length = 0
        for place in range(entries.shape[1]):
            entry = entries[cell, place]
            if entry < 0:
                break
            priority = entry >> _COUNT_BITS
            found = np.searchsorted(shared_priorities, priority)
            if found < len(shared_priorities) and shared_priorities[found] == priority:
                length += 1
                state = np.uint64(_mix(state, np.uint64(entry)))  # type: ignore[arg-type]
                starts[length, cell] = state
        lengths[cell] = length


def _threshold(entries: np.ndarray) -> np.ndarray:
    """Return up to which priority the genes of a cell are all known."""
    last = entries[:, -1]
    return np.where(last < 0, np.iinfo(np.int64).max, last >> _COUNT_BITS)


@kernel
def _sketch(
    matrix: tuple[np.ndarray, np.ndarray, np.ndarray],
    genes: tuple[np.ndarray, np.ndarray, bool],
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    indptr, indices, data = matrix
    gene_of_feature, hash_of_gene, is_one_each = genes
    hashes, entries, totals = out
    table = np.zeros(len(hash_of_gene) + 1, dtype=np.uint64)
    numbers = np.empty(len(hash_of_gene) + 1, dtype=np.int64)
    counts = np.empty(len(hash_of_gene) + 1, dtype=np.uint64)
    every_gene = np.arange(len(hash_of_gene) + 1)
    for cell in range(len(hashes)):
        low, high = indptr[cell], indptr[cell + 1]
        features, values = indices[low:high], data[low:high]
        if not (is_one_each and _ascends(features)):
            n_genes = _add_up(features, values, (gene_of_feature, table, numbers, counts))
            added = (numbers[:n_genes], counts[:n_genes])
            hashes[cell] = _sketch_cell(added, (every_gene, hash_of_gene), (entries[cell], totals[cell]))
        else:
            hashes[cell] = _sketch_cell(
                (features, values), (gene_of_feature, hash_of_gene), (entries[cell], totals[cell])
            )


@kernel
def _ascends(features: np.ndarray) -> bool:
    """Tell whether no feature can occur twice."""
    n_descents = 0
    for place in range(1, len(features)):
        n_descents += features[place] <= features[place - 1]
    return n_descents == 0


@kernel
def _sketch_cell(
    cell: tuple[np.ndarray, np.ndarray], genes: tuple[np.ndarray, np.ndarray], out: tuple[np.ndarray, np.ndarray]
) -> np.uint64:
    """Sketch one cell in which no gene occurs twice, and return its hash."""
    features, values = cell
    gene_of_feature, hash_of_gene = genes
    kept, totals = out
    n_genes, n_kept, bound, mixed, total = 0, 0, _NO_BOUND, np.uint64(0), np.uint64(0)
    for place in range(len(features)):
        gene, count = gene_of_feature[features[place]], np.uint64(values[place])
        if gene < 0 or count == 0:
            continue
        gene_hash = hash_of_gene[gene]
        n_genes += 1
        total += count
        mixed += _mix(gene_hash, count)  # type: ignore[arg-type]
        priority = np.int64(gene_hash >> np.uint64(_PRIORITY_SHIFT))
        if priority << _COUNT_BITS < bound:
            entry = (priority << _COUNT_BITS) | np.int64(min(count, np.uint64(_LARGEST_COUNT)))
            n_kept = _keep(kept, int(entry), n_kept)
            bound = kept[SKETCH_GENES - 1] if n_kept == SKETCH_GENES else _NO_BOUND
    totals[0], totals[1] = n_genes, np.int64(total)
    return mixed


@kernel
def _add_up(
    features: np.ndarray, values: np.ndarray, out: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
) -> int:
    """Write down the genes of a cell with the counts of all their features; return how many there are."""
    gene_of_feature, table, numbers, counts = out
    n_genes = 0
    for place in range(len(features)):
        gene, count = gene_of_feature[features[place]], np.uint64(values[place])
        if gene < 0 or count == 0:
            continue
        if table[gene] == 0:
            numbers[n_genes] = gene
            n_genes += 1
        table[gene] += count
    for place in range(n_genes):
        gene = numbers[place]
        counts[place] = table[gene]
        table[gene] = 0
    return n_genes


@kernel
def _mix(gene_hash: int, count: int) -> int:
    state = np.uint64(gene_hash) + np.uint64(count) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))  # type: ignore[return-value]


@kernel
def _keep(entries: np.ndarray, entry: int, n_kept: int) -> int:
    """Put an entry in its place among the lowest ones, and return how many there are."""
    if n_kept == len(entries) and entry >= entries[n_kept - 1]:
        return n_kept
    place = min(n_kept, len(entries) - 1)
    while place > 0 and entries[place - 1] > entry:
        entries[place] = entries[place - 1]
        place -= 1
    entries[place] = entry
    return min(n_kept + 1, len(entries))
