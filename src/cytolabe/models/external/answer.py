"""What a foreign program answers, and every check on it. Nothing here is trusted because it is there.

A manifest has to repeat the digest of the request: an answer to other cells, another seed or other options is refused. The
cells have to be those of the request, once each, in any order; numbers finite; labels among those of training, or
`unknown`. What the program says of its past has to be what the study says, because exposure is judged by the study's word
before the program runs; where it says that it knows these cells, there is no score.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cytolabe.errors import LeakageError, ModelFailedError, RefusedError
from cytolabe.models.external.request import Request
from cytolabe.models.protocols import AnnotatorOutput
from cytolabe.records import UNKNOWN

__all__ = ["MANIFEST_FORMAT", "Manifest", "read_embedding", "read_labels", "read_manifest"]

MANIFEST_FORMAT = "cytolabe-external-answer-1"

_MANIFEST, _ANSWER = "manifest.json", "answer.npz"
_TEXTS = ("model", "version", "weights_digest", "dictionary_digest", "exposure")
_EXPOSURES = ("in", "out", UNKNOWN)
_MOST_MANIFEST = 1 << 20
_MOST_BYTES_PER_CELL = 1 << 17
_MOST_BYTES_BESIDE = 1 << 24
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a program says of itself. `seed` is the one that it drew with, or None where it draws nothing."""

    model: str
    version: str
    weights_digest: str
    dictionary_digest: str
    seed: int | None
    pretraining: tuple[str, ...]
    exposure: str

    @property
    def note(self) -> str:
        """Everything that it says, in one line, for whoever reads a score."""
        past = ", ".join(self.pretraining) or "none"
        return (
            f"external program, by its own word: {self.model} {self.version}, weights {self.weights_digest}, dictionary "
            f"{self.dictionary_digest}, seed {self.seed}, pretraining {past}, exposure {self.exposure}"
        )


def read_manifest(folder: Path, request: Request, *, pretraining: tuple[str, ...], told: str) -> Manifest:
    """Read and check the manifest of a step.

    Parameters
    ----------
    pretraining
        What the study says that the model was trained on before.
    told
        Which model and step, for messages.

    Raises
    ------
    ModelFailedError
        If it is missing, malformed, or of another request.
    LeakageError
        If the model says that it knows these cells.
    RefusedError
        If its pretraining is not what the study says.
    """
    said = _document(folder, told)
    if said.get("format") != MANIFEST_FORMAT:
        msg = f"{told}: {_MANIFEST} has format {said.get('format')!r}; expected was {MANIFEST_FORMAT}."
        raise ModelFailedError(msg)
    if said.get("request") != request.digest:
        msg = f"{told}: the answer is for the request {said.get('request')!r} and not for {request.digest}: it is for other input."
        raise ModelFailedError(msg)
    wrong = [key for key in _TEXTS if not isinstance(said.get(key), str) or not said[key]]
    past: Any = said.get("pretraining")
    if past != UNKNOWN and not (isinstance(past, list) and all(isinstance(one, str) and one for one in past)):
        wrong.append("pretraining")
    if "exposure" not in wrong and said["exposure"] not in _EXPOSURES:
        wrong.append("exposure")
    if wrong:
        msg = f"{told}: {_MANIFEST} lacks or garbles {', '.join(wrong)}. What is not known is written as 'unknown'."
        raise ModelFailedError(msg)
    seed = said.get("seed", UNKNOWN)
    if seed is not None and (isinstance(seed, bool) or seed != request.document["seed"]):
        msg = f"{told}: seed {seed!r} is not that of the request ({request.document['seed']}); null says that nothing is drawn."
        raise ModelFailedError(msg)
    found = Manifest(
        **{key: said[key] for key in _TEXTS}, seed=seed, pretraining=(UNKNOWN,) if past == UNKNOWN else tuple(past)
    )
    _refuse_past(found, pretraining, told)
    return found


def _refuse_past(found: Manifest, pretraining: tuple[str, ...], told: str) -> None:
    if found.exposure == "in":
        msg = (
            f"{told}: the program says that its model knows these cells (exposure 'in'): a score would measure memory."
        )
        raise LeakageError(msg)
    if sorted(found.pretraining) != sorted(pretraining):
        here, there = (", ".join(one) or "none" for one in (pretraining, found.pretraining))
        msg = (
            f"{told}: the study says pretraining {here}, the program {there}. Exposure is judged by the study's word: "
            f"write pretraining = {json.dumps(list(found.pretraining))} in its options."
        )
        raise RefusedError(msg)


def read_embedding(folder: Path, request: Request, *, told: str) -> Float[np.ndarray, "cells dims"]:
    """Return the embedding of a step, rows in the order of the view.

    Raises
    ------
    ModelFailedError
        If a cell is missing, too many or given twice, or a value is not finite.
    """
    arrays = _arrays(folder, request, told)
    values = arrays.get("embedding", np.empty(0))
    is_numbers = np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)
    if values.ndim != 2 or len(values) != len(request.cell_ids) or not values.shape[1] or not is_numbers:
        msg = f"{told}: embedding is {values.dtype} {values.shape}; expected were numbers, one row for each of {len(request.cell_ids)} cells."
        raise ModelFailedError(msg)
    n_bad = int((~np.isfinite(values)).any(axis=1).sum())
    if n_bad:
        msg = f"{told}: the embedding of {n_bad} of {len(values)} cells is not finite."
        raise ModelFailedError(msg)
    return _in_order(np.asarray(values, dtype=np.float64), arrays["cell_id"], request)


