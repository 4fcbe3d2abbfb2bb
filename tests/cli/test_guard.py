"""A command whose process crashes is run once more, and the file over which it crashed is named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from cytolabe.cli import main as cli
from cytolabe.cli.guard import can_guard

GUARDED = """
import os, signal, sys, time
from pathlib import Path
from cytolabe.cli.guard import guarded

def command():
    tries = len(list(Path(".").glob("try-*")))
    Path(f"try-{tries}-{os.getpid()}").touch()
    sys.stdout.write(f"try {tries}\\n")
    sys.stdout.flush()
    BODY

sys.stdout.write("before\\n")
told = []
code = guarded(command, tell=lambda how, is_last: told.append([how, is_last]))
print(told)
sys.exit(code)
"""

CRASHING = """
import os, signal, sys

def crash(event, args):
    if event == "open" and str(args[0]).endswith("bad.h5ad") and "inspect" not in " ".join(sys.orig_argv):
        os.kill(os.getpid(), signal.SIGSEGV)

sys.addaudithook(crash)
"""
"""Reading this file crashes any process but the one that looks through it first."""


def started(folder, body):
    return subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", GUARDED.replace("BODY", body)], cwd=folder, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        pytest.param("sys.exit(5)", 5, "[]", id="an_exit_code_is_handed_on"),
        pytest.param(
            "os.kill(os.getpid(), signal.SIGSEGV if tries == 0 else 0); sys.exit(1)",
            1,
            "[['SIGSEGV', False]]",
            id="a_crash_is_tried_again",
        ),
        pytest.param("os.abort()", 3, "[['SIGABRT', False], ['SIGABRT', True]]", id="two_crashes_are_the_end"),
        pytest.param("os.kill(os.getpid(), signal.SIGUSR1)", 138, "[]", id="another_signal_is_no_crash"),
    ],
)
def test_how_a_command_ended_decides_whether_it_is_run_again(tmp_path, body, code, told):
    process = started(tmp_path, body)
    said = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == code
    assert said == ["before", *(f"try {number}" for number in range(len(list(tmp_path.glob("try-*"))))), told]


@pytest.mark.parametrize(
    ("asked", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["terminated", "interrupted", "killed"],
)
def test_a_signal_to_the_command_ends_the_process_that_works(tmp_path, asked, code):
    body = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
        "    sys.stdout.write('ready\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    process = started(tmp_path, body)
    for line in process.stdout:
        if line == "ready\n":
            break
    process.send_signal(asked)
    process.communicate(timeout=60)
    assert process.returncode == code
    (mark,) = tmp_path.glob("try-*")
    deadline = time.monotonic() + 20
    while Path(f"/proc/{mark.name.split('-')[2]}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{mark.name.split('-')[2]}").exists()


def test_a_process_that_holds_libraries_is_not_forked():
    assert "numpy" in sys.modules
    assert not can_guard()


def test_a_file_that_crashes_one_worker_is_a_finding_of_the_same_command(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CRASHING)
    for name in ("bad", "good"):
        with h5py.File(tmp_path / f"{name}.h5ad", "w") as file:
            file["matter"] = [1.0, 2.0]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603 - the command that is tested
        [
            sys.executable, "-W", "ignore", "-m", "cytolabe", "ingest", str(tmp_path / "atlas"),
            str(tmp_path / "bad.h5ad"), str(tmp_path / "good.h5ad"), "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    bad, good = json.loads(done.stdout)["datasets"]
    assert [finding["code"] for finding in bad["findings"]] == ["E-PARSE-03"]
    assert [finding["code"] for finding in good["findings"]] == ["E-H5AD-01"]
    assert done.returncode == 3
    assert "ended by SIGSEGV; once more" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_word_to_end_does_not_end_the_unwinding_of_the_first(monkeypatch):
    """Sent to a whole process group, the signal comes from its sender and through the guard."""
    cleaned = []

    def command():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            cleaned.append("staged directories")

    monkeypatch.setattr(cli, "_run", command)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        cli._main()
    assert ended.value.code == 143
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) == before


def _validated(tmp_path, *words):
    (tmp_path / "sitecustomize.py").write_text(CRASHING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(  # noqa: S603 - the command that is tested
        [sys.executable, "-W", "ignore", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_a_file_that_crashes_the_reader_of_validation_is_a_finding_and_the_others_go_on(tmp_path):
    for name in ("bad", "good"):
        with h5py.File(tmp_path / f"{name}.h5ad", "w") as file:
            file["matter"] = [1.0, 2.0]
    both = (str(tmp_path / "bad.h5ad"), str(tmp_path / "good.h5ad"))
    done = _validated(tmp_path, "-m", "cytolabe", "validate", *both, "--json")
    bad, good = json.loads(done.stdout)["sources"]
    assert [finding["code"] for finding in bad["findings"]] == ["E-PARSE-03"]
    assert [finding["code"] for finding in good["findings"]] == ["E-H5AD-01"]
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_validation_from_python_outlives_a_file_that_crashes_its_reader(tmp_path):
    """Without a guard of the caller's own module, which workers of multiprocessing would want."""
    with h5py.File(tmp_path / "bad.h5ad", "w") as file:
        file["matter"] = [1.0, 2.0]
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from cytolabe.flow.sources import validate_paths\n"
        "(row,) = validate_paths([Path(__file__).parent / 'bad.h5ad'])\n"
        "print(row.unreadable, *(finding.code for finding in row.findings))\n"
    )
    done = _validated(tmp_path, str(script))
    assert done.stdout.split() == ["True", "E-PARSE-03"], done.stderr
