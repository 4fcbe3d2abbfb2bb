"""What tasks say while they run reaches whoever waits for them, and can neither hold up nor break the work."""

import operator
import os
import select
import threading
import time
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import pytest

from cytolabe.engine import LocalEngine, lines, local, run_tasks, tell
from cytolabe.engine.lines import LinePipe, hear_through
from cytolabe.errors import WorkerDiedError

# Tasks are library functions: a worker process has to be able to import them.


@pytest.mark.parametrize("n_workers", [1, 2])
def test_what_tasks_tell_is_heard_where_they_were_asked_for(n_workers):
    heard = []
    tasks = [f"{name} ünder way" for name in "abc"]
    assert run_tasks(tell, tasks, n_workers=n_workers, on_line=heard.append) == [None] * 3
    assert sorted(heard) == tasks


def test_a_line_is_heard_before_its_task_is_counted_as_done():
    heard = []
    run_tasks(tell, ["a", "b"], n_workers=2, on_line=heard.append, on_done=lambda done, total: heard.append(done))
    assert heard.index("a") < heard.index(2)
    assert heard.index("b") < heard.index(2)
    assert heard[0] in {"a", "b"}


def test_a_line_is_heard_while_its_task_runs(monkeypatch):
    monkeypatch.setattr(local, "_AWAKE_SECONDS", 0.05)
    heard = []
    tasks = [partial(tell, "begun"), partial(time.sleep, 4.0)]
    ended = []

    def on_line(line):
        heard.append((line, len(ended)))

    run_tasks(operator.call, tasks, n_workers=2, on_line=on_line, on_done=lambda done, total: ended.append(done))
    assert heard == [("begun", 0)]


def test_where_nobody_listens_a_line_is_lost_and_the_task_done():
    tell("nobody")
    assert run_tasks(tell, ["a", "b"], n_workers=2) == [None, None]


def test_a_worker_that_is_killed_takes_the_lines_of_no_other_along():
    heard = []
    tasks = [partial(tell, "a"), partial(os._exit, 9), partial(tell, "c")]
    with LocalEngine(2, on_line=heard.append) as engine:
        engine.map(operator.call, tasks, on_crash=lambda task: None)
        assert engine.map(operator.call, [partial(tell, "d"), partial(tell, "e")]) == [None, None]
    assert {"c", "d", "e"} <= set(heard)
    with pytest.raises(WorkerDiedError):
        run_tasks(os._exit, [9, 9], n_workers=2, on_line=heard.append)


@pytest.fixture
def sent(monkeypatch):
    """A pipe whose writing end is that of this process."""
    monkeypatch.setattr(lines, "_LISTENER", ContextVar("listener", default=None))
    pipe = LinePipe()
    hear_through(pipe.writer)
    yield pipe
    pipe.close()


def test_each_thread_hears_its_own_tasks_and_nobody_who_listens_loses_a_line_to_one_who_does_not():
    heard_by, both = {"a": [], "b": []}, threading.Barrier(2)

    def ask(name):
        with lines.heard(heard_by[name].append):
            both.wait(10)
            run_tasks(tell, [f"of {name}"])
            both.wait(10)

    threads = [threading.Thread(target=ask, args=(name,)) for name in heard_by]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard_by == {"a": ["of a"], "b": ["of b"]}


def test_an_engine_leaves_no_descriptor_open_when_it_ends():
    counts = []
    for _ in range(3):
        run_tasks(tell, ["a", "b"], n_workers=2, on_line=lambda _: None)
        counts.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    assert counts[0] == counts[-1]


def test_lines_come_whole_and_in_order_and_a_long_one_is_cut(sent):
    for line in ("one", "two\nlines", "x" * 100_000, "last"):
        tell(line)
    found = sent.lines()
    assert (found[0], found[1], found[3]) == ("one", "two lines", "last")
    assert set(found[2]) == {"x"}
    assert len(found[2]) == select.PIPE_BUF - 1  # with its end what a pipe takes whole or not at all
    assert sent.lines() == []


def test_a_pipe_that_nobody_reads_drops_lines_and_holds_nobody_up(sent):
    started = time.monotonic()
    for number in range(5_000):
        tell(f"{number} " + "x" * 1_000)
    assert time.monotonic() - started < 20
    found = sent.lines()
    assert 0 < len(found) < 5_000
    assert all(line.endswith("x" * 1_000) for line in found)


def test_a_broken_pipe_breaks_no_task(sent):
    sent._reader.close()
    tell("nobody reads this")
    sent.writer.close()
    tell("nor this")


def test_without_a_pipe_the_work_is_done_in_silence(monkeypatch):
    def none_left():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(local, "LinePipe", none_left)
    heard = []
    assert run_tasks(tell, ["a", "b"], n_workers=2, on_line=heard.append) == [None, None]
    assert heard == []
