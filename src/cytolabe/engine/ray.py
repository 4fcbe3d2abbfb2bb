"""The same tasks on a Ray cluster: on this machine, or on many that see the same files.

A task carries paths and numbers and returns something small, so the object store stays nearly empty. Each task says
how much memory it needs, because Ray packs by that. A task whose node or worker dies is run again; tasks write under
names that say what is in them, so a second run does no harm. We write no scheduler.

Ray is the extra `[ray]`; it is imported when an engine is entered.
"""

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from cytolabe.errors import MissingExtraError, UsageError, WorkerDiedError

__all__ = ["RayEngine"]

T = TypeVar("T")
R = TypeVar("R")

_MAX_RETRIES = 5
"""A task is run so often again when its worker or node dies; what it raises itself is never retried."""
_OBJECT_STORE_BYTES = 128 << 20
_WAITING = 64
"""Results fetched at a time."""


class RayEngine:
    """Runs tasks on the Ray cluster at `address`, or on one that is started here with `n_workers` processors.

    Parameters
    ----------
    n_workers
        Processors of the cluster that is started here; a cluster that is there already decides by itself.
    address
        `host:port` of a cluster, `auto` for the one that this machine belongs to, or empty.
    """

    def __init__(self, n_workers: int = 1, *, address: str = "") -> None:
        if n_workers < 1:
            msg = f"n_workers is {n_workers}; at least one worker has to do the work."
            raise UsageError(msg)
        self._n_workers = n_workers
        self._address = address
        self._ray: Any = None
        self._is_owner = False

    @property
    def n_workers(self) -> int:
        """How many tasks run at a time: the processors of the cluster."""
        if self._ray is None:
            return self._n_workers
        return max(1, int(self._ray.cluster_resources().get("CPU", self._n_workers)))

    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        memory: int = 0,
        on_done: Callable[[int, int], None] | None = None,
        on_crash: Callable[[T], R] | None = None,
    ) -> list[R]:
        """Apply `function` to every task and return the results in the order of the tasks; see `Engine.map`."""
        if not tasks:
            return []
        remote = self._ray.remote(_call).options(num_cpus=1, max_retries=_MAX_RETRIES, memory=memory or None)
        references = [remote.remote(function, task) for task in tasks]
        position = {reference: place for place, reference in enumerate(references)}
        results: dict[int, R] = {}
        died: list[int] = []
        waiting = list(references)
        try:
            while waiting:
                ready, waiting = self._ray.wait(waiting, num_returns=min(len(waiting), _WAITING), timeout=0.5)
                for reference in ready:
                    place = position[reference]
                    try:
                        results[place] = self._got(reference)
                    except WorkerDiedError:
                        died.append(place)
                        if on_crash is None or len(died) == len(tasks) > 1:
                            raise  # that is no matter of one task
                        continue
                    if on_done is not None:
                        on_done(len(results), len(tasks))
        except BaseException:
            for reference in waiting:
                self._ray.cancel(reference, force=False)
            raise
        if on_crash is not None:
            results.update({place: on_crash(tasks[place]) for place in died})
        return [results[place] for place in range(len(tasks))]

    def _got(self, reference: Any) -> Any:  # noqa: ANN401 - Ray has no types
        """Return the result of a task, or raise what it raised itself, not the envelope that carried it here."""
        crashes = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (crashes.WorkerCrashedError, crashes.NodeDiedError, crashes.OutOfMemoryError) as error:
            msg = (
                f"Ray gave a task up after {_MAX_RETRIES} more tries: its worker or node died each time, most often for "
                "want of memory (start workers with more memory, or use a smaller --memory). What was already "
                "published is whole; the same command goes on where this one stopped."
            )
            raise WorkerDiedError(msg) from error
        except crashes.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, Exception):
                raise cause from None
            raise

    def __enter__(self) -> "RayEngine":  # noqa: PYI034 - beartype refuses Self here
        """Connect to the cluster, or start one.

        Raises
        ------
        MissingExtraError
            If Ray is not installed.
        UsageError
            If there is no cluster at the address.
        """
        if importlib.util.find_spec("ray") is None:
            msg = "ray is not installed, so --engine ray cannot run. Install the extra: pip install 'cytolabe[ray]'."
            raise MissingExtraError(msg)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._ray = importlib.import_module("ray")
            if not self._ray.is_initialized():
                self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._is_owner:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._ray.shutdown()
        self._ray, self._is_owner = None, False

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
        try:
            if self._address:
                self._ray.init(address=self._address, **quiet)
            else:
                # One of our own, also where another one runs on this machine.
                self._ray.init(
                    address="local",
                    num_cpus=self._n_workers,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    **quiet,
                )
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            where = f"at {self._address}" if self._address else "on this machine"
            msg = (
                f"no Ray cluster {where}: {error}. Start one with 'ray start --head', or leave --address out to have "
                "one started for this command."
            )
            raise UsageError(msg) from error
        self._is_owner = True


def _call(function: Callable[[T], R], task: T) -> R:
    """Run one task; Ray itself takes only functions that are written in Python."""
    return function(task)
