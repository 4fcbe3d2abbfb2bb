"""Measure the search for near-identical cells on real files, and write docs/near-identical.md.

Power: cells are thinned and must be found again among all cells of their file, by depth of the copy, panel, and part of the counts
that is kept. False alarms: each cell beside its 20 nearest neighbors of the same file (cosine of log-normalized counts), which are
other droplets. Panels are drawn from the genes of the files that have most.

    python scripts/measure_near.py ../shared/data/h5ad
"""

import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import beta

from cytolabe.audit.all_copies import find_copies
from cytolabe.audit.dispersion import dispersion
from cytolabe.audit.planted import KEPT_PERCENT, nominated_copies, thinned
from cytolabe.audit.shared_cells import shared_cells
from cytolabe.encode.rare_genes import rarest_genes
from cytolabe.testing.memory import memory_snapshot

PAGE = Path(__file__).resolve().parents[1] / "docs" / "near-identical.md"
LEAST = (100, 300)
STRATA = (300, 500, 1_000, 2_000, 5_000)
PANELS = {"whole transcriptome": None, "panel of 2,000 genes": 2_000, "panel of 500 genes": 500}
WHOLE = 5_000
NEIGHBORS, QUERIES, PLANTED = 20, 400, 400


def main() -> None:
    """Measure and write."""
    warnings.simplefilter("ignore")
    files = dict(real_counts(Path(sys.argv[1])))
    power: dict[tuple[str, int, int], Counter[str]] = defaultdict(Counter)
    alarms: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    lowest: dict[tuple[str, int], float] = defaultdict(lambda: np.inf)
    for name, whole in files.items():
        for panel, cells in panels_of(name, whole):
            for part in (1.0, 0.5, 0.25):
                rng = np.random.default_rng(len(power))
                counts = deep(cells if part == 1.0 else thinned(cells, part, rng))
                if counts.shape[0] < 100:
                    continue
                measure_power(counts, panel, power=power, rng=rng)
                measure_alarms(counts, panel, told=(alarms, lowest), rng=rng)
        sys.stderr.write(f"{name}\n")
    PAGE.write_text(page(power, (alarms, lowest), searched(files)), encoding="utf-8")


def real_counts(folder: Path) -> Iterator[tuple[str, tuple[sparse.csr_matrix, tuple[str, ...]]]]:
    """Yield the files that hold counts: the first matrix of whole numbers, and the names of its genes."""
    for path in sorted(folder.glob("*.h5ad")):
        adata = anndata.read_h5ad(path)
        for matrix, names in (
            *((adata.layers[key], adata.var_names) for key in ("counts",) if key in adata.layers),
            (adata.X, adata.var_names),
            *(((adata.raw.X, adata.raw.var_names),) if adata.raw is not None else ()),
        ):
            counts = sparse.csr_matrix(matrix)
            if counts.nnz and counts.data.min() >= 0 and counts.data.max() > 1 and (counts.data % 1 == 0).all():
                counts.eliminate_zeros()
                symbols = [str(name).split("_ENSG")[0] for name in names]
                once = [place for place, n in enumerate(Counter(symbols)[name] for name in symbols) if n == 1]
                yield path.stem, (counts.astype(np.int64)[:, once], tuple(symbols[place] for place in once))
                break


def panels_of(name: str, whole: tuple[sparse.csr_matrix, tuple[str, ...]]) -> Iterator[tuple[str, sparse.csr_matrix]]:
    """Yield the counts on all genes, and on panels of genes that are detected, of a file with enough of them."""
    counts, genes = whole
    if len(genes) < WHOLE:
        if len(genes) >= 1_000:
            yield "panel of 2,000 genes", counts
        return
    rng = np.random.default_rng(sum(map(ord, name)))
    detected = np.asarray((counts > 0).mean(axis=0)).ravel()
    for panel, n_genes in PANELS.items():
        if n_genes is None:
            yield panel, counts
        else:
            chosen = rng.choice(np.argsort(-detected)[: 3 * n_genes], n_genes, replace=False)
            yield panel, sparse.csr_matrix(counts[:, np.sort(chosen)])


