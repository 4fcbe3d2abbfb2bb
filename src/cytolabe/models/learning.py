"""What every training of a model of a study shares: the plan that options ask for, how it ended, and weights of classes.

Options are turned into a plan field by field: whatever of `TrainingPlan` they have counts, and the rest is as it has it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.models.training import TrainingPlan
from cytolabe.models.training_means import ALONE, TrainingMeans
from cytolabe.models.training_state import Progress, Step
from cytolabe.provenance import digest_of

__all__ = ["StepOptions", "TrainingOptions", "array_digest", "balanced_weights", "plan_of", "run_training"]


@runtime_checkable
class TrainingOptions(Protocol):
    """What the options of a model say of its training; what they do not say is as `TrainingPlan` has it."""

    @property
    def n_steps(self) -> int:
        """Most moves of the weights."""
        ...

    @property
    def learning_rate(self) -> float:
        """Largest rate."""
        ...

    @property
    def warm_up(self) -> int:
        """Steps over which the rate rises from 0."""
        ...

    @property
    def check_every(self) -> int:
        """Steps between two looks at held-out persons."""
        ...

    @property
    def patience(self) -> int:
        """Looks without a gain that end the training."""
        ...

    @property
    def save_every(self) -> int:
        """Steps between two checkpoints."""
        ...

    @property
    def folder(self) -> Path | str:
        """Where checkpoints are kept; nowhere where it is empty."""
        ...


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How each step is taken: fields of `TrainingPlan`, with its words and its defaults."""

    schedule: str = "linear"
    """`linear`, `cosine` or `constant`, after the warm-up."""
    weight_decay: float = 0.001
    accumulation: int = 1
    """Minibatches of a step."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 = any."""
    precision: str = "float32"
    """`float32` or `bfloat16`: of the arithmetic in training; weights are float32, and so is what embeds or answers afterwards."""


def plan_of(options: TrainingOptions) -> TrainingPlan:
    """Return the plan that options ask for.

    Raises
    ------
    UsageError
        If no training can follow it.
    """
    names = [field.name for field in fields(TrainingPlan)]
    return TrainingPlan(**{name: getattr(options, name) for name in names if hasattr(options, name)})


def run_training(
    options: TrainingOptions,
    task: Any,  # noqa: ANN401 - an objective
    *,
    seed: int,
    on_step: Callable[[Step], None] = lambda _: None,
    means: TrainingMeans = ALONE,
) -> tuple[Progress, str]:
    """Train, and return how it went with a sentence for the notes."""
    plan = plan_of(options)
    kept = Path(options.folder) if options.folder else None
    progress = means.train(task, plan, seed=seed, folder=kept, on_step=on_step)
    is_capped = len(progress.steps) >= plan.n_steps and progress.n_looks_without_gain < plan.patience
    best = f", best at step {progress.best_step}" if progress.best_step else ""
    told = f"{len(progress.steps)} steps{best}"
    # Rule R13b: what might still have improved when the steps ran out did not converge.
    return progress, f"{NOT_CONVERGED}: the steps ran out first, {told}" if is_capped else f"trained for {told}"


def balanced_weights(codes: Integer[np.ndarray, " cells"], n_classes: int) -> Float[np.ndarray, " classes"]:
    """Return weights by which every class that has a cell counts the same, float32; their mean over cells is 1."""
    counts = np.bincount(codes, minlength=n_classes)
    n_present = max(1, int((counts > 0).sum()))
    weights: np.ndarray = np.where(counts > 0, len(codes) / (n_present * np.maximum(counts, 1)), 0.0).astype(np.float32)
    return weights


def array_digest(values: np.ndarray) -> str:
    """Return the digest of an array: its type, its shape and its bytes."""
    content = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    return digest_of([str(values.dtype), list(values.shape), content])
