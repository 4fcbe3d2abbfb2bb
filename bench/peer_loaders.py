"""One peer's loader over the synthetic atlas, in the peers' own environment: `python peer_loaders.py NAME ATLAS SECONDS`.

Prints one line of JSON: cells and non-zeros per second as assembled minibatches of 256 cells in random order, bytes per
non-zero on disk, and the mean entropy of data sets in a minibatch. Each peer reads as its authors advise, or, where it
is a format and not a loader, blocks of 64 cells from a pool of 16,384 with one compiled gather: the best that was found
for it. Files are converted once and kept; conversion is not timed. The package itself is not imported here.
"""

# ruff: noqa: PLC0415 - a peer is imported where it is measured
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from peer_formats import Atlas, gather, read_atlas

MINIBATCH = 256
POOL = 16_384
BLOCK = 64
SOMA_CELLS = 1_000
"""Cells of each data set that TileDB-SOMA gets: it writes a few hundred a second."""
Found = Iterator[tuple[int, int, np.ndarray]]
"""Of each minibatch: cells, non-zeros, and the number of the data set of each cell."""


def blocks_of(n_cells: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the cells of one pool after the other: blocks of neighbors, in random order."""
    starts = rng.permutation(np.arange(0, n_cells, BLOCK))
    for first in range(0, len(starts), POOL // BLOCK):
        rows = (np.sort(starts[first : first + POOL // BLOCK])[:, None] + np.arange(BLOCK)).ravel()
        yield rows[rows < n_cells]


def pooled(atlas: Atlas, fetch: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], seed: int) -> Found:
    """Read pools with `fetch` (rows -> indices, counts, in order) and cut shuffled minibatches from them."""
    rng = np.random.default_rng(seed)
    for rows in blocks_of(atlas.n_cells, rng):
        indices, counts = fetch(rows)
        indptr = np.concatenate([[0], np.cumsum(atlas.indptr[rows + 1] - atlas.indptr[rows])])
        order = rng.permutation(len(rows))
        for first in range(0, len(order), MINIBATCH):
            chosen = order[first : first + MINIBATCH]
            matrix = gather((indptr, indices, counts), chosen)
            yield len(chosen), len(matrix[1]), atlas.dataset[rows[chosen]]


def runs_of(rows: np.ndarray) -> list[tuple[int, int]]:
    """Return the runs of neighbors in ascending rows, as (first, last + 1)."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, cuts)]


def memmap(atlas: Atlas, home: Path, seed: int) -> Found:
    """Gather whole random cells from two memory-mapped 16-bit arrays."""
    paths = [home / "memmap.indices", home / "memmap.counts"]
    if not paths[1].exists():
        atlas.indices.tofile(paths[0])
        atlas.counts.tofile(paths[1])
    indices, counts = (np.memmap(path, np.uint16, "r") for path in paths)
    order = np.random.default_rng(seed).permutation(atlas.n_cells)
    for first in range(0, len(order), MINIBATCH):
        chosen = np.sort(order[first : first + MINIBATCH])
        yield len(chosen), len(gather((atlas.indptr, indices, counts), chosen)[1]), atlas.dataset[chosen]


def _zarr(atlas: Atlas, path: Path, seed: int, *, codec: str, pipeline: str) -> Found:
    import asyncio

    import zarr
    from zarr.core.sync import sync

    zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"})
    if not path.exists():
        group = zarr.create_group(path)
        compressor = zarr.codecs.BloscCodec(cname=codec, clevel=1 if codec == "zstd" else 5, shuffle="shuffle")
        for name, values in (("indices", atlas.indices), ("counts", atlas.counts)):
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, chunks=(98_304,), shards=(98_304 * 128,),
                compressors=compressor,
            )  # fmt: skip
            array[:] = values
    if pipeline:
        zarr.config.set({"codec_pipeline.path": pipeline})
    group = zarr.open_group(path, mode="r")
    arrays = [group[name].async_array for name in ("indices", "counts")]

    async def read(rows: np.ndarray) -> list[np.ndarray]:
        spans = [slice(int(atlas.indptr[first]), int(atlas.indptr[last])) for first, last in runs_of(rows)]
        return await asyncio.gather(*[array.getitem(span) for span in spans for array in arrays])

    def fetch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = sync(read(rows))
        return np.concatenate(found[0::2]), np.concatenate(found[1::2])

    return pooled(atlas, fetch, seed)


