"""The mean expression of each label of a data set, read once, block by block.

Evidence from expression starts here. Per label the mean of log(1 + counts per 10,000) over its cells; counts are scaled by
those of all features of the data set, so that a value means the same whichever genes are looked at. Nothing of it is kept: it follows
from counts and labels. In memory are one block and the labels x genes of one data set; the means of all data sets lie
in files of a folder for temporary files, mapped.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.encode.normalize import log1p_cp10k
from cytolabe.errors import IntegrityError
from cytolabe.reconcile.likeness import MIN_CELLS, LabelProfiles
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.rows import summed
from cytolabe.store.partitions import Partition, partition_path
from cytolabe.store.tables import read_table

__all__ = ["MAX_LABELS", "label_profiles"]

MAX_LABELS = 256
"""Labels of a data set that are read: those with the most cells. With 60,000 genes their sums take 120 MB."""

_BLOCK_CELLS = 4096


def label_profiles(atlas: Atlas, dataset_id: str, *, cells: pd.DataFrame, folder: Path) -> LabelProfiles:
    """Read the counts of the labelled cells of a data set once and return the mean expression of each label.

    Parameters
    ----------
    atlas
        The atlas, at the revision that is looked at.
    dataset_id
        Which data set.
    cells
        Its cells as `Atlas.cells` gives them: without those of persons who withdrew.
    folder
        Where the means are put, as a file that is mapped.

    Raises
    ------
    IntegrityError
        If what is needed is missing or was changed.
    """
    entry = atlas.entry(dataset_id)
    aligned = read_table(atlas.layout.overlay("genes"), entry.tables["alignment"])
    gene_ids = aligned["gene_id"].to_numpy(dtype=object)
    genes = tuple(sorted({str(gene) for gene in gene_ids if gene}))
    place = {gene: column for column, gene in enumerate(genes)}
    columns = np.array([place.get(str(gene), -1) for gene in gene_ids], dtype=np.int64)
    labels, label_of_row = _labels_of(cells, entry.n_cells)
    sums = _Sums(columns, n_labels=len(labels), n_genes=len(genes))
    first_row = 0
    for part in entry.partitions:
        partition = Partition(partition_path(atlas.layout.partitions, part.digest))
        if partition.features != tuple(aligned["feature"]):
            msg = f"the gene alignment of {dataset_id} is of other features than its counts."
            raise IntegrityError(msg)
        for start in range(0, partition.n_cells, _BLOCK_CELLS):
            rows = np.arange(start, min(start + _BLOCK_CELLS, partition.n_cells))
            rows = rows[label_of_row[first_row + rows] >= 0]
            if len(rows):
                sums.add(partition.rows(rows), label_of_row[first_row + rows])
        first_row += partition.n_cells
    return LabelProfiles(
        dataset_id=dataset_id,
        study=str(cells["study"].iloc[0]),
        labels=labels,
        genes=genes,
        n_cells=sums.n_cells,
        means=sums.kept_in(folder / f"{entry.digest.removeprefix('sha256:')}.npy"),
    )


def _labels_of(cells: pd.DataFrame, n_rows: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the labels that are read, sorted, and per row in the source the place of its label, or -1."""
    texts = cells["contributor_label"].to_numpy(dtype=object).astype(str)
    names, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    enough = np.flatnonzero((names != "") & (counts >= MIN_CELLS))
    read = np.sort(enough[np.argsort(-counts[enough], kind="stable")][:MAX_LABELS])
    place = np.full(len(names), -1, dtype=np.int64)
    place[read] = np.arange(len(read))
    label_of_row = np.full(n_rows, -1, dtype=np.int64)
    label_of_row[cells["row"].to_numpy(dtype=np.int64)] = place[codes]
    return tuple(names[read].tolist()), label_of_row


class _Sums:
    """The sums of log-normalized values of the labels of one data set."""

    def __init__(self, columns: np.ndarray, *, n_labels: int, n_genes: int) -> None:
        self.n_cells = np.zeros(n_labels, dtype=np.int64)
        self._columns = columns
        self._sums = np.zeros((n_labels, n_genes), dtype=np.float64)

    def add(self, counts: csr_matrix, codes: np.ndarray) -> None:
        """Add cells, of which those without any count have no composition and are passed over."""
        totals = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
        kept = totals > 0
        own = summed(csr_matrix(counts[kept]), self._columns, n_genes=self._sums.shape[1])
        values = log1p_cp10k(own, totals=totals[kept])
        n_kept = int(kept.sum())
        sides = (np.ones(n_kept), (codes[kept], np.arange(n_kept)))
        self._sums += (csr_matrix(sides, shape=(len(self._sums), n_kept)) @ values).toarray()
        self.n_cells += np.bincount(codes[kept], minlength=len(self._sums))

    def kept_in(self, path: Path) -> np.ndarray:
        """Write the means into a file and return it mapped, as float32."""
        means = (self._sums / np.maximum(self.n_cells, 1)[:, None]).astype(np.float32)
        np.save(path, means, allow_pickle=False)
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) if means.size else means
