"""Who does the work of an ingest, and within what: the words of the command line turned into `Work`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cytolabe.engine import LocalEngine, RayEngine
from cytolabe.errors import UsageError
from cytolabe.files import Place
from cytolabe.flow.budget import beside_a_leader, bytes_of, default_memory, plan_within
from cytolabe.flow.memory_watch import held_by_family, held_by_leader, memory_watched
from cytolabe.flow.meter import Meter
from cytolabe.flow.work import OnCells, Work
from cytolabe.store.scratch import died_before

__all__ = ["ENGINES", "Means"]

ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Means:
    """`engine` is local or ray, `address` that of a Ray cluster, `memory` a size such as 8GB (by default half of all).

    With `survives`, an atlas over which an ingest was killed before gets its work done in other processes, one worker
    included: a file that crashes the reader ends one command, and is a finding of the next one.

    `cache` is the folder for what is fetched (`flow.remote.cache_folder`). `on_cells` is told the stage and how many cells
    of how many are done; without it there is a line each `interval` seconds.
    """

    n_workers: int = 1
    engine: str = "local"
    address: str = ""
    memory: str = ""
    interval: float = 60.0
    cache: Path | None = None
    survives: bool = False
    on_cells: OnCells | None = None

    @contextmanager
    def work(self, atlas: Place, tell: Callable[[str], None]) -> Iterator[Work]:
        """Start the engine for an ingest into `atlas`, and end it afterwards.

        Raises
        ------
        UsageError
            If the engine is not known, an address is given to another one than Ray, or the memory is too little; and
            in the midst of the work, if all processes here together come to hold more than that.
        """
        if self.engine not in ENGINES:
            msg = f"--engine {self.engine!r} is none of {', '.join(ENGINES)}."
            raise UsageError(msg)
        if self.address and self.engine != "ray":
            msg = "--address names a Ray cluster; it needs --engine ray."
            raise UsageError(msg)
        budget = plan_within(bytes_of(self.memory) if self.memory else default_memory(), self.n_workers)
        if budget.n_workers < self.n_workers:
            tell(f"{budget.n_workers} of {self.n_workers} workers fit into {budget.memory / 1e9:.1f} GB")
        apart = self.survives and died_before(atlas)
        if apart and budget.n_workers == 1:
            tell("an ingest into this atlas was killed: the work is done in a process of its own")
            budget = beside_a_leader(budget)
        engine = (
            LocalEngine(budget.n_workers, apart=apart)
            if self.engine == "local"
            else RayEngine(budget.n_workers, address=self.address)
        )
        # The processes of a cluster that was started here are below this one, and each task there has its own bound.
        held = partial(held_by_family, below=budget.memory) if self.engine == "local" else held_by_leader
        with memory_watched(budget.memory, held=held), engine:
            yield Work(
                engine=engine,
                max_nonzero=budget.max_nonzero,
                task_memory=budget.task_memory,
                on_cells=self.on_cells or Meter(tell, interval=self.interval),
            )