def zarr_python(atlas: Atlas, home: Path, seed: int) -> Found:
    """Sharded zarr v3, Blosc zstd-1 with byte shuffle, through zarr-python."""
    return _zarr(atlas, home / "zstd.zarr", seed, codec="zstd", pipeline="")


def zarrs(atlas: Atlas, home: Path, seed: int) -> Found:
    """Read the same through the Rust codecs."""
    import zarrs  # noqa: F401 - registers the pipeline

    return _zarr(atlas, home / "zstd.zarr", seed, codec="zstd", pipeline="zarrs.ZarrsCodecPipeline")


def zarrs_lz4(atlas: Atlas, home: Path, seed: int) -> Found:
    """Read it through the Rust codecs, with lz4: larger and faster."""
    import zarrs  # noqa: F401 - registers the pipeline

    return _zarr(atlas, home / "lz4.zarr", seed, codec="lz4", pipeline="zarrs.ZarrsCodecPipeline")


def _record_batches(atlas: Atlas) -> Iterator[object]:
    import pyarrow as pa

    for first in range(0, atlas.n_cells, 8_192):
        last = min(atlas.n_cells, first + 8_192)
        offsets = pa.array((atlas.indptr[first : last + 1] - atlas.indptr[first]).astype(np.int32))
        span = slice(atlas.indptr[first], atlas.indptr[last])
        lists = [pa.ListArray.from_arrays(offsets, pa.array(values[span])) for values in (atlas.indices, atlas.counts)]
        yield pa.record_batch(lists, ["indices", "counts"])


def _lance_dataset(atlas: Atlas, home: Path) -> object:
    import lance

    path = str(home / "atlas.lance")
    if not Path(path).exists():
        first = next(_record_batches(atlas))
        lance.write_dataset(_record_batches(atlas), path, schema=first.schema, data_storage_version="2.1")
    return lance.dataset(path)


def lance(atlas: Atlas, home: Path, seed: int) -> Found:
    """Read two list columns in file version 2.1 by `take`."""
    dataset = _lance_dataset(atlas, home)

    def fetch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table = dataset.take(rows.tolist())
        return tuple(table[name].combine_chunks().flatten().to_numpy() for name in ("indices", "counts"))

    return pooled(atlas, fetch, seed)


def lance_cells(atlas: Atlas, home: Path, seed: int) -> Found:
    """Take single random cells."""
    dataset = _lance_dataset(atlas, home)
    order = np.random.default_rng(seed).permutation(atlas.n_cells)
    for first in range(0, len(order), MINIBATCH):
        chosen = np.sort(order[first : first + MINIBATCH])
        table = dataset.take(chosen.tolist())
        yield len(chosen), len(table["counts"].combine_chunks().flatten()), atlas.dataset[chosen]


