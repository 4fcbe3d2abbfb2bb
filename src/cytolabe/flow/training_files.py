"""What every training from a file begins with: the TOML, and a folder that holds no model yet."""

import tomllib
from pathlib import Path
from typing import Any

from cytolabe.errors import ConflictError, UsageError

__all__ = ["read_training_file", "refuse_model_in"]


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
