"""The synthetic atlas of the benches: six contributed data sets, made the same on every run, whatever their size.

20,000 human genes, about 1,650 non-zeros per cell, 30 cell types with Zipf frequencies, 4 donors per data set, effects
of data set and donor on every gene. A cell is a multinomial draw of its depth (log-normal, median 4,120 molecules) by
an alias table of its type and donor. Each block of cells has a generator of its own, counted from (data set, block),
so that neither the number of processes nor memory changes a count. Every block is spilled as 16-bit numbers before it
is written: an uncompressed h5ad is then contiguous, as `write_h5ad` leaves it, and memory stays that of one block.

Beside each file lies a JSON of what was written: cells, non-zeros, and the order-0 entropy of (gap, count) in bytes
per non-zero, the size that a codec without context can reach. Files that are there already are not made again.

    python bench/synthetic.py [--cells 30000] [--gzip] [--out DIR]
"""

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd

from cytolabe.compiled import kernel
from cytolabe.genes.reference import load_reference
from entropy import Entropy

N_GENES = 20_000
N_DATASETS = 6
N_DONORS = 4
BLOCK = 5_000
"""Cells per block; a change of it changes the draws."""
MEDIAN_DEPTH = 4_120
DATA = Path(__file__).resolve().parent / "out" / "data"
CELL_TYPES = (
    "CD4-positive, alpha-beta T cell", "classical monocyte", "naive B cell", "CD8-positive, alpha-beta T cell",
    "natural killer cell", "fibroblast", "endothelial cell", "macrophage", "epithelial cell", "memory B cell",
    "non-classical monocyte", "plasma cell", "smooth muscle cell", "pericyte", "conventional dendritic cell",
    "plasmacytoid dendritic cell", "mast cell", "regulatory T cell", "gamma-delta T cell", "hepatocyte",
    "pulmonary alveolar type 2 cell", "pulmonary alveolar type 1 cell", "club cell", "goblet cell", "neutrophil",
    "erythrocyte", "megakaryocyte", "Schwann cell", "astrocyte", "oligodendrocyte",
)  # fmt: skip
ASSAYS = ("10x 3' v3", "10x 3' v2", "10x 5' v1", "10x 3' v3", "10x 5' v2", "10x 3' v2")
TISSUES = ("blood", "lung", "liver", "spleen", "blood", "lung")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One file of the atlas and what is in it; `entropy` is in bytes per non-zero."""

    path: str
    n_cells: int
    n_nonzero: int
    largest: int
    entropy: float


def make_atlas(n_cells: int, *, gzip: bool = False, folder: Path = DATA) -> tuple[Dataset, ...]:
    """Return the six data sets of an atlas of `n_cells` cells, made by two processes where they are not there yet."""
    name = f"atlas{n_cells}" + ("_gzip" if gzip else "")
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    tasks = [(home, dataset, n_cells // N_DATASETS, gzip) for dataset in range(N_DATASETS)]
    if not all(_sidecar(home, dataset).exists() for dataset in range(N_DATASETS)):
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_write_dataset, tasks))
    return tuple(Dataset(**json.loads(_sidecar(home, dataset).read_text())) for dataset in range(N_DATASETS))


def gene_ids() -> list[str]:
    """Return the genes of the atlas, sorted: the protein-coding ones of the shipped reference and some others."""
    reference = load_reference()
    coding = [gene for gene in reference.ids if gene in reference.protein_coding][:N_GENES]
    others = [gene for gene in reference.ids if gene not in reference.protein_coding]
    return sorted(coding + others[: N_GENES - len(coding)])


def _sidecar(home: Path, dataset: int) -> Path:
    return home / f"ds{dataset}.json"


def _write_dataset(task: tuple[Path, int, int, bool]) -> None:
    """Write one file and, last, its sidecar."""
    home, dataset, n_cells, gzip = task
    if _sidecar(home, dataset).exists():
        return
    people = _cells(dataset, n_cells)
    spilled = tuple(home / f"ds{dataset}.{name}.part" for name in ("indices", "counts"))
    indptr = np.zeros(n_cells + 1, dtype=np.int64)
    entropy, largest = Entropy(), 0
    with spilled[0].open("wb") as indices_file, spilled[1].open("wb") as counts_file:
        for first, lengths, indices, counts in _blocks(dataset, people):
            indptr[first + 1 : first + 1 + len(lengths)] = lengths
            entropy.add(np.concatenate([[0], np.cumsum(lengths)]), indices, counts)
            largest = max(largest, int(counts.max()))
            indices.tofile(indices_file)
            counts.tofile(counts_file)
    np.cumsum(indptr, out=indptr)
    path = home / f"ds{dataset}.h5ad"
    _write_h5ad(path, people, indptr=indptr, spilled=spilled, gzip=gzip)
    for part in spilled:
        part.unlink()
    made = Dataset(
        path=str(path), n_cells=n_cells, n_nonzero=int(indptr[-1]), largest=largest, entropy=entropy.bytes_per_nonzero()
    )
    _sidecar(home, dataset).write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")


def _cells(dataset: int, n_cells: int) -> pd.DataFrame:
    """Return the cells of a data set; columns `kind` and `depth` are for the draw alone."""
    rng = np.random.default_rng([1_000, dataset])
    weights = 1 / np.arange(1, len(CELL_TYPES) + 1) ** 1.1
    types = rng.choice(len(CELL_TYPES), n_cells, p=weights / weights.sum())
    donors = rng.integers(0, N_DONORS, n_cells)
    depth = np.clip(rng.lognormal(np.log(MEDIAN_DEPTH), 0.45, n_cells), 500, 30_000).astype(np.int64)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(types, list(CELL_TYPES)),
            "donor_id": pd.Categorical.from_codes(donors, [f"ds{dataset}_donor{number}" for number in range(N_DONORS)]),
            "assay": pd.Categorical.from_codes(np.zeros(n_cells, dtype=np.int8), [ASSAYS[dataset]]),
            "tissue": pd.Categorical.from_codes(np.zeros(n_cells, dtype=np.int8), [TISSUES[dataset]]),
            "kind": types * N_DONORS + donors,
            "depth": depth,
        },
        index=[f"ds{dataset}_cell{number}" for number in range(n_cells)],
    )
    obs["cell_type"] = obs["cell_type"].cat.remove_unused_categories()
    return obs


def _blocks(dataset: int, cells: pd.DataFrame) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (first cell, non-zeros of each cell, gene numbers, counts) block by block."""
    thresholds, aliases = _tables(dataset)
    kinds, depths = cells["kind"].to_numpy(np.int64), cells["depth"].to_numpy(np.int64)
    for first in range(0, len(cells), BLOCK):
        kind, depth = kinds[first : first + BLOCK], depths[first : first + BLOCK]
        seeds = np.random.default_rng([2_000, dataset, first]).integers(0, 2**63, len(kind), dtype=np.uint64)
        room = int(np.minimum(depth, N_GENES).sum())
        indices, counts = np.empty(room, dtype=np.uint16), np.empty(room, dtype=np.uint16)
        starts = np.concatenate([[0], np.cumsum(np.minimum(depth, N_GENES))])
        lengths = np.zeros(len(kind), dtype=np.int64)
        order = np.argsort(kind, kind="stable")  # cells of one table together: it then stays in the cache
        _draw((order, kind, depth, seeds, starts), (thresholds, aliases), (indices, counts, lengths))
        total = _close_up((starts, lengths), indices, counts)
        yield first, lengths, indices[:total], counts[:total]


