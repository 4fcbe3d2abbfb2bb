"""Copies of some cells in other data sets: equal on all genes that both measure.

A person who withdraws takes along the same cells where another contribution holds them, too. Two cells count as one
if they are equal on the shared genes and hold enough there (`MIN_COUNTS`, `MIN_GENES`: rule R9): nearly empty cells
are equal by chance. A cell is compared by a 64-bit fingerprint of its counts, which are read block by block; where both data sets
have sketches, only blocks with a cell that these nominate.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.ingest.tally import block_fingerprints
from cytolabe.provenance import digest_of
from cytolabe.records import Block
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.layout import Layout
from cytolabe.store.partitions import Partition, partition_path
from cytolabe.store.tables import read_table

__all__ = ["MIN_COUNTS", "MIN_GENES", "GeneView", "copies_of", "fingerprints_of"]

MIN_COUNTS = 300
"""Counts on the shared genes below which a cell is not compared (rule R9)."""

MIN_GENES = 100
"""Genes with a count, among the shared ones, below which a cell is not compared."""


_BLOCK_CELLS = 512
"""Cells read at once where some are nominated."""


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

    def candidates(self, source: "GeneView", rows: np.ndarray, genes: Sequence[str]) -> np.ndarray | None:
        """Return the rows that may equal some rows of `source` on the genes of both; None where sketches are missing."""
        from cytolabe.snapshot.sketch_join import possibly_equal  # noqa: PLC0415 - kernels load where they run
        from cytolabe.snapshot.sketches import read_sketches  # noqa: PLC0415

        own, theirs = (
            read_sketches(view._layout, view._entry, kept=np.arange(view._entry.n_cells)) for view in (self, source)
        )
        if own is None or theirs is None:
            return None
        is_whole = len(genes) == len(self.genes) == len(source.genes)
        found, _ = possibly_equal((own, theirs.take(rows)), genes, is_whole=is_whole, least=(MIN_GENES, MIN_COUNTS))
        return np.flatnonzero(found)

    def fingerprints(
        self, genes: Sequence[str], rows: np.ndarray | None = None
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield per block its first row, a fingerprint of each cell on `genes`, and which cells hold enough there.

        With rows, ascending, only blocks that hold one of them.
        """
        column_of = {gene: column for column, gene in enumerate(genes)}
        features = [place for place, gene in enumerate(self._gene_ids) if gene in column_of]
        columns = [column_of[self._gene_ids[place]] for place in features]
        shape = (len(self._gene_ids), len(genes))
        onto_genes = csr_matrix((np.ones(len(features), dtype=np.int64), (features, columns)), shape=shape)
        first_row = 0
        for named in self._entry.partitions:
            partition = Partition(partition_path(self._layout.partitions, named.digest))
            for block in self._blocks(partition, first_row, rows):
                counts = csr_matrix(block.counts @ onto_genes)
                counts.sort_indices()
                is_enough = (np.asarray(counts.sum(axis=1)).ravel() >= MIN_COUNTS) & (
                    np.diff(counts.indptr) >= MIN_GENES
                )
                yield block.start, block_fingerprints(counts).view(np.int64), is_enough
            first_row += partition.n_cells

    @staticmethod
    def _blocks(partition: Partition, first_row: int, rows: np.ndarray | None) -> Iterator[Block]:
        if rows is None:
            yield from partition.iter_blocks(first_row=first_row)
            return
        for start in range(0, partition.n_cells, _BLOCK_CELLS):
            stop = min(start + _BLOCK_CELLS, partition.n_cells)
            low, high = np.searchsorted(rows, [first_row + start, first_row + stop])
            if low < high:
                counts = partition.rows(np.arange(start, stop))
                yield Block(dataset_id="", start=first_row + start, cell_names=(), counts=counts)


def fingerprints_of(view: GeneView, rows: np.ndarray, genes: Sequence[str]) -> np.ndarray:
    """Return the fingerprints of some rows on some genes, sorted, of those that hold enough there."""
    pieces = [np.zeros(0, dtype=np.int64)]
    for start, found, is_enough in view.fingerprints(genes, np.sort(rows)):
        inside = rows[(rows >= start) & (rows < start + len(found))] - start
        pieces.append(found[inside[is_enough[inside]]])
    return np.unique(np.concatenate(pieces))


def copies_of(
    fingerprints: np.ndarray, view: GeneView, genes: Sequence[str], *, among: np.ndarray | None = None
) -> np.ndarray:
    """Return the rows of a data set whose fingerprint on `genes` is among those given; `among` names all that can be."""
    pieces = [np.zeros(0, dtype=np.int64)]
    if len(fingerprints) and genes:
        for start, found, is_enough in view.fingerprints(genes, among):
            pieces.append(start + np.flatnonzero(np.isin(found, fingerprints) & is_enough))
    return np.concatenate(pieces)
