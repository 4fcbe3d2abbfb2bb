import multiprocessing
import time

import numpy as np
import pytest

from cytolabe.engine import LocalEngine
from cytolabe.errors import UsageError
from cytolabe.flow import memory_watch
from cytolabe.flow.memory_watch import held_by_family, held_by_leader, memory_watched

MB = 10**6


def hold(n_bytes):
    kept = np.ones(n_bytes, dtype=np.uint8)
    time.sleep(20)
    return len(kept)


def test_memory_of_processes_below_counts():
    before = held_by_family()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(200 * MB,))
    process.start()
    try:
        end = time.monotonic() + 20
        while held_by_family() < before + 150 * MB and time.monotonic() < end:
            time.sleep(0.05)
        assert held_by_family() > before + 150 * MB
        assert held_by_leader() < held_by_family() - 150 * MB
    finally:
        process.kill()
        process.join()


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
    while set(multiprocessing.active_children()) - before and time.monotonic() - start < 15:
        time.sleep(0.05)
    assert time.monotonic() - start < 15, "the workers ended by themselves, or not at all"


def test_work_within_its_memory_is_left_alone():
    asked = []
    with memory_watched(100, interval=0.001, held=lambda: asked.append(1) or 100):
        while len(asked) < 5:
            time.sleep(0.001)
    n_asked = len(asked)
    time.sleep(0.01)
    assert len(asked) == n_asked


def test_an_end_that_was_swallowed_is_told_again(monkeypatch):
    monkeypatch.setattr(memory_watch, "_PATIENCE", 0.05)
    swallowed = []

    def deaf():
        while True:
            try:
                time.sleep(0.01)
            except UsageError as error:
                swallowed.append(error)
                if len(swallowed) == 2:
                    raise

    with pytest.raises(UsageError, match="over the"), memory_watched(1, interval=0.001, held=lambda: 2):
        deaf()
