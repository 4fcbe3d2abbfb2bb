"""One training loop for every network here: what it is handed is an `Objective`, and it knows nothing of genes.

A step adds up the losses of `accumulation` minibatches, divides the gradient by the number of all their terms (so that
accumulation changes memory and nothing else), clips it, and moves the weights by AdamW at the rate of the schedule.
Biases and norms are not decayed. Every `check_every` steps the loss on held-out persons is taken; the weights of the
best look are kept, and training ends after `patience` looks without a better one.

A checkpoint is gone on with by the training that it is of, and by no other: the same data, options, plan, seed, and network to begin
with. Nothing random is carried along: draws are seeded by (seed, step, place of the minibatch in it), minibatches by (seed, epoch). So a run
that was killed goes on from its last checkpoint and gives the loss curve and the weights of one that was not, to the
bit, on the same machine with the same number of threads.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cytolabe.errors import ModelFailedError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.peers import Peers, joined_by_peers
from cytolabe.models.training_state import Progress, Step, beginning_of, load_progress, save_progress
from cytolabe.provenance import digest_of
from cytolabe.randomness import derive_seed

__all__ = ["Objective", "TrainingJob", "TrainingPlan", "rate_factor", "refuse_unshareable", "train", "train_part"]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@runtime_checkable
class Objective(Protocol):
    """A network, its data, and what it is trained for."""

    @property
    def network(self) -> Any:  # noqa: ANN401 - a module of torch
        """What is trained; its parameters lie where it is trained."""
        ...

    @property
    def identity(self) -> str:
        """Digest of data and options: a checkpoint of something else is not gone on with."""
        ...

    def minibatches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the rows of each minibatch of an epoch; equal epochs give equal lists."""
        ...

    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:
        """Return the sum of the losses of a minibatch (a scalar with a gradient) and the number of its terms."""
        ...

    def held_out_loss(self) -> float | None:
        """Return the mean loss on persons who move no weight; None where there are none."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How long, how fast and how carefully. Steps are moves of the weights, not minibatches.

    Raises
    ------
    UsageError
        If a number is out of its range.
    """

    n_steps: int
    learning_rate: float = 1e-3
    schedule: str = "linear"
    """`linear`, `cosine` or `constant`, after the warm-up."""
    warm_up: int = 0
    """Steps over which the rate rises from 0."""
    weight_decay: float = 0.001
    accumulation: int = 1
    """Minibatches of a step."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 = any."""
    precision: str = "float32"
    """`float32` or `bfloat16`: of the arithmetic inside the network; weights and their moments are float32."""
    check_every: int = 50
    patience: int = 5
    save_every: int = 100

    def __post_init__(self) -> None:
        """Refuse what no training could follow."""
        whole = {
            name: getattr(self, name) for name in ("n_steps", "accumulation", "check_every", "patience", "save_every")
        }
        wrong = [f"{name} = {value}" for name, value in whole.items() if value < 1]
        wrong += [
            f"{name} = {getattr(self, name)}"
            for name in ("warm_up", "weight_decay", "clip_norm")
            if getattr(self, name) < 0
        ]
        wrong += [] if self.learning_rate > 0 else [f"learning_rate = {self.learning_rate}"]
        wrong += [] if self.schedule in _DECAYS else [f"schedule = {self.schedule!r}, not {', '.join(_DECAYS)}"]
        wrong += [] if self.precision in ("float32", "bfloat16") else [f"precision = {self.precision!r}"]
        if wrong:
            msg = f"No training can follow this plan: {'; '.join(wrong)}."
            raise UsageError(msg)


_DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "constant": lambda _: 1.0,
}


def rate_factor(plan: TrainingPlan, step: int) -> float:
    """Return the share of the learning rate that step `step` (from 0) is taken at: in [0, 1], as transformers has it."""
    if step < plan.warm_up:
        return step / max(1, plan.warm_up)
    done = (step - plan.warm_up) / max(1, plan.n_steps - plan.warm_up)
    return max(0.0, _DECAYS[plan.schedule](done))


def _nobody(step: Step) -> None:
    """Tell nobody."""


