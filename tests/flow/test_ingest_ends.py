"""Ways in which an ingest ends early: nothing half is published, a code says why, and the same command goes on."""

import contextlib
import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.cli import main as cli
from cytolabe.errors import WorkerDiedError
from cytolabe.files import local
from cytolabe.flow import contribute as contribution
from cytolabe.flow import examine, schedule
from cytolabe.flow.means import Means
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import create_atlas, open_atlas
from cytolabe.snapshot.upkeep import recover_atlas
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.store.scratch import died_before, held_scratch
from cytolabe.testing.disk import FailingOperations

N_FILES = 14
N_LAST = 24_000
"""Cells of one more file, which one worker is busy with for seconds: a signal never comes after the end."""


def write_lab(path, seed, n_cells=60):
    rng = np.random.default_rng(seed)
    genes = sorted(load_reference().protein_coding)[:200]
    counts = csr_matrix(rng.poisson(rng.gamma(0.5, 1.5, size=(n_cells, 200))).astype(np.float32))
    table = pd.DataFrame(
        {"cell_type": ["B cells", "NK"] * (n_cells // 2), "donor_id": np.repeat(["d1", "d2"], n_cells // 2)},
        index=[f"cell{number}" for number in range(n_cells)],
    )
    anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=genes)).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def labs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labs")
    small = [write_lab(folder / f"lab{number}.h5ad", seed=number) for number in range(N_FILES)]
    return [*small, write_lab(folder / "large.h5ad", seed=N_FILES, n_cells=N_LAST)]


@pytest.fixture(scope="module")
def expected(labs, tmp_path_factory):
    atlas = tmp_path_factory.mktemp("plain") / "atlas"
    ingest_sources(atlas, labs)
    return open_atlas(atlas).freeze().snapshot_id


def started(atlas, labs):
    words = [sys.executable, "-W", "ignore", "-m", "cytolabe", "ingest", str(atlas), *map(str, labs), "--workers", "2"]
    # Tests that a shell runs in the background ignore interrupts, and what they start would inherit that.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)  # noqa: S603, PLW1509


def workers_of(process):
    """Return the processes below a command: the one that does its work, and the workers of that one."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = list(children.get(process.pid, ()))
    for pid in found:
        found += children.get(pid, ())
    return found


def in_the_middle(process):
    """Wait until one file is done; the others are not."""
    for line in process.stderr:
        if "ingest: 1 of" in line:
            return workers_of(process)
    return pytest.fail("it told nothing")


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_ingest_by_workers_that_is_asked_to_end_leaves_no_worker_and_goes_on(labs, tmp_path, expected, asked, code):
    process = started(tmp_path / "atlas", labs)
    workers = in_the_middle(process)
    assert len(workers) >= 3
    process.send_signal(asked)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "Traceback" not in said
    deadline = time.monotonic() + 20
    while not all(map(is_gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in workers if not is_gone(pid)] == []
    assert open_atlas(tmp_path / "atlas").dataset_ids == ()
    assert verify_atlas(tmp_path / "atlas")[1] == ()
    ingest_sources(tmp_path / "atlas", labs)
    assert open_atlas(tmp_path / "atlas").freeze().snapshot_id == expected


@pytest.mark.slow
def test_a_worker_that_the_system_ends_takes_no_file_along(labs, tmp_path, expected):
    process = started(tmp_path / "atlas", labs)
    for pid in in_the_middle(process):
        if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
            break
    said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert open_atlas(tmp_path / "atlas").freeze().snapshot_id == expected


def test_a_large_file_over_which_workers_die_is_refused_and_the_others_come_in(labs, tmp_path, monkeypatch):
    tried = []

    def die(task, work):
        if task.source.path == labs[0]:
            tried.append(task)
            msg = "a worker process died"
            raise WorkerDiedError(msg)
        return usual(task, work)

    usual = contribution._contribute_one
    monkeypatch.setattr(schedule, "LARGE_BYTES", 0)
    monkeypatch.setattr(contribution, "_contribute_one", die)
    (first, second), _, _ = ingest_sources(tmp_path / "atlas", labs[:2])
    assert len(tried) == 2
    assert (first.status, second.status) == ("refused", "accepted")
    assert first.findings[0].code == "E-PARSE-03"
    assert open_atlas(tmp_path / "atlas").dataset_ids == (second.dataset_id,)


def test_after_an_ingest_that_was_killed_a_single_worker_is_a_process_of_its_own(labs, tmp_path):
    def told(**means):
        said = []
        ingest_sources(tmp_path, labs[:1], means=Means(**means), on_progress=said.append)
        return any("process of its own" in line for line in said)

    create_atlas(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), held_scratch(tmp_path, "a" * 32):
        raise KeyboardInterrupt
    assert not died_before(tmp_path)
    if (child := os.fork()) == 0:
        with held_scratch(tmp_path, "a" * 32):
            os._exit(9)
    os.waitpid(child, 0)
    assert died_before(tmp_path)
    assert [told(survives=True), told()] == [True, False]
    recover_atlas(open_atlas(tmp_path), grace_seconds=0.0)
    assert not told(survives=True)


def test_a_disk_that_is_full_in_the_middle_leaves_the_atlas_and_the_ingest_goes_on(labs, tmp_path, monkeypatch):
    monkeypatch.setattr(examine, "scan_source", functools.cache(examine.scan_source))

    def ingest(atlas, operations):
        monkeypatch.setattr(local, "operations", operations)
        ingest_sources(atlas, labs[:1])
        return open_atlas(atlas).freeze().snapshot_id

    counted = FailingOperations(-1)
    plain = ingest(tmp_path / "plain", counted)
    writes = [number for number, name in enumerate(counted.calls) if name in {"write", "open", "rename", "link"}]
    # The first calls make the atlas; the last ones freeze.
    for n_th in writes[12 : -6 : len(writes) // 6]:
        atlas = tmp_path / f"full-{n_th}"
        with pytest.raises(OSError, match="No space left") as caught:
            ingest(atlas, FailingOperations(n_th, error="ENOSPC"))
        assert caught.value.errno == errno.ENOSPC
        assert verify_atlas(atlas)[1] == ()
        assert ingest(atlas, FailingOperations(-1)) == plain
        assert verify_atlas(atlas)[1] == ()


def test_want_of_memory_is_told_in_words_and_with_a_code(labs, tmp_path, monkeypatch, capsys):
    def starved(*_):
        raise MemoryError

    monkeypatch.setattr(contribution, "write_counts", starved)
    monkeypatch.setattr(sys, "argv", ["cytolabe", "ingest", str(tmp_path / "atlas"), str(labs[0]), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "MemoryError"
    assert "--memory" in error["message"]
    assert open_atlas(tmp_path / "atlas").dataset_ids == ()


@pytest.mark.slow
def test_the_command_on_a_ray_cluster_of_its_own_makes_the_same_snapshot(labs, tmp_path, expected):
    pytest.importorskip("ray")
    words = ["ingest", str(tmp_path / "atlas"), *map(str, labs), "--engine", "ray", "--workers", "2", "--memory", "3GB"]
    done = subprocess.run(  # noqa: S603 - the command that is tested
        [sys.executable, "-W", "ignore", "-m", "cytolabe", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert open_atlas(tmp_path / "atlas").freeze().snapshot_id == expected
