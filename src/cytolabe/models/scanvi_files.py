"""scANVI on disk: the scVI that it began with in a folder of its own, and its weights as safetensors beside a description in JSON.

Loading builds an empty network of the described shape and labels and fills it, as for scVI; never a pickle.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytolabe.errors import UnreadableInputError
from cytolabe.files import create_new, read_verified
from cytolabe.models import scvi_training as training
from cytolabe.models.extras import import_extra
from cytolabe.models.scanvi import UNLABELLED, FittedScanvi
from cytolabe.models.scvi import FittedScvi
from cytolabe.models.scvi_files import (
    WEIGHTS_NAME,
    fill_network,
    load_scvi,
    read_description,
    save_scvi,
    write_weights,
)
from cytolabe.provenance import canonical_json
from cytolabe.records import FitScope

__all__ = ["BASE_NAME", "DESCRIPTION_NAME", "FORMAT", "load_scanvi", "save_scanvi"]

FORMAT = "cytolabe-scanvi-1"
DESCRIPTION_NAME = "scanvi.json"
BASE_NAME = "scvi"


def save_scanvi(fitted: FittedScanvi, directory: Path) -> str:
    """Write a fitted scANVI into a directory and return the SHA-256 of its weights.

    Raises
    ------
    ConflictError
        If the directory holds another model.
    """
    save_scvi(fitted.base, directory / BASE_NAME)
    sha256 = write_weights(fitted.model, directory)
    registered = fitted.model.adata_manager.get_state_registry("labels").categorical_mapping
    description = {
        "format": FORMAT,
        "weights_sha256": sha256,
        "classes": fitted.classes,
        "shares": fitted.shares,
        "batches": fitted.batches,
        "registered": [str(label) for label in registered],
        "scopes": fitted.scopes,
        "notes": fitted.notes,
    }
    create_new(directory / DESCRIPTION_NAME, canonical_json(description))
    return sha256


def load_scanvi(directory: Path) -> FittedScanvi:
    """Read a fitted scANVI that `save_scanvi` wrote.

    Raises
    ------
    UnreadableInputError
        If a description is missing, is not JSON, is of another format or lacks a part.
    IntegrityError
        If weights are missing, have another digest, or do not fit the described network exactly.
    """
    description = read_description(directory / DESCRIPTION_NAME, FORMAT)
    base = load_scvi(directory / BASE_NAME)
    try:
        classes, batches = tuple(description["classes"]), tuple(description["batches"])
        registered = [str(label) for label in description["registered"]]
        shares = np.array(description["shares"], dtype=np.float64)
        scopes = tuple(FitScope(**scope) for scope in description["scopes"])
        notes = dict.fromkeys(description["notes"])
        content = read_verified(directory / WEIGHTS_NAME, description["weights_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{DESCRIPTION_NAME} lacks or garbles a part ({type(error).__name__}: {error}). Save the model again."
        raise UnreadableInputError(msg) from error
    model = _blank(base, batches, registered)
    fill_network(model, content)
    return FittedScanvi(
        classes=classes, shares=shares, base=base, batches=batches, model=model, scopes=scopes, _met=notes
    )


def _blank(base: FittedScvi, batches: tuple[str, ...], registered: list[str]) -> Any:  # noqa: ANN401 - untyped library
    """Return an untrained model over these batches and labels: one cell of each, so that all are known."""
    genes = tuple(base.genes[column] for column in base.columns)
    started = training.blank_model(genes, batches, base.settings)
    n_cells = max(len(batches), len(registered))
    table = training.CellsTable(
        counts=np.ones((n_cells, len(genes)), dtype=np.float32),
        genes=genes,
        batch=pd.Categorical(
            np.array(batches, dtype=object)[np.arange(n_cells) % len(batches)], categories=list(batches)
        ),
    )
    with training.quiet_session(0):
        adata = training.cells_anndata(table)
        adata.obs["label"] = [registered[cell % len(registered)] for cell in range(n_cells)]
        model = import_extra("scvi").model.SCANVI.from_scvi_model(
            started, unlabeled_category=UNLABELLED, labels_key="label", adata=adata
        )
        model.module.eval()
        model.is_trained_ = True
    return model
