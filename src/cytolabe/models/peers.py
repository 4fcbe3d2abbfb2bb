"""Processes that train one network together: each takes some minibatches of a step, and all move by the sum of the gradients.

The process that calls is the first; the others are started, handed the objective, and end with it. A step costs one sum over
all processes of the gradients, the loss and the number of terms (gloo, on processors), so that a step of four minibatches by
two processes is that of one process: the same curve but for the order in which numbers are added. What is drawn in a
minibatch depends on (seed, step, place in the step) and not on who takes it. Only the first process looks at held-out
persons, keeps checkpoints and tells of steps; the others are told what it saw.
"""

import datetime as dt
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cytolabe.errors import ModelFailedError, UsageError
from cytolabe.models.extras import import_extra

__all__ = ["GONE", "Job", "Peers", "joined_by_peers"]

GONE = "waits for one that is gone"
"""How a process says that it is not the reason."""
_PATIENCE = dt.timedelta(minutes=30)
"""How long one process waits for the others in a step; a look at many held-out persons takes a while."""


@dataclass(frozen=True, kw_only=True)
class Peers:
    """The processes of a training, and which this one is."""

    rank: int = 0
    size: int = 1

    def takes(self, place: int) -> bool:
        """Tell whether this process takes the minibatch at a place of a step."""
        return place % self.size == self.rank

    def summed(self, network: Any, total: float, n_terms: int) -> tuple[float, int]:  # noqa: ANN401 - a module of torch
        """Add up gradients, losses and numbers of terms over all processes; a weight that nobody moves keeps no gradient.

        Raises
        ------
        ModelFailedError
            If another process is gone.
        """
        if self.size == 1:
            return total, n_terms
        torch = import_extra("torch")
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        moved = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.float64)
        told = torch.cat([torch.tensor([total, float(n_terms)], dtype=torch.float64), moved])
        gradient = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in weights])
        self._sum(told, gradient)
        start = 0
        for weight, n_movers in zip(weights, told[2:].tolist(), strict=True):
            weight.grad = gradient[start : start + weight.numel()].view_as(weight).clone() if n_movers else None
            start += weight.numel()
        return float(told[0]), int(told[1])

    def agreed(self, ask: Callable[[], float | None]) -> float | None:
        """Return what the first process answers; only it asks."""
        if self.size == 1:
            return ask()
        torch = import_extra("torch")
        answer = ask() if self.rank == 0 else None
        told = torch.tensor([0.0 if answer is None else 1.0, answer or 0.0], dtype=torch.float64)
        if self.rank:
            told.zero_()
        self._sum(told)
        return float(told[1]) if told[0] else None

    def _sum(self, *tensors: Any) -> None:  # noqa: ANN401 - tensors
        distributed = import_extra("torch.distributed")
        try:
            for tensor in tensors:
                distributed.all_reduce(tensor)
        except RuntimeError as error:
            msg = (
                f"Process {self.rank + 1} of {self.size} {GONE} ({str(error).splitlines()[0][:200]}). What was said "
                "before is its reason; the training goes on from its last checkpoint."
            )
            raise ModelFailedError(msg) from None


@runtime_checkable
class Job(Protocol):
    """What is handed to every process: whatever it is, with the network that it trains."""

    @property
    def network(self) -> Any:  # noqa: ANN401 - a module of torch
        """What moves."""
        ...


@contextmanager
def joined_by_peers(work: Callable[[Any, Peers], None], job: Job, *, n_processes: int) -> Iterator[Peers]:
    """Start the other processes of a training, which call `work(job, peers)`, and be the first of them in the block.

    Raises
    ------
    UsageError
        If the number is no number of processes.
    """
    if n_processes < 1:
        msg = f"--processes {n_processes}: at least one process is needed."
        raise UsageError(msg)
    if n_processes == 1:
        yield Peers()
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="cytolabe-peers-") as folder:
        meeting = str(Path(folder) / "meeting")
        others = [
            context.Process(
                target=_other, args=(work, job), kwargs={"meeting": meeting, "peers": Peers(rank=rank, size=n_processes)}, daemon=True
            )
            for rank in range(1, n_processes)
        ]  # fmt: skip
        for process in others:
            process.start()
        try:
            with _group(meeting, Peers(size=n_processes)):
                yield Peers(size=n_processes)
        finally:
            for process in others:
                process.join(timeout=10)
                if process.is_alive():
                    process.terminate()
                    process.join()


def _other(work: Callable[[Any, Peers], None], job: Job, *, meeting: str, peers: Peers) -> None:
    import_extra("torch").set_num_threads(1)
    # Weights arrive in memory that is shared with the first process; each has to move its own.
    for weight in job.network.parameters():
        weight.data = weight.data.clone()
    with _group(meeting, peers):
        work(job, peers)


@contextmanager
def _group(meeting: str, peers: Peers) -> Iterator[None]:
    distributed = import_extra("torch.distributed")
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=peers.rank, world_size=peers.size, timeout=_PATIENCE
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
