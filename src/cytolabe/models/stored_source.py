"""What every model says of the options `checkpoint` and `expected` that opens a folder of a stored model in place of a training."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from cytolabe.errors import IntegrityError, UsageError

__all__ = ["given_options", "refuse_idle_options", "refuse_other_weights"]


def given_options(source: object, rule: type, *, checkpoint: Path | str, expected: str) -> dict[str, object]:
    """Return the options of a source that are those of a rule of training.

    Raises
    ------
    UsageError
        If there is a digest of the weights, and no checkpoint whose weights these are.
    """
    if expected and not checkpoint:
        msg = f"expected = {expected!r} says what the weights of a checkpoint must be; give checkpoint, too."
        raise UsageError(msg)
    return {one.name: getattr(source, one.name) for one in fields(rule) if one.init}


def refuse_idle_options(options: dict[str, object], rule: type, *, of_mapping: Sequence[str]) -> None:
    """Refuse options of a training that does not take place.

    Parameters
    ----------
    of_mapping
        Those that mean something of a stored model as well.

    Raises
    ------
    UsageError
        If one is given.
    """
    defaults = {one.name: one.default for one in fields(rule) if one.init}
    idle = [name for name, value in options.items() if name not in of_mapping and value != defaults[name]]
    if idle:
        msg = f"{', '.join(idle)}: a checkpoint is not trained again, so this would change nothing. Leave it out."
        raise UsageError(msg)


def refuse_other_weights(checkpoint: Path | str, found: str, *, expected: str) -> None:
    """Refuse weights that are not those that were asked for.

    Raises
    ------
    IntegrityError
        If they are others.
    """
    if expected not in ("", found):
        msg = f"{checkpoint}: the weights are {found}, and {expected} was expected. Take the right folder, or the digest that its card names."
        raise IntegrityError(msg)
