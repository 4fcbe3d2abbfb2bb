"""CPU time and peak memory of validating, beside the official validator of CELLxGENE, all in one run.

Fixed cost: a file of 24 cells, in a process that starts anew. Then 10,000 cells x 30,000 genes: the official validator
in a process that validated a file before (its warm run: ontologies are decoded and its kernels compiled), ours as a
command that starts anew. Then memory at two sizes. CPU seconds and not the clock; peak memory is the largest resident
set of any process of the command.

The peer lives in an environment of its own, `.venv-oracle`, which `make bench` installs (about 1.1 GB), or
CYTOLABE_ORACLE names its interpreter; where it could not be installed its rows say so.

    python bench/validate.py [CELLS OF THE SMALLER MEMORY RUN]
"""

import importlib
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cytolabe.genes.reference import load_reference
from measure import Row, compared, median, write_rows

ROOT = Path(__file__).resolve().parents[1]
ORACLE = Path(os.environ.get("CYTOLABE_ORACLE", ROOT / ".venv-oracle" / "bin" / "python"))
PEER = """
import logging, resource, sys
logging.disable(logging.CRITICAL)
from cellxgene_schema.validate import Validator
def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
for path in sys.argv[1:]:
    before = seconds()
    valid = Validator(ignore_labels=False).validate_adata(path)
    print("SAID", valid, seconds() - before)
"""
LAUNCHER = """
import os, subprocess, sys
null = subprocess.DEVNULL
started = subprocess.Popen(sys.argv[1:], stdout=null, stderr=null)
_, status, used = os.wait4(started.pid, 0)
started.returncode = os.waitstatus_to_exitcode(status)
print(started.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Starts a command from a small process: the peak of a process counts what its parent held when it was started."""
N_GENES, PER_CELL = 30_000, 1_500
REPEATS = 3


def main(n_cells: int) -> None:
    """Measure, print the table and write `bench/out/validate.json`."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny, large = folder / "tiny.h5ad", folder / "large.h5ad"
        _variants().valid_data().write_h5ad(tiny)
        write_cells(large, 10_000, per_cell=PER_CELL, with_logs=True)
        write_rows("validate", [*rows_of_time(tiny, large), *rows_of_memory(folder, n_cells)])


def rows_of_time(tiny: Path, large: Path) -> list[Row]:
    """Return the rows beside the official validator."""
    mine = [used(command(tiny)) for _ in range(REPEATS)]
    mine_large = [used(command(large)) for _ in range(REPEATS)]
    fixed, fixed_peak = median([seconds for seconds, _ in mine]), max(peak for _, peak in mine)
    whole = median([seconds for seconds, _ in mine_large])
    peer, theirs, their_peak, their_large = (
        "cellxgene-schema: not installed (make .venv-oracle/.made)",
        None,
        None,
        None,
    )
    if ORACLE.exists():
        peer = "cellxgene-schema 7.1.2"
        theirs, their_peak = used([str(ORACLE), "-W", "ignore", "-c", PEER, str(tiny)])
        their_large = warm_seconds(tiny, large)
    shape = f"10,000 cells x {N_GENES:,} genes, {PER_CELL * 10_000 / 1e6:.0f} M counts"
    return [
        compared(
            "validate 24 cells: a process anew", "CPU seconds", ours=fixed, peer=(peer, theirs), reach="<= 0.0667"
        ),
        compared("peak memory of it", "MiB", ours=fixed_peak, peer=(peer, their_peak), reach="<= 0.125"),
        compared(
            f"validate {shape}: ours anew, the peer warm",
            "CPU seconds",
            ours=whole,
            peer=(f"{peer}, warm", their_large),
            reach="<= 0.2",
        ),
        compared(
            f"validate {shape}: both without their fixed cost",
            "CPU seconds",
            ours=max(0.0, whole - fixed),
            peer=(f"{peer}, warm", their_large),
            reach="<= 0.2",
        ),
    ]


def rows_of_memory(folder: Path, n_cells: int) -> list[Row]:
    """Return the rows of memory at two sizes; the larger one must not need more than a few bytes a cell on top."""
    peaks = []
    sizes = (n_cells, 10 * n_cells // 3)
    for size in sizes:
        path = folder / f"cells_{size}.h5ad"
        write_cells(path, size, per_cell=100, with_logs=False)
        peaks.append(used(command(path))[1])
        path.unlink()
    grown = (peaks[1] - peaks[0]) * 2**20 / (sizes[1] - sizes[0])
    return [
        compared(
            f"peak memory, {sizes[1]:,} cells over {sizes[0]:,}",
            "MiB",
            ours=peaks[1],
            peer=(f"ours at {sizes[0]:,}", peaks[0]),
            reach="<= 1.5",
            extra={"bytes_per_cell": grown},
        )
    ]


def command(path: Path) -> list[str]:
    """Return our command."""
    return [sys.executable, "-m", "cytolabe", "validate", str(path), "--pack", "cellxgene-7", "--json"]


def used(words: list[str]) -> tuple[float, float]:
    """Run a command and return its CPU seconds and its peak memory in MiB, with those of its children."""
    said = subprocess.run([sys.executable, "-c", LAUNCHER, *words], check=True, capture_output=True, text=True).stdout
    code, seconds, kibibytes = said.split()
    if code not in {"0", "1"}:
        msg = f"{' '.join(words[:4])} ended with {code}"
        raise RuntimeError(msg)
    return float(seconds), float(kibibytes) / 1024


def warm_seconds(tiny: Path, large: Path) -> float:
    """Return the CPU seconds of the peer for a file, after it validated another one in the same process."""
    words = [str(ORACLE), "-W", "ignore", "-c", PEER, str(tiny), str(large)]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    lines = [line.split() for line in said if line.startswith("SAID")]
    if [line[1] for line in lines] != ["True", "True"]:
        msg = f"the peer does not call the files valid: {lines}"
        raise RuntimeError(msg)
    return float(lines[1][2])


def write_cells(path: Path, n_cells: int, *, per_cell: int, with_logs: bool) -> None:
    """Write a file that obeys the schema, with about `per_cell` genes in each cell."""
    rng = np.random.default_rng(n_cells)
    genes = list(load_reference().ids[:N_GENES])
    steps = rng.integers(1, 2 * N_GENES // per_cell, size=(n_cells, per_cell), dtype=np.int32).cumsum(axis=1)
    is_gene = steps < N_GENES
    sizes = is_gene.sum(axis=1)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    values = rng.geometric(0.6, size=int(indptr[-1])).astype(np.float32)
    counts = csr_matrix((n_cells, len(genes)), dtype=np.float32)
    counts.data, counts.indices, counts.indptr = values, steps[is_gene], indptr
    tiny = _variants().valid_data()
    obs = tiny.obs.iloc[np.arange(n_cells) % tiny.n_obs].set_axis([f"cell_{row}" for row in range(n_cells)], axis=0)
    var = pd.DataFrame({"feature_is_filtered": False}, index=genes)
    data = ad.AnnData(X=counts, obs=obs, var=var)
    if with_logs:
        data.raw = ad.AnnData(X=counts, obs=obs, var=pd.DataFrame(index=genes))
        data.X = counts.log1p()
    data.obsm["X_umap"] = rng.normal(size=(n_cells, 2)).astype(np.float32)
    data.uns = dict(tiny.uns)
    data.write_h5ad(path)


def _variants() -> object:
    """Return the module of the tests that makes a valid file."""
    sys.path.insert(0, str(ROOT / "tests" / "validate"))
    return importlib.import_module("variants")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
