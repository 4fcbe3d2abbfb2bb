"""scVI on disk: weights as safetensors, everything else as canonical JSON. Never a pickle.

`SCVI.save` writes a pickle and `SCVI.load` executes it; a file from another lab must not be able to run code here. The
JSON names the weights by SHA-256 and by shape, the genes, the batches in the order of their weights, the scopes of the
fit and its notes. Loading builds an empty network of that shape and fills it; every weight has to be there, with its
shape, and none more.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.errors import IntegrityError, UnreadableInputError
from cytolabe.files import create_new, read_verified
from cytolabe.models import scvi_training as training
from cytolabe.models.extras import import_extra
from cytolabe.models.scvi import FittedScvi
from cytolabe.provenance import canonical_json
from cytolabe.records import FitScope

__all__ = [
    "DESCRIPTION_NAME",
    "FORMAT",
    "WEIGHTS_NAME",
    "described_fit",
    "fill_network",
    "load_scvi",
    "read_description",
    "save_scvi",
    "write_weights",
]

FORMAT = "cytolabe-scvi-1"
WEIGHTS_NAME = "weights.safetensors"
DESCRIPTION_NAME = "scvi.json"


def save_scvi(fitted: FittedScvi, directory: Path) -> str:
    """Write a fitted scVI into a directory and return the SHA-256 of its weights.

    Raises
    ------
    ConflictError
        If the directory holds another model.
    """
    sha256 = write_weights(fitted.model, directory)
    # The description last: a directory without it is no model, whatever a crash left there.
    create_new(
        directory / DESCRIPTION_NAME, canonical_json({**described_fit(fitted, FORMAT), "weights_sha256": sha256})
    )
    return sha256


def write_weights(model: Any, directory: Path) -> str:  # noqa: ANN401 - untyped library
    """Write the weights of a model of scvi-tools as safetensors and return their SHA-256."""
    weights = {name: weight.contiguous() for name, weight in sorted(model.module.state_dict().items())}
    content: bytes = import_extra("safetensors.torch").save(weights)
    create_new(directory / WEIGHTS_NAME, content)
    return hashlib.sha256(content).hexdigest()


def described_fit(fitted: FittedScvi, kind: str) -> dict[str, object]:
    """Return all of a fit but its weights, for the description of a stored model of this format."""
    return {
        "format": kind,
        "genes": fitted.genes,
        "columns": fitted.columns,
        "batches": fitted.batches,
        "settings": asdict(fitted.settings),
        "mean_embedding": fitted.mean_embedding,
        "scopes": fitted.scopes,
        "notes": fitted.notes,
        "scvi_tools": metadata.version("scvi-tools"),
    }


def load_scvi(directory: Path) -> FittedScvi:
    """Read a fitted scVI that `save_scvi` wrote.

    Raises
    ------
    UnreadableInputError
        If the description is missing, is not JSON, is of another format or lacks a part.
    IntegrityError
        If the weights are missing, have another digest, or do not fit the described network exactly.
    """
    return _described(directory, read_description(directory / DESCRIPTION_NAME, FORMAT))


def _described(directory: Path, description: dict[str, Any]) -> FittedScvi:
    try:
        settings = training.ScviSettings(**description["settings"])
        genes = tuple(description["genes"])
        columns = np.array(description["columns"], dtype=np.int64)
        batches = tuple(description["batches"])
        scopes = tuple(FitScope(**scope) for scope in description["scopes"])
        mean_embedding = np.array(description["mean_embedding"], dtype=np.float64)
        notes = dict.fromkeys(description["notes"])
        content = read_verified(directory / WEIGHTS_NAME, description["weights_sha256"])
        chosen = tuple(genes[column] for column in columns)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        msg = f"{DESCRIPTION_NAME} lacks or garbles a part ({type(error).__name__}: {error}). Save the model again."
        raise UnreadableInputError(msg) from error
    model = training.blank_model(chosen, batches, settings)
    fill_network(model, content)
    return FittedScvi(
        genes=genes,
        columns=columns,
        batches=batches,
        settings=settings,
        mean_embedding=mean_embedding,
        model=model,
        scopes=scopes,
        _met=notes,
    )


def read_description(path: Path, kind: str) -> dict[str, Any]:
    """Return the description of a stored model of one format.

    Raises
    ------
    UnreadableInputError
        If it is missing, no JSON, or of another format.
    """
    try:
        description = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{path.name} cannot be read ({type(error).__name__}): this directory holds no stored scVI."
        raise UnreadableInputError(msg) from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != kind:
        msg = f"{path.name} has format {found!r}, and this version reads {kind}."
        raise UnreadableInputError(msg)
    return dict(description)


def fill_network(model: Any, content: bytes) -> None:  # noqa: ANN401 - untyped library
    """Put every stored weight into the network, and refuse one too many, one too few or one of another shape.

    Raises
    ------
    IntegrityError
        If they differ.
    """
    weights: Mapping[str, Any] = import_extra("safetensors.torch").load(content)
    expected = {name: tuple(weight.shape) for name, weight in model.module.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    differing = sorted(name for name in set(expected) | set(found) if expected.get(name) != found.get(name))
    if differing:
        msg = (
            f"{len(differing)} of {len(expected)} weights do not fit the network that {DESCRIPTION_NAME} describes, for "
            f"example {differing[0]}. A weight that is skipped in silence would be a random one."
        )
        raise IntegrityError(msg)
    model.module.load_state_dict(weights)
    model.module.eval()
