"""Readers that die, that do not start and that fail: each is told as what it is, and the other tasks go on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cytolabe.errors import RefusedError, UsageError, WorkerDiedError
from cytolabe.flow import apart
from cytolabe.flow.apart import run_apart

CHILD = """
import os, signal, sys, time
from multiprocessing.connection import Connection
from pathlib import Path
from cytolabe.errors import RefusedError
from cytolabe.flow.apart import end_with_caller, serve

def die(mark):
    Path(mark).open("a").write("x")
    os.kill(os.getpid(), signal.SIGSEGV)

def die_once(mark):
    if not Path(mark).exists():
        die(mark)
    return "alive"

def refuse(_):
    raise RefusedError("no such donor")

def stumble(_):
    raise ZeroDivisionError("odd")

def last(mark):
    Path(mark).write_text(str(os.getpid()))
    time.sleep(120)

end_with_caller()

def run_out(_):
    raise MemoryError

def babble(what):
    theirs.send_bytes(what.encode())

theirs = Connection(int(sys.argv[1]))
kinds = {"last": last, "run_out": run_out, "babble": babble, "set": set, "die": die, "die_once": die_once, "say": str.upper, "refuse": refuse, "stumble": stumble}
serve(theirs, kinds)
"""


def wait_until(is_so):
    while not is_so():  # the time limit of a test ends it
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def child(tmp_path, monkeypatch):
    (tmp_path / "made_up_reader.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(apart, "_CHILD", "made_up_reader")


def test_a_task_over_which_two_readers_died_has_no_answer_and_the_others_have_theirs(tmp_path):
    mark, told = tmp_path / "died", []
    tasks = [("say", "one"), ("die", str(mark)), ("say", "two"), ("die_once", str(tmp_path / "once"))]
    answers = run_apart(tasks, n_workers=2, on_done=lambda *done: told.append(done))
    assert answers == ["ONE", None, "TWO", "alive"]
    assert mark.read_text() == "xx"
    assert told == [(done, 4) for done in range(1, 5)]


def test_an_error_of_a_task_is_raised_as_what_it_is():
    with pytest.raises(RefusedError, match="no such donor"):
        run_apart([("refuse", ""), ("say", "one")])
    with pytest.raises(RuntimeError, match="ZeroDivisionError: odd"):
        run_apart([("stumble", "")])


def test_a_reader_without_memory_or_that_answers_no_document_is_as_good_as_dead_and_the_others_have_their_answers():
    tasks = [("run_out", ""), ("babble", "{"), ("babble", "[1]"), ("babble", '{"findings": []}'), ("say", "one")]
    assert run_apart(tasks) == [None, None, None, None, "ONE"]


def test_an_answer_that_is_no_json_is_an_error_of_the_task_and_no_death():
    with pytest.raises(RuntimeError, match=r"TypeError.*not JSON serializable"):
        run_apart([("set", "ab")])


def test_a_reader_that_was_closed_while_it_started_is_ended():
    reader = apart._Reader()
    reader.close()
    with pytest.raises(EOFError):
        reader.answer(("say", "one"))
    assert (reader._process, reader._ours) == (None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
def test_a_reader_ends_with_a_caller_that_is_killed(tmp_path):
    mark = tmp_path / "pid"
    script = (
        f"from cytolabe.flow import apart; apart._CHILD = 'made_up_reader'; apart.run_apart([('last', {str(mark)!r})])"
    )
    places = os.pathsep.join([str(tmp_path), str(Path(apart.__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": places}
    caller = subprocess.Popen([sys.executable, "-c", script], env=environment)  # noqa: S603  this interpreter
    try:
        wait_until(lambda: mark.exists() and mark.read_text() != "")
    finally:
        caller.kill()
        caller.wait()
    reader = Path(f"/proc/{mark.read_text()}")
    # What is no child of this process may stay as a zombie until the system asks for it.
    wait_until(lambda: not reader.exists() or "(zombie)" in (reader / "status").read_text())


def test_a_reader_that_does_not_start_is_no_fault_of_a_file(tmp_path):
    (tmp_path / "made_up_reader.py").write_text("raise SystemExit(7)")
    with pytest.raises(WorkerDiedError, match="did not start \\(code 7"):
        run_apart([("say", "one")])


def test_without_a_worker_or_a_task_nothing_starts(monkeypatch):
    monkeypatch.setattr(apart.subprocess, "Popen", None)
    assert run_apart([]) == []
    with pytest.raises(UsageError, match="at least one worker"):
        run_apart([("say", "one")], n_workers=0)
