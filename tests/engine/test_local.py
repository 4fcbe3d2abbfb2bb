import math
import multiprocessing
import os
import time

import pytest

from cytolabe.engine import run_tasks
from cytolabe.errors import UsageError

# Tasks are library functions: a worker process has to be able to import them.


@pytest.mark.parametrize("n_workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(n_workers):
    tasks = [900, 3, 400, 1, 0, 77]
    assert run_tasks(math.factorial, tasks, n_workers=n_workers) == [math.factorial(task) for task in tasks]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_failure_keeps_its_type_and_says_which_task_it_was(n_workers):
    with pytest.raises(ValueError, match="factorial") as caught:
        run_tasks(math.factorial, [1, 2, -7, 3], n_workers=n_workers)
    assert any("task 3 of 4: -7" in note for note in caught.value.__notes__)


def test_tasks_that_had_not_started_are_cancelled_after_a_failure():
    started, before = time.monotonic(), set(multiprocessing.active_children())
    with pytest.raises(TypeError):
        run_tasks(time.sleep, ["not a number", *[20.0] * 20], n_workers=2)
    assert_no_worker_is_left(before)
    assert time.monotonic() - started < 8


def test_a_worker_that_dies_is_reported_with_the_likely_cause():
    with pytest.raises(Exception, match="terminated") as caught:
        run_tasks(os._exit, [3, 3], n_workers=2)
    assert any("out of memory" in note for note in caught.value.__notes__)


def test_one_worker_runs_here_and_two_run_elsewhere():
    assert run_tasks(os.path.abspath, ["."], n_workers=4) == [os.getcwd()]  # noqa: PTH109
    assert run_tasks(_pid, [0, 1]) == [os.getpid()] * 2


@pytest.mark.parametrize("n_workers", [1, 2])
def test_progress_counts_every_task_once(n_workers):
    seen = []
    run_tasks(math.sqrt, [1.0, 4.0, 9.0], n_workers=n_workers, on_done=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupt_leaves_no_worker_behind():
    def interrupt(done, total):
        raise KeyboardInterrupt

    started, before = time.monotonic(), set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        run_tasks(time.sleep, [0.0, *[20.0] * 8], n_workers=2, on_done=interrupt)
    assert_no_worker_is_left(before)
    assert time.monotonic() - started < 8


def test_what_a_worker_cannot_import_is_refused_before_anything_starts():
    with pytest.raises(UsageError, match="cannot be imported"):
        run_tasks(lambda task: task, [1, 2], n_workers=2)
    with pytest.raises(UsageError, match="at least one"):
        run_tasks(math.sqrt, [1.0], n_workers=0)


def test_no_tasks_give_no_results():
    assert run_tasks(math.sqrt, [], n_workers=2) == []


def assert_no_worker_is_left(before):
    """The pool reaps its processes in a thread, so a process that has ended may be listed for a moment."""
    deadline = time.monotonic() + 5
    while set(multiprocessing.active_children()) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(multiprocessing.active_children()) - before == set()


def _pid(_task):
    return os.getpid()
