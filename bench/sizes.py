"""Bytes per non-zero of real files in the store, beside the order-0 entropy of (gap, count) of each.

The entropy is of the order of genes in the store. What is counted are the arrays of counts with their offsets; names of
cells and features are in `with_names`. Files that are refused (normalized values) are named with the first reason.

    python bench/sizes.py FOLDER WITH H5AD FILES
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from cytolabe.flow.sources import ingest_sources
from cytolabe.snapshot import open_atlas
from cytolabe.snapshot.frozen import Snapshot
from entropy import Entropy
from measure import Row, compared, write_rows

ARRAYS = ("data", "indices", "indptr")


def main(folder: Path) -> None:
    """Ingest each file into an atlas of its own, measure, and write `bench/out/sizes.json`."""
    rows = []
    for path in sorted(folder.glob("*.h5ad")):
        with tempfile.TemporaryDirectory() as name:
            rows += rows_of(path, Path(name) / "atlas")
    write_rows("sizes", rows)


def rows_of(path: Path, home: Path) -> list[Row]:
    """Return the row of one file: whole partitions, and their arrays of counts alone."""
    outcomes, _, _ = ingest_sources(home, [path])
    what = f"on disk, {path.stem}"
    if any(outcome.status != "accepted" for outcome in outcomes):
        codes = [finding.code for finding in outcomes[0].findings if finding.severity.value == "error"]
        return [compared(what, "bytes/nnz", ours=None, peer=(f"refused: {', '.join(sorted(set(codes))[:3])}", None))]
    snapshot = open_atlas(home).freeze("bench")
    entropy, nonzero = _entropy_of(snapshot)
    files = [found for found in (home / "partitions").rglob("*") if found.is_file()]
    arrays = sum(found.stat().st_size for found in files if set(ARRAYS) & set(found.parts))
    every = sum(found.stat().st_size for found in files)
    return [
        compared(
            what,
            "bytes/nnz",
            ours=arrays / nonzero,
            peer=("order-0 entropy", entropy),
            reach="<= 1.3",
            extra={"nonzero": float(nonzero), "with_names": every / nonzero},
        )
    ]


def _entropy_of(snapshot: Snapshot) -> tuple[float, int]:
    """Return the entropy of what the store holds, in its order of genes, and the number of non-zeros."""
    entropy, nonzero = Entropy(), 0
    for dataset_id in snapshot.entries:
        for block in snapshot.iter_blocks(dataset_id):
            counts = csr_matrix(block.counts)
            counts.sort_indices()
            entropy.add(counts.indptr.astype(np.int64), counts.indices, counts.data)
            nonzero += counts.nnz
    return entropy.bytes_per_nonzero(), nonzero


if __name__ == "__main__":
    main(Path(sys.argv[1]))
