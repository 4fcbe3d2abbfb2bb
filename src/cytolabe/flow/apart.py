"""Files of others read in processes that may die: a document comes back of each, or word that its reader died.

HDF5 and the decoders of chunks are C code that trusts what it parses. That a process looked through a file before
(`ingest.inspection`) makes a crash of a later reader unlikely and not impossible. `cytolabe ingest` survives it by what
it finds of the run before; whoever only wants to know what is in a file has the file read elsewhere from the first.

A reader is a fresh interpreter that takes one task after the other and answers in JSON: it never runs the caller's
script, as a worker of `multiprocessing` would, and nothing that it sends is unpickled.
"""

import ctypes
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from cytolabe import errors
from cytolabe.errors import UsageError, WorkerDiedError
from cytolabe.ingest.inspection import child_environment
from cytolabe.records import Finding, Severity

__all__ = ["Document", "crashed", "end_with_caller", "run_apart", "serve"]

Document = Mapping[str, object]
"""What a reader answers: `answer`, or the `error` that a task raised with the name of its type."""

_CHILD = "cytolabe.flow.apart_child"
_TRIES = 2
_GRACE_SECONDS = 3.0
_MOST_BYTES = 1 << 28
_PR_SET_PDEATHSIG = 1


def run_apart(
    tasks: Sequence[tuple[str, object]],
    *,
    n_workers: int = 1,
    on_done: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[object | None]:
    """Run tasks in processes of their own and return what each answers, in the order of the tasks.

    Parameters
    ----------
    tasks
        Name of a kind (`flow.apart_child.KINDS`) and its argument.
    n_workers
        How many readers run at a time.
    on_done
        Told after each task how many of how many are done.

    Returns
    -------
    answers
        None where the process that had the task in hand was ended twice, the second time a fresh one.

    Raises
    ------
    CytolabeError
        What a task raised.
    WorkerDiedError
        If a reader does not start.
    """
    if n_workers < 1:
        msg = f"n_workers is {n_workers}; at least one worker has to do the work."
        raise UsageError(msg)
    readers = [_Reader() for _ in range(min(n_workers, len(tasks)))]
    idle: SimpleQueue[_Reader] = SimpleQueue()
    for reader in readers:
        idle.put(reader)

    def run(task: tuple[str, object]) -> object | None:
        reader = idle.get()
        try:
            return reader.answer(task)
        finally:
            idle.put(reader)

    with ThreadPoolExecutor(max(1, len(readers))) as threads:
        try:
            futures = [threads.submit(run, task) for task in tasks]
            for n_done, future in enumerate(as_completed(futures), start=1):
                future.result()
                on_done(n_done, len(tasks))
            return [future.result() for future in futures]
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for reader in readers:
                reader.close()


def crashed(path: Path) -> Finding:
    """Return what is said of a file over which its reader died twice."""
    return Finding(
        code="E-PARSE-03",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        message="The process that read the file was ended twice: for want of memory, or its bytes crash the library.",
        remedy="Give it again by itself, with more memory and one worker; if it dies again, get a new copy.",
        rule="cytolabe/safety",
    )


def end_with_caller() -> None:
    """Have the system end this process with the one that started it, where it can (Linux).

    A caller that is killed closes nothing: its readers would go on for as long as their files last, beside those of the
    next try, with nobody to answer to.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def serve(theirs: Connection, kinds: Mapping[str, Callable[..., object]]) -> None:
    """Answer tasks until there are no more, or memory ran out; `kinds` says what does each of them."""
    theirs.send_bytes(b"ready")
    while True:
        try:
            kind, argument = theirs.recv()
        except (EOFError, OSError):
            return
        try:
            document = json.dumps({"answer": kinds[kind](argument)})
        except MemoryError:
            return  # a fresh process may have room; where that has none either, it is told of this file and not of all
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to the one who asked
            document = json.dumps({"error": str(error), "type": type(error).__name__})
        try:
            theirs.send_bytes(document.encode())
        except OSError:
            return  # whoever asked is gone


class _Reader:
    """One process at a time that reads files; it starts with the first task, and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ours: Connection | None = None
        self._is_closed = False

    def answer(self, task: tuple[str, object]) -> object | None:
        """Return the answer to a task, or None where the process died over it, and a fresh one as well."""
        for _ in range(_TRIES):
            ours = self._started()
            try:
                ours.send(task)
                document = _document_in(ours.recv_bytes(_MOST_BYTES))
            except (EOFError, OSError, ValueError):
                if self._is_closed:
                    raise
                self._end()
                continue
            if "error" in document:
                raise _error_of(document)
            return document["answer"]
        return None

    def close(self) -> None:
        """End the process; a task that it has in hand is not tried again."""
        self._is_closed = True
        self._end()

    def _started(self) -> Connection:
        if self._ours is not None:
            return self._ours
        ours, theirs = Pipe()
        self._process = process = subprocess.Popen(  # noqa: S603  this interpreter, a module of this package
            [sys.executable, "-m", _CHILD, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=child_environment(),
        )
        theirs.close()
        try:
            ours.recv_bytes()  # that it is ready: what ends it from here on is the file
        except (EOFError, OSError) as error:
            code = process.wait(_GRACE_SECONDS)
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            msg = f"the process that is to read the files did not start ({how}; its own message is above)."
            raise WorkerDiedError(msg) from error
        self._ours = ours
        if self._is_closed:  # while it started
            self._end()
            raise EOFError
        return ours

    def _end(self) -> None:
        process, ours = self._process, self._ours
        self._process = self._ours = None
        if process is not None:
            process.kill()
            process.wait()
        if ours is not None:
            ours.close()


def _document_in(content: bytes) -> Document:
    """Return what a reader answered; ValueError where it is none of the two documents, which says that it is broken."""
    document = json.loads(content)
    if not isinstance(document, dict) or not (document.keys() == {"answer"} or document.keys() == {"error", "type"}):
        msg = "a reader answered with something else than a document"
        raise ValueError(msg)
    return document


def _error_of(document: Document) -> Exception:
    """Return the error that a task raised, of its type where it is one of ours."""
    kind, text = vars(errors).get(str(document["type"])), str(document["error"])
    if isinstance(kind, type) and issubclass(kind, errors.CytolabeError):
        return kind(text)
    return RuntimeError(f"{document['type']}: {text}")
