"""What a model answered, or why there is no answer.

What a model raises becomes a `Failure`, never a zero; an answer that is malformed is a failure of the model too, and so
is a file that cannot be used.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from cytolabe.engine import memory_shortage
from cytolabe.errors import MissingExtraError, RefusedError, UnseenLevelsError
from cytolabe.models.protocols import AnnotatorOutput
from cytolabe.records import UNKNOWN, FitScope, ScoreStatus

__all__ = ["Answer", "Failure", "attempt", "checked_embedding", "checked_output", "combined", "last_line"]

_BY_SIGNAL = 128
"""A worker that is ended leaves with this and the number of the signal (`engine.local`)."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Class probabilities for the query cells, what was fitted on which cells, and what a reader must know."""

    classes: tuple[str, ...]
    probability: np.ndarray
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]

    @property
    def terms(self) -> np.ndarray:
        """Most probable class of each cell; the first of equals."""
        return np.asarray(np.array(self.classes, dtype=object)[self.probability.argmax(axis=1)])

    @property
    def confidence(self) -> np.ndarray:
        """Highest class probability of each cell; what was given to `unknown` is abstention, not confidence."""
        told = self.probability[:, [name != UNKNOWN for name in self.classes]]
        return np.asarray(told.max(axis=1, initial=0.0), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there is no answer: FAILED, REFUSED or NOT_RUN, with one line."""

    status: ScoreStatus
    reason: str


def combined(answers: Mapping[str, tuple[np.ndarray, Answer]], query_rows: np.ndarray) -> Answer:
    """Average the class probabilities of several fits, over those that answer for a cell and know the class.

    Parameters
    ----------
    answers
        By name of the fit: the rows that it answers for, and its answer.
    query_rows
        All rows, in the order of the result. Each needs at least one answer.
    """
    classes = tuple(sorted({name for _, answer in answers.values() for name in answer.classes}))
    column = {name: k for k, name in enumerate(classes)}
    position = {int(row): place for place, row in enumerate(query_rows)}
    total = np.zeros((len(query_rows), len(classes)))
    n_known = np.zeros_like(total)
    scopes: list[FitScope] = []
    notes: list[str] = []
    for name in sorted(answers):
        rows, answer = answers[name]
        places = np.array([position[int(row)] for row in rows], dtype=np.int64)
        where = np.ix_(places, np.array([column[one] for one in answer.classes], dtype=np.int64))
        total[where] += answer.probability
        n_known[where] += 1
        scopes += [dataclasses.replace(scope, step=f"{scope.step} [{name}]") for scope in answer.scopes]
        notes += list(answer.notes)
    mean = np.divide(total, n_known, out=np.zeros_like(total), where=n_known > 0)
    return Answer(
        classes=classes,
        probability=mean / mean.sum(axis=1, keepdims=True),
        scopes=tuple(scopes),
        notes=tuple(dict.fromkeys(notes)),
    )


def attempt(work: Callable[[], T], *, told: Callable[[str], str] | None = None) -> T | Failure:
    """Run foreign code. Whatever it raises is the model's result, not the end of the study, unless somebody asked for that.

    Parameters
    ----------
    work
        The code.
    told
        Makes the reason where memory runs out, of what was asked for.

    Raises
    ------
    KeyboardInterrupt
        Also where the code left by `sys.exit` over one, as Lightning does in a training.
    SystemExit
        If a signal ended the worker.
    """
    try:
        return work()
    except UnseenLevelsError as error:
        why = last_line(str(error)).removeprefix("not applicable: ")
        return Failure(status=ScoreStatus.NOT_RUN, reason=f"not_applicable: {why}")
    except MissingExtraError as error:
        return Failure(status=ScoreStatus.NOT_RUN, reason=last_line(str(error)))
    except RefusedError as error:
        return Failure(status=ScoreStatus.REFUSED, reason=last_line(str(error)))
    except SystemExit as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        if isinstance(error.code, int) and error.code > _BY_SIGNAL:
            raise
        return _failed(error)
    except Exception as error:  # noqa: BLE001  a model may raise anything, and its row must still appear
        return _failed(error, told=told)


def _failed(error: BaseException, *, told: Callable[[str], str] | None = None) -> Failure:
    asked = memory_shortage(error)
    why = last_line(str(error)) if asked is None or told is None else told(asked)
    return Failure(status=ScoreStatus.FAILED, reason=f"{type(error).__name__}: {why}")


def _was_interrupted(error: SystemExit) -> bool:
    """Tell whether a Ctrl-C is what the code left over."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def last_line(text: str) -> str:
    """Return the last line of a message that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def checked_embedding(values: np.ndarray, n_cells: int) -> Float[np.ndarray, "cells dims"]:
    """Return an embedding that has a finite row for each cell.

    Raises
    ------
    ValueError
        If it has not.
    """
    if values.ndim != 2 or len(values) != n_cells:
        msg = f"The model embedded {values.shape} where {n_cells} cells were asked for."
        raise ValueError(msg)
    n_bad = int((~np.isfinite(values)).any(axis=1).sum())
    if n_bad:
        msg = f"The embedding of {n_bad} of {n_cells} cells is not finite."
        raise ValueError(msg)
    return _packed(values)


def checked_output(output: AnnotatorOutput, n_cells: int) -> AnnotatorOutput:
    """Return an answer that has probabilities for each cell, which sum to 1.

    Raises
    ------
    ValueError
        If it has not.
    """
    probability = output.probability
    if probability.shape != (n_cells, len(output.classes)):
        msg = f"The model answered {probability.shape} for {n_cells} cells and {len(output.classes)} classes."
        raise ValueError(msg)
    if not np.isfinite(probability).all() or (probability < 0).any():
        msg = "The model's probabilities are not finite, or negative."
        raise ValueError(msg)
    if n_cells and not np.allclose(probability.sum(axis=1), 1.0, atol=1e-3):
        msg = "The model's probabilities do not sum to 1 for every cell."
        raise ValueError(msg)
    return dataclasses.replace(output, probability=_packed(probability))


def _packed(values: np.ndarray) -> np.ndarray:
    """Return an array without gaps, in its own order of axes.

    What is computed from it can depend on how it lies in memory, and with gaps it would not come back from a file as it was.
    """
    found = np.asarray(values)
    is_packed = found.flags.c_contiguous or found.flags.f_contiguous
    return found if is_packed else np.ascontiguousarray(found)
