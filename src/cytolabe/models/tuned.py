"""What networks share that start from nothing, learn without labels or learn nothing, and are then fine-tuned to classes.

The start is an embedder of its own (`geneformer_scratch`, `geneformer_random` and the like, with their options), so that the
frozen network of a study and the one that is fine-tuned are the same one, and a fold trains it once.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from cytolabe.errors import UsageError
from cytolabe.models.protocols import NOT_CONVERGED

__all__ = ["UNLABELLED_CELLS", "notes_of_start", "start_fields"]

UNLABELLED_CELLS = "unlabelled_cells"
"""Capability of a card: the annotator is handed training cells without a label as well, for the part that reads no label."""


def start_fields(start: object, options: type, *, model: str) -> dict[str, object]:
    """Return the options of a start, none of which is unknown.

    Parameters
    ----------
    start
        What a study says of it.
    options
        The dataclass that they are fields of.
    model
        The model that is fine-tuned, for the error.

    Raises
    ------
    UsageError
        If it is no table, or has an unknown option.
    """
    if not isinstance(start, Mapping):
        msg = f"{model}: start must be a table of options, such as start = {{ preset = 'tiny' }}, not {start!r}."
        raise UsageError(msg)
    known = sorted(field.name for field in dataclasses.fields(options))
    unknown = sorted(str(name) for name in start if name not in known)
    if unknown:
        own = model.removesuffix("_tuned")
        msg = f"{model}: start has no option {unknown[0]!r}. Its options are those of {own}: {', '.join(known)}."
        raise UsageError(msg)
    return {str(name): value for name, value in start.items()}


def notes_of_start(notes: Sequence[str]) -> tuple[str, ...]:
    """Return what is to be told of the training without labels beside that of the labels; what did not converge stays so.

    That the genes are those of a panel is told of both once, by the second.
    """
    return tuple(
        f"{NOT_CONVERGED} without labels{note.removeprefix(NOT_CONVERGED)}"
        if note.startswith(NOT_CONVERGED)
        else f"without labels: {note}"
        for note in notes
        if not note.startswith("a panel")
    )
