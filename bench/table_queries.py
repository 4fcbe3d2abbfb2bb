"""SQL over the cells of 1,500 simulated data sets, through the query layer of a snapshot.

Each data set has a `cells` table as ingest writes it, with the columns that the questions read filled and drawn as in an
atlas (tissue, assay, donors, counts); there are no matrices. Two questions: a count by tissue and assay, which groups
answer, and a mean by tissue, for which all cells are asked. Each is asked three times of two sizes, one a tenth of the
other, with nothing kept between questions but the system's page cache; the line through the two medians is what opening
the files costs (at no rows) and what a row costs. Where 170 M rows are not measured they are read off that line, and
the row says so. `python bench/table_queries.py [MILLIONS OF CELLS] [DATA SETS]`.
"""

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.query import ask
from cytolabe.snapshot.relations import Relations
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.tables import TableEntry, write_table
from measure import Row, compared, median, write_rows

FULL = 170_000_000
QUESTIONS = {
    "count by tissue and assay": "SELECT tissue, assay, count(*) AS n FROM cells GROUP BY ALL ORDER BY n DESC",
    "mean counts by tissue": "SELECT tissue, avg(n_counts) AS mean, count(*) AS n FROM cells GROUP BY ALL ORDER BY n DESC",
}
REACHED = "count by tissue and assay"
TISSUES = tuple(f"tissue {number}" for number in range(60))
ASSAYS = ("10x 3' v2", "10x 3' v3", "10x 5' v1", "10x 5' v2", "Smart-seq2", "Drop-seq", "sci-RNA-seq3", "Seq-Well")
BYTES_PER_ROW = 17
"""More than a row of these tables takes on disk."""


def main(millions: float, n_datasets: int) -> None:
    """Write the tables of both sizes, ask, and write `bench/out/tables.json`."""
    n_cells = int(millions * 1e6)
    if shutil.disk_usage(tempfile.gettempdir()).free < 2 * BYTES_PER_ROW * n_cells:
        sys.exit(
            f"{millions:g} M cells need {2 * BYTES_PER_ROW * n_cells / 1e9:.1f} GB free in {tempfile.gettempdir()}"
        )
    measured = {size: measure(size, n_datasets) for size in (n_cells // 10, n_cells)}
    rows = [row for name in QUESTIONS for row in rows_of(name, measured, n_datasets)]
    write_rows("tables", rows)


def measure(n_cells: int, n_datasets: int) -> dict[str, dict[str, float]]:
    """Return what each question takes over so many cells: seconds, seconds of processors, rows, bytes per row."""
    each = -(-n_cells // n_datasets)
    with tempfile.TemporaryDirectory() as name:
        layout = Layout(Path(name))
        layout.tables.mkdir(parents=True, exist_ok=True)
        names = [f"ds{number:04d}" for number in range(n_datasets)]
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            written = pool.map(
                write_cells, names, itertools.repeat(each), itertools.repeat(layout.tables), chunksize=16
            )
            entries = {
                dataset_id: SimpleNamespace(n_cells=each, tables={"cells": entry})
                for dataset_id, entry in zip(names, written, strict=True)
            }
        rows = each * n_datasets
        size = sum(path.stat().st_size for path in layout.tables.iterdir())
        found = {}
        for what, sql in QUESTIONS.items():
            times = [asked(layout, entries, sql, n_cells=rows) for _ in range(3)]
            found[what] = {
                "seconds": median([wall for wall, _ in times]),
                "cpu seconds": median([used for _, used in times]),
                "rows": float(rows),
                "bytes per row": size / rows,
            }
    return found


def rows_of(what: str, measured: Mapping[int, Mapping[str, Mapping[str, float]]], n_datasets: int) -> list[Row]:
    """Return what was measured, its two parts, and the figure for 170 M cells, measured or read off the line."""
    small, large = (found[what] for _, found in sorted(measured.items()))
    slope = max(0.0, (large["seconds"] - small["seconds"]) / (large["rows"] - small["rows"]))
    fixed = max(0.0, large["seconds"] - slope * large["rows"])
    named = f"{what}, {n_datasets:,} data sets"
    reach = "ours <= 5" if what == REACHED else ""
    is_full = large["rows"] >= FULL
    rows = [
        compared(f"{named}, {found['rows'] / 1e6:.3g} M cells", "s", ours=found["seconds"], extra=dict(found))
        for found in ((small,) if is_full else (small, large))
    ]
    rows.append(compared(f"{named}: opening the files", "s", ours=fixed))
    rows.append(compared(f"{named}: each row", "ns", ours=slope * 1e9))
    if is_full:
        return [*rows, compared(f"{named}, 170 M cells", "s", ours=large["seconds"], reach=reach, extra=dict(large))]
    extra = {"measured rows": large["rows"], "measured seconds": large["seconds"]}
    full = fixed + slope * FULL
    return [*rows, compared(f"{named}, 170 M cells: opening + rows x each", "s", ours=full, reach=reach, extra=extra)]


def asked(layout: Layout, entries: dict[str, SimpleNamespace], sql: str, *, n_cells: int) -> tuple[float, float]:
    """Ask once, with nothing kept from before, and return seconds and seconds of processors."""
    start, used = time.perf_counter(), time.process_time()
    relations = Relations(layout, entries, pd.DataFrame, lambda: ())
    found = ask(relations, sql).read_all()
    seconds = time.perf_counter() - start, time.process_time() - used
    if sum(found["n"].to_pylist()) != n_cells:
        sys.exit("cells are missing from the answer")
    return seconds


def write_cells(dataset_id: str, n_cells: int, directory: Path) -> TableEntry:
    """Write the table of cells of one data set."""
    rng = np.random.default_rng(int(dataset_id.removeprefix("ds")))
    columns: dict[str, object] = {}
    for name, kind in CELL_COLUMNS.items():
        if name not in OVERLAY_COLUMNS:
            is_number = kind.startswith("int64")
            columns[name] = np.zeros(n_cells, dtype=np.int64) if is_number else drawn(["unknown"], n_cells, rng)
    numbers = pa.array(np.arange(n_cells)).cast(pa.string())
    names = pc.binary_join_element_wise(f"{dataset_id}:cell", numbers, "")
    columns["cell_id"] = pd.Series(names, dtype=pd.ArrowDtype(pa.string()))
    columns["dataset_id"] = drawn([dataset_id], n_cells, rng)
    columns["tissue"] = drawn(list(rng.choice(TISSUES, 3, replace=False)), n_cells, rng)
    columns["assay"] = drawn([str(rng.choice(ASSAYS))], n_cells, rng)
    columns["donor_id"] = drawn([f"donor{number}" for number in range(12)], n_cells, rng)
    columns["row"] = np.arange(n_cells)
    columns["n_counts"] = rng.integers(500, 30_000, n_cells)
    columns["n_genes"] = rng.integers(300, 6_000, n_cells)
    return write_table(pd.DataFrame(columns), directory)


def drawn(words: list[str], n_cells: int, rng: np.random.Generator) -> pd.Categorical:
    """Return one of some words for each cell."""
    return pd.Categorical.from_codes(rng.integers(0, len(words), n_cells), words)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0, int(sys.argv[2]) if len(sys.argv) > 2 else 1_500)