def read_labels(folder: Path, request: Request, *, classes: Sequence[str], told: str) -> AnnotatorOutput:
    """Return the answers of a step, rows in the order of the view: `label`, or `classes` with `probability`.

    Raises
    ------
    ModelFailedError
        If a cell is missing, too many or given twice, a label is none of training, or rows are no probabilities.
    """
    arrays = _arrays(folder, request, told)
    n_cells = len(request.cell_ids)
    if "label" in arrays:
        labels = arrays["label"]
        if labels.shape != (n_cells,) or labels.dtype.kind != "U":
            msg = f"{told}: label is {labels.dtype} {labels.shape}; expected was a text for each of {n_cells} cells."
            raise ModelFailedError(msg)
        names, codes = np.unique(labels, return_inverse=True)
        probability = np.eye(len(names))[codes]
    else:
        names, probability = arrays.get("classes", np.empty(0)), arrays.get("probability", np.empty(0))
        _refuse_no_probability(names, probability, n_cells=n_cells, told=told)
    told_names = [str(name) for name in names]
    strange = sorted(set(told_names) - {*classes, UNKNOWN})
    if strange or len(set(told_names)) != len(told_names):
        msg = f"{told}: {len(strange)} label(s) are none of training ({', '.join(strange[:3])}), or a class stands twice. Write 'unknown' to abstain."
        raise ModelFailedError(msg)
    columns = np.argsort(np.array(told_names), kind="stable")
    rows = _in_order(np.asarray(probability, dtype=np.float64), arrays["cell_id"], request)
    return AnnotatorOutput(classes=tuple(told_names[column] for column in columns), probability=rows[:, columns])


def _refuse_no_probability(names: np.ndarray, probability: np.ndarray, *, n_cells: int, told: str) -> None:
    is_shaped = names.dtype.kind == "U" and names.ndim == 1 and probability.shape == (n_cells, len(names))
    if not is_shaped or not len(names) or not np.issubdtype(probability.dtype, np.floating):
        msg = f"{told}: the answer has neither label nor classes with probability ({n_cells} cells x classes)."
        raise ModelFailedError(msg)
    is_sound = bool(np.isfinite(probability).all() and (probability >= 0).all())
    if not is_sound or not np.allclose(probability.sum(axis=1), 1.0, atol=_SUM_TOLERANCE):
        msg = f"{told}: probabilities are not finite, negative, or do not sum to 1 for every cell."
        raise ModelFailedError(msg)


def _arrays(folder: Path, request: Request, told: str) -> dict[str, np.ndarray]:
    """Read the arrays of an answer and check its cells; no object in it is ever made of bytes."""
    path = _plain_file(folder / _ANSWER, told)
    most = _MOST_BYTES_BESIDE + _MOST_BYTES_PER_CELL * len(request.cell_ids)
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > most:
            msg = f"{told}: {_ANSWER} unpacks to {n_bytes:,} bytes; at most {most:,} are read."
            raise ModelFailedError(msg)
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        msg = f"{told}: {_ANSWER} cannot be read as arrays without objects ({type(error).__name__}: {error})."
        raise ModelFailedError(msg) from None
    ids = arrays.get("cell_id", np.empty(0))
    found = [str(one) for one in ids.tolist()] if ids.ndim == 1 and ids.dtype.kind == "U" else []
    missing, strange = set(request.cell_ids) - set(found), set(found) - set(request.cell_ids)
    n_twice = len(found) - len(set(found))
    if missing or strange or n_twice:
        msg = f"{told}: of {len(request.cell_ids)} cells {len(missing)} have no answer, {len(strange)} answers are for other cells, {n_twice} for one that has one."
        raise ModelFailedError(msg)
    return arrays


def _in_order(values: np.ndarray, ids: np.ndarray, request: Request) -> np.ndarray:
    row_of = dict(zip(request.cell_ids, request.order.tolist(), strict=True))
    found = np.empty_like(values)
    found[[row_of[str(one)] for one in ids.tolist()]] = values
    return found


def _document(folder: Path, told: str) -> dict[str, Any]:
    path = _plain_file(folder / _MANIFEST, told)
    try:
        if path.stat().st_size > _MOST_MANIFEST:
            msg = f"over {_MOST_MANIFEST:,} bytes"
            raise ValueError(msg)  # noqa: TRY301 - told below like every other fault
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{told}: {_MANIFEST} cannot be read as JSON ({type(error).__name__}: {error})."
        raise ModelFailedError(msg) from None
    if not isinstance(said, dict):
        msg = f"{told}: {_MANIFEST} is no JSON object."
        raise ModelFailedError(msg)
    return said


def _plain_file(path: Path, told: str) -> Path:
    if path.is_symlink() or not path.is_file():
        msg = f"{told}: the program left no file {path.name} (links are not followed)."
        raise ModelFailedError(msg)
    return path
