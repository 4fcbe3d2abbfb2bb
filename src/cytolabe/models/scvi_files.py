"""scVI on disk (`stored`): weights as safetensors, all else as JSON, and a card. Loading fills an empty network of that shape."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.models import scvi_training as training
from cytolabe.models.cards import CARDS
from cytolabe.models.posterior import write_posterior
from cytolabe.models.protocols import QueryView
from cytolabe.models.scvi import FittedScvi
from cytolabe.models.stored import StoredKind, described, open_stored, scopes_of, write_stored
from cytolabe.records import ModelCard

__all__ = ["SCVI_KIND", "load_scvi", "save_scvi"]

SCVI_KIND = StoredKind(
    model="scvi",
    format="cytolabe-scvi-2",
    description_name="scvi.json",
    features={"dictionary.genes": "genes"},
)
"""How a stored scVI is told from others."""


def save_scvi(fitted: FittedScvi, directory: Path, *, reference: QueryView | None = None) -> ModelCard:
    """Write a fitted scVI into a directory and return its card, with the digest of its weights.

    Parameters
    ----------
    reference
        The training cells, whose posterior is then kept beside the weights (`posterior`); none is kept without them.

    Raises
    ------
    UsageError
        If the reference is other cells than those of the training.
    ConflictError
        If the directory holds another model.
    """
    description = {
        "genes": fitted.genes,
        "columns": fitted.columns,
        "batches": fitted.batches,
        "settings": asdict(fitted.settings),
        "seed": fitted.seed,
        "mean_embedding": fitted.mean_embedding,
        "scopes": fitted.scopes,
        "notes": fitted.notes,
        **({} if reference is None else write_posterior(directory, fitted.latent_posterior(reference))),
    }
    about = (replace(CARDS["scvi"], scopes=fitted.scopes), fitted.facts)
    return write_stored(directory, SCVI_KIND, model=fitted.model, description=description, about=about)


def load_scvi(directory: Path) -> FittedScvi:
    """Read a fitted scVI that `save_scvi` wrote.

    Raises
    ------
    UnreadableInputError
        If the description or the card is missing, is not JSON, is of another format or lacks a part.
    IntegrityError
        If the card is of another model, genes, description or weights are not those of the card, or the weights do not fit
        the described network exactly.
    """
    stored = open_stored(directory, SCVI_KIND)
    said = stored.description
    with described(SCVI_KIND):
        settings = training.ScviSettings(**said["settings"])
        genes, batches = tuple(said["genes"]), tuple(said["batches"])
        columns = np.array(said["columns"], dtype=np.int64)
        chosen = tuple(genes[column] for column in columns)
        parts: dict[str, Any] = {
            "mean_embedding": np.array(said["mean_embedding"], dtype=np.float64),
            "seed": int(said["seed"]),
            "scopes": scopes_of(said),
            "_met": dict.fromkeys(said["notes"]),
        }
    model = training.blank_model(chosen, batches, settings)
    stored.fill(model)
    return FittedScvi(genes=genes, columns=columns, batches=batches, settings=settings, model=model, **parts)
