import contextlib
import multiprocessing
import threading
import time

import numpy as np
import pytest

from cytolabe.engine import LocalEngine
from cytolabe.errors import UsageError
from cytolabe.flow import contribute, memory_watch
from cytolabe.flow.memory_watch import held_by_family, held_by_leader, memory_watched
from cytolabe.ingest.sources import find_sources

MB = 10**6
HELD_SECONDS = 120
"""How long a worker keeps its memory: much longer than a busy machine takes to end it."""


def hold(n_bytes):
    kept = np.ones(n_bytes, dtype=np.uint8)
    time.sleep(HELD_SECONDS)
    return len(kept)


def test_memory_of_processes_below_counts():
    before = held_by_family()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(200 * MB,))
    process.start()
    try:
        end = time.monotonic() + HELD_SECONDS / 2
        while held_by_family() < before + 150 * MB and time.monotonic() < end:
            time.sleep(0.05)
        assert held_by_family() > before + 150 * MB
        assert held_by_leader() < held_by_family() - 150 * MB
    finally:
        process.kill()
        process.join()


def test_what_is_resident_answers_where_it_is_little_and_is_never_less_than_what_is_held(monkeypatch):
    held, resident = held_by_family(), held_by_family(below=2**60)
    assert resident > held > 0
    monkeypatch.setattr(memory_watch, "_held", lambda _: pytest.fail("pages were looked at one by one"))
    assert held_by_family(below=2 * resident) > held
    monkeypatch.setattr(memory_watch, "_held", lambda _: 7)
    assert held_by_family(below=resident // 2) % 7 == 0


def test_a_leader_over_its_memory_is_ended_wherever_it_is():
    kept = []

    def grow():
        for _ in range(1_000):
            kept.append(np.ones(20 * MB, dtype=np.uint8))
            time.sleep(0.02)

    told = r"hold [\d,]+ MB, over the [\d,]+ MB of --memory.*goes on where"
    with pytest.raises(UsageError, match=told), memory_watched(held_by_family() + 100 * MB, interval=0.01):
        grow()
    assert len(kept) < 200


def test_workers_over_the_memory_are_ended_with_the_leader():
    before, start = set(multiprocessing.active_children()), time.monotonic()
    with (
        pytest.raises(UsageError, match="over the"),
        memory_watched(held_by_family() + 400 * MB, interval=0.05),
        LocalEngine(2) as engine,
    ):
        engine.map(hold, [300 * MB, 300 * MB])
    # Their ends are seen a moment before they can be reaped.
    while set(multiprocessing.active_children()) - before and time.monotonic() - start < HELD_SECONDS / 2:
        time.sleep(0.05)
    assert time.monotonic() - start < HELD_SECONDS / 2, "the workers ended by themselves, or not at all"


def test_work_within_its_memory_is_left_alone():
    asked = []
    with memory_watched(100, interval=0.001, held=lambda: asked.append(1) or 100):
        while len(asked) < 5:
            time.sleep(0.001)
    n_asked = len(asked)
    time.sleep(0.01)
    assert len(asked) == n_asked


def test_no_handler_of_errors_takes_the_end_for_one_of_its_own():
    def deaf():
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    with pytest.raises(UsageError, match="over the"), memory_watched(1, interval=0.001, held=lambda: 2):
        deaf()


def test_cleaning_up_is_not_interrupted_by_a_second_word():
    cleaned = []

    def work():
        try:
            while True:
                time.sleep(0.01)
        finally:
            time.sleep(0.3)
            cleaned.append(1)

    with pytest.raises(UsageError, match="over the"), memory_watched(1, interval=0.001, held=lambda: 2):
        work()
    assert cleaned


def test_a_word_at_the_end_of_the_work_leaves_no_watcher_behind():
    for trial in range(200):
        with contextlib.suppress(UsageError), memory_watched(1, interval=0.0005, held=lambda: 2):
            time.sleep(0.0004 + 0.000002 * trial)
        assert not [thread for thread in threading.enumerate() if thread.name == "cytolabe-memory"]


def test_a_worker_between_two_files_holds_nothing_of_the_first(contribution_task, monkeypatch):
    """A heap with something left at its end keeps all that was freed below it, until it is told to give it back."""
    kept = []

    def ingest_that_fills_the_heap(*_):
        arrays = [np.ones(12_000) for _ in range(2_000)]
        kept.extend(arrays[::200])
        return contribute.SourceOutcome(
            source="x", dataset_id="x", status="accepted", findings=(), n_bytes=held_by_leader()
        )

    monkeypatch.setattr(contribute, "_contribute_one", ingest_that_fills_the_heap)
    inside = contribute.contribute_alone(contribution_task).n_bytes
    assert inside - held_by_leader() > 120 * 10**6


@pytest.fixture
def contribution_task(tmp_path):
    (source,), _ = find_sources([_empty(tmp_path / "x.h5ad")])
    return contribute.Contribution(atlas=tmp_path, source=source)


def _empty(path):
    path.write_bytes(b"")
    return path
