"""`cytolabe train scvi`: an scVI of the training side of a split, and of nothing else, in a folder that `--checkpoint` opens.

Labels are not read. Its card names the training cells, so that an audit finds those of another test side among them; later cells are
mapped onto it by `cytolabe embed scvi --checkpoint FOLDER`, which fits weights of new
batches and no other. A training that was killed begins again. It reads genes that all data sets of the
fold measure, those of the test side included.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.apply.views import train_view
from cytolabe.errors import UsageError
from cytolabe.flow.splits import shared_genes
from cytolabe.flow.training_files import TrainingOrder, checked_table, read_training_file
from cytolabe.models.posterior import POSTERIOR_NAME
from cytolabe.models.scvi import ScviEmbedder
from cytolabe.models.scvi_files import save_scvi
from cytolabe.models.stored import MODEL_CARD_NAME
from cytolabe.provenance import jsonable
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["ScviTraining", "network_options", "pretrain_scvi", "read_scvi_training"]

_TOP = ("n_latent", "n_hidden", "n_layers", "n_top_genes", "latent_posterior")
_TRAINING = ("max_epochs", "patience")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScviTraining(ScviEmbedder):
    """What a training file asks for."""

    latent_posterior: bool = False
    """Whether mean and variance of each training cell's posterior are kept beside the weights (`models.posterior`)."""


def read_scvi_training(path: Path) -> ScviTraining:
    """Read a training file: the sizes `n_latent`, `n_hidden`, `n_layers`, `n_top_genes`, `latent_posterior`, and `[training]` with `max_epochs` and `patience`.

    Raises
    ------
    UsageError
        If it is not there, no TOML, or has a key or a value that means nothing.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(ScviTraining) if field.init}
    return ScviTraining(**network_options(path, defaults, top=_TOP, training=_TRAINING))


def network_options(
    path: Path, defaults: Mapping[str, Any], *, top: Sequence[str], training: Sequence[str]
) -> dict[str, Any]:
    """Return what a training file says of a network of scvi-tools: values by key, each of the type of its default.

    Parameters
    ----------
    defaults
        Of every key that there is.
    top
        Keys that stand at the top of the file.
    training
        Keys of its table `[training]`.

    Raises
    ------
    UsageError
        If it is not there, no TOML, or has a key or a value that means nothing.
    """
    said = read_training_file(path)
    table = said.pop("training", {})
    if not isinstance(table, dict):
        msg = f"{path}: training = {table!r} is no table. Write [training] above its keys."
        raise UsageError(msg)
    options = {
        **checked_table(said, top, defaults=defaults, where=f"{path}"),
        **checked_table(table, training, defaults=defaults, where=f"{path}: [training]"),
    }
    too_small = [f"{key} = {value}" for key, value in options.items() if type(value) is int and value < 1]
    if too_small:
        msg = f"{path}: {', '.join(too_small)} means nothing. Give at least 1."
        raise UsageError(msg)
    return options


def pretrain_scvi(frozen: Snapshot, config: ScviTraining, order: TrainingOrder) -> dict[str, object]:
    """Train an scVI on the training side of a fold and write its folder.

    Raises
    ------
    ConflictError
        If a model lies there.
    UsageError
        If the fold has no training cell, or no gene is measured by all data sets of both sides.
    RefusedError
        If fewer than ten training cells have counts, or a count is too large for float32.
    MissingExtraError
        If scvi-tools is not installed.
    """
    order.refuse_model(MODEL_CARD_NAME)
    _, fold = order.chosen(frozen)
    rows = np.sort(fold.train_rows)
    if not len(rows):
        msg = f"Fold {fold.split_id} has no training cell, so that nothing can be learned. Choose another fold."
        raise UsageError(msg)
    # Which genes a test side measures says nothing of its cells, and a model that reads others could not be asked about them.
    genes = shared_genes(frozen, np.concatenate([rows, fold.test_rows]))
    order.on_progress(f"reading {len(rows):,} training cells over {len(genes):,} genes")
    view = train_view(frozen, rows, genes=genes, labels=np.full(rows.shape, "", dtype=object))
    order.on_progress(f"fitting scVI, at most {config.max_epochs} epochs")
    fitted = config.fit(view, query=None, seed=order.seed)
    card = save_scvi(fitted, order.out, reference=view if config.latent_posterior else None)
    return {
        "snapshot_id": frozen.snapshot_id,
        "split_id": fold.split_id,
        "n_cells": len(rows),
        "n_genes": len(genes),
        "n_read_genes": len(fitted.columns),
        "n_dims": config.n_latent,
        "batches": list(fitted.batches),
        "seed": order.seed,
        "notes": list(fitted.notes),
        "model": str(order.out),
        "latent_posterior": str(order.out / POSTERIOR_NAME) if config.latent_posterior else None,
        "weights": card.weights_digest,
        "dictionaries": {"genes": fitted.facts.details["dictionary.genes"]},
        "scopes": jsonable(fitted.scopes),
    }
