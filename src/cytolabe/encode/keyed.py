"""Chance that knows what it is for: a hash of (seed, cell, gene) where others draw from one generator after the other.

A draw for a cell is the same in any order, chunk or company, and in any process. `mixed` is the finalizer of
splitmix64; it is a bijection, so genes of one cell never tie.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel

__all__ = ["keyed_uniforms", "keys_of", "mixed", "sampled_entries"]

_SAMPLING = np.uint64(0x5A3D)
"""Apart from the chance of value bins, which has the same keys."""
_UNIT = 1.0 / 9007199254740992.0


def keys_of(names: Iterable[str]) -> Integer[np.ndarray, " names"]:
    """Return a 64-bit key for each name (of a cell, of a gene) that depends on the name only, not on its place."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def keyed_uniforms(
    rows: Integer[np.ndarray, " rows"], tokens: Integer[np.ndarray, "rows tokens"], *, seed: int
) -> Float[np.ndarray, "rows tokens"]:
    """Return a uniform number in [0, 1) for each token, which depends on (seed, key of the row, token) alone."""
    return _uniforms(rows.astype(np.uint64), tokens.astype(np.uint64), np.uint64(seed))


@kernel
def _uniforms(rows: np.ndarray, tokens: np.ndarray, seed: int) -> np.ndarray:
    uniforms = np.empty(tokens.shape, np.float64)
    for row in range(len(rows)):
        key = mixed(mixed(seed) ^ mixed(rows[row]))
        for place in range(tokens.shape[1]):
            uniforms[row, place] = np.float64(mixed(key ^ mixed(tokens[row, place])) >> np.uint64(11)) * _UNIT
    return uniforms


def sampled_entries(
    entries: csr_matrix,
    *,
    cell_keys: Integer[np.ndarray, " cells"],
    gene_keys: Integer[np.ndarray, " genes"],
    n_kept: int,
    seed: int,
) -> Bool[np.ndarray, " entries"]:
    """Say which stored entries of each cell are kept: all, or `n_kept` by chance where a cell has more.

    Every set of `n_kept` entries is as likely as any other. A larger `n_kept` keeps what a smaller one kept.

    Raises
    ------
    ValueError
        If there is not one key per cell and per gene, or `n_kept` is negative.
    """
    if cell_keys.shape != (entries.shape[0],) or gene_keys.shape != (entries.shape[1],) or n_kept < 0:
        msg = (
            f"{cell_keys.size} cell keys, {gene_keys.size} gene keys and n_kept {n_kept} for cells of {entries.shape}."
        )
        raise ValueError(msg)
    place = (entries.indices.astype(np.int64), entries.indptr.astype(np.int64))
    return _sample(place, (cell_keys.astype(np.uint64), gene_keys.astype(np.uint64)), (np.uint64(seed), n_kept))


@kernel
def _sample(
    place: tuple[np.ndarray, np.ndarray], keys: tuple[np.ndarray, np.ndarray], rule: tuple[int, int]
) -> np.ndarray:
    """Mark each entry whose hash is among the `n_kept` smallest of its cell."""
    columns, bounds = place
    kept = np.ones(len(columns), np.bool_)
    cell_keys, gene_keys = keys
    seed, n_kept = rule
    for cell in range(len(bounds) - 1):
        start, stop = bounds[cell], bounds[cell + 1]
        if stop - start <= n_kept:
            continue
        if n_kept == 0:
            kept[start:stop] = False
            continue
        key = mixed(mixed(seed ^ _SAMPLING) ^ mixed(cell_keys[cell]))
        hashes = np.empty(stop - start, np.uint64)
        for entry in range(start, stop):
            hashes[entry - start] = mixed(key ^ gene_keys[columns[entry]])
        last = np.sort(hashes)[n_kept - 1]
        for entry in range(start, stop):
            kept[entry] = hashes[entry - start] <= last
    return kept


@kernel
def mixed(key: int) -> int:
    """Return the finalizer of splitmix64: every bit of the key moves every bit of the result."""
    mixed_key = np.uint64(key) + np.uint64(0x9E3779B97F4A7C15)
    mixed_key = (mixed_key ^ (mixed_key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed_key = (mixed_key ^ (mixed_key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed_key ^ (mixed_key >> np.uint64(31))
