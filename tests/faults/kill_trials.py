"""Ingests that are killed by SIGKILL and taken up again: `kill_trials.py [--trials 300] [--seed 11] [--planted]`.

This process has imported everything, ran one ingest, and starts no thread; each attempt is a fork of it, so that a
trial costs what the ingest costs. What looks through a file before it is read, in a process of its own that writes
nothing, is asked once per file. An attempt runs the whole of `ingest_sources` on two files - one cut into several ranges and shards, one
that is a task of its own - and dies at a seeded time, or at a seeded system call that writes. After each death the
atlas must open at the revision before or after, `verify` must find no error, and the same ingest must go on to the id
of one that nobody killed. A trial dies up to three times before it is let through.

What is wrong is printed as JSON. `--planted` plants a fault, which these trials once found, to see that it is told.
"""

import argparse
import functools
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

from cytolabe.files import local, remove_directory
from cytolabe.flow import examine, passes, schedule
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.provenance import ledger
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.store import array_spec, writing
from cytolabe.store.scratch import abandoned_scratch
from cytolabe.testing.disk import FailingOperations

N_GENES = 300
BEFORE, LARGE, SMALL = "before", "large", "small"
_MOST_DEATHS = 3


class Trials:
    """The atlas before the ingest, the files, and what the ingest makes of them when nobody kills it."""

    def __init__(self, folder: Path, *, seed: int, at_publishing: bool = False) -> None:
        self._folder = folder
        self._rng = np.random.default_rng(seed)
        self._at_publishing = at_publishing
        self.sources = [
            write_lab(folder / f"{name}.h5ad", n_cells=n_cells, seed=number)
            for number, (name, n_cells) in enumerate([(LARGE, 9_000), (SMALL, 300)])
        ]
        before = write_lab(folder / f"{BEFORE}.h5ad", n_cells=200, seed=7)
        self._base = folder / "base"
        self._call(lambda: self._ingest(self._base, [before]))
        whole = shutil.copytree(self._base, folder / "whole")
        # In this process: forks inherit the compiled kernels and the references that it loads.
        warm = shutil.copytree(self._base, folder / "warm")
        self._ingest(warm, self.sources)
        self._frozen(warm)
        self._wrong_findings(warm)
        started = time.monotonic()
        self.calls, self.parts, self.base_revision = self._call(lambda: self._counted(whole))
        self.seconds = time.monotonic() - started
        self.snapshot_id, self._base_entry = self._call(lambda: self._frozen(whole))
        self.ended: Counter[str] = Counter()

    def run(self, trial: int) -> str:
        """Kill an ingest up to three times, and return what was wrong then or after it was let through."""
        atlas = shutil.copytree(self._base, self._folder / f"trial-{trial}")
        try:
            for _ in range(int(self._rng.integers(1, _MOST_DEATHS + 1))):
                how = self._attempt(atlas)
                if problem := self._call(lambda: self._wrong(atlas)):
                    return f"{how}: {problem}"
            return self._call(lambda: self._wrong_at_the_end(atlas))
        except ChildError as error:
            return f"{how}: {error}"
        finally:
            shutil.rmtree(atlas)

    def _attempt(self, atlas: Path) -> str:
        """Start an ingest that is killed, unless it is over before; tell how."""
        if self._at_publishing or self._rng.random() < 0.5:
            n_th = int(self._rng.integers(*(publishing(self.calls) if self._at_publishing else (0, len(self.calls)))))
            how, seconds = f"call {n_th}", None
            operations = FailingOperations(n_th, error="SIGKILL")
        else:
            how, operations = "time", FailingOperations(-1)
            seconds = float(self._rng.uniform(0, self.seconds))
        child = os.fork()
        if not child:
            _die_with(lambda: self._ingest(atlas, self.sources, operations))
        if seconds is not None:
            _kill_after(child, seconds)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code not in {0, -signal.SIGKILL}:
            msg = f"the ingest ended with {code}"
            raise ChildError(msg)
        self.ended[f"{how.split()[0]}: {'killed' if code else 'was over before'}"] += 1
        return how if seconds is None else f"after {seconds:.3f} s"

    def _ingest(self, atlas: Path, sources: list[Path], operations: FailingOperations | None = None) -> None:
        local.operations = operations or FailingOperations(-1)
        outcomes, findings, _ = ingest_sources(atlas, sources)
        statuses = {outcome.status for outcome in outcomes}
        if not statuses <= {"accepted", "unchanged"} or findings:
            msg = f"{statuses} {findings}"
            raise RuntimeError(msg)

    def _counted(self, atlas: Path) -> tuple[list[str], dict[str, int], int]:
        operations, parts = FailingOperations(-1), Counter()
        revision = open_atlas(atlas).revision
        proved, written = passes._prove_range, passes.write_shards
        passes._prove_range = lambda *args: parts.update(["ranges"]) or proved(*args)
        passes.write_shards = lambda *args, **kwargs: parts.update(["shards"]) or written(*args, **kwargs)
        self._ingest(atlas, self.sources, operations)
        return operations.calls, dict(parts), revision

    def _frozen(self, atlas: Path) -> tuple[str, str]:
        opened = open_atlas(atlas)
        return opened.freeze().snapshot_id, opened.entry(BEFORE).digest

    def _wrong(self, atlas: Path) -> str:
        """Return what is wrong with an atlas in which an ingest died."""
        opened = open_atlas(atlas)
        expected = (BEFORE,) if opened.revision == self.base_revision else (BEFORE, LARGE, SMALL)
        if opened.revision not in {self.base_revision, self.base_revision + 1} or opened.dataset_ids != expected:
            return f"revision {opened.revision} has {opened.dataset_ids}"
        if opened.entry(BEFORE).digest != self._base_entry:
            return "what was there before is another one"
        return self._wrong_findings(atlas)

    def _wrong_findings(self, atlas: Path) -> str:
        errors = [finding for finding in verify_atlas(atlas)[1] if finding.severity.value == "error"]
        return f"{errors[0].code} {errors[0].where}" if errors else ""

    def _wrong_at_the_end(self, atlas: Path) -> str:
        """Let the ingest through, and return what is wrong with what it made."""
        self._ingest(atlas, self.sources)
        opened = open_atlas(atlas)
        if opened.revision != self.base_revision + 1:
            return f"revision {opened.revision} at the end"
        if self._frozen(atlas) != (self.snapshot_id, self._base_entry):
            return "another snapshot id"
        if findings := verify_atlas(atlas)[1]:
            return f"at the end {findings[0].code} {findings[0].where}"
        return "a scratch is left" if abandoned_scratch(atlas) else ""

    def _call(self, function):
        """Return what a function returns in a fork of this process."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _die_with(lambda: os.write(writing, json.dumps(function()).encode()))
        os.close(writing)
        with open(reading, "rb") as stream:  # noqa: PTH123 - a pipe has no path
            told = stream.read()
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            msg = f"what looks at the atlas ended with {code}"
            raise ChildError(msg)
        answer = json.loads(told)
        return tuple(answer) if isinstance(answer, list) else answer


class ChildError(Exception):
    """A fork ended as it should not; what it said is on standard error."""


def write_lab(path: Path, *, n_cells: int, seed: int) -> Path:
    """Write a contribution that is accepted."""
    rng = np.random.default_rng(seed)
    genes = sorted(load_reference().protein_coding)[:N_GENES]
    depth = rng.lognormal(0, 0.5, size=(n_cells, 1))
    counts = csr_matrix(rng.poisson(depth * rng.gamma(0.3, 1.5, size=N_GENES)[None, :]).astype(np.float32))
    table = pd.DataFrame(
        {
            "cell_type": np.array(["B cells", "NK", "CD14+ Mono", "CD4 T"])[np.arange(n_cells) % 4],
            "donor_id": np.array(["d1", "d2"])[np.arange(n_cells) % 2],
        },
        index=[f"cell{number}" for number in range(n_cells)],
    )
    anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=genes)).write_h5ad(path)
    return path


def publishing(calls: list[str]) -> tuple[int, int]:
    """Return the longest run of flushes: a partition before it takes its name."""
    runs, start = [], 0
    for name, members in itertools.groupby(calls):
        stop = start + len(list(members))
        runs += [(start, stop)] if name == "fsync" else []
        start = stop
    return max(runs, key=lambda run: run[1] - run[0])


def cut_small() -> None:
    """Let a file of 9,000 cells be a large one, of several ranges and shards; one of 300 stays a task of its own."""
    schedule.LARGE_BYTES = 1 << 20
    passes._RANGES_PER_TASK, passes._SHARDS_PER_TASK = 1, 1
    array_spec.SHARD_VALUES, array_spec.CHUNK_VALUES = 1 << 17, 1 << 12
    examine.scan_source = functools.cache(examine.scan_source)
    pa.set_cpu_count(1)


def forget_to_clear() -> None:
    """Plant the fault: what a sealing that was killed left is listed as part of the partition."""
    writing.clear_attempt = lambda staged: remove_directory(staged / ".plan")


def _kill_after(child: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(min(0.005, max(0.0, deadline - time.monotonic())))
    os.kill(child, signal.SIGKILL)


def _die_with(function) -> None:
    """Run a function in a fork, which never returns from here."""
    code = 1
    try:
        function()
        code = 0
    except BaseException as error:  # noqa: BLE001 - a fork must not go on in the loop of its parent
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> int:
    """Run the trials, and print what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument(
        "--planted", action="store_true", help="plant a fault that must be told, and kill where it shows"
    )
    asked = parser.parse_args()
    cut_small()
    load_reference()
    ledger._code_digest()
    if asked.planted:
        forget_to_clear()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        trials = Trials(Path(folder), seed=asked.seed, at_publishing=asked.planted)
        wrong = {}
        for trial in range(asked.trials):
            if problem := trials.run(trial):
                wrong[trial] = problem
            if trial % 25 == 24:
                sys.stderr.write(f"{trial + 1} of {asked.trials} trials, {len(wrong)} wrong\n")
    document = {
        "n_trials": asked.trials, "wrong": wrong, "ended": dict(trials.ended), "n_calls": len(trials.calls),
        "parts": trials.parts, "threads": [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")],
        "seconds_uninterrupted": round(trials.seconds, 3), "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    sys.stdout.write(json.dumps(document) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
