"""SQL over the cells of 1,500 simulated data sets, through the query layer of a snapshot.

Each data set has a `cells` table as ingest writes it, with the columns that the question reads filled and drawn as in an
atlas (tissue, assay, donors, labels); there are no counts. The answer for 170 M cells is extrapolated in proportion to
the rows, which is said in the row. `python bench/table_queries.py [MILLIONS OF CELLS] [DATA SETS]`.
"""

import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.query import ask
from cytolabe.snapshot.relations import Relations
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.tables import write_table
from measure import compared, median, write_rows

FULL = 170e6
SQL = "SELECT tissue, assay, count(*) AS n FROM cells GROUP BY ALL ORDER BY n DESC"
TISSUES = tuple(f"tissue {number}" for number in range(60))
ASSAYS = ("10x 3' v2", "10x 3' v3", "10x 5' v1", "10x 5' v2", "Smart-seq2", "Drop-seq", "sci-RNA-seq3", "Seq-Well")


def main(millions: float, n_datasets: int) -> None:
    """Write the tables, ask three times, and write `bench/out/tables.json`."""
    n_cells = int(millions * 1e6) // n_datasets
    with tempfile.TemporaryDirectory() as name:
        layout = Layout(Path(name))
        layout.tables.mkdir(parents=True, exist_ok=True)
        entries = {}
        for number in range(n_datasets):
            dataset_id = f"ds{number:04d}"
            frame = cells(dataset_id, n_cells, seed=number)
            entries[dataset_id] = SimpleNamespace(n_cells=n_cells, tables={"cells": write_table(frame, layout.tables)})
        size = sum(path.stat().st_size for path in layout.tables.iterdir())
        seconds = [asked(layout, entries, n_cells=n_cells * n_datasets) for _ in range(3)]
    total = n_cells * n_datasets
    took = median(seconds)
    extra = {"rows": float(total), "measured_seconds": took, "bytes_per_row": size / total}
    what = f"count by tissue and assay, {n_datasets:,} data sets"
    write_rows(
        "tables",
        [
            compared(f"{what}, {total / 1e6:.3g} M cells", "s", ours=took, extra=extra),
            compared(
                f"{what}, extrapolated to 170 M cells", "s", ours=took * FULL / total, reach="ours <= 5", extra=extra
            ),
        ],
    )


def asked(layout: Layout, entries: dict[str, SimpleNamespace], *, n_cells: int) -> float:
    """Ask once, with nothing kept from before, and return the seconds."""
    start = time.perf_counter()
    relations = Relations(layout, entries, pd.DataFrame, lambda: ())
    found = ask(relations, SQL).read_all()
    seconds = time.perf_counter() - start
    if sum(found["n"].to_pylist()) != n_cells:
        sys.exit("cells are missing from the answer")
    return seconds


def cells(dataset_id: str, n_cells: int, *, seed: int) -> pd.DataFrame:
    """Return the table of cells of one data set."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {}
    for name, kind in CELL_COLUMNS.items():
        if name not in OVERLAY_COLUMNS:
            columns[name] = np.zeros(n_cells, dtype=np.int64) if kind.startswith("int64") else ["unknown"] * n_cells
    columns["dataset_id"] = [dataset_id] * n_cells
    columns["cell_id"] = [f"{dataset_id}:cell{number}" for number in range(n_cells)]
    columns["tissue"] = rng.choice(TISSUES, 3)[rng.integers(0, 3, n_cells)]
    columns["assay"] = [ASSAYS[seed % len(ASSAYS)]] * n_cells
    columns["donor_id"] = np.array([f"donor{number}" for number in range(12)])[rng.integers(0, 12, n_cells)]
    for name in columns.keys() & {"row", "source_row"}:
        columns[name] = np.arange(n_cells)
    if "n_counts" in columns:
        columns["n_counts"] = rng.integers(500, 30_000, n_cells)
    return pd.DataFrame(columns)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0, int(sys.argv[2]) if len(sys.argv) > 2 else 1_500)
