"""Cells per second from an h5ad file to a stored one, with and without proof, beside what AnnData does with the file.

The peer reads the whole file (`anndata.read_h5ad`) and writes it as zarr (`write_zarr`): it proves nothing, aligns
nothing and hashes nothing, so it is a floor of the time that such a file costs, not a rival. Each run is a process of
its own; imports are not counted. Run with `make bench`, or `python bench/ingest.py [CELLS] [REPEATS]`.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from cytolabe.flow.sources import ingest_sources, validate_paths
from cytolabe.genes.reference import load_reference
from measure import compared, median, write_rows

N_GENES = 18_000
MOLECULES = 2_200
"""In a typical cell; about 1,500 genes of it have a count."""
WAYS = ("prove", "ingest", "anndata")


def main(n_cells: int, repeats: int) -> None:
    """Measure, print the table and write `bench/out/ingest.json`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "lab.h5ad"
        n_nonzero = write_source(source, n_cells)
        print(f"{n_cells:,} cells, {n_nonzero:,} non-zeros, {source.stat().st_size / 2**20:.0f} MiB on disk")
        runs = {way: [run(way, source, folder / f"{way}{number}") for number in range(repeats)] for way in WAYS}
    values = {way: {key: median([run[key] for run in found]) for key in found[0]} for way, found in runs.items()}
    peer, unit = values["anndata"], "cells/s"
    name = "read_h5ad + write_zarr"
    rate = {way: n_cells / found["seconds"] for way, found in values.items()}
    stored = {way: values[way]["bytes"] / n_nonzero for way in ("ingest", "anndata")}
    write_rows(
        "ingest",
        [
            compared("proof of one file", unit, ours=rate["prove"], peer=(name, rate["anndata"])),
            compared("proof + store", unit, ours=rate["ingest"], peer=(name, rate["anndata"])),
            compared("peak memory", "MiB", ours=values["ingest"]["mib"], peer=(name, peer["mib"])),
            compared("stored", "bytes per non-zero", ours=stored["ingest"], peer=("write_zarr", stored["anndata"])),
        ],
    )


def write_source(path: Path, n_cells: int) -> int:
    """Write a lab's file with counts as skewed as those of real cells, and return its number of non-zeros."""
    rng = np.random.default_rng(0)
    genes = sorted(load_reference().protein_coding)[:N_GENES]
    edges = np.cumsum(rng.permutation(1 / np.arange(10, N_GENES + 10) ** 0.9))
    blocks = []
    for start in range(0, n_cells, 1_000):
        size = min(1_000, n_cells - start)
        depth = (rng.lognormal(0, 0.5, size) * MOLECULES).astype(np.int64)
        drawn = np.searchsorted(edges, rng.random(depth.sum()) * edges[-1])
        cells = np.repeat(np.arange(size), depth)
        ones = np.ones(len(drawn), dtype=np.float32)
        blocks.append(csr_matrix((ones, (cells, drawn)), shape=(size, N_GENES)))
    counts = vstack(blocks, format="csr")
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.array(["B cells", "NK", "CD14+ Mono", "CD4 T"])[np.arange(n_cells) % 4]),
            "donor_id": pd.Categorical(np.array(["d1", "d2", "d3"])[np.arange(n_cells) % 3]),
        },
        index=[f"cell{number}" for number in range(n_cells)],
    )
    anndata.AnnData(X=counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(path, compression="gzip")
    return int(counts.nnz)


def run(way: str, source: Path, out: Path) -> dict[str, float]:
    """Do one thing in a process of its own and return its seconds, its peak memory and the bytes that it wrote."""
    words = [sys.executable, "-W", "ignore", __file__, "--one", way, str(source), str(out)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def do(way: str, source: Path, out: Path) -> None:
    """Do one thing, and print what it took."""
    start = time.perf_counter()
    if way == "prove":
        (row,) = validate_paths([source])
        ok = row.valid
    elif way == "ingest":
        outcomes, _, _ = ingest_sources(out, [source])
        ok = all(outcome.status == "accepted" for outcome in outcomes)
    else:
        anndata.settings.zarr_write_format = 3
        anndata.read_h5ad(source).write_zarr(out)
        ok = True
    seconds = time.perf_counter() - start
    if not ok:
        sys.exit(f"{source} was not accepted")
    n_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.exists() else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "mib": peak, "bytes": n_bytes}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        do(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        given = [int(word) for word in sys.argv[1:]]
        main(given[0] if given else 10_000, given[1] if len(given) > 1 else 3)
