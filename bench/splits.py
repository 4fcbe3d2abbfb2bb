"""Splits of the metadata of 20 M simulated cells: strata, components, balanced folds, digests of both sides.

The tables are those of `bench/confounding.py`. Two sizes, one a tenth of the other, each in a process of its own: the
peak of the resident set says whether memory is flat but for the few bytes that every cell takes. Writing the tables is
not timed, and neither is the search for copies, which looks at counts.

    python bench/splits.py [MILLIONS OF CELLS] [DATA SETS]
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from confounding import _mappings, _persons, write
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.relations import Relations
from cytolabe.split import RuleKind, SplitRule, plan_document, plan_rule
from cytolabe.store.tables import TableEntry
from measure import compared, write_rows

RULES = {
    "5 folds by person": SplitRule(kind=RuleKind.GROUPED_FOLDS, by=("person",), n_folds=5),
    "a fifth by person and site": SplitRule(kind=RuleKind.HOLD_OUT_GROUPS, by=("person", "site"), test_fraction=0.2),
    "each data set left out": SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("dataset",)),
}


class Metadata(Snapshot):
    """A snapshot of tables of cells alone."""

    def __init__(self, home: Path, n_cells: int, n_datasets: int) -> None:
        listed = pd.read_json(home / "entries.json", orient="records", dtype=False).to_dict("records")
        self.home = home
        self._entries = {
            f"ds{number:04d}": SimpleNamespace(n_cells=n_cells // n_datasets, tables={"cells": TableEntry(**entry)})
            for number, entry in enumerate(listed)
        }
        self._offsets = np.arange(n_datasets + 1) * (n_cells // n_datasets)
        self._snapshot_id = "sha256:simulated"

    @cached_property
    def persons(self) -> pd.DataFrame:
        """The persons of the simulation."""
        return _persons(list(self._entries))()

    @cached_property
    def mappings(self) -> tuple:
        """The mappings of the simulation."""
        return tuple(_mappings(list(self._entries))())

    @cached_property
    def relations(self) -> Relations:
        """The tables."""
        return Relations(Layout(self.home), self._entries, lambda: self.persons, lambda: self.mappings)


def main(millions: float, n_datasets: int) -> None:
    """Measure both sizes and write `bench/out/splits.json`."""
    rows = []
    small, large = (measured(int(size * 1e6), n_datasets) for size in (millions / 10, millions))
    named = f"of the metadata of {millions:g} M cells, {n_datasets:,} data sets"
    for what in RULES:
        extra = {"cpu seconds": large[f"{what}: cpu"], "at a tenth of the cells": small[what]}
        rows.append(compared(f"split {named}: {what}", "s", ours=large[what], reach="ours <= 30", extra=extra))
    rows.append(
        compared(
            f"split {named}: peak memory", "MB", ours=large["peak"], reach="ours <= 1500",
            extra={"at a tenth of the cells": small["peak"], "different rows": large["different"]},
        )
    )  # fmt: skip
    write_rows("splits", rows)


def measured(n_cells: int, n_datasets: int) -> dict[str, float]:
    """Write the tables, and split them in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), n_cells, n_datasets)
        command = [sys.executable, str(Path(__file__).resolve()), "--split", name, str(n_cells), str(n_datasets)]
        said = subprocess.run(command, check=True, env=os.environ, capture_output=True, text=True).stdout
    return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in said.splitlines())}


def split(home: Path, n_cells: int, n_datasets: int) -> None:
    """Split what was written by each rule, and print what it took."""
    snapshot = Metadata(home, n_cells, n_datasets)
    for what, rule in RULES.items():
        start, used = time.perf_counter(), time.process_time()
        plan = plan_rule(snapshot, rule, seed=0)
        document = plan_document(plan)
        print(what, time.perf_counter() - start)
        print(f"{what}: cpu", time.process_time() - used)
        tested = np.array([fold["n_test"] for fold in document["splits"]])
        if rule.kind is not RuleKind.HOLD_OUT_GROUPS and tested.sum() != n_cells // n_datasets * n_datasets:
            sys.exit("cells are missing from the folds")
        print("different", len(plan.strata.table))
        # A command makes one split: the next one is not measured beside it.
        del plan, document
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--split"]:
        split(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0, int(sys.argv[2]) if len(sys.argv) > 2 else 200)
