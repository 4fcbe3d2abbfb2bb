"""scANVI on disk (`stored`): the scVI that it began with in a folder of its own, which its card names by its weights.

Loading builds an empty network of the described shape and labels and fills it, as for scVI; never a pickle.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytolabe.errors import IntegrityError
from cytolabe.models import scvi_training
from cytolabe.models.fitted_scanvi import UNLABELLED, FittedScanvi
from cytolabe.models.posterior import write_posterior
from cytolabe.models.protocols import QueryView
from cytolabe.models.scanvi import ScanviAnnotator, scanvi_class, taught
from cytolabe.models.scvi import FittedScvi
from cytolabe.models.scvi_files import load_scvi, save_scvi
from cytolabe.models.stored import StoredKind, described, open_stored, scopes_of, weights_digest, write_stored
from cytolabe.ontology.hierarchy import Hierarchy
from cytolabe.records import ModelCard

__all__ = ["BASE_NAME", "SCANVI_KIND", "load_scanvi", "save_scanvi"]

BASE_NAME = "scvi"
SCANVI_KIND = StoredKind(
    model="scanvi",
    format="cytolabe-scanvi-3",
    description_name="scanvi.json",
    features={"dictionary.genes": "genes", "dictionary.classes": "classes"},
)
"""How a stored scANVI is told from others."""


def save_scanvi(
    fitted: FittedScanvi,
    directory: Path,
    *,
    reference: QueryView | None = None,
    training: Mapping[str, object] | None = None,
) -> ModelCard:
    """Write a fitted scANVI into a directory and return its card, with the digest of its weights.

    Parameters
    ----------
    reference
        The training cells, whose posteriors (of scANVI, and of the scVI in its folder) are then kept beside the weights.
    training
        What else is to be known of the training: the question, the side of which split.

    Raises
    ------
    UsageError
        If the reference is other cells than those of the training.
    ConflictError
        If the directory holds another model.
    """
    base = save_scvi(fitted.base, directory / BASE_NAME, reference=reference)
    registered = fitted.model.adata_manager.get_state_registry("labels").categorical_mapping
    description = {
        "genes": fitted.base.genes,
        "base_weights": base.weights_digest,
        "classes": fitted.classes,
        "shares": fitted.shares,
        "n_labelled": fitted.n_labelled,
        "n_unlabelled": fitted.n_unlabelled,
        "training": dict(fitted.training if training is None else training),
        "batches": fitted.batches,
        "registered": [str(label) for label in registered],
        "hierarchy": fitted.hierarchy,
        "scopes": fitted.scopes,
        "notes": fitted.notes,
        **({} if reference is None else write_posterior(directory, fitted.latent_posterior(reference))),
    }
    card = ScanviAnnotator(hierarchical=fitted.hierarchy is not None).card
    about = (replace(card, scopes=fitted.scopes), fitted.facts)
    return write_stored(directory, SCANVI_KIND, model=fitted.model, description=description, about=about)


def load_scanvi(directory: Path) -> FittedScanvi:
    """Read a fitted scANVI that `save_scanvi` wrote.

    Raises
    ------
    UnreadableInputError
        If a description or a card is missing, is not JSON, is of another format or lacks a part.
    IntegrityError
        If a card is of another model, genes, descriptions or weights are not those of the card, the scVI is not the one that this scANVI
        began with, or weights do not fit the described network exactly.
    """
    stored = open_stored(directory, SCANVI_KIND)
    said, base = stored.description, load_scvi(directory / BASE_NAME)
    with described(SCANVI_KIND):
        classes, batches = tuple(said["classes"]), tuple(said["batches"])
        registered = [str(label) for label in said["registered"]]
        shares = np.array(said["shares"], dtype=np.float64)
        n_cells = {name: int(said[name]) for name in ("n_labelled", "n_unlabelled")}
        told = dict(said["training"])
        scopes, notes = scopes_of(said), dict.fromkeys(said["notes"])
        hierarchy = None if said["hierarchy"] is None else _hierarchy(said["hierarchy"])
        expected, found = str(said["base_weights"]), weights_digest(base.model)
    if found != expected:
        msg = (
            f"{directory / BASE_NAME} holds a scVI with weights {found}; this scANVI began with {expected}. "
            "Take the folder as it was saved."
        )
        raise IntegrityError(msg)
    model = _blank(base, batches, registered=registered, hierarchy=hierarchy)
    stored.fill(model)
    return FittedScanvi(
        classes=classes, shares=shares, base=base, batches=batches, model=model, scopes=scopes, hierarchy=hierarchy, _met=notes, training=told, **n_cells
    )  # fmt: skip


def _hierarchy(said: Mapping[str, Any]) -> Hierarchy:
    covers = np.array(said["covers"], dtype=bool)
    return Hierarchy(labels=tuple(said["labels"]), classes=tuple(said["classes"]), covers=covers)


def _blank(base: FittedScvi, batches: tuple[str, ...], *, registered: list[str], hierarchy: Hierarchy | None) -> Any:  # noqa: ANN401 - untyped library
    """Return an untrained model over these batches and labels: one cell of each, so that all are known."""
    genes = tuple(base.genes[column] for column in base.columns)
    started = scvi_training.blank_model(genes, batches, base.settings)
    n_cells = max(len(batches), len(registered))
    table = scvi_training.CellsTable(
        counts=np.ones((n_cells, len(genes)), dtype=np.float32),
        genes=genes,
        batch=pd.Categorical(
            np.array(batches, dtype=object)[np.arange(n_cells) % len(batches)], categories=list(batches)
        ),
    )
    with scvi_training.quiet_session(0):
        adata = scvi_training.cells_anndata(table)
        adata.obs["label"] = [registered[cell % len(registered)] for cell in range(n_cells)]
        model = scanvi_class(hierarchy).from_scvi_model(
            started, unlabeled_category=UNLABELLED, labels_key="label", adata=adata
        )
        taught(model, hierarchy)
        model.module.eval()
        model.is_trained_ = True
    return model
