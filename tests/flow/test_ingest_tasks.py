"""An ingest is made of tasks: whoever runs them, however they are cut, and wherever it was killed, the id is the same."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.engine import LocalEngine, RayEngine
from cytolabe.errors import ConflictError, IntegrityError, MissingExtraError, UsageError
from cytolabe.files import STAGED_PREFIX
from cytolabe.flow import contribute as contribution
from cytolabe.flow import means, passes, schedule, work
from cytolabe.flow.budget import bytes_of, plan_within, require_within
from cytolabe.flow.means import Means
from cytolabe.flow.memory_watch import memory_watched
from cytolabe.flow.preflight import require_room
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.sketches import sketched
from cytolabe.snapshot.verify import verify_atlas
from cytolabe.store import array_spec, writing
from cytolabe.store.scratch import abandoned_scratch, held_scratch, scratch_root

N_CELLS = 9_000


def write_lab(path, n_cells=N_CELLS, seed=5):
    rng = np.random.default_rng(seed)
    genes = sorted(load_reference().protein_coding)[:400]
    depth = rng.lognormal(0, 0.5, size=(n_cells, 1))
    counts = csr_matrix(rng.poisson(depth * rng.gamma(0.3, 1.5, size=400)[None, :]).astype(np.float32))
    table = pd.DataFrame(
        {
            "cell_type": np.array(["B cells", "NK", "CD14+ Mono", "CD4 T"])[np.arange(n_cells) % 4],
            "donor_id": np.array(["d1", "d2"])[np.arange(n_cells) % 2],
        },
        index=[f"cell{number}" for number in range(n_cells)],
    )
    anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=genes)).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return write_lab(tmp_path_factory.mktemp("lab") / "lab.h5ad")


@pytest.fixture(scope="module")
def expected(lab, tmp_path_factory):
    """Return the id of an ingest that nothing disturbed."""
    return ingest(lab, tmp_path_factory.mktemp("plain") / "atlas")


@pytest.fixture
def _many_tasks(monkeypatch):
    """Cut a small file into several ranges, shards and partitions; in this process only."""
    monkeypatch.setattr(schedule, "LARGE_BYTES", 0)
    monkeypatch.setattr(passes, "_RANGES_PER_TASK", 1)
    monkeypatch.setattr(passes, "_SHARDS_PER_TASK", 2)


def ingest(lab, atlas, **means):
    (outcome,), _, _ = ingest_sources(atlas, [lab], means=Means(**means))
    assert outcome.status in {"accepted", "unchanged"}
    return open_atlas(atlas).freeze().snapshot_id


@pytest.mark.parametrize(("ranges", "shards", "max_nonzero"), [(1, 1, 2_000_000), (2, 3, 100_000), (8, 64, 50_000)])
@pytest.mark.usefixtures("_many_tasks")
def test_however_the_tasks_are_cut_the_snapshot_is_the_same(
    lab, tmp_path, expected, monkeypatch, ranges, shards, max_nonzero
):
    monkeypatch.setattr(passes, "_RANGES_PER_TASK", ranges)
    monkeypatch.setattr(passes, "_SHARDS_PER_TASK", shards)
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 1 << 17)
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 1 << 12)
    budget = dataclasses.replace(plan_within(8 * 10**9, 1), max_nonzero=max_nonzero)
    monkeypatch.setattr("cytolabe.flow.means.plan_within", lambda *_: budget)
    assert ingest(lab, tmp_path / "atlas") == expected
    assert verify_atlas(tmp_path / "atlas")[1] == ()
    assert not [path for path in scratch_root(tmp_path / "atlas").iterdir() if path.is_dir()]


def test_two_workers_make_the_snapshot_of_one(lab, tmp_path, expected, monkeypatch):
    monkeypatch.setattr(schedule, "LARGE_BYTES", 0)
    assert ingest(lab, tmp_path / "atlas", n_workers=2) == expected


@pytest.mark.usefixtures("_many_tasks")
def test_the_table_of_sketches_is_that_of_the_cells_however_the_tasks_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 1 << 16)
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 1 << 12)
    lab = write_lab(tmp_path / "lab.h5ad", n_cells=1_500)
    adata = anndata.read_h5ad(lab)
    # Cells without counts belong to no shard: the first one, one in the middle, and the last ones.
    counts = adata.X.toarray()
    counts[[0, 700, -2, -1]] = 0
    adata.X = csr_matrix(counts)
    adata.write_h5ad(lab)
    digests = set()
    for n_workers, shards in ((1, 1), (2, 3), (1, 64)):
        monkeypatch.setattr(passes, "_SHARDS_PER_TASK", shards)
        path = tmp_path / f"{n_workers}-{shards}"
        ingest(lab, path, n_workers=n_workers)
        opened = open_atlas(path)
        found, entry = opened.freeze().sketches("lab"), opened.entry("lab")
        expected = sketched(csr_matrix(counts), tuple(adata.var_names))
        assert np.array_equal(found.hashes, expected.hashes)
        assert np.array_equal(found.entries, expected.entries)
        assert np.array_equal(found.totals, expected.totals)
        digests.add((entry.digest, *dataclasses.astuple(entry.tables["sketches"])))
    assert len(digests) == 1
    # The partition is there already: the sketches are made of it.
    (tmp_path / "1-1" / "tables" / entry.tables["sketches"].file).unlink()
    next(scratch_root(tmp_path / "1-1").glob("*.known.json")).unlink()
    monkeypatch.setattr(work, "write_part", None)
    ingest_sources(tmp_path / "1-1", [lab], means=Means())
    assert verify_atlas(tmp_path / "1-1")[1] == ()


@pytest.mark.usefixtures("_many_tasks")
def test_a_source_that_changes_between_the_passes_is_noticed_and_nothing_is_published(lab, tmp_path, monkeypatch):
    file = tmp_path / "lab.h5ad"
    file.write_bytes(lab.read_bytes())
    write_counts = contribution.write_counts

    def changed_before(*args):
        import h5py  # noqa: PLC0415 - the fault is planted here

        with h5py.File(file, "r+") as opened:
            values = opened["X/data"]
            place = int(np.flatnonzero(values[:] > 2)[7])
            values[place] += 1
        return write_counts(*args)

    monkeypatch.setattr(contribution, "write_counts", changed_before)
    with pytest.raises(IntegrityError, match="changed"):
        ingest_sources(tmp_path / "atlas", [file])
    assert open_atlas(tmp_path / "atlas").dataset_ids == ()


@pytest.mark.usefixtures("_many_tasks")
def test_what_was_finished_before_an_interrupt_is_not_done_again(lab, tmp_path, expected, monkeypatch):
    monkeypatch.setattr(array_spec, "SHARD_VALUES", 1 << 17)
    monkeypatch.setattr(array_spec, "CHUNK_VALUES", 1 << 12)
    done = []
    proven, written = passes._prove_range, passes.write_shards

    def write_or_stop(*args, **kwargs):
        if len(done) >= 4:
            raise KeyboardInterrupt
        done.append("shards")
        return written(*args, **kwargs)

    def count(*args):
        done.append("range")
        return proven(*args)

    monkeypatch.setattr(passes, "write_shards", write_or_stop)
    monkeypatch.setattr(passes, "_prove_range", count)
    with pytest.raises(KeyboardInterrupt):
        ingest_sources(tmp_path / "atlas", [lab])
    assert done == ["range"] * 3 + ["shards"]
    assert len(abandoned_scratch(tmp_path / "atlas")) == 1
    monkeypatch.setattr(
        passes, "write_shards", lambda *args, **kwargs: done.append("shards") or written(*args, **kwargs)
    )
    assert ingest(lab, tmp_path / "atlas") == expected
    assert done.count("range") == 3
    assert abandoned_scratch(tmp_path / "atlas") == ()


def test_the_same_file_again_is_unchanged_without_a_second_proof(lab, tmp_path, monkeypatch):
    ingest(lab, tmp_path / "atlas")
    monkeypatch.setattr(contribution, "examine", lambda *_, **__: pytest.fail("it was proven again"))
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [lab])
    assert outcome.status == "unchanged"
    assert outcome.n_cells == N_CELLS
    assert outcome.n_genes == 400


def test_a_changed_declaration_is_no_unchanged_file(lab, tmp_path):
    file = tmp_path / "lab.h5ad"
    file.write_bytes(lab.read_bytes())
    ingest(file, tmp_path / "atlas")
    (tmp_path / "manifest.toml").write_text('study = "other"\n')
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [file])
    assert outcome.status == "accepted"


def test_two_ingests_of_one_source_do_not_run_at_a_time(tmp_path):
    with (
        held_scratch(tmp_path, "a" * 32),
        pytest.raises(ConflictError, match="is running"),
        held_scratch(tmp_path, "a" * 32),
    ):
        pass
    assert abandoned_scratch(tmp_path) == ()


# --- bounds -------------------------------------------------------------------------------------------------------


def test_a_size_is_read_as_people_write_it_and_nothing_else():
    assert [bytes_of(text) for text in ("8GB", "500 mb", "2GiB", "1.5g")] == [8 * 10**9, 5 * 10**8, 2 << 30, 15 * 10**8]
    for wrong in ("", "much", "-1GB", "0GB", "8 GB of it"):
        with pytest.raises(UsageError, match="is no size"):
            bytes_of(wrong)
    with pytest.raises(UsageError, match=r"would be 10 bytes\. Say of what: --memory 10GB"):
        bytes_of("10")
    assert bytes_of("8589934592") == 8 << 30


@pytest.mark.parametrize("memory", [4 * 10**8, 10**9, 2 * 10**9, 8 * 10**9, 10**12])
@pytest.mark.parametrize("n_workers", [1, 2, 16])
def test_a_plan_stays_within_its_memory(memory, n_workers):
    plan = plan_within(memory, n_workers)
    assert 1 <= plan.n_workers <= n_workers
    assert 250_000 <= plan.max_nonzero <= 2_000_000
    assert plan.task_memory * plan.n_workers <= memory


def test_too_little_memory_is_refused_before_anything_starts(lab, tmp_path):
    with pytest.raises(UsageError, match=r"too little.*Give at least --memory \d+MB"):
        ingest_sources(tmp_path / "atlas", [lab], means=Means(memory="50MB"))


def test_a_task_over_its_share_says_so():
    require_within(0)
    with pytest.raises(UsageError, match="over its share"):
        require_within(1_000_000)


def test_an_ingest_over_its_memory_ends_as_a_whole_and_goes_on_with_more(lab, tmp_path, expected, monkeypatch):
    reached = []

    def large(*_):
        reached.append(1)
        for _ in range(1_000):
            time.sleep(0.01)

    def watched(limit, **_):
        return memory_watched(limit, interval=0.01, held=lambda: limit + len(reached))

    with monkeypatch.context() as patched:
        patched.setattr(means, "memory_watched", watched)
        patched.setattr(passes, "_prove_range", large)
        with pytest.raises(UsageError, match=r"over the [\d,]+ MB of --memory"):
            ingest_sources(tmp_path / "atlas", [lab])
    assert ingest(lab, tmp_path / "atlas") == expected


def test_what_a_large_file_will_cost_is_said_before_its_counts_are_read(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "LARGE_BYTES", 0)
    said = []
    proven = passes._prove_range
    monkeypatch.setattr(passes, "_prove_range", lambda *args: said.append("proving") or proven(*args))
    ingest_sources(tmp_path / "atlas", [lab], on_progress=said.append)
    told = next(line for line in said if line.startswith("lab.h5ad: 9,000 cells"))
    assert said.index(told) < said.index("proving")
    stored = anndata.read_h5ad(lab).X.nnz
    assert f"{stored:,} stored values" in told
    assert "to write" in told
    assert "of memory" in told
    assert any("are free" in line for line in said[: said.index(told)])


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="Free some space"):
        require_room(tmp_path, 10**18)


def test_an_engine_that_is_not_there_is_a_wrong_call(lab, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="none of local, ray"):
        ingest_sources(tmp_path / "atlas", [lab], means=Means(engine="slurm"))
    with pytest.raises(UsageError, match="needs --engine ray"):
        ingest_sources(tmp_path / "atlas", [lab], means=Means(address="auto"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"cytolabe\[ray\]"), RayEngine():
        pass


# --- killed -------------------------------------------------------------------------------------------------------

TRIALS = Path(__file__).parent.parent / "faults" / "kill_trials.py"


def killed_trials(*words):
    command = [sys.executable, "-W", "ignore", str(TRIALS), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a program of these tests
    assert done.stdout, done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout)


def test_an_ingest_that_is_killed_anywhere_goes_on_to_the_id_of_one_that_was_not():
    """A few of the trials; `make kill-trials` runs 300."""
    code, told = killed_trials("--trials", "6")
    assert (code, told["wrong"]) == (0, {})
    assert told["parts"]["ranges"] > 2
    assert told["parts"]["shards"] > 2
    killed = {kind: n for kind, n in told["ended"].items() if kind.endswith("killed")}
    assert set(killed) == {"call: killed", "time: killed"}
    assert sum(killed.values()) >= 6


def test_a_sealing_that_lists_what_a_killed_one_left_is_told_by_the_trials():
    """The planted fault."""
    code, told = killed_trials("--trials", "2", "--planted")
    assert code == 1
    assert told["wrong"]


def test_what_a_sealing_that_was_killed_left_is_not_taken_for_part_of_the_partition(
    lab, tmp_path, expected, monkeypatch
):
    publish = writing.publish_directory

    def die(staged, _target):
        (staged / "X" / "data" / f"{STAGED_PREFIX}0123").write_bytes(b"half a shard")
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "LARGE_BYTES", 0)
    monkeypatch.setattr(writing, "publish_directory", die)
    with pytest.raises(KeyboardInterrupt):
        ingest_sources(tmp_path / "atlas", [lab])
    monkeypatch.setattr(writing, "publish_directory", publish)
    assert ingest(lab, tmp_path / "atlas") == expected
    assert verify_atlas(tmp_path / "atlas")[1] == ()
    assert not list((tmp_path / "atlas").rglob(f"{STAGED_PREFIX}*"))


# --- Ray ----------------------------------------------------------------------------------------------------------

_ON_RAY = """
import json, logging, sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from cytolabe.flow import passes, schedule
from cytolabe.flow.means import Means
from cytolabe.flow.sources import ingest_sources
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.store import array_spec, writing
schedule.LARGE_BYTES, passes._RANGES_PER_TASK = 0, 1
array_spec.SHARD_VALUES, array_spec.CHUNK_VALUES = 1 << 17, 1 << 12
passes._SHARDS_PER_TASK = 1
atlas, lab, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
small = {"num_cpus": 1, "object_store_memory": 80 << 20, "memory": 1 << 30}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
nodes = [cluster.add_node(**small) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
n_nodes = sum(node["Alive"] for node in ray.nodes())
def tell(message):
    if message.startswith(moment) and nodes:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
means = Means(engine="ray", memory="3GB", n_workers=3, interval=0.0)
(outcome,), _, _ = ingest_sources(atlas, [lab], means=means, on_progress=tell)
deadline = time.monotonic() + 30
alive = 3
while alive == 3 and len(nodes) < 2 and time.monotonic() < deadline:
    alive = sum(node["Alive"] for node in ray.nodes())
    time.sleep(0.2)
print(json.dumps([open_atlas(atlas).freeze().snapshot_id, n_nodes, alive]))
sys.stdout.flush()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_of_three_nodes_makes_the_same_snapshot_though_one_dies(lab, tmp_path, expected):
    pytest.importorskip("ray")
    environment = {**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    words = [sys.executable, "-W", "ignore", "-c", _ON_RAY, str(tmp_path / "atlas"), str(lab), "writing counts"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    assert done.returncode == 0, done.stderr[-3000:]
    # Ray tells of the lost node on the same stream.
    said = next(line for line in done.stdout.splitlines() if line.startswith('["sha256:'))
    snapshot_id, n_nodes, n_alive = json.loads(said)
    # A busy machine may take another node for dead as well: the work goes on all the same.
    assert n_nodes == 3
    assert 1 <= n_alive <= 2
    assert snapshot_id == expected
    assert verify_atlas(tmp_path / "atlas")[1] == ()


def test_the_engines_speak_one_protocol():
    with LocalEngine(1) as engine:
        assert isinstance(engine, work.Engine)
        assert isinstance(RayEngine(), work.Engine)
        assert engine.map(abs, [-1, 2]) == [1, 2]
