"""Cells per second and peak memory of ingest, of all its processes together, beside what AnnData does with the files.

Memory is polled four times a second: the proportional set size of the command and of all its children, so that pages
which they share count once. The peer (`read_h5ad` and `write_zarr`, file after file) proves, aligns and hashes nothing.
`python bench/ingest_memory.py [CELLS]`; with MEMORY=1 in the environment, 3 M cells in gzip files are ingested as well
(about 15 GB of disk), and must not need more memory.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measure import Row, compared, write_rows
from synthetic import make_atlas

LARGE = 3_000_000
_INTERVAL = 0.25
"""Seconds between two looks; one takes some ten milliseconds of a processor that the ingest could use."""
REACH = "ours <= 2048"
PEER = (
    "import sys, anndata; anndata.settings.zarr_write_format = 3\n"
    "for path in sys.argv[2:]: anndata.read_h5ad(path).write_zarr(sys.argv[1] + '/' + path.split('/')[-1])"
)


def main(n_cells: int, *, large: bool) -> None:
    """Measure, print the table and write `bench/out/ingest_memory.json`."""
    datasets = make_atlas(n_cells)
    paths = [dataset.path for dataset in datasets]
    nonzero = sum(dataset.n_nonzero for dataset in datasets)
    total = sum(dataset.n_cells for dataset in datasets)
    with tempfile.TemporaryDirectory(dir=Path(paths[0]).parent) as name:
        mine = watched([*_command(Path(name) / "atlas"), *paths])
        shutil.rmtree(Path(name) / "atlas")
        theirs = watched([sys.executable, "-W", "ignore", "-c", PEER, name, *paths])
    peer = "read_h5ad + write_zarr"
    rows = [
        compared(
            f"ingest of {total:,} cells with proof and digests",
            "cells/s",
            ours=total / mine[0],
            peer=(peer, total / theirs[0]),
            reach="ours >= 10000",
            extra={"nnz_per_s": nonzero / mine[0], "cores": float(os.cpu_count() or 1)},
        ),
        compared(f"peak memory of it, {total:,} cells", "MiB", ours=mine[1], peer=(peer, theirs[1]), reach=REACH),
    ]
    if large:
        rows += large_rows(mine[1])
    write_rows("ingest_memory", rows)


def large_rows(small_peak: float) -> list[Row]:
    """Return the rows of 3 M cells."""
    datasets = make_atlas(LARGE, gzip=True)
    with tempfile.TemporaryDirectory(dir=Path(datasets[0].path).parent) as name:
        seconds, peak = watched([*_command(Path(name) / "atlas"), *(dataset.path for dataset in datasets)])
    total = sum(dataset.n_cells for dataset in datasets)
    return [
        compared(f"ingest of {total:,} cells (gzip)", "cells/s", ours=total / seconds, reach="ours >= 10000"),
        compared(
            f"peak memory of it, {total:,} cells",
            "MiB",
            ours=peak,
            peer=("the small atlas", small_peak),
            reach=REACH,
        ),
    ]


def watched(words: Sequence[str]) -> tuple[float, float]:
    """Run a command and return its seconds and the peak memory of its processes in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(map(_proportional, family(process.pid))) / 1024)
        time.sleep(_INTERVAL)
    if process.returncode:
        sys.exit(f"{' '.join(words[:6])} ... ended with {process.returncode}")
    return time.perf_counter() - start, peak


def family(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [root]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(word) for word in task.read_text().split()]
            except OSError:  # it ended while we looked
                continue
    return found


def _proportional(process: int) -> float:
    """Return the proportional set size in KiB; 0 of a process that ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("Pss:")), 0.0)


def _command(home: Path) -> list[str]:
    return [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "cytolabe",
        "ingest",
        str(home),
        "--workers",
        str(os.cpu_count() or 1),
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000, large=os.environ.get("MEMORY") == "1")
