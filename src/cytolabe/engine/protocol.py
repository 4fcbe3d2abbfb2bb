"""What a flow asks of an engine: run independent tasks somewhere, and give their results back in order.

A task is a module-level callable and one small argument - paths, digests, numbers - so that it can run in another
process or on another machine that sees the same files. An engine schedules nothing by itself: it hands the tasks to a
process pool (`engine.local`) or to a Ray cluster (`engine.ray`).
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Engine"]

T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Engine(Protocol):
    """Runs tasks. Use it as a context: what it started ends with the context."""

    @property
    def n_workers(self) -> int:
        """How many tasks run at a time."""
        ...

    def map(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        memory: int = 0,
        on_done: Callable[[int, int], None] | None = None,
        on_crash: Callable[[T], R] | None = None,
    ) -> list[R]:
        """Apply `function` to every task and return the results in the order of the tasks.

        Parameters
        ----------
        function
            A callable that a fresh process can import by name.
        tasks
            One argument for each call.
        memory
            Bytes that one task needs at most; 0 where nobody knows.
        on_done
            Called in this process after each finished task with (finished, total).
        on_crash
            Returns the result of a task that kills its worker again and again (here twice, the second time alone; on Ray
            as often as Ray tries); without it, or where every task does that, the run stops.

        Raises
        ------
        WorkerDiedError
            If a worker was ended by the system.
        Exception
            What a failing task raised, with a note that says which task it was.
        """
        ...

    def __enter__(self) -> "Engine":  # noqa: PYI034 - beartype refuses Self here
        """Start what is needed."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was started."""
        ...
