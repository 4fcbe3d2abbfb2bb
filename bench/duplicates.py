"""Copies among the cells of the synthetic atlas: identical ones from stored sketches, and near-identical ones from counts.

A seventh data set holds copies of cells of the first: some equal, some with half of their counts. Both searches run in a process
of their own, which tells its time, its peak of memory, and how many of the copies it found.

    python bench/duplicates.py [CELLS]
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np

from cytolabe.audit.all_copies import MIN_SHARED_NONZERO
from cytolabe.audit.duplicates import MIN_SHARED_COUNTS, find_duplicates, places_of
from cytolabe.audit.near_copies import find_near_copies
from cytolabe.audit.planted import thinned
from cytolabe.flow.sources import ingest_sources
from cytolabe.snapshot import open_atlas
from measure import OUT, compared, write_rows
from synthetic import make_atlas

COPIES = 500


def main(n_cells: int) -> None:
    """Measure both searches and write `bench/out/duplicates.json`."""
    home = prepared(n_cells)
    found = {name: in_a_process(name, home) for name in ("identical", "near")}
    rows = []
    for name, reach, what in (
        ("identical", "ours >= 100000", "identical cells from stored sketches"),
        ("near", "ours >= 16667", "near-identical cells, counts read, joined and tested"),
    ):
        one = found[name]
        told = {key: one[key] for key in ("cells", "seconds", "peak_mib", "found", "planted", "false")}
        rows.append(
            compared(
                f"{what}, {n_cells:,} cells", "cells/s", ours=one["cells"] / one["seconds"], reach=reach, extra=told
            )
        )
    write_rows("duplicates", rows)


def prepared(n_cells: int) -> Path:
    """Return an atlas with copies, made where it is not there yet."""
    datasets = make_atlas(n_cells)
    home = OUT / f"copies{n_cells}"
    if not (home / "whole").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        copies = home / "copies.h5ad"
        write_copies(Path(datasets[0].path), copies)
        ingest_sources(home / "atlas", [*(Path(dataset.path) for dataset in datasets), copies])
        open_atlas(home / "atlas").freeze("bench")
        (home / "whole").touch()
    return home / "atlas"


def write_copies(source: Path, target: Path) -> None:
    """Write the first cells of a file again: as many with all of their counts as with half of them."""
    whole = anndata.read_h5ad(source, backed="r")[: 2 * COPIES].to_memory()
    half = whole[COPIES:].copy()
    half.X = thinned(half.X.astype(np.int64), 0.5, np.random.default_rng(0)).astype(whole.X.dtype)
    anndata.concat([whole[:COPIES], half], merge="same").write_h5ad(target)


def in_a_process(name: str, home: Path) -> dict[str, float]:
    """Run one search alone; the first run compiles."""
    command = [sys.executable, str(Path(__file__).resolve()), name, str(home)]
    lines = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)]
    return json.loads(lines[-1])


def search(name: str, home: Path) -> dict[str, float]:
    """Search, and tell what it took and what it found."""
    snapshot = open_atlas(home).snapshot("bench")
    places = places_of(snapshot)
    n_cells = sum(map(len, places.values()))
    start = time.perf_counter()
    if name == "identical":
        pairs = find_duplicates(snapshot).pairs
    else:
        genes = {dataset: snapshot.measured_genes(dataset) for dataset in places}
        pairs = find_near_copies(snapshot, genes, places, least=(MIN_SHARED_NONZERO, MIN_SHARED_COUNTS)).pairs
    seconds = time.perf_counter() - start
    is_copy = pairs["dataset_a"].eq("copies") | pairs["dataset_b"].eq("copies")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "cells": n_cells, "seconds": seconds, "peak_mib": peak, "found": int(is_copy.sum()), "planted": COPIES,
        "false": int((~is_copy).sum()), "cores": os.cpu_count() or 1,
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.stdout.write(json.dumps(search(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000)
