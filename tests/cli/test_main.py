"""One place turns errors into exit codes; standard output belongs to the result."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cytolabe.cli import main as cli
from cytolabe.engine import local
from cytolabe.errors import (
    ConflictError,
    HostileInputError,
    IntegrityError,
    MissingExtraError,
    RefusedError,
    UnreadableInputError,
    UsageError,
)


def broken_with(error, monkeypatch):
    """Let every command end with an error."""

    def app(**_):
        raise error

    monkeypatch.setattr(cli, "app", app)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError, 1), (UsageError, 2), (MissingExtraError, 2), (UnreadableInputError, 3), (HostileInputError, 3),
        (IntegrityError, 4), (ConflictError, 5), (KeyboardInterrupt, 130),
    ],
)  # fmt: skip
def test_each_error_has_its_exit_code_and_one_document(call, monkeypatch, error, code):
    broken_with(error("what, where and what to do"), monkeypatch)
    plain, as_json = call("doctor"), call("doctor", "--json")
    assert plain.code == as_json.code == code
    assert plain.out == ""
    assert as_json.document["error"]["type"] in {error.__name__, "Interrupted"}
    assert as_json.document["error"]["message"]


def test_what_the_system_refuses_is_told_with_its_path(call, monkeypatch):
    broken_with(PermissionError(13, "Permission denied", "/data/atlas"), monkeypatch)
    called = call("doctor", "--json")
    assert called.code == 3
    assert called.document["error"] == {"type": "PermissionError", "message": "/data/atlas: Permission denied."}


def test_an_interrupt_in_the_middle_of_the_work_ends_with_130(call, frozen, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cytolabe.flow.splitting.make_split", interrupted)
    called = call("split", frozen, "-o", tmp_path / "s.json", "--json")
    assert called.code == 130
    assert called.document["error"]["type"] == "Interrupted"


def test_a_fault_of_the_program_is_not_hidden(call, monkeypatch):
    broken_with(ZeroDivisionError("a bug"), monkeypatch)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("nonsense",), id="unknown command"),
        pytest.param(("ingest",), id="missing argument"),
        pytest.param(("doctor", "--color"), id="unknown option"),
        pytest.param(("split", "atlas", "--folds", "many"), id="a word for a number"),
    ],
)
def test_a_wrong_call_ends_with_2(call, words):
    plain, as_json = call(*words), call(*words, "--json")
    assert plain.code == as_json.code == 2
    assert plain.out == ""
    assert "Try 'cytolabe --help'" in plain.err
    assert as_json.document["error"]["type"] == "UsageError"


def test_help_lists_the_commands_in_the_order_of_the_flow(call):
    called = call("--help")
    assert called.code == 0
    listed = [line.split()[0] for line in called.out.split("Commands:")[1].splitlines() if line.strip()]
    flow = ["ingest", "validate", "reconcile", "snapshot", "split", "audit", "embed", "verify"]
    assert [name for name in listed if name in flow] == flow


def test_without_a_command_the_help_is_shown_and_the_code_is_2(call):
    for words in ((), ("snapshot",)):
        called = call(*words)
        assert called.code == 2
        assert "Usage:" in called.out + called.err
        assert "Try" not in called.err


def run(*words):
    return subprocess.run(  # noqa: S603 - our own interpreter, our own words
        [sys.executable, "-m", "cytolabe", *words], capture_output=True, text=True, check=False, timeout=60
    )


def test_as_a_process_standard_output_is_one_document_and_progress_lies_beside_it(frozen, tmp_path):
    done = run("split", str(frozen), "-o", str(tmp_path / "s.json"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["splits"]
    assert "comparing 480 cells" in done.stderr


def test_as_a_process_an_error_leaves_no_traceback(tmp_path):
    done = run("snapshot", str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("UsageError: ")
    assert "Traceback" not in done.stderr


_SWALLOWED = """
import os, signal, sys, time
import cytolabe.cli.main as command

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the handler runs here, and what it raises goes nowhere

def work():
    del_me = Dropped()
    del del_me
    time.sleep(20)
    print("went on")
    return 0

command._run = work
command._main()
"""


def test_a_request_to_end_that_a_callback_swallows_ends_the_command_all_the_same():
    ended = subprocess.run([sys.executable, "-c", _SWALLOWED], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    assert (ended.returncode, ended.stdout) == (143, "")
    assert "it was asked to end" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_else_fails_in_a_callback_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "__unraisablehook__", told.append)
    failed = SimpleNamespace(exc_value=ValueError("x"))
    cli._ask_again(failed)
    local._tell_unless_ended(failed)
    assert told == [failed, failed]
    local._tell_unless_ended(SimpleNamespace(exc_value=local._EndedError(143)))
    assert len(told) == 2
