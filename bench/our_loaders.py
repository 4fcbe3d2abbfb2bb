"""The package's own streams over the synthetic atlas, one at a time: `python our_loaders.py NAME ATLAS SECONDS`.

Prints one line of JSON with the same keys as `peer_loaders.py`. The atlas is ingested and frozen once and kept beside
the files; training caches likewise. A stream is warmed by one epoch or a second, whichever is shorter.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cytolabe.encode.binning import bin_entries, bin_rule
from cytolabe.encode.entries import CellEntries, entries_of
from cytolabe.encode.keyed import keys_of
from cytolabe.encode.ranks import Ranked, RankRule, rank_entries
from cytolabe.flow.sources import ingest_sources
from cytolabe.snapshot import open_atlas
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.layout import CACHE_FORMAT
from cytolabe.snapshot.stream import CellStream
from original_rules import cells_per_second, rank_rule, ranks, value_bins

MINIBATCH = 256
N_THREADS = 2


def open_snapshot(folder: Path) -> Snapshot:
    """Return the snapshot of a folder of files, ingested and frozen where it is not yet."""
    home = folder / "cytolabe"
    if not home.exists():
        ingest_sources(home, sorted(folder.glob("ds*.h5ad")))
        open_atlas(home).freeze("bench")
    return open_atlas(home).snapshot("bench")


def stream(snapshot: Snapshot, name: str, *, folder: Path) -> tuple[CellStream, dict[str, float]]:
    """Return the stream of a name, how well it is shuffled, and how large its cache is."""
    options: dict[str, object] = {"minibatch_size": MINIBATCH, "seed": 1, "reuse_buffers": True}
    if name in {"ranks", "value_bins"}:
        options["layout"] = name
    if name == "ranks":
        tokens, medians = rank_rule(len(snapshot.stream().genes))
        options["rank_rule"] = RankRule(tokens=tokens, medians=medians)
    made = snapshot.stream(**options)
    described: dict[str, float] = {}
    if name in {"packed", "raw"}:
        caches = folder / CACHE_FORMAT.replace("/", "-") / name
        made = snapshot.cached_stream(made, kind=name, path=caches)
        described["bytes"] = sum(path.stat().st_size for path in caches.rglob("*") if path.is_file())
    return made, {**described, "entropy": made.shuffle_quality()["ratio"]}


def whole_epochs(minibatches: CellStream) -> Iterator[tuple[int, int]]:
    """Yield cells and non-zeros of each minibatch, epoch after epoch."""
    while True:
        for minibatch in minibatches:
            yield minibatch.n_cells, len(minibatch.counts)


def random_cells(snapshot: Snapshot) -> Iterator[tuple[int, int]]:
    """Yield cells and non-zeros of draws of 256 single cells from the whole atlas, two draws at a time."""
    partitions = [part for name in snapshot.entries for part, _ in snapshot.partitions(name)]
    sizes = np.array([part.n_cells for part in partitions])
    ends = np.cumsum(sizes)
    room = MINIBATCH * 20_000
    buffers = [(np.empty(room, np.uint32), np.empty(room, np.uint32)) for _ in range(N_THREADS)]

    def draw(task: tuple[int, np.ndarray]) -> int:
        columns, counts = buffers[task[0]]
        owner = np.searchsorted(ends, task[1], side="right")
        found = 0
        for number in np.unique(owner).tolist():
            rows = task[1][owner == number] - (ends[number] - sizes[number])
            lengths = partitions[number].indptr[rows + 1] - partitions[number].indptr[rows]
            partitions[number].decode_cells(rows, columns=columns, counts=counts)
            found += int(lengths.sum())
        return found

    rng = np.random.default_rng(0)
    with ThreadPoolExecutor(N_THREADS) as pool:
        while True:
            draws = [(slot, np.sort(rng.choice(ends[-1], MINIBATCH, replace=False))) for slot in range(N_THREADS)]
            for found in pool.map(draw, draws):
                yield MINIBATCH, found


def measured(source: Iterator[tuple[int, int]], *, seconds: float) -> dict[str, float]:
    """Warm up, then count for a while."""
    for _ in _until(source, min(2.0, seconds)):
        pass
    n_cells = n_nonzero = 0
    start = time.perf_counter()
    for cells, nonzero in _until(source, seconds):
        n_cells, n_nonzero = n_cells + cells, n_nonzero + nonzero
    spent = time.perf_counter() - start
    return {"cells_per_s": n_cells / spent, "nnz_per_s": n_nonzero / spent, "load": os.getloadavg()[0]}


def _until(source: Iterator[tuple[int, int]], seconds: float) -> Iterator[tuple[int, int]]:
    start = time.perf_counter()
    for found in source:
        yield found
        if time.perf_counter() - start > seconds:
            return


def original(snapshot: Snapshot, rule: Callable[..., object], *, seconds: float) -> dict[str, float]:
    """Measure a rule as its authors wrote it on the first cells of the atlas, on one core."""
    genes = snapshot.stream().genes
    counts = snapshot.counts(np.arange(min(2_048, snapshot.n_cells)), genes).astype(np.float64)
    return {"cells_per_s": cells_per_second(rule, counts, seconds=seconds), "load": os.getloadavg()[0]}


def kernel(snapshot: Snapshot, name: str, *, seconds: float) -> dict[str, float]:
    """Measure an encoder alone, on cells that are decoded already, with as many threads as cores."""
    counts = snapshot.counts(np.arange(min(4_096, snapshot.n_cells)), snapshot.stream().genes)
    cells = entries_of(counts)
    cuts = np.linspace(0, counts.shape[0], N_THREADS + 1).astype(int)
    tokens, medians = rank_rule(counts.shape[1])
    rank = RankRule(tokens=tokens, medians=medians)
    binning = bin_rule(keys_of(snapshot.stream().genes), n_bins=51, ties="random", seed=0)
    totals = np.asarray(counts.sum(axis=1)).ravel()

    def encode(part: int) -> None:
        own = slice(cuts[part], cuts[part + 1])
        mine = CellEntries(cells.columns, cells.counts, cells.starts[own], cells.stops[own])
        if name == "ranks":
            rank_entries(mine, rank, Ranked(totals[own], out[own], lengths[own]))
        else:
            bin_entries(mine, binning, (keys[own], bins))

    out = np.empty((counts.shape[0], rank.n_tokens), dtype=np.int32)
    lengths = np.empty(counts.shape[0], dtype=np.int32)
    keys = np.arange(counts.shape[0], dtype=np.uint64)
    bins = np.empty(counts.nnz, dtype=np.uint8)

    def source() -> Iterator[tuple[int, int]]:
        with ThreadPoolExecutor(N_THREADS) as pool:
            while True:
                list(pool.map(encode, range(N_THREADS)))
                yield counts.shape[0], counts.nnz

    return measured(source(), seconds=seconds)


def main(name: str, folder: Path, seconds: float) -> None:
    """Measure one thing and print it."""
    snapshot = open_snapshot(folder)
    if name == "open":
        found: dict[str, float] = {}
    elif name.startswith("original-"):
        found = original(snapshot, {"ranks": ranks, "value_bins": value_bins}[name[9:]], seconds=seconds)
    elif name.startswith("kernel-"):
        found = kernel(snapshot, name.removeprefix("kernel-"), seconds=seconds)
    elif name == "cells":
        found = measured(random_cells(snapshot), seconds=seconds)
    else:
        minibatches, described = stream(snapshot, name, folder=folder)
        found = measured(whole_epochs(minibatches), seconds=seconds) | described
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
