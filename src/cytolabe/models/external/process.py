"""One step of a foreign program: a command in a folder, under a time limit, without what this process was trusted with.

The program gets a short environment of its own: where programs are (`PATH`), how many threads it may take, a home and a
folder for the moment that are removed afterwards, and the variables that the study names. Tokens and passwords of whoever
runs the study are in neither. It is no sandbox: what the file system lets this user read, the program can read.

It runs in a session of its own, all of which is ended when its time is over, and when its first process has ended.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytolabe.errors import ModelFailedError

__all__ = ["clean_environment", "run_step", "thread_number"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_LAST_LINES = 5
_MOST_BYTES = 1 << 14


def thread_number() -> int:
    """Return how many threads a program may take: `OMP_NUM_THREADS`, else one, as for every model of a study."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) > 0 else 1


def clean_environment(root: Path, *, inherited: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment of a program that works below `root`; `inherited` are names of variables that go along."""
    for name in ("home", "tmp"):
        (root / name).mkdir(exist_ok=True)
    threads = dict.fromkeys(_THREADS, str(thread_number()))
    own = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **threads}
    own |= {"HOME": str(root / "home"), "TMPDIR": str(root / "tmp")}
    return own | {name: os.environ[name] for name in inherited if name in os.environ}


def run_step(
    command: Sequence[str], folder: Path, *, environment: Mapping[str, str], timeout: float, told: str
) -> None:
    """Run a command with the folder as its last word, and in it.

    Parameters
    ----------
    timeout
        Seconds after which it is ended.
    told
        What is run, for messages.

    Raises
    ------
    ModelFailedError
        If it cannot be started, takes longer, or ends with another status than 0; with the last lines of its errors.
    """
    log = folder.parent / f"{folder.name}.stderr"
    with log.open("wb") as errors:
        try:
            process = subprocess.Popen(  # noqa: S603 - a program that the study names; no shell
                [*command, str(folder)],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            msg = f"{told}: {command[0]} cannot be started ({error.strerror})."
            raise ModelFailedError(msg) from error
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            msg = f"{told} was ended after {timeout:g} seconds (timeout_seconds). {_last_lines(log)}"
            raise ModelFailedError(msg) from None
        finally:
            _end(process)
    if status:
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        msg = f"{told} ended with {how}. {_last_lines(log)}"
        raise ModelFailedError(msg)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End whatever is left of the session of a process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(log: Path) -> str:
    """Return the end of what a program wrote on its standard error, in one line: a score has one line for its reason."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _MOST_BYTES))
        text = stream.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    return f"Its last words: {' | '.join(lines)}" if lines else "It said nothing on its standard error."