def _tables(dataset: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an alias table for each type and donor: 32-bit thresholds and aliases."""
    shared = np.random.default_rng(7)
    base = shared.normal(0, 2.25, N_GENES)
    marked = shared.random((len(CELL_TYPES), N_GENES)) < 0.05
    programs = shared.normal(0, 1, (len(CELL_TYPES), N_GENES)) * marked * 2.0
    own = np.random.default_rng([3_000, dataset])
    batch = own.normal(0, 0.25, N_GENES)
    donors = own.normal(0, 0.12, (N_DONORS, N_GENES))
    thresholds = np.empty((len(CELL_TYPES) * N_DONORS, N_GENES), dtype=np.uint32)
    aliases = np.empty((len(CELL_TYPES) * N_DONORS, N_GENES), dtype=np.uint16)
    for kind in range(len(thresholds)):
        shares = np.exp(base + programs[kind // N_DONORS] + batch + donors[kind % N_DONORS])
        _alias_table(shares / shares.sum(), thresholds[kind], aliases[kind])
    return thresholds, aliases


@kernel
def _alias_table(shares: np.ndarray, thresholds: np.ndarray, aliases: np.ndarray) -> None:
    """Fill Vose's alias table: an even draw of a slot, then one comparison."""
    n = len(shares)
    level = shares * n
    small, large = np.empty(n, np.int64), np.empty(n, np.int64)
    n_small = n_large = 0
    for gene in range(n):
        aliases[gene] = gene
        thresholds[gene] = 0xFFFFFFFF
        if level[gene] < 1:
            small[n_small] = gene
            n_small += 1
        else:
            large[n_large] = gene
            n_large += 1
    while n_small > 0 and n_large > 0:
        n_small -= 1
        poor, rich = small[n_small], large[n_large - 1]
        thresholds[poor] = np.uint32(level[poor] * 4294967295.0)
        aliases[poor] = rich
        level[rich] -= 1 - level[poor]
        if level[rich] < 1:
            n_large -= 1
            small[n_small] = rich
            n_small += 1


@kernel
def _draw(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    tables: tuple[np.ndarray, np.ndarray],
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Draw the molecules of each cell with its own generator (splitmix64)."""
    order, kinds, depths, seeds, starts = cells
    thresholds, aliases = tables
    indices, counts, lengths = out
    n_genes = thresholds.shape[1]
    found = np.zeros(n_genes, np.uint16)
    for cell in order:
        state = seeds[cell]
        kind = kinds[cell]
        for _ in range(depths[cell]):
            state += np.uint64(0x9E3779B97F4A7C15)
            word = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            word ^= word >> np.uint64(31)
            slot = np.int64(((word >> np.uint64(32)) * np.uint64(n_genes)) >> np.uint64(32))
            if np.uint32(word & np.uint64(0xFFFFFFFF)) >= thresholds[kind, slot]:
                slot = np.int64(aliases[kind, slot])
            found[slot] += 1
        place = starts[cell]
        for gene in range(n_genes):
            if found[gene]:
                indices[place] = gene
                counts[place] = found[gene]
                found[gene] = 0
                place += 1
        lengths[cell] = place - starts[cell]


@kernel
def _close_up(cells: tuple[np.ndarray, np.ndarray], indices: np.ndarray, counts: np.ndarray) -> int:
    """Move the cells of a block together, in place, and return how many entries there are."""
    starts, lengths = cells
    place = 0
    for cell in range(len(lengths)):
        for entry in range(starts[cell], starts[cell] + lengths[cell]):
            indices[place] = indices[entry]
            counts[place] = counts[entry]
            place += 1
    return place


def _write_h5ad(path: Path, cells: pd.DataFrame, *, indptr: np.ndarray, spilled: tuple[Path, Path], gzip: bool) -> None:
    """Write the file as `write_h5ad` does (float32 counts, int32 indices), without holding the matrix."""
    part = path.with_suffix(".part")
    obs = cells.drop(columns=["kind", "depth"])
    anndata.AnnData(obs=obs, var=pd.DataFrame(index=gene_ids())).write_h5ad(part)
    ways = {"compression": "gzip"} if gzip else {}
    with h5py.File(part, "r+") as file:
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array([len(cells), N_GENES])
        group.create_dataset("indptr", data=indptr, **ways)
        for name, source, dtype in (("indices", spilled[0], np.int32), ("data", spilled[1], np.float32)):
            values = group.create_dataset(name, shape=(int(indptr[-1]),), dtype=dtype, **ways)
            place = 0
            with source.open("rb") as stream:
                while len(block := np.fromfile(stream, dtype=np.uint16, count=1 << 22)):
                    values[place : place + len(block)] = block
                    place += len(block)
    part.replace(path)


def main() -> None:
    """Make the files that the command line asks for and print a line about each."""
    parser = argparse.ArgumentParser(description="Write the synthetic atlas of the benches.")
    parser.add_argument("--cells", type=int, default=30_000, help="cells of all six data sets together")
    parser.add_argument("--gzip", action="store_true", help="compress as write_h5ad(compression='gzip') does")
    parser.add_argument("--out", type=Path, default=DATA, help="the folder that gets a folder per size")
    given = parser.parse_args()
    for made in make_atlas(given.cells, gzip=given.gzip, folder=given.out):
        size = Path(made.path).stat().st_size
        print(
            f"{made.path}: {made.n_cells:,} cells, {made.n_nonzero / made.n_cells:,.0f} non-zeros per cell, "
            f"{size / made.n_nonzero:.2f} bytes per non-zero, entropy {made.entropy:.3f}"
        )


if __name__ == "__main__":
    main()
