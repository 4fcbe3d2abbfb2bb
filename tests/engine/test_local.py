import math
import multiprocessing
import operator
import os
import time
from functools import partial

import pytest

from cytolabe.engine import LocalEngine, run_tasks
from cytolabe.errors import UsageError, WorkerDiedError

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
    with pytest.raises(WorkerDiedError, match="out of memory"):
        run_tasks(os._exit, [3, 3], n_workers=2)


def test_a_task_that_kills_its_worker_twice_gets_its_own_result_and_the_others_go_on():
    tasks = [partial(math.sqrt, x) for x in (1.0, 4.0, 9.0, 16.0, 25.0)]
    tasks.insert(2, partial(os._exit, 9))
    with LocalEngine(2) as engine:
        results = engine.map(operator.call, tasks, on_crash=lambda task: -float(task.args[0]))
    assert results == [1.0, 2.0, -9.0, 3.0, 4.0, 5.0]


def test_where_every_task_kills_its_worker_it_is_no_matter_of_one_task():
    with LocalEngine(2) as engine, pytest.raises(WorkerDiedError):
        engine.map(os._exit, [3, 3], on_crash=abs)


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


def test_one_worker_apart_dies_without_this_process():
    with LocalEngine(1, apart=True) as engine:
        assert engine.map(operator.call, [os.getpid]) != [os.getpid()]
        assert engine.map(os._exit, [3], on_crash=abs) == [3]
