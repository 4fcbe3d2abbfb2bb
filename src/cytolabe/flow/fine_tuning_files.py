"""What training files of fine-tunings share: `checkpoint`, the options of `GeneformerLearning`, and `[training]`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolabe.errors import UsageError
from cytolabe.flow.training_files import checked_table, training_table
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.hub import HUB_PREFIX
from cytolabe.models.training import TrainingPlan

__all__ = ["fine_tuning_options"]

_TOP = (
    "checkpoint", "expected", "weights", "frozen_layers", "frozen_embeddings", "balanced", "held_out_fraction", "minibatch",
    "max_length", "panels",
)  # fmt: skip
_TRAINING = tuple(field.name for field in dataclasses.fields(TrainingPlan))
_CHOICES = {
    "weights": ("checkpoint", "random"), "panels": ("refuse", "flag"), "task_weighting": ("fixed", "learned"),
}  # fmt: skip


def fine_tuning_options(
    said: dict[str, Any], path: Path, *, own: Mapping[str, Any], more: Sequence[str] = ()
) -> tuple[dict[str, Any], GeneformerLearning]:
    """Return the keys of a training file that are its own, and the fine-tuning that the others describe.

    Parameters
    ----------
    said
        The file as read.
    path
        Where it lies: `checkpoint` is relative to it, and empty where the file names none.
    own
        Keys of this kind of training, with a default of the type that each has.
    more
        Fields of `GeneformerLearning` beside those that every fine-tuning takes.

    Raises
    ------
    UsageError
        If a key or a value means nothing.
    """
    training = training_table(said, f"{path}")
    defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(GeneformerLearning)}
    defaults |= {"checkpoint": "", **own}
    found = checked_table(said, (*own, *_TOP, *more), defaults=defaults, where=f"{path}")
    found |= checked_table(training, _TRAINING, defaults=defaults, where=f"{path}: [training]")
    for key, words in _CHOICES.items():
        if found.get(key, words[0]) not in words:
            msg = f"{path}: {key} = {found[key]!r} is none of {', '.join(words)}."
            raise UsageError(msg)
    checkpoint = str(found.pop("checkpoint", ""))
    if checkpoint and not checkpoint.startswith(HUB_PREFIX):
        checkpoint = str(path.parent / checkpoint)
    kept = {name: found.pop(name) for name in own if name in found}
    return kept, GeneformerLearning(checkpoint=checkpoint, **found)
