"""Minibatches side by side in one run: our streams and caches, and every peer, over the same synthetic atlas.

Each contender runs in a process of its own, one after the other, with all cores of the machine. A peer that could not
be installed, or did not finish, has a row that says so. `python bench/loaders.py [CELLS] [SECONDS EACH]`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from install_peers import RESULT, python_of
from measure import Row, compared, write_rows
from synthetic import make_atlas

HOME = Path(__file__).resolve().parent
CSR_PEERS = {
    "zarrs": "zarrs", "zarrs-lz4": "zarrs", "zarr-python": "base", "Lance": "lance", "Parquet": "base",
    "scDataset": "scdataset", "AnnLoader": "base", "tiledbsoma-ml": "tiledbsoma-ml", "SLAF": "slaf",
    "annbatch": "annbatch@3.12",
}  # fmt: skip
"""Loader -> the line of `peers.txt` that it needs."""
PREPARATION = 300
"""Seconds that a contender may take to convert its files before it is measured."""
Found = dict[str, float]


def main(n_cells: int, seconds: float) -> None:
    """Measure, print the tables and write `bench/out/loaders.json`."""
    datasets = make_atlas(n_cells)
    folder = Path(datasets[0].path).parent
    nonzero = sum(dataset.n_nonzero for dataset in datasets)
    entropy = sum(dataset.entropy * dataset.n_nonzero for dataset in datasets) / nonzero
    peers = {name: peer(name, line, folder=folder, seconds=seconds) for name, line in CSR_PEERS.items()}
    rows = shuffled_rows(ours("csr", folder, seconds=seconds), peers)
    rows += cache_rows(folder, nonzero=nonzero, seconds=seconds)
    rows += single_cell_rows(folder, seconds=seconds)
    rows += rule_rows(folder, seconds=seconds)
    rows += size_rows(folder, entropy=entropy, nonzero=nonzero, peers=peers)
    write_rows("loaders", rows)


def ours(name: str, folder: Path, *, seconds: float) -> Found:
    """Measure one of our own."""
    found, why = _run([sys.executable, "-W", "ignore", str(HOME / "our_loaders.py"), name, str(folder), str(seconds)])
    if why:
        sys.exit(f"{name}: {why}")
    return found


def peer(name: str, line: str, *, folder: Path, seconds: float) -> Found | str:
    """Measure a peer; a text says why that was not possible."""
    status = (
        json.loads(RESULT.read_text(encoding="utf-8")).get(line, "not installed")
        if RESULT.exists()
        else "not installed"
    )
    if status:
        return status
    python = python_of(line.partition("@")[2])
    found, why = _run([str(python), "-W", "ignore", str(HOME / "peer_loaders.py"), name, str(folder), str(seconds)])
    print(f"{name}: {why or found}", flush=True)
    return why or found


def _run(words: Sequence[str]) -> tuple[Found, str]:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PREPARATION)
    except subprocess.TimeoutExpired:
        return {}, f"did not finish within {PREPARATION} s"
    if done.returncode:
        return {}, ([line for line in done.stderr.splitlines() if line.strip()] or ["stopped"])[-1][:160]
    return json.loads(done.stdout.splitlines()[-1]), ""


def row(what: str, mine: Found, other: tuple[str, Found | str], *, reach: str = "") -> Row:
    """Return a row of cells per second with non-zeros per second and shuffle entropy beside it."""
    name, theirs = other
    extra = {"nnz_per_s": mine.get("nnz_per_s", 0.0), "cores": float(os.cpu_count() or 1)}
    extra |= {key: mine[key] for key in ("entropy", "bytes_per_nnz") if key in mine}
    if isinstance(theirs, str):
        return compared(
            what, "cells/s", ours=mine["cells_per_s"], peer=(f"{name}: {theirs}", None), reach=reach, extra=extra
        )
    extra |= {f"peer_{key}": theirs[key] for key in ("nnz_per_s", "entropy") if key in theirs}
    return compared(
        what, "cells/s", ours=mine["cells_per_s"], peer=(name, theirs["cells_per_s"]), reach=reach, extra=extra
    )


def shuffled_rows(mine: Found, peers: dict[str, Found | str]) -> list[Row]:
    """Return the row of the best compressed peer, which has the reach, one row per peer, and the shuffle itself."""
    measured = {name: found for name, found in peers.items() if not isinstance(found, str)}
    what = "shuffled minibatches, canonical store"
    rows = []
    if measured:
        best = max(measured, key=lambda name: measured[name]["cells_per_s"])
        reach = "ours >= 100000 and >= 2"
        rows.append(row(f"{what}, best peer", mine, (best, measured[best]), reach=reach))
    rows += [row(what, mine, (name, found)) for name, found in peers.items()]
    rows.append(
        compared("shuffle entropy over that of a perfect shuffle", "", ours=mine["entropy"], reach="ours >= 0.95")
    )
    return rows


def cache_rows(folder: Path, *, nonzero: int, seconds: float) -> list[Row]:
    """Return the rows of the training caches beside memory maps, with what a cache takes on disk."""
    others = {
        "SCDL, views of single rows": peer("SCDL", "scdl", folder=folder, seconds=seconds),
        "raw 16-bit memory map, gathered": peer("memmap", "base", folder=folder, seconds=seconds),
    }
    rows = []
    for kind, reach in (("packed", "ours >= 200000"), ("raw", "ours >= 400000")):
        mine = ours(kind, folder, seconds=seconds)
        mine["bytes_per_nnz"] = mine["bytes"] / nonzero
        rows += [row(f"training cache, {kind}", mine, other, reach=reach) for other in others.items()]
    return rows


def single_cell_rows(folder: Path, *, seconds: float) -> list[Row]:
    """Return the row of single random cells."""
    found = peer("Lance-cells", "lance", folder=folder, seconds=seconds)
    return [row("random single cells", ours("cells", folder, seconds=seconds), ("Lance", found), reach="ours >= 25000")]


def rule_rows(folder: Path, *, seconds: float) -> list[Row]:
    """Return the rows of ranks and value bins beside the rules as they were written, on one core."""
    rows = []
    for name, words, reach in (
        ("ranks", "ranks (top 2,048 tokens) in the stream", "ours >= 30000 and >= 20"),
        ("kernel-ranks", "ranks, the kernel alone", ""),
        ("value_bins", "value bins (51) of all genes in the stream", ""),
        ("kernel-value_bins", "value bins, the kernel alone", ">= 50"),
    ):
        original = ours(f"original-{name.removeprefix('kernel-')}", folder, seconds=seconds)
        rows.append(
            row(words, ours(name, folder, seconds=seconds), ("the original rule, 1 core", original), reach=reach)
        )
    return rows


def size_rows(folder: Path, *, entropy: float, nonzero: int, peers: dict[str, Found | str]) -> list[Row]:
    """Return bytes per non-zero on disk: against the entropy, and of each peer that stores the whole atlas."""
    size = sum(path.stat().st_size for path in (folder / "cytolabe" / "partitions").rglob("*") if path.is_file())
    unit, mine = "bytes/nnz", size / nonzero
    rows = [compared("on disk", unit, ours=mine, peer=("order-0 entropy", entropy), reach="ours <= 1.1")]
    whole = ("zarrs", "zarrs-lz4", "Lance", "Parquet", "annbatch")
    for name in whole:
        found = peers[name]
        if not isinstance(found, str) and "bytes" in found:
            rows.append(compared("on disk", unit, ours=mine, peer=(name, found["bytes"] / nonzero)))
    return rows


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000, float(sys.argv[2]) if len(sys.argv) > 2 else 6.0)