def train(
    objective: Objective,
    plan: TrainingPlan,
    *,
    seed: int,
    folder: Path | None = None,
    on_step: Callable[[Step], None] = _nobody,
    n_processes: int = 1,
) -> Progress:
    """Train a network, and leave in it the weights of the best look at held-out persons, or the last without one.

    Parameters
    ----------
    folder
        Where checkpoints are kept; a run that finds one of the same training there goes on with it. None keeps none.
    on_step
        Is told of every step, after it.
    n_processes
        Processes that share the minibatches of a step (`models.peers`), on processors; a step needs as many.

    Returns
    -------
    Progress
        The loss of every step and look.

    Raises
    ------
    ConflictError
        If the folder holds checkpoints of another training.
    ModelFailedError
        If a loss or a gradient is not finite.
    """
    refuse_unshareable(objective, plan, n_processes=n_processes)
    job = TrainingJob(objective=objective, plan=plan, seed=seed, folder=folder)
    if folder is not None:
        # Before other processes are handed the job: the first may have read a checkpoint by the time they begin.
        _ = job.identity
    with joined_by_peers(_train_beside, job, n_processes=n_processes) as peers:
        return train_part(job, peers, on_step=on_step)


def refuse_unshareable(objective: Objective, plan: TrainingPlan, *, n_processes: int) -> None:
    """Refuse to share the minibatches of a step among more processes than it has, or away from processors.

    Raises
    ------
    UsageError
        If a step has too few minibatches, or the network lies on another device.
    """
    if plan.accumulation < n_processes:
        msg = (
            f"{n_processes} processes share the minibatches of a step, and a step has {plan.accumulation}. Say accumulation = "
            f"{n_processes} or more, with smaller minibatches, or fewer processes."
        )
        raise UsageError(msg)
    is_elsewhere = any(weight.device.type != "cpu" for weight in objective.network.parameters())
    if n_processes > 1 and is_elsewhere:
        msg = f"{n_processes} processes train on processors, and the network lies on another device. Use one process there."
        raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What every process of a training is handed."""

    objective: Objective
    plan: TrainingPlan
    seed: int
    folder: Path | None

    @property
    def network(self) -> Any:  # noqa: ANN401 - a module of torch
        """What moves."""
        return self.objective.network

    @cached_property
    def identity(self) -> str:
        """Digest of data, options, plan, seed and the network as it is before the first step, which a checkpoint carries.

        It is taken once, before a checkpoint is read: afterwards the network is another one.
        """
        return digest_of([self.objective.identity, self.plan, self.seed, beginning_of(self.network)])


def _train_beside(job: TrainingJob, peers: Peers) -> None:
    """Do the part of another process: the same steps, without keeping or telling anything."""
    train_part(job, peers, on_step=_nobody)


def train_part(job: TrainingJob, peers: Peers, *, on_step: Callable[[Step], None]) -> Progress:
    """Do the part of one process of a training; the first keeps the checkpoints. See `train`."""
    objective, plan, folder = job.objective, job.plan, job.folder
    identity = "" if folder is None else job.identity
    run = _Run(objective=objective, plan=plan, seed=job.seed, peers=peers)
    network, is_first = objective.network, peers.rank == 0
    if folder is not None:
        load_progress(folder, run.progress, network=network, optimizer=run.optimizer, identity=identity)
    while not run.is_over():
        for group in run.rest_of_epoch():
            row = run.step(group)
            on_step(row)
            if is_first and folder is not None and (row.number % plan.save_every == 0 or run.is_over()):
                save_progress(folder, run.progress, network=network, optimizer=run.optimizer, identity=identity)
            if run.is_over():
                break
        else:
            run.progress.epoch += 1
            run.progress.position = 0
    if run.progress.best_weights:
        network.load_state_dict(run.progress.best_weights)
    network.eval()
    return run.progress


@dataclass(kw_only=True)
class _Run:
    """A training under way: the optimizer, and how far it is."""

    objective: Objective
    plan: TrainingPlan
    seed: int
    peers: Peers
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        torch = import_extra("torch")
        parameters = [weight for weight in self.objective.network.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in parameters if weight.ndim > 1], "weight_decay": self.plan.weight_decay},
            {"params": [weight for weight in parameters if weight.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=self.plan.learning_rate, betas=_BETAS, eps=_EPSILON)

    def is_over(self) -> bool:
        """Tell whether the steps are taken, or the held-out loss no longer falls."""
        steps = self.progress.steps
        return len(steps) >= self.plan.n_steps or self.progress.n_looks_without_gain >= self.plan.patience

    def rest_of_epoch(self) -> Iterator[Sequence[np.ndarray]]:
        """Yield the minibatches of each step that the epoch still has."""
        minibatches = self.objective.minibatches(self.progress.epoch)
        if not minibatches:
            msg = "There is no minibatch to train on: no training cell has a token. Check genes and split."
            raise UsageError(msg)
        size = self.plan.accumulation
        for start in range(self.progress.position * size, len(minibatches), size):
            self.progress.position += 1
            yield minibatches[start : start + size]

    def step(self, group: Sequence[np.ndarray]) -> Step:
        """Move the weights once."""
        torch, network, number = import_extra("torch"), self.objective.network, len(self.progress.steps)
        rate = self.plan.learning_rate * rate_factor(self.plan, number)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        network.train()
        devices = [weight.device for weight in network.parameters() if weight.device.type == "cuda"][:1]
        with torch.random.fork_rng(devices=devices):
            total, n_terms = self.peers.summed(network, *self._backward(group, number))
        norm = self._scaled_gradient(n_terms)
        if not (math.isfinite(total) and math.isfinite(norm)):
            msg = (
                f"Training stopped at step {number + 1}: the loss is {total / max(1, n_terms)}, the norm of the gradient {norm}. "
                "Lower the learning rate or lengthen the warm-up; checkpoints before it are whole."
            )
            raise ModelFailedError(msg)
        self.optimizer.step()
        row = Step(
            number=number + 1, epoch=self.progress.epoch, loss=total / max(1, n_terms), n_terms=n_terms,
            learning_rate=rate, gradient_norm=norm, held_out_loss=self._look(number + 1),
        )  # fmt: skip
        self.progress.steps.append(row)
        return row

    def _backward(self, group: Sequence[np.ndarray], number: int) -> tuple[float, int]:
        torch, total, n_terms = import_extra("torch"), 0.0, 0
        for place, rows in enumerate(group):
            if not self.peers.takes(place):
                continue
            names = (str(number), str(place)) if place else (str(number),)
            torch.manual_seed(derive_seed(self.seed, "models", "training", *names))
            with self._precision():
                loss, n = self.objective.loss(rows, epoch=self.progress.epoch)
            if n:
                loss.backward()
                total, n_terms = total + float(loss.detach()), n_terms + n
        return total, n_terms

    def _scaled_gradient(self, n_terms: int) -> float:
        """Turn the gradient of a sum into that of a mean, clip it, and return its norm before that."""
        torch = import_extra("torch")
        moved = [weight for weight in self.objective.network.parameters() if weight.grad is not None]
        for weight in moved:
            weight.grad.div_(max(1, n_terms))
        largest = self.plan.clip_norm or math.inf
        return float(torch.nn.utils.clip_grad_norm_(moved, largest)) if moved else 0.0

    def _look(self, number: int) -> float | None:
        """Take the loss on held-out persons when it is time, and keep the weights if it is the best so far."""
        if number % self.plan.check_every and number < self.plan.n_steps:
            return None
        torch, network, progress = import_extra("torch"), self.objective.network, self.progress
        network.eval()
        with torch.inference_mode(), self._precision():
            loss = self.peers.agreed(self.objective.held_out_loss)
        if loss is None:
            return None
        if not math.isfinite(loss):
            msg = f"The loss on held-out persons is {loss} at step {number}: the weights are of no use. Lower the learning rate."
            raise ModelFailedError(msg)
        best = progress.best_loss
        if best is None or loss < best:
            progress.n_looks_without_gain, progress.best_step = 0, number
            progress.best_weights = {
                name: weight.detach().cpu().clone() for name, weight in network.state_dict().items()
            }
        else:
            progress.n_looks_without_gain += 1
        progress.best_loss = loss if best is None else min(best, loss)
        return loss

    def _precision(self) -> AbstractContextManager[Any]:
        if self.plan.precision == "float32":
            return nullcontext()
        torch = import_extra("torch")
        device = next(iter(self.objective.network.parameters())).device.type
        context: AbstractContextManager[Any] = torch.autocast(device, dtype=torch.bfloat16)
        return context
