"""Whose processes take the minibatches of a step: one here, several here (`models.peers`), or workers of a Ray cluster.

No weight depends on the choice, but for the order in which numbers are added up; so it is no part of what a card or a
checkpoint says of a training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.models.ray_training import RayWorkers, train_on_ray
from cytolabe.models.training import Objective, TrainingPlan, train
from cytolabe.models.training_state import Progress, Step

__all__ = ["ALONE", "TrainingMeans"]

_ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class TrainingMeans:
    """Processes that train one network together.

    Raises
    ------
    UsageError
        If there is no such engine, or an address is given to one that has none.
    """

    processes: int = 1
    """A step needs as many minibatches (`accumulation`)."""
    engine: str = "local"
    """`local`, or workers of a `ray` cluster."""
    address: str = ""
    """Of the Ray cluster; without it one is started."""

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.engine not in _ENGINES:
            msg = f"--engine {self.engine!r} is none of {', '.join(_ENGINES)}."
            raise UsageError(msg)
        if self.address and self.engine != "ray":
            msg = "--address names a Ray cluster; it needs --engine ray."
            raise UsageError(msg)

    def train(
        self,
        objective: Objective,
        plan: TrainingPlan,
        *,
        seed: int,
        folder: Path | None,
        on_step: Callable[[Step], None],
    ) -> Progress:
        """Train a network by these processes; see `models.training.train` and `models.ray_training.train_on_ray`.

        Raises
        ------
        UsageError
            If workers of a Ray cluster have no folder to keep checkpoints in, or a step has too few minibatches.
        """
        if self.engine == "local":
            return train(objective, plan, seed=seed, folder=folder, on_step=on_step, n_processes=self.processes)
        if folder is None:
            msg = "Workers of a Ray cluster hand over what they learned by checkpoints. Give the training a folder for them."
            raise UsageError(msg)
        workers = RayWorkers(n_workers=self.processes, address=self.address)
        return train_on_ray(objective, plan, seed=seed, folder=folder, workers=workers, on_step=on_step)


ALONE = TrainingMeans()
"""One process, here."""
