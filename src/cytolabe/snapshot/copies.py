"""Copies of some cells in other data sets: equal on all genes that both measure.

A person who withdraws takes along the same cells where another contribution holds them, too. Two cells count as one
if they are equal on the shared genes and hold enough there (`MIN_COUNTS`, `MIN_GENES`: rule R9): nearly empty cells
are equal by chance. Counts are streamed once per pair of data sets; a cell is compared by a 64-bit fingerprint.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.ingest.tally import block_fingerprints
from cytolabe.provenance import digest_of
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.store.partitions import Partition, partition_path
from cytolabe.store.tables import read_table

__all__ = ["MIN_COUNTS", "MIN_GENES", "GeneView", "copies_of", "fingerprints_of"]

MIN_COUNTS = 300
"""Counts on the shared genes below which a cell is not compared (rule R9)."""

MIN_GENES = 100
"""Genes with a count, among the shared ones, below which a cell is not compared."""


class GeneView:
    """The cells of one data set over reference genes, read in blocks from the partitions of its entry."""

    def __init__(self, layout: Layout, entry: DatasetEntry) -> None:
        table = read_table(layout.overlay("genes"), entry.tables["alignment"])
        self._layout = layout
        self._entry = entry
        self._gene_ids = [str(gene) for gene in table["gene_id"]]
        self.genes = tuple(sorted({gene for gene in self._gene_ids if gene}))

    @property
    def genes_digest(self) -> str:
        """Digest of the set of genes that this data set measures."""
        return digest_of(list(self.genes))

    def fingerprints(self, genes: Sequence[str]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield per block its first row, a fingerprint of each cell on `genes`, and which cells hold enough there."""
        column_of = {gene: column for column, gene in enumerate(genes)}
        features = [place for place, gene in enumerate(self._gene_ids) if gene in column_of]
        columns = [column_of[self._gene_ids[place]] for place in features]
        shape = (len(self._gene_ids), len(genes))
        onto_genes = csr_matrix((np.ones(len(features), dtype=np.int64), (features, columns)), shape=shape)
        first_row = 0
        for named in self._entry.partitions:
            partition = Partition(partition_path(self._layout.partitions, named.digest))
            for block in partition.iter_blocks(first_row=first_row):
                counts = csr_matrix(block.counts @ onto_genes)
                counts.sort_indices()
                is_enough = (np.asarray(counts.sum(axis=1)).ravel() >= MIN_COUNTS) & (
                    np.diff(counts.indptr) >= MIN_GENES
                )
                yield block.start, block_fingerprints(counts).view(np.int64), is_enough
            first_row += partition.n_cells


def fingerprints_of(view: GeneView, rows: np.ndarray, genes: Sequence[str]) -> np.ndarray:
    """Return the fingerprints of some rows on some genes, sorted, of those that hold enough there."""
    pieces = [np.zeros(0, dtype=np.int64)]
    for start, found, is_enough in view.fingerprints(genes):
        inside = rows[(rows >= start) & (rows < start + len(found))] - start
        pieces.append(found[inside[is_enough[inside]]])
    return np.unique(np.concatenate(pieces))


def copies_of(fingerprints: np.ndarray, view: GeneView, genes: Sequence[str]) -> np.ndarray:
    """Return the rows of a data set whose fingerprint on `genes` is among those given."""
    pieces = [np.zeros(0, dtype=np.int64)]
    if len(fingerprints) and genes:
        for start, found, is_enough in view.fingerprints(genes):
            pieces.append(start + np.flatnonzero(np.isin(found, fingerprints) & is_enough))
    return np.concatenate(pieces)
