"""A fine-tuned Geneformer on disk: weights of trunk and heads, the dictionaries that it reads by, a description, and a card.

    model.safetensors           weights of the trunk and of its heads
    token_dictionary.json ...   the dictionaries, as beside a checkpoint
    head.json                   shape, classes, which labels it was shown, options, and digests of the rest
    model_card.json             the `ModelCard`; written last, so that a folder without it is no model

Nothing is a pickle. Loading makes an empty network of the described shape and fills it; every key has to be there.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.errors import UnreadableInputError, UsageError
from cytolabe.files import create_new
from cytolabe.models.cards import CARDS
from cytolabe.models.devices import placed
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.cell_classes import CellTask
from cytolabe.models.geneformer.checkpoint import (
    DICTIONARY_STEMS,
    WEIGHTS_NAME,
    GeneformerCheckpoint,
    dictionary_contents,
    stored_dictionaries,
)
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.fine_tuning import HEAD_METADATA, TaskHeads
from cytolabe.models.geneformer.gene_classes import FittedGeneClasses
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape, shape_of_config
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.weights import KeyRules, fill_network, read_weights, stored_bytes
from cytolabe.provenance import canonical_json, jsonable
from cytolabe.records import FitScope, ModelCard, Protocol

__all__ = [
    "DESCRIPTION_NAME",
    "MODEL_CARD_NAME",
    "fine_tuned_card",
    "load_cell_tasks",
    "load_gene_classes",
    "read_head",
    "save_cell_tasks",
    "save_gene_classes",
    "write_head",
]

DESCRIPTION_NAME, MODEL_CARD_NAME = "head.json", "model_card.json"
_GENES, _CELLS = "cytolabe-geneformer-genes-1", "cytolabe-geneformer-cells-1"
_LOG_VARIANCES = "log_variances"
"""Key of the weights of tasks, where they were learned."""


def fine_tuned_card(
    learning: GeneformerLearning,
    checkpoint: GeneformerCheckpoint,
    *,
    name: str,
    title: str,
    scopes: tuple[FitScope, ...],
) -> ModelCard:
    """Return the card of a fine-tuning, without the digest of weights that are not written yet.

    From random weights it is `supervised` and has no pretraining; else `fine_tuned`, with that of the checkpoint.
    """
    is_random = learning.weights == "random"
    return replace(
        CARDS["geneformer_annotator"],
        name=name,
        title=title,
        protocol=Protocol.SUPERVISED if is_random else Protocol.FINE_TUNED,
        pretraining=() if is_random else tuple(learning.corpus) or checkpoint.card.pretraining,
        scopes=scopes,
    )


def save_gene_classes(
    fitted: FittedGeneClasses,
    directory: Path,
    *,
    shape: GeneformerShape,
    card: ModelCard,
    about: Mapping[str, object],
    beside: Callable[[ModelCard], None] = lambda _: None,
) -> ModelCard:
    """Write a Geneformer that tells classes of genes, and return its card with the digest of its weights.

    Parameters
    ----------
    about
        What else a reader shall find in `head.json`: options, split, snapshot, seed.
    beside
        Writes what names the weights by digest, before the card makes the folder a model.

    Raises
    ------
    ConflictError
        If the folder holds another model.
    """
    description = {"classes": fitted.classes, "genes": fitted.genes, "notes": fitted.notes, "about": about}
    full = {"format": _GENES, **description}
    return write_head(fitted, directory, shape=shape, card=card, description=full, beside=beside)


def load_gene_classes(directory: Path) -> FittedGeneClasses:
    """Read what `save_gene_classes` wrote.

    Raises
    ------
    UnreadableInputError
        If a part is missing, of another format, or garbled.
    IntegrityError
        If a part has another digest than the description says, or the weights do not fit the network.
    """
    import_extra("torch")
    from cytolabe.models.geneformer.heads import GeneHead, make_heads  # noqa: PLC0415 - needs torch

    said = read_head(directory, _GENES)
    with _told_as_garbled():
        classes, genes = tuple(map(str, said["classes"])), tuple(map(str, said["genes"]))
    read = _read_parts(directory, said)
    network = make_heads(GeneHead, blank_network(read.shape, seed=0), seed=0, n_classes=len(classes))
    fill_network(network, read.weights, rules=KeyRules(tied={}), where=WEIGHTS_NAME)
    return FittedGeneClasses(
        network=placed(network), dictionaries=read.dictionaries, classes=classes, genes=genes, notes=read.notes
    )


def save_cell_tasks(
    heads: TaskHeads,
    directory: Path,
    *,
    checkpoint: GeneformerCheckpoint,
    card: ModelCard,
    about: Mapping[str, object],
    beside: Callable[[ModelCard], None] = lambda _: None,
) -> ModelCard:
    """Write a Geneformer that answers questions about cells, and return its card with the digest of its weights.

    Parameters
    ----------
    checkpoint
        What it was fine-tuned from: its shape and its dictionaries.
    about
        What else a reader shall find in `head.json`: options, split, snapshot, seed.
    beside
        Writes what names the weights by digest, before the card makes the folder a model.

    Raises
    ------
    ConflictError
        If the folder holds another model.
    UsageError
        If a task has a hierarchy, which no folder holds yet.
    """
    deep = [task.name for task in heads.tasks if task.hierarchy is not None]
    if deep:
        msg = f"{', '.join(deep)} has labels of any depth, which a folder of tasks does not hold. Train on one level."
        raise UsageError(msg)
    tasks = [
        {"name": task.name, "classes": task.classes, "shares": heads.shares[task.name].tolist()} for task in heads.tasks
    ]
    network: Any = heads.network
    description = {"tasks": tasks, "pooling": network.pooling, "notes": heads.notes, "about": about}
    stored = _Stored(network=network, dictionaries=checkpoint.dictionaries)
    full = {"format": _CELLS, **description}
    return write_head(stored, directory, shape=checkpoint.shape, card=card, description=full, beside=beside)


def load_cell_tasks(directory: Path) -> tuple[TaskHeads, Dictionaries]:
    """Read what `save_cell_tasks` wrote: the network with its heads, and the dictionaries that it reads cells by.

    Raises
    ------
    UnreadableInputError
        If a part is missing, of another format, or garbled.
    IntegrityError
        If a part has another digest than the description says, or the weights do not fit the network.
    """
    import_extra("torch")
    from cytolabe.models.geneformer.heads import CellHeads, make_heads  # noqa: PLC0415 - needs torch

    said = read_head(directory, _CELLS)
    with _told_as_garbled():
        tasks = tuple(_stored_task(one) for one in said["tasks"])
        shares = {str(one["name"]): np.array(one["shares"], dtype=np.float64) for one in said["tasks"]}
        pooling = str(said["pooling"])
    read = _read_parts(directory, said)
    has_frame = read.dictionaries.bounds is not None
    network = make_heads(
        CellHeads, blank_network(read.shape, seed=0), seed=0, n_classes=[len(task.classes) for task in tasks],
        pooling=pooling, has_frame=has_frame, weighting="learned" if _LOG_VARIANCES in read.weights else "fixed",
    )  # fmt: skip
    fill_network(network, read.weights, rules=KeyRules(tied={}), where=WEIGHTS_NAME)
    heads = TaskHeads(network=network, tasks=tasks, shares=shares, has_frame=has_frame, notes=read.notes)
    return heads, read.dictionaries


def _stored_task(said: Mapping[str, Any]) -> CellTask:
    """Return a task as it is answered; whose labels taught it is not kept."""
    classes = tuple(map(str, said["classes"]))
    return CellTask(
        name=str(said["name"]), labels=classes, codes=np.zeros(0, dtype=np.int64), label_weights=np.ones(len(classes))
    )


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What a folder holds of a model: the network, and the dictionaries that it reads by."""

    network: Any
    dictionaries: Dictionaries


