"""Independent tasks in processes on this machine.

Results come back in the order of the tasks, whatever finished first, so that the number of workers never shows in a
result. Workers are started by `spawn`: a fork copies the locks of threads that it does not copy, and zarr, BLAS and
Arrow all hold threads. A task is therefore a module-level callable and one picklable argument: paths and digests,
never matrices. With one worker nothing is started and tasks run here, unless the engine is told to keep them apart: then
a task that ends its process does not end this one.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import TypeVar, cast

from cytolabe.engine.lines import LinePipe, hear_through, heard
from cytolabe.errors import UsageError, WorkerDiedError

__all__ = ["LocalEngine", "run_tasks"]

T = TypeVar("T")
R = TypeVar("R")

_AWAKE_SECONDS = 0.5
_SHOWN = 200
"""Characters of a task that an error shows."""

_GRACE_SECONDS = 3.0
"""Time that a worker has to remove what it staged."""

_ENDED: list[int] = []
"""Signals that asked this worker to end; always empty outside of workers."""


class LocalEngine:
    """Runs tasks in `n_workers` processes that live as long as the context; one worker is this process itself.

    With `apart` no task runs in this process, whatever the number of workers. `on_line` gets what tasks tell while they
    run (`engine.tell`), in this process and in the thread that waits for them.
    """

    def __init__(
        self, n_workers: int = 1, *, apart: bool = False, on_line: Callable[[str], None] | None = None
    ) -> None:
        if n_workers < 1:
            msg = f"n_workers is {n_workers}; at least one worker has to do the work."
            raise UsageError(msg)
        self._n_workers = n_workers
        self._apart = apart
        self._on_line = on_line
        self._pipe: LinePipe | None = None
        self._executor: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()

    @property
    def n_workers(self) -> int:
        """How many tasks run at a time."""
        return self._n_workers

    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        memory: int = 0,  # noqa: ARG002 - the caller chose the number of workers by it
        on_done: Callable[[int, int], None] | None = None,
        on_crash: Callable[[T], R] | None = None,
    ) -> list[R]:
        """Apply `function` to every task and return the results in the order of the tasks; see `Engine.map`."""
        if not self._apart and (self._n_workers == 1 or len(tasks) < 2):
            with heard(self._on_line):
                return _run_here(function, tasks, on_done)
        _require_importable(function)
        results: dict[int, R] = {}
        while len(results) < len(tasks):
            try:
                executor = self._started(self._n_workers)
                _run_in_processes(executor, function, tasks, results=results, on_done=on_done, hear=self._hear)
            except WorkerDiedError:
                self._abandon()
                if on_crash is None:
                    raise
                self._run_alone(function, tasks, results=results, on_crash=on_crash)
            except BaseException:
                self._abandon()
                raise
        return [results[position] for position in range(len(tasks))]

    def _started(self, n_workers: int) -> ProcessPoolExecutor:
        if self._executor is None:
            self._others = set(multiprocessing.active_children())
            context = multiprocessing.get_context("spawn")
            if self._on_line is not None:
                with contextlib.suppress(OSError):  # without a pipe the work is done in silence
                    self._pipe = LinePipe()
            writer = self._pipe.writer if self._pipe is not None else None
            self._executor = ProcessPoolExecutor(n_workers, context, initializer=_begin, initargs=(writer,))
        return self._executor

    def _hear(self) -> None:
        """Hand on the lines that came by now."""
        if self._pipe is not None and self._on_line is not None:
            for line in self._pipe.lines():
                self._on_line(line)

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _run_alone(
        self, function: Callable[[T], R], tasks: Sequence[T], *, results: dict[int, R], on_crash: Callable[[T], R]
    ) -> None:
        """Run those that a dead worker can have had in hand one by one, to see which of them kills its worker.

        Tasks start in their order, so these are among the first that have no result.
        """
        suspects = [position for position in range(len(tasks)) if position not in results][: 2 * self._n_workers]
        died: list[int] = []
        for position in suspects:
            alone: dict[int, R] = {}
            try:
                _run_in_processes(
                    self._started(1), function, [tasks[position]], results=alone, on_done=None, hear=self._hear
                )
                results[position] = alone[0]
            except WorkerDiedError:
                self._abandon()
                died.append(position)
                if len(died) == len(suspects) > 1:
                    raise  # that is no matter of one task
            except BaseException:
                self._abandon()
                raise
        self._abandon()  # the next tasks get all workers again
        results.update({position: on_crash(tasks[position]) for position in died})

    def __enter__(self) -> "LocalEngine":  # noqa: PYI034 - beartype refuses Self here
        """Return this engine; processes start with the first tasks."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers: at once where the context failed, else when they are idle."""
        if kind is not None:
            self._abandon()
        elif self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None
            self._close_pipe()

    def _abandon(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            workers = [process for process in multiprocessing.active_children() if process not in self._others]
            executor.shutdown(wait=False, cancel_futures=True)
            _end(workers)
        self._close_pipe()


def run_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    n_workers: int = 1,
    on_done: Callable[[int, int], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> list[R]:
    """Apply `function` to every task and return the results in the order of the tasks.

    Parameters
    ----------
    function
        A callable that a fresh process can import by name, or a `functools.partial` of one.
    tasks
        One argument for each call.
    n_workers
        Processes to use, 1 or more; 1 runs everything in this process.
    on_done
        Called in this process after each finished task with (finished, total).
    on_line
        Gets in this process what tasks tell while they run (`engine.tell`). A line may be lost, and changes no result.

    Raises
    ------
    UsageError
        If `n_workers` is below 1, or several workers are asked for a callable that they cannot import.
    Exception
        What the first failing task raised, with a note that says which task it was. Tasks that had not started are
        cancelled.
    """
    with LocalEngine(min(n_workers, max(1, len(tasks))), on_line=on_line) as engine:
        return engine.map(function, tasks, on_done=on_done)


def _run_here(function: Callable[[T], R], tasks: Sequence[T], on_done: Callable[[int, int], None] | None) -> list[R]:
    results = []
    for position, task in enumerate(tasks):
        try:
            results.append(function(task))
        except Exception as error:
            error.add_note(_which(position, tasks))
            raise
        if on_done is not None:
            on_done(position + 1, len(tasks))
    return results


def _run_in_processes(
    executor: ProcessPoolExecutor,
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    results: dict[int, R],
    on_done: Callable[[int, int], None] | None,
    hear: Callable[[], None],
) -> None:
    """Run the tasks that have no result yet, and put in what they return."""
    try:
        futures = {
            executor.submit(_in_worker, function, task): position
            for position, task in enumerate(tasks)
            if position not in results
        }
    except BrokenProcessPool as error:
        raise _died() from error
    for future in _finished(futures, hear):
        if future.exception() is not None:
            # What is finished is not done again, if the caller goes on.
            results.update(
                {position: done.result() for done, position in futures.items() if done.done() and not done.exception()}
            )
            _raise_first(futures, tasks)
        results[futures[future]] = future.result()
        if on_done is not None:
            on_done(len(results), len(tasks))


def _finished(futures: Iterable[Future[R]], hear: Callable[[], None]) -> Iterator[Future[R]]:
    """Yield futures as they are done, awake now and then: a thread that only waits cannot be told to stop."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_AWAKE_SECONDS, return_when=FIRST_COMPLETED)
        hear()
        yield from done


def _raise_first(futures: dict[Future[R], int], tasks: Sequence[T]) -> None:
    """Raise the failure of the earliest task among those that failed by now."""
    failed = [(position, future) for future, position in futures.items() if future.done() and future.exception()]
    position, future = min(failed, key=lambda pair: pair[0])
    error = future.exception()
    if error is None:
        return
    if isinstance(error, BrokenProcessPool):
        raise _died() from error
    error.add_note(_which(position, tasks))
    raise error


def _died() -> WorkerDiedError:
    return WorkerDiedError(
        "a worker process died: most often the machine ran out of memory and the system ended the largest process "
        "(use fewer --workers, or a smaller --memory), else it could not import what a task is made of (its own "
        "message is above). What was already published is whole; the same command goes on where this one stopped."
    )


def _which(position: int, tasks: Sequence[T]) -> str:
    text = repr(tasks[position])
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return f"This was task {position + 1} of {len(tasks)}: {shown}"


def _require_importable(function: object) -> None:
    inner = function
    while hasattr(inner, "func"):
        inner = inner.func
    name = getattr(inner, "__qualname__", "")
    if "<lambda>" in name or "<locals>" in name:
        msg = f"{name} cannot be imported by a worker process. Define it at the top of a module, or use one worker."
        raise UsageError(msg)


def _begin(writer: Connection | None) -> None:
    """Make a fresh process a worker; what its tasks tell goes through the pipe."""
    _leave_quietly()
    hear_through(writer)


def _leave_quietly() -> None:
    """Let Ctrl-C and termination unwind a worker: its staged directories are removed and it prints nothing."""
    signal.signal(signal.SIGINT, _exit)
    signal.signal(signal.SIGTERM, _exit)
    sys.unraisablehook = _tell_unless_ended
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a worker whose parent was killed: it would wait for tasks for ever, or write beside the run that goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _end(workers: Sequence[BaseProcess]) -> None:
    """Ask workers to end, and kill those that do not within a grace time.

    They are watched by their sentinels: the pool reaps them in a thread of its own, and two cannot reap one process.
    """
    for process in workers:
        process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    running = {process.sentinel: process for process in workers}
    while running and (left := deadline - time.monotonic()) > 0:
        for ended in connection.wait(list(running), timeout=left):
            running.pop(cast("int", ended))
    for process in running.values():
        process.kill()
    if running:
        connection.wait(list(running), timeout=_GRACE_SECONDS)


class _EndedError(SystemExit):
    """Unwinds a worker that was asked to end."""


def _exit(signum: int, _frame: FrameType | None) -> None:
    _ENDED.append(signum)
    raise _EndedError(128 + signum)


def _tell_unless_ended(told: "sys.UnraisableHookArgs") -> None:
    """Pass on what Python tells of an exception in a callback, but for the end of the worker: the next task heeds `_ENDED`."""
    if not isinstance(told.exc_value, _EndedError):
        sys.__unraisablehook__(told)


def _in_worker(function: Callable[[T], R], task: T) -> R:
    """Run one task, unless this worker was asked to end.

    The pool takes whatever a task raises for its result, the end of the process included, and goes on with the next
    task that is queued.
    """
    if _ENDED:
        os._exit(128 + _ENDED[0])
    return function(task)
