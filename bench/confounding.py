"""Confounding of the metadata of 20 M simulated cells, through the query layer of a snapshot.

Data sets as ingest writes their tables of cells, with what the audit reads: 12 donors, two libraries each, 30 labels,
and sites, assays, diseases and tissues that follow the data set more or less. Two sizes, one a tenth of the other, each
in a process of its own: the peak of the resident set says whether memory is flat. Writing the tables is not timed.

    python bench/confounding.py [MILLIONS OF CELLS] [DATA SETS]
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa

from cytolabe.audit import audit_confounding
from cytolabe.records import LabelMapping, Predicate
from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.query import ask
from cytolabe.snapshot.relations import FACTOR_COLUMNS, Relations
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.store.tables import TableEntry, write_table
from measure import compared, write_rows

N_LABELS, N_DONORS = 30, 12
ASSAYS = ("10x 3' v2", "10x 3' v3", "10x 5' v1", "10x 5' v2", "Smart-seq2", "Drop-seq")


def main(millions: float, n_datasets: int) -> None:
    """Measure both sizes and write `bench/out/confounding.json`."""
    found = [measured(int(size * 1e6), n_datasets) for size in (millions / 10, millions)]
    small, large = found
    extra = {"data sets": float(n_datasets), "different rows": large["different"], "rows of the audit": large["rows"]}
    what = f"confounding of the metadata of {millions:g} M cells, {n_datasets:,} data sets"
    write_rows("confounding", [
        compared(what, "s", ours=large["seconds"], reach="ours <= 30", extra={**extra, "cpu seconds": large["cpu"]}),
        compared(f"{what}: of these, the query", "s", ours=large["query"]),
        compared(f"{what}: peak memory", "MB", ours=large["peak"], reach="ours <= 1500",
                 extra={"at a tenth of the cells": small["peak"]}),
    ])  # fmt: skip


def measured(n_cells: int, n_datasets: int) -> dict[str, float]:
    """Write the tables and audit them in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, str(Path(__file__).resolve()), "--audit", name, str(n_cells), str(n_datasets)]
        subprocess.run([*command, "write"], check=True, env=os.environ)
        said = subprocess.run([*command, "read"], check=True, env=os.environ, capture_output=True, text=True).stdout
    return {key: float(value) for key, value in (line.split(" ") for line in said.splitlines())}


def write(home: Path, n_cells: int, n_datasets: int) -> None:
    """Write one table of cells per data set, and the list of them."""
    layout = Layout(home)
    layout.tables.mkdir(parents=True, exist_ok=True)
    entries = [write_table(_cells(number, n_cells // n_datasets), layout.tables) for number in range(n_datasets)]
    pd.DataFrame([vars(entry) for entry in entries]).to_json(home / "entries.json", orient="records")


def read(home: Path, n_cells: int, n_datasets: int) -> None:
    """Audit what `write` wrote, and print what it took."""
    each = n_cells // n_datasets
    listed = pd.read_json(home / "entries.json", orient="records", dtype=False).to_dict("records")
    entries = {
        f"ds{number:04d}": SimpleNamespace(n_cells=each, tables={"cells": TableEntry(**entry)})
        for number, entry in enumerate(listed)
    }
    start, used = time.perf_counter(), time.process_time()
    relations = Relations(Layout(home), entries, _persons(list(entries)), _mappings(list(entries)))
    named = ", ".join(FACTOR_COLUMNS)
    different = ask(relations, f"SELECT DISTINCT {named} FROM cells ORDER BY {named}").read_all().to_pandas()  # noqa: S608
    queried = time.perf_counter() - start
    rows, _ = audit_confounding(different)
    found = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - used,
        "query": queried,
        "different": len(different),
        "rows": len(rows),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in found.items():
        print(name, value)


def _cells(number: int, n_cells: int) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    columns: dict[str, object] = {}
    for name, kind in CELL_COLUMNS.items():
        if name not in OVERLAY_COLUMNS:
            is_number = kind.startswith("int64")
            columns[name] = np.zeros(n_cells, dtype=np.int64) if is_number else _coded(["unknown"], np.zeros(n_cells))
    dataset_id = f"ds{number:04d}"
    library = rng.integers(0, 2 * N_DONORS, n_cells)
    donor = library // 2
    columns["cell_id"] = pd.Series(
        np.char.add(f"{dataset_id}:", np.arange(n_cells).astype(str)), dtype=pd.ArrowDtype(pa.string())
    )
    columns["dataset_id"] = _coded([dataset_id], np.zeros(n_cells))
    columns["study"] = _coded([f"study{number // 3}"], np.zeros(n_cells))
    columns["donor_id"] = _coded([f"donor{n}" for n in range(N_DONORS)], donor)
    columns["batch"] = _coded([f"library{n}" for n in range(2 * N_DONORS)], library)
    columns["assay"] = _coded(ASSAYS, (number + (donor == 0)) % len(ASSAYS))
    columns["suspension_type"] = _coded(["cell", "nucleus"], np.full(n_cells, number % 5 == 0))
    columns["site"] = _coded([f"site{n}" for n in range(40)], np.full(n_cells, number % 40))
    columns["tissue"] = _coded([f"tissue{n}" for n in range(30)], np.full(n_cells, number % 30))
    columns["disease"] = _coded(["normal", "flu"], donor % 2)
    columns["sex"] = _coded(["female", "male"], donor % 3 == 0)
    columns["contributor_label"] = _coded([f"label{n}" for n in range(N_LABELS)], rng.integers(0, N_LABELS, n_cells))
    columns["row"] = np.arange(n_cells)
    return pd.DataFrame(columns)


def _coded(words: "list[str] | tuple[str, ...]", codes: np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(np.asarray(codes, dtype=np.int64), words)


def _persons(names: list[str]) -> "Callable[[], pd.DataFrame]":
    rows = [(name, f"donor{n}", f"{name}/donor{n}", "resolved") for name in names for n in range(N_DONORS)]
    table = pd.DataFrame(rows, columns=["dataset_id", "donor_id", "person_id", "person_state"])
    return lambda: table


def _mappings(names: list[str]) -> "Callable[[], list[LabelMapping]]":
    found = [
        LabelMapping(
            dataset_id=name, contributor_label=f"label{n}", predicate=Predicate.EXACT, term=f"CL:{n:07d}",
            term_name=f"type{n}", justification="semapv:LexicalMatching", confidence=900, decision="auto",
            ontology_release="simulated",
        )
        for name in names
        for n in range(N_LABELS)
    ]  # fmt: skip
    return lambda: found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--audit"]:
        {"write": write, "read": read}[sys.argv[5]](Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0, int(sys.argv[2]) if len(sys.argv) > 2 else 200)
