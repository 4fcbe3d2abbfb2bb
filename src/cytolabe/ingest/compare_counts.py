"""Compare two matrices of one file that are both proven counts.

They are compared on the features that both have, a block of cells at a time. Which one is right cannot be decided
here; the finding names the first place where they differ, so that a person can.
"""

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.ingest.matrices import MatrixHandle
from cytolabe.ingest.opened import Source
from cytolabe.records import Finding, Severity

__all__ = ["compare_candidates"]


def compare_candidates(source: Source, chosen: MatrixHandle, other: MatrixHandle) -> Finding:
    """Compare two proven matrices on the features that both have, a block at a time."""
    here, there = _shared_columns(source.features(chosen), source.features(other))
    if not len(here):
        return _nothing_shared(chosen, other)
    n_different, n_compared, first = 0, 0, ""
    for block in source.iter_blocks(chosen, dataset_id=source.path.stem):
        stop = block.start + block.counts.shape[0]
        mine = block.counts[:, here].astype(np.float64)
        theirs = source.read_cells(other, start=block.start, stop=stop)[:, there].astype(np.float64)
        difference = csr_matrix(mine - theirs)
        difference.eliminate_zeros()
        different = difference.tocoo()
        n_compared += int(mine.count_nonzero())
        n_different += int(different.nnz)
        if different.nnz and not first:
            at = np.lexsort((different.col, different.row))[0]
            row, column = int(different.row[at]), int(different.col[at])
            feature = source.features(chosen)[here[column]]
            first = f"cell {block.cell_names[row]}, {feature}: {mine[row, column]:g} and {theirs[row, column]:g}"
    both = f"{chosen.name} and {other.name}"
    if n_different:
        return Finding(
            code="W-COUNTS-03",
            severity=Severity.WARNING,
            where=both,
            n_affected=n_different,
            n_total=n_compared,
            examples=(first,),
            message=f"Both hold integers, but {n_different:,} values differ (first: {first}). {chosen.name} is used.",
            remedy=f"If {other.name} holds the counts, say so in the manifest: matrix = '{other.name}'.",
            rule="cytolabe/counts",
        )
    return Finding(
        code="N-COUNTS-04",
        severity=Severity.NOTE,
        where=both,
        n_total=n_compared,
        message=f"Both hold the same counts on the {len(here):,} features that they share; {chosen.name} is used.",
        remedy="Nothing to do.",
        rule="cytolabe/counts",
    )


def _nothing_shared(chosen: MatrixHandle, other: MatrixHandle) -> Finding:
    return Finding(
        code="W-COUNTS-03",
        severity=Severity.WARNING,
        where=f"{chosen.name} and {other.name}",
        n_affected=chosen.shape[1],
        n_total=chosen.shape[1],
        message=f"Both hold integers, but they share no name of a feature, so they cannot be compared. {chosen.name} is used.",
        remedy=f"If {other.name} holds the counts, say so in the manifest: matrix = '{other.name}'.",
        rule="cytolabe/counts",
    )


def _shared_columns(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    if mine == theirs:
        every = np.arange(len(mine))
        return every, every
    place: Mapping[str, int] = {name: column for column, name in reversed(list(enumerate(theirs)))}
    pairs = [(column, place[name]) for column, name in enumerate(mine) if name in place]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]
