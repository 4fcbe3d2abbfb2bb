"""The logical digest of raw counts: what the cells hold, however they are stored.

A record of a cell is its name and its (feature, count) pairs in the order of the features; records of 4,096 cells in
source order make one SHA-256, and the digest is the SHA-256 of the canonical JSON of these, the digest of the feature
list and the number of cells. A feature stands in a pair as its position in the ordered list that is digested beside
it. No dtype, codec, chunk, block size, order of the columns in memory or thread count enters.

Features are ordered by unversioned id, then by the verbatim name, then by their place in the source, which tells
features of the same name apart.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.compiled import kernel
from cytolabe.errors import UsageError
from cytolabe.provenance import digest_of

__all__ = ["RANGE_CELLS", "CountsDigest", "combine_leaves", "feature_order", "features_digest", "unversioned"]

RANGE_CELLS = 4096
"""Cells under one leaf. Part of the definition: another number is another digest."""

_VERSIONED_ID = re.compile(r"(ENS[A-Z]*[GTP]\d{11})\.\d+(_PAR_Y)?")
_PAIR_WORDS = 3
"""Words of 32 bits, the low one first, of one (feature, count): the count has two of them."""


def unversioned(feature: str) -> str:
    """Return an Ensembl id without its version; every other name as it is, `RP11-206L10.2` included."""
    match = _VERSIONED_ID.fullmatch(feature)
    return feature if match is None else match.group(1) + (match.group(2) or "")


def feature_order(features: Sequence[str]) -> np.ndarray:
    """Return the source positions of the features in the order in which a partition keeps them; do not modify."""
    return _order_of(tuple(features))


@lru_cache(maxsize=4)
def _order_of(features: tuple[str, ...]) -> np.ndarray:
    """Order features once for the half-dozen steps of an ingest that ask."""
    keys = [(unversioned(name), name, position) for position, name in enumerate(features)]
    order = np.array([key[2] for key in sorted(keys)], dtype=np.int64)
    order.flags.writeable = False
    return order


def features_digest(ordered: Sequence[str]) -> str:
    """Return the digest of a feature list in the order of `feature_order`."""
    return digest_of(list(ordered))


class CountsDigest:
    """Builds the digest while cells stream by in source order; keeps one running hash and one leaf per range."""

    def __init__(self, *, features_digest: str) -> None:
        self._features_digest = features_digest
        self._leaves: list[str] = []
        self._running = hashlib.sha256()
        self._n_cells = 0

    def append(self, cell_names: Sequence[str], counts: csr_matrix) -> None:
        """Add cells: `counts` has sorted indices in partition order, no zeros, and unsigned or signed integers."""
        self.append_entries(cell_names, np.asarray(counts.indptr), (counts.indices, counts.data))

    def append_entries(
        self, cell_names: Sequence[str], indptr: np.ndarray, entries: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Add cells as the arrays (columns, counts) of all their entries, cut by `indptr`, which starts at 0."""
        pairs = _packed(*entries)
        content = pairs.view(np.uint8).reshape(-1).data
        starts = (indptr.astype(np.int64) * 4 * _PAIR_WORDS).tolist()
        for row, name in enumerate(cell_names):
            encoded = name.encode()
            low, high = starts[row], starts[row + 1]
            self._running.update(b"".join((_u64(len(encoded)), encoded, _u64(high - low), content[low:high])))
            self._n_cells += 1
            if self._n_cells % RANGE_CELLS == 0:
                self._close_range()

    def leaves(self) -> tuple[str, ...]:
        """Return the leaves of what was appended, which must have begun at a multiple of `RANGE_CELLS` cells."""
        if self._n_cells % RANGE_CELLS:
            self._close_range()
            self._n_cells += -self._n_cells % RANGE_CELLS
        return tuple(self._leaves)

    def finish(self) -> str:
        """Return `sha256:` and 64 digits over everything that was appended."""
        n_cells = self._n_cells
        return combine_leaves(self.leaves(), features_digest=self._features_digest, n_cells=n_cells)

    def _close_range(self) -> None:
        self._leaves.append(self._running.hexdigest())
        self._running = hashlib.sha256()


def _packed(columns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the bytes of all pairs as little-endian words of 32 bits."""
    words = np.empty((len(columns), _PAIR_WORDS), dtype=np.uint32)
    _pack(columns, counts, words)
    return words.astype("<u4", copy=False)


@kernel
def _pack(columns: np.ndarray, counts: np.ndarray, words: np.ndarray) -> None:
    for entry in range(len(columns)):
        count = np.uint64(counts[entry])
        words[entry, 0] = columns[entry]
        words[entry, 1] = count & np.uint64(0xFFFFFFFF)
        words[entry, 2] = count >> np.uint64(32)


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def combine_leaves(leaves: Sequence[str], *, features_digest: str, n_cells: int) -> str:
    """Return the digest of a partition from the leaves of its ranges, whoever computed them, in source order.

    Raises
    ------
    UsageError
        If there are not as many leaves as ranges.
    """
    n_ranges = -(-n_cells // RANGE_CELLS)
    if len(leaves) != n_ranges:
        msg = f"{n_cells} cells have {n_ranges} ranges of {RANGE_CELLS}, but {len(leaves)} leaves were given."
        raise UsageError(msg)
    return digest_of(
        {
            "kind": "cytolabe/counts/1",
            "features": features_digest,
            "n_cells": n_cells,
            "range_cells": RANGE_CELLS,
            "ranges": list(leaves),
        }
    )
