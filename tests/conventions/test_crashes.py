import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
CRASH = """
import os, signal
from pathlib import Path

def test_crash():
    met = Path(__file__).with_name("met")
    times = int(met.read_text()) if met.exists() else 0
    met.write_text(str(times + 1))
    if times < {n_crashes}:
        os.kill(os.getpid(), signal.SIGKILL)
    assert {is_right}
"""


def run(folder, *, n_crashes, is_right=True):
    """Run one test in a worker of its own; return the exit code, how often it ran, and what was printed."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_crash.py").write_text(CRASH.format(n_crashes=n_crashes, is_right=is_right))
    words = ["-m", "pytest", "-q", "-n", "1", "-p", "no:randomly", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    done = subprocess.run(  # noqa: S603
        [sys.executable, *words, str(folder)], capture_output=True, text=True, check=False, cwd=folder, timeout=120
    )
    return done.returncode, int((folder / "met").read_text()), done.stdout


def test_a_test_whose_worker_crashed_is_run_once_more_and_counted_apart(tmp_path):
    code, n_runs, told = run(tmp_path, n_crashes=1)
    assert (code, n_runs) == (0, 2)
    assert "1 passed, 1 rerun" in told


def test_a_second_crash_fails(tmp_path):
    code, n_runs, told = run(tmp_path, n_crashes=2)
    assert (code, n_runs) == (1, 2)
    assert "1 failed" in told


def test_what_fails_without_a_crash_is_not_run_again(tmp_path):
    code, n_runs, _ = run(tmp_path, n_crashes=0, is_right=False)
    assert (code, n_runs) == (1, 1)
