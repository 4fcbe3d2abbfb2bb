"""What somebody needs who does not trust a certificate: the table of cells, the counts, and a verifier of one file.

The verifier has no dependency and no code in common with the audit; it is copied out as it is. Counts are written only
where they are asked for: they are as large as the atlas.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import cytolabe.audit.verifier
from cytolabe.audit.cell_facts import cells_text, counts_text
from cytolabe.evaluate.labels import level_labels
from cytolabe.files import replace_file
from cytolabe.ontology.resolutions import Resolutions
from cytolabe.records import Fold
from cytolabe.snapshot.view import SnapshotView

__all__ = ["CELLS", "VERIFIER", "labels_of_levels", "write_counts", "write_grounds"]

CELLS, VERIFIER = "cells.tsv", "verify_certificate.py"
_BLOCK = 4096


def labels_of_levels(snapshot: SnapshotView, resolutions: Resolutions) -> dict[str, np.ndarray]:
    """Return the label of each cell at each level, as scores and certificates see it."""
    return {
        level.name: level_labels(snapshot.cells, resolutions, level.name).terms for level in resolutions.levels
    }  # fmt: skip


def write_grounds(
    snapshot: SnapshotView, folds: Sequence[Fold], out: Path, *, labels: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Write the table of cells and the verifier beside the certificates of these folds; return the table's place."""
    replace_file(out / CELLS, cells_text(snapshot.cells, labels or {}, folds).encode())
    replace_file(out / VERIFIER, Path(cytolabe.audit.verifier.__file__).read_bytes())
    return out / CELLS


def write_counts(snapshot: SnapshotView, out: Path) -> tuple[Path, ...]:
    """Write the counts of each data set on the genes that it measures: `counts.DATASET.tsv`."""
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    written = []
    for dataset_id in sorted(set(names.tolist())):
        rows, genes = np.flatnonzero(names == dataset_id), snapshot.measured_genes(dataset_id)
        entries: list[tuple[np.ndarray, np.ndarray]] = []
        for start in range(0, len(rows), _BLOCK):
            block = snapshot.counts(rows[start : start + _BLOCK], genes).copy()
            block.sum_duplicates()
            block.eliminate_zeros()
            ends = zip(block.indptr[:-1].tolist(), block.indptr[1:].tolist(), strict=True)
            entries += [(block.indices[a:b], block.data[a:b]) for a, b in ends]
        written.append(out / f"counts.{dataset_id}.tsv")
        replace_file(written[-1], counts_text(rows.tolist(), genes, entries).encode())
    return tuple(written)
