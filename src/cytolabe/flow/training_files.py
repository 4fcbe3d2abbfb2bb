"""What every training from a file begins with: the TOML, the fold that it learns from, and a folder without a model."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolabe.config.manifest import unknown_key_error
from cytolabe.errors import ConflictError, UsageError
from cytolabe.flow.splits import chosen_fold
from cytolabe.records import Fold, Split
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.split import read_split

__all__ = ["TrainingOrder", "checked_table", "read_training_file", "training_table"]


@dataclass(frozen=True, kw_only=True)
class TrainingOrder:
    """What every training is told beside its file: which fold it learns from, and where its model goes.

    Parameters
    ----------
    split
        File of the split.
    fold
        Id of the fold, or its number from 1; empty takes the only one.
    seed
        Decides every draw of the training.
    out
        Folder of the model; a run that was killed there goes on (that of an scVI begins again).
    on_progress
        Gets one line per step.
    """

    split: Path
    fold: str = ""
    seed: int
    out: Path
    on_progress: Callable[[str], None] = lambda _: None

    @property
    def checkpoints(self) -> Path:
        """Where an unfinished training lies; gone once there is a model."""
        return self.out / "checkpoints"

    def chosen(self, frozen: Snapshot) -> tuple[Split, Fold]:
        """Return the split, and the fold of it that is learned from.

        Raises
        ------
        UsageError
            If the split is of another snapshot, there is no such fold, or none is named and there are several.
        UnreadableInputError
            If the split cannot be read.
        IntegrityError
            If its rule gives other rows than it says.
        """
        document = read_split(self.split, frozen)
        return document, chosen_fold(document, self.fold)

    def refuse_model(self, marker: str) -> None:
        """Refuse a folder that holds a model: the file `marker` is written last.

        Raises
        ------
        ConflictError
            If it does.
        """
        if (self.out / marker).exists():
            msg = f"{self.out} holds a model already. Give this training a folder of its own."
            raise ConflictError(msg)


def read_training_file(path: Path) -> dict[str, Any]:
    """Return the tables of a training file.

    Raises
    ------
    UsageError
        If it is not there, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: the training file cannot be read ({error})."
        raise UsageError(msg) from None


def training_table(said: dict[str, Any], where: str) -> dict[str, Any]:
    """Take the table `[training]` out of a training file.

    Raises
    ------
    UsageError
        If it is not there, or says no `n_steps`.
    """
    training = said.pop("training", {})
    if not isinstance(training, dict) or "n_steps" not in training:
        msg = f"{where}: [training] with n_steps is needed."
        raise UsageError(msg)
    return training


def checked_table(
    table: Mapping[str, object], known: Sequence[str], *, defaults: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return the values of a table, each of the type that its default has; a whole number may stand for a float.

    Raises
    ------
    UsageError
        If a key is not known, or a value is of another type.
    """
    found = {}
    for key, value in table.items():
        if key not in known:
            raise unknown_key_error(key, sorted(known), where)
        found[key] = _typed(value, defaults[key], f"{where}: {key}")
    return found


def _typed(value: object, default: object, where: str) -> object:
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, bool) and isinstance(value, bool):
        return value
    if isinstance(value, bool) or not isinstance(value, type(default)):
        msg = f"{where} is {value!r} where a value of type {type(default).__name__} is needed."
        raise UsageError(msg)
    return value