def parquet(atlas: Atlas, home: Path, seed: int) -> Found:
    """Read two list columns, zstd, shuffled row groups of 256 cells."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = home / "atlas.parquet"
    if not path.exists():
        batches = _record_batches(atlas)
        with pq.ParquetWriter(path, next(_record_batches(atlas)).schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_table(pa.Table.from_batches([batch]), row_group_size=MINIBATCH)
    file = pq.ParquetFile(path)
    rng = np.random.default_rng(seed)
    groups = rng.permutation(file.num_row_groups)
    per_pool = POOL // MINIBATCH
    for first in range(0, len(groups), per_pool):
        chosen = np.sort(groups[first : first + per_pool])
        table = file.read_row_groups(chosen.tolist(), use_threads=True)
        lists = [table[name].combine_chunks() for name in ("indices", "counts")]
        rows = (chosen[:, None] * MINIBATCH + np.arange(MINIBATCH)).ravel()
        rows = rows[rows < atlas.n_cells]
        indptr = np.concatenate([[0], np.cumsum(lists[0].value_lengths().to_numpy())]).astype(np.int64)
        indices, counts = (values.flatten().to_numpy() for values in lists)
        order = rng.permutation(len(rows))
        for start in range(0, len(order), MINIBATCH):
            cells = order[start : start + MINIBATCH]
            yield len(cells), len(gather((indptr, indices, counts), cells)[1]), atlas.dataset[rows[cells]]


def _collection(atlas: Atlas) -> "anndata.experimental.AnnCollection":  # noqa: F821
    import anndata
    from anndata.experimental import AnnCollection

    return AnnCollection([anndata.read_h5ad(path, backed="r") for path in atlas.paths], join_vars="inner", label="ds")


def annloader(atlas: Atlas, home: Path, seed: int) -> Found:  # noqa: ARG001
    """Read backed files through AnnCollection and AnnLoader."""
    import torch
    from anndata.experimental import AnnLoader

    torch.manual_seed(seed)
    for found in AnnLoader(_collection(atlas), batch_size=MINIBATCH, shuffle=True):
        matrix = found.X
        yield (
            matrix.shape[0],
            _nonzero(matrix),
            _codes(found.obs["ds"]),
        )


def scdataset(atlas: Atlas, home: Path, seed: int) -> Found:  # noqa: ARG001
    """Read backed files through scDataset in blocks of 64, 64 minibatches fetched at once."""
    from scdataset import BlockShuffling, scDataset
    from torch.utils.data import DataLoader

    def taken(view: object) -> tuple[sp.csr_matrix, np.ndarray]:
        return sp.csr_matrix(view.X), _codes(view.obs["ds"])

    loader = scDataset(
        _collection(atlas), BlockShuffling(block_size=BLOCK), batch_size=MINIBATCH, fetch_factor=64, seed=seed,
        fetch_transform=taken, batch_callback=lambda found, chosen: (found[0][chosen], found[1][chosen]),
    )  # fmt: skip
    for matrix, codes in DataLoader(loader, batch_size=None):
        yield matrix.shape[0], matrix.nnz, codes


def _nonzero(matrix: object) -> int:
    """Return the entries of a tensor, sparse or dense, or of a matrix of scipy."""
    if sp.issparse(matrix):
        return int(matrix.nnz)
    return len(matrix.values()) if matrix.is_sparse_csr else int(matrix.count_nonzero())


def _codes(labels: object) -> np.ndarray:
    """Return numbers of labels that end in the number of the data set."""
    return np.array([int(str(label)[-1]) for label in np.asarray(labels)])


def tiledbsoma_ml(atlas: Atlas, home: Path, seed: int) -> Found:
    """Read an experiment through ExperimentDataset, sparse, chunks of 64, io batches of 16,384."""
    import tiledbsoma
    from tiledbsoma_ml import ExperimentDataset
    from torch.utils.data import DataLoader

    uri = str(home / "atlas.soma")
    if not Path(uri).exists():
        from peer_formats import write_soma

        write_soma(atlas, uri, n_cells=SOMA_CELLS)
    with tiledbsoma.Experiment.open(uri) as experiment, experiment.axis_query("RNA") as query:
        dataset = ExperimentDataset(
            query, layer_name="raw", obs_column_names=["donor_id"], batch_size=MINIBATCH, io_batch_size=POOL,
            shuffle=True, shuffle_chunk_size=BLOCK, seed=seed, return_sparse_X=True,
        )  # fmt: skip
        for matrix, obs in DataLoader(dataset, batch_size=None):
            yield matrix.shape[0], matrix.nnz, np.array([int(donor[2]) for donor in obs["donor_id"]])


def scdl(atlas: Atlas, home: Path, seed: int) -> Found:
    """Read rows of a SingleCellMemMapDataset one by one: views, no minibatch is assembled."""
    from bionemo.scdl.io.single_cell_memmap_dataset import SingleCellMemMapDataset

    path = str(home / "scdl")
    made = Path(path).exists()
    dataset = SingleCellMemMapDataset(path, **({} if made else {"h5ad_path": atlas.paths[0], "use_X_not_raw": True}))
    order = np.random.default_rng(seed).permutation(len(dataset))
    for first in range(0, len(order), MINIBATCH):
        chosen = order[first : first + MINIBATCH]
        found = sum(len(dataset.get_row(int(row))[0][0]) for row in chosen)
        yield len(chosen), int(found), np.zeros(len(chosen), dtype=int)


def slaf(atlas: Atlas, home: Path, seed: int) -> Found:  # noqa: ARG001 - it has no seed
    """Read COO tables through SLAFDataLoader in raw mode, mixture of scanners."""
    from slaf import SLAFArray
    from slaf.data import SLAFConverter
    from slaf.ml.dataloaders import SLAFDataLoader

    path = str(home / "atlas.slaf")
    if not Path(path).exists():
        SLAFConverter().convert(atlas.paths[0], path)
    array = SLAFArray(path)
    array.wait_for_metadata()
    for found in SLAFDataLoader(
        array, batch_size=MINIBATCH, raw_mode=True, verbose=False, use_mixture_of_scanners=False, by_fragment=False
    ):
        matrix, cells = found["x"], found["cell_ids"]
        yield len(cells), len(matrix), np.zeros(len(cells), dtype=int)


def annbatch(atlas: Atlas, home: Path, seed: int) -> Found:
    """Read its own pre-shuffled collection, chunks of 64, 256 of them ahead."""
    import annbatch
    import zarr

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    path = home / "annbatch.zarr"
    collection = annbatch.DatasetCollection(path)
    if collection.is_empty:
        collection.add_adatas(atlas.paths)
    rng = np.random.default_rng(seed)
    loader = annbatch.Loader(
        chunk_size=BLOCK, preload_nchunks=256, shuffle=True, batch_size=MINIBATCH, preload_to_gpu=False, rng=rng
    )
    loader.use_collection(collection)
    for found in loader:
        matrix = found["X"]
        codes = np.array([int(str(donor)[2]) for donor in found["obs"]["donor_id"]])
        yield matrix.shape[0], matrix.nnz, codes


LOADERS = {
    "AnnLoader": annloader, "scDataset": scdataset, "tiledbsoma-ml": tiledbsoma_ml, "zarr-python": zarr_python,
    "zarrs": zarrs, "zarrs-lz4": zarrs_lz4, "Lance": lance, "Lance-cells": lance_cells, "Parquet": parquet,
    "SCDL": scdl, "memmap": memmap, "SLAF": slaf, "annbatch": annbatch,
}  # fmt: skip
STORED = {
    "tiledbsoma-ml": "atlas.soma", "zarr-python": "zstd.zarr", "zarrs": "zstd.zarr", "zarrs-lz4": "lz4.zarr",
    "Lance": "atlas.lance", "Parquet": "atlas.parquet", "SCDL": "scdl", "SLAF": "atlas.slaf",
    "annbatch": "annbatch.zarr",
}  # fmt: skip


def main(name: str, folder: Path, seconds: float) -> None:
    """Convert where needed, warm up, and measure for a while; epochs follow each other.

    The first epoch is finished if four times the given seconds are enough: a loader that fetches much ahead has by then
    delivered what it fetched.
    """
    warnings.simplefilter("ignore")
    atlas = read_atlas(folder)
    home = folder / "peers"
    home.mkdir(exist_ok=True)
    for number, _ in enumerate(LOADERS[name](atlas, home, 0)):
        if number == 70:
            break
    n_cells = n_nonzero = epoch = 0
    mixed = []
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        epoch += 1
        for cells, nonzero, datasets in LOADERS[name](atlas, home, epoch):
            n_cells, n_nonzero = n_cells + cells, n_nonzero + nonzero
            if cells == MINIBATCH and len(mixed) < 2_000:
                mixed.append(datasets)
            if (spent := time.perf_counter() - start) > (seconds if epoch > 1 else 4 * seconds):
                break
    document = {
        "cells_per_s": n_cells / spent,
        "nnz_per_s": n_nonzero / spent,
        "epochs": epoch,
        "load": os.getloadavg()[0],
    }
    document["entropy"] = entropy_ratio(np.array([np.bincount(row, minlength=6) for row in mixed])) if mixed else 0.0
    if name in STORED:
        document["bytes"] = sum(path.stat().st_size for path in (home / STORED[name]).rglob("*") if path.is_file())
        document["bytes"] = document["bytes"] or (home / STORED[name]).stat().st_size
    print(json.dumps(document))


def entropy_ratio(counts: np.ndarray) -> float:
    """Return the mean entropy of data sets in a minibatch over that of draws from all cells; 1 is a perfect shuffle."""
    drawn = np.random.default_rng(0).multinomial(MINIBATCH, counts.sum(axis=0) / counts.sum(), size=2_000)
    perfect = _entropy(drawn)
    return float(_entropy(counts) / perfect) if perfect else 1.0


def _entropy(counts: np.ndarray) -> float:
    shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(shares * logs).sum(axis=1).mean())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
