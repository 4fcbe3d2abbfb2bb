"""What every training from a file begins with: the TOML, and a folder that holds no model yet."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolabe.config.manifest import unknown_key_error
from cytolabe.errors import ConflictError, UsageError

__all__ = ["checked_table", "read_training_file", "refuse_model_in", "training_table"]


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


def refuse_model_in(out: Path, marker: str) -> None:
    """Refuse a folder that holds a model: the file `marker` is written last.

    Raises
    ------
    ConflictError
        If it does.
    """
    if (out / marker).exists():
        msg = f"{out} holds a model already. Give this training a folder of its own."
        raise ConflictError(msg)


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
