"""Training cells of a snapshot as a Geneformer reads them: medians of their genes, then tokens.

Each data set is read over the genes that it measures itself, because a gene that is not measured is no gene of rank
zero: it has no rank. Medians and tokens are made of the rows that are asked for and of no other, block by block.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.encode.medians import CountedBlock, MedianDigest
from cytolabe.errors import RefusedError
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.own_dictionaries import dictionaries_of_medians
from cytolabe.models.geneformer.tokenizer import GeneformerTokenizer, TokenizedCells
from cytolabe.snapshot.view import SnapshotView

__all__ = ["dictionaries_of_cells", "tokens_of_cells"]

_BLOCK_CELLS = 4096


def dictionaries_of_cells(snapshot: SnapshotView, rows: np.ndarray) -> Dictionaries:
    """Return the dictionaries of a model that will be trained on some cells: a token for each gene that one of them has.

    Tokens follow the ids of the genes behind the four special ones of the second generation. Medians are those of the
    cells that have the gene (within `encode.medians.RELATIVE_ERROR`). 15 kB of memory a gene.

    Raises
    ------
    RefusedError
        If no cell has a count.
    """
    datasets = _by_dataset(snapshot, rows)
    genes = sorted(set().union(*(snapshot.measured_genes(name) for name in datasets))) if datasets else []
    place = {gene: number for number, gene in enumerate(genes)}
    digest = MedianDigest(len(genes))
    for name, members in datasets.items():
        measured = snapshot.measured_genes(name)
        columns = np.array([place[gene] for gene in measured], dtype=np.int64)
        for _, counts in _blocks(snapshot, members, measured):
            totals = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
            digest.add(CountedBlock(counts.indptr, columns[counts.indices], counts.data, totals))
    return dictionaries_of_medians(genes, digest, n_cells=len(rows))


def tokens_of_cells(
    snapshot: SnapshotView,
    rows: np.ndarray,
    *,
    dictionaries: Dictionaries,
    max_length: int,
    panels: Literal["refuse", "flag"] = "refuse",
) -> tuple[TokenizedCells, tuple[str, ...]]:
    """Return the tokens of cells in the order of `rows`, and what a reader must know of the data sets.

    Raises
    ------
    RefusedError
        If a data set is a panel, or was subset before it was shared (rule R3), and `panels` is `refuse`.
    """
    tokens = np.full((len(rows), max_length), dictionaries.pad, dtype=np.int32)
    lengths = np.zeros(len(rows), dtype=np.int64)
    place = {int(row): number for number, row in enumerate(rows)}
    notes = []
    for name, members in _by_dataset(snapshot, rows).items():
        measured = snapshot.measured_genes(name)
        try:
            tokenizer = GeneformerTokenizer(
                dictionaries=dictionaries, genes=measured, max_length=max_length, panels=panels,
                upstream_fraction_of_counts=snapshot.datasets[name].upstream_fraction_of_counts,
            )  # fmt: skip
        except RefusedError as error:
            msg = f"{name}: {error}"
            raise RefusedError(msg) from None
        notes += [f"{name}: {tokenizer.flag}"] if tokenizer.flag else []
        for block, counts in _blocks(snapshot, members, measured):
            cells = tokenizer.tokenize(counts)
            places = [place[int(row)] for row in block]
            tokens[places], lengths[places] = cells.tokens, cells.lengths
    return TokenizedCells(tokens=tokens, lengths=lengths), tuple(notes)


def _by_dataset(snapshot: SnapshotView, rows: np.ndarray) -> Mapping[str, np.ndarray]:
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)[rows]
    return {str(name): np.sort(rows[names == name]) for name in sorted(set(names.tolist()))}


def _blocks(snapshot: SnapshotView, rows: np.ndarray, genes: Sequence[str]) -> Iterator[tuple[np.ndarray, csr_matrix]]:
    for start in range(0, len(rows), _BLOCK_CELLS):
        block = rows[start : start + _BLOCK_CELLS]
        yield block, snapshot.counts(block, tuple(genes))