def write_head(
    fitted: Any,  # noqa: ANN401 - has a network and the dictionaries that it reads by
    directory: Path,
    *,
    shape: GeneformerShape,
    card: ModelCard,
    description: Mapping[str, object],
    beside: Callable[[ModelCard], None] = lambda _: None,
) -> ModelCard:
    """Write weights, dictionaries, description and card, and return the card with the digest of the weights.

    `beside` is called with that card before it is written: the card comes last, so that a folder without it is no model.

    Raises
    ------
    ConflictError
        If the folder holds another model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = stored_bytes(fitted.network.state_dict(), metadata=HEAD_METADATA)
    contents = {**dictionary_contents(fitted.dictionaries), WEIGHTS_NAME: weights}
    for name, content in contents.items():
        create_new(directory / name, content)
    digests = {role: _digest(contents[name]) for role, name in _dictionary_names(contents).items()}
    full = {**description, "shape": shape.config, "dictionaries": digests, "weights": _digest(weights)}
    create_new(directory / DESCRIPTION_NAME, canonical_json(jsonable(full)))
    found = replace(card, weights_digest=_digest(weights))
    beside(found)
    create_new(directory / MODEL_CARD_NAME, canonical_json(jsonable(asdict(found))))
    return found


def read_head(directory: Path, kind: str) -> dict[str, Any]:
    """Return the description of a fine-tuned Geneformer of one format.

    Raises
    ------
    UnreadableInputError
        If it is missing, no JSON, or of another format.
    """
    try:
        said = json.loads((directory / DESCRIPTION_NAME).read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{DESCRIPTION_NAME} cannot be read ({type(error).__name__}): this folder holds no fine-tuned Geneformer."
        raise UnreadableInputError(msg) from None
    found = said.get("format") if isinstance(said, dict) else None
    if found != kind:
        msg = f"{DESCRIPTION_NAME} has format {found!r}, and {kind} was asked for."
        raise UnreadableInputError(msg)
    return dict(said)


def _dictionary_names(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {role: f"{stem}.json" for role, stem in DICTIONARY_STEMS.items() if f"{stem}.json" in contents}


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a description says and its folder holds, whatever the heads answer."""

    shape: GeneformerShape
    notes: tuple[str, ...]
    weights: dict[str, Any]
    dictionaries: Dictionaries


def _read_parts(directory: Path, said: Mapping[str, Any]) -> _Parts:
    with _told_as_garbled():
        shape, notes = shape_of_config(said["shape"], where=DESCRIPTION_NAME), tuple(map(str, said["notes"]))
        digests, expected = dict(said["dictionaries"]), str(said["weights"])
    weights, _ = read_weights(directory / WEIGHTS_NAME, expected=expected)
    return _Parts(shape=shape, notes=notes, weights=weights, dictionaries=stored_dictionaries(directory, digests))


@contextmanager
def _told_as_garbled() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{DESCRIPTION_NAME} lacks or garbles a part ({type(error).__name__}: {error}). Train the model again."
        raise UnreadableInputError(msg) from None


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