def deep(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the cells that hold enough to be tested."""
    is_enough = (np.diff(counts.indptr) >= LEAST[0]) & (np.asarray(counts.sum(axis=1)).ravel() >= LEAST[1])
    return sparse.csr_matrix(counts[is_enough])


def stratum_of(totals: np.ndarray) -> np.ndarray:
    """Return the lower end of the stratum of each total."""
    return np.array(STRATA)[np.searchsorted(STRATA, totals, side="right") - 1]


def measure_power(counts: sparse.csr_matrix, panel: str, *, power: dict, rng: np.random.Generator) -> None:
    """Plant copies among all cells of the file, and count which are found."""
    genes = tuple(f"G{place:06d}" for place in range(counts.shape[1]))
    snapshot = memory_snapshot(pd.DataFrame({"dataset_id": ["a"] * counts.shape[0]}), {"a": counts}, genes={"a": genes})
    cells = shared_cells(snapshot, genes, {"a": range(counts.shape[0])}, least=LEAST)
    chosen = np.sort(rng.choice(len(cells.rows), min(PLANTED, len(cells.rows)), replace=False))
    own = snapshot.counts(cells.rows[chosen], genes)
    for percent in KEPT_PERCENT:
        copies = thinned(own, percent / 100, rng)
        rarest, totals = rarest_genes(copies, cells.order)
        is_enough = (totals[:, 0] >= LEAST[0]) & (totals[:, 1] >= LEAST[1])
        is_found = nominated_copies(cells, chosen, rarest, allowed=np.ones((1, 1), dtype=bool))
        is_found &= dispersion(own, copies).is_near
        for stratum, found in zip(stratum_of(totals[is_enough, 1]), is_found[is_enough], strict=True):
            power[panel, int(stratum), percent].update(planted=1, found=int(found))


def measure_alarms(counts: sparse.csr_matrix, panel: str, *, told: tuple[dict, dict], rng: np.random.Generator) -> None:
    """Compare cells with their nearest neighbors, which are other droplets."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    logs = sparse.diags(1e4 / totals) @ counts.astype(float)
    logs.data = np.log1p(logs.data)
    logs = sparse.csr_matrix(sparse.diags(1 / np.sqrt(np.asarray(logs.multiply(logs).sum(axis=1)).ravel())) @ logs)
    asked = rng.choice(counts.shape[0], min(QUERIES, counts.shape[0]), replace=False)
    near = (logs[asked] @ logs.T).toarray()
    near[np.arange(len(asked)), asked] = -1
    n_neighbors = min(NEIGHBORS, counts.shape[0] - 1)
    partners = np.argpartition(-near, n_neighbors, axis=1)[:, :n_neighbors].ravel()
    found = dispersion(counts[np.repeat(asked, n_neighbors)], counts[partners])
    shallower = np.minimum(totals[np.repeat(asked, n_neighbors)], totals[partners])
    can_tell = found.depth_ratio >= 0.125
    for stratum in np.unique(stratum_of(shallower)):
        here = (stratum_of(shallower) == stratum) & can_tell
        told[0][panel, int(stratum)].update(pairs=int(here.sum()), alarms=int(found.is_near[here].sum()))
        told[1][panel, int(stratum)] = min(told[1][panel, int(stratum)], found.ratio[here].min(initial=np.inf))


def searched(files: dict[str, tuple[sparse.csr_matrix, tuple[str, ...]]]) -> pd.DataFrame:
    """Search all files together, as `cytolabe audit` does; return the pairs of data sets with copies."""
    cells = pd.DataFrame({"dataset_id": [name for name in files for _ in range(files[name][0].shape[0])]})
    snapshot = memory_snapshot(
        cells,
        {name: counts for name, (counts, _) in files.items()},
        genes={name: genes for name, (_, genes) in files.items()},
    )
    report = find_copies(snapshot)
    pairs = report.pairs.groupby(["dataset_a", "dataset_b", "kind"]).size().reset_index(name="pairs")
    pairs.attrs = {"n_cells": len(cells), "n_files": len(files), "n_tested": report.n_tested}
    return pairs


def limits(found: int, n: int) -> str:
    """Return the exact binomial limits (Clopper-Pearson, 95 %) in percent."""
    low = 0.0 if not found else beta.ppf(0.025, found, n - found + 1)
    high = 1.0 if found == n else beta.ppf(0.975, found + 1, n - found)
    return f"{100 * low:.2f} to {100 * high:.2f}"


def page(power: dict, told: tuple[dict, dict], pairs: pd.DataFrame) -> str:
    """Return the page."""
    alarms, lowest = told
    lines = [
        "# Near-identical cells: what the search finds, and what it does not",
        "",
        "Written by `scripts/measure_near.py` from real files with counts (10x, Drop-seq, CEL-seq2, Smart-seq, MERFISH and others). How the search works: [audit](flow/audit.md).",
        "",
        "## Power",
        "",
        (
            "Copies of cells that keep 90, 50 and 20 % of their counts, found again among all cells of their file: found / planted, percent, and exact 95 % limits. "
            "Depth is that of the copy; copies under 300 counts or 100 genes are not testable and not planted."
        ),
        "",
        "| panel | counts of the copy | " + " | ".join(f"{percent} % kept" for percent in KEPT_PERCENT) + " |",
        "|---|---|" + "---|" * len(KEPT_PERCENT),
    ]
    ends = dict(zip(STRATA, (*(f"to {end:,}" for end in STRATA[1:]), "and more"), strict=True))
    for panel in PANELS:
        for stratum in STRATA:
            row = [power[panel, stratum, percent] for percent in KEPT_PERCENT]
            if not any(cell["planted"] for cell in row):
                continue
            told = [
                f"{cell['found']:,} / {cell['planted']:,} = {100 * cell['found'] / cell['planted']:.1f} ({limits(cell['found'], cell['planted'])})"
                if cell["planted"]
                else "none"
                for cell in row
            ]
            lines.append(f"| {panel} | {stratum:,} {ends[stratum]} | " + " | ".join(told) + " |")
    lines += [
        "",
        "## False alarms",
        "",
        (
            "Each cell beside its 20 nearest neighbors in its file: other droplets of the same library and mostly the same type, the hardest to tell apart. "
            "An alarm is a pair that would be called near-identical, had it been nominated."
        ),
        "",
        "| panel | counts of the shallower cell | pairs | alarms | percent, exact 95 % limits | lowest chi-square per degree of freedom |",
        "|---|---|---|---|---|---|",
    ]
    for panel in PANELS:
        for stratum in STRATA:
            cell = alarms[panel, stratum]
            if cell["pairs"]:
                share = f"{100 * cell['alarms'] / cell['pairs']:.3f} ({limits(cell['alarms'], cell['pairs'])})"
                lines.append(
                    f"| {panel} | {stratum:,} {ends[stratum]} | {cell['pairs']:,} | {cell['alarms']} | {share} | {lowest[panel, stratum]:.2f} |"
                )
    lines += [
        "",
        "## The whole search",
        "",
        f"All {pairs.attrs['n_files']} files together, {pairs.attrs['n_cells']:,} cells of which {pairs.attrs['n_tested']:,} are testable, every pair of files on its own shared genes:",
        "",
        "| files | kind | pairs |",
        "|---|---|---|",
        *(f"| {row.dataset_a}, {row.dataset_b} | {row.kind} | {row.pairs} |" for row in pairs.itertuples()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
