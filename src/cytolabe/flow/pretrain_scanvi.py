"""`cytolabe train scanvi`: a scANVI of the training side of a split and its labels, in a folder that `checkpoint` opens.

Every training cell is read. Those with a label that counts teach the classifier (of copies one label, rule R4; at a level, rule R5); the
others are of scANVI's unlabelled category, which is no class and no answer. Test cells, and labels of theirs, are not read. The card
names the training cells by digest, and the classes; the folder says which side of which split they are. A training that
was killed begins again. It reads genes that all data sets of the fold measure, those of the test side included.

Batches are corrected for, so a batch key that spells the label is none (rule R12): where every library of a data set holds one class, the
data set is its batch; where every batch of all training cells does, it is refused.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from cytolabe.apply.views import train_view
from cytolabe.audit import find_copies
from cytolabe.errors import RefusedError, UsageError
from cytolabe.evaluate.batches import merged_batches, why_nested
from cytolabe.evaluate.cell_tasks import CELL_TYPE, task_fold
from cytolabe.evaluate.coarse import with_coarser
from cytolabe.files import create_new
from cytolabe.flow.pretrain_scvi import network_options
from cytolabe.flow.splits import shared_genes
from cytolabe.flow.task_labels import labels_of_tasks
from cytolabe.flow.training_files import TrainingOrder
from cytolabe.models.fitted_scanvi import FittedScanvi
from cytolabe.models.posterior import POSTERIOR_NAME
from cytolabe.models.protocols import TrainView
from cytolabe.models.scanvi import ScanviAnnotator
from cytolabe.models.scanvi_files import save_scanvi
from cytolabe.models.stored import MODEL_CARD_NAME
from cytolabe.ontology.graph import load_ontology
from cytolabe.provenance import jsonable
from cytolabe.records import Fold
from cytolabe.report.training import loss_picture
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["SPLIT_NAME", "ScanviTraining", "pretrain_scanvi", "read_scanvi_training"]

_TOP = ("n_latent", "n_hidden", "n_layers", "n_top_genes", "latent_posterior", "hierarchical", "task", "level")
_TRAINING = ("max_epochs", "label_epochs", "patience")
_PICTURE = "loss.svg"

SPLIT_NAME = "split.json"
"""The split that the model was trained by, as it lies in its folder: it says which cells it has read, by a rule."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanviTraining(ScanviAnnotator):
    """What a training file asks for."""

    tasks: tuple[str, ...] = (CELL_TYPE,)
    """Whose labels are learned: one of `task_labels.TASKS`, or `contributed.COLUMN`."""
    level: str = "mid"
    """Of `cell_type`: which level of the snapshot's terms."""
    latent_posterior: bool = False
    """Whether mean and variance of each training cell's posterior are kept beside the weights (`models.posterior`)."""

    @property
    def task(self) -> str:
        """The one question that is asked.

        Raises
        ------
        UsageError
            If there are several: a cell of a scANVI has one label.
        """
        if len(self.tasks) != 1:
            msg = f"A scANVI learns one label of each cell, and {len(self.tasks)} are asked for. Say --task once, or train one for each."
            raise UsageError(msg)
        return self.tasks[0]


def read_scanvi_training(path: Path) -> ScanviTraining:
    """Read a training file: what that of `scvi` has, `task`, `level` and `hierarchical`, and `label_epochs` in `[training]`.

    Raises
    ------
    UsageError
        If it is not there, no TOML, or has a key or a value that means nothing.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(ScanviTraining) if field.init}
    options = network_options(path, {**defaults, "task": CELL_TYPE}, top=_TOP, training=_TRAINING)
    return ScanviTraining(tasks=(options.pop("task", CELL_TYPE),), **options)


def pretrain_scanvi(frozen: Snapshot, config: ScanviTraining, order: TrainingOrder) -> dict[str, object]:
    """Train a scANVI on the training side of a fold and its labels, and write its folder.

    Raises
    ------
    ConflictError
        If a model lies there.
    UsageError
        If the task is none, the fold has no training cell or none with a label, or no gene is measured by all data sets of both sides.
    RefusedError
        If all labels are one class, every batch holds one class, fewer than ten training cells have counts, or persons with labels are too few.
    MissingExtraError
        If scvi-tools is not installed.
    """
    order.refuse_model(MODEL_CARD_NAME)
    _, fold = order.chosen(frozen)
    if config.hierarchical and config.task != CELL_TYPE:
        msg = f"hierarchical = true needs the ontology of cell types; the classes of {config.task} have none. Leave it out."
        raise UsageError(msg)
    order.on_progress(f"looking for copies among {frozen.n_cells:,} cells")
    side = _side(frozen, fold, config)
    view, notes = side.view()
    order.on_progress(
        f"fitting scVI, at most {config.max_epochs} epochs, and scANVI on {len(side.labelled):,} labels, at most {config.label_epochs}"
    )
    fitted = config.fit(view, query=None, seed=order.seed)
    fitted = dataclasses.replace(fitted, _met=dict.fromkeys([*notes, *fitted.notes]))
    content = order.split.read_bytes()
    create_new(order.out / SPLIT_NAME, content)
    told: dict[str, object] = {
        "split": "sha256:" + hashlib.sha256(content).hexdigest(),
        "snapshot_id": frozen.snapshot_id, "split_id": fold.split_id, "task": config.task, "level": side.level, "seed": order.seed,
    }  # fmt: skip
    _draw(fitted, order.out / _PICTURE)
    card = save_scanvi(fitted, order.out, reference=view if config.latent_posterior else None, training=told)
    return {
        **{name: value for name, value in told.items() if name != "split"},
        "n_cells": len(side.rows),
        "n_labelled": fitted.n_labelled,
        "n_unlabelled": fitted.n_unlabelled,
        "classes": side.classes(fitted.classes),
        "n_genes": len(view.genes),
        "n_read_genes": len(fitted.base.columns),
        "n_dims": config.n_latent,
        "batches": list(fitted.batches),
        "notes": list(fitted.notes),
        "model": str(order.out),
        "latent_posterior": str(order.out / POSTERIOR_NAME) if config.latent_posterior else None,
        "weights": card.weights_digest,
        "dictionaries": {name: fitted.facts.details[f"dictionary.{name}"] for name in ("genes", "classes")},
        "scopes": jsonable(fitted.scopes),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Side:
    """The training side: its cells, and a label for each cell of the snapshot that teaches, empty for every other one."""

    frozen: Snapshot
    fold: Fold
    task: str
    level: str
    """Of `cell_type`; empty for another task."""
    labels: np.ndarray
    asked: np.ndarray
    """What the task says of every cell, whether or not it counts: by these a batch is judged."""

    @property
    def rows(self) -> np.ndarray:
        """Training cells, ascending."""
        return np.sort(self.fold.train_rows)

    @property
    def labelled(self) -> np.ndarray:
        """Training cells whose label teaches."""
        return np.asarray(self.rows[self.labels[self.rows] != ""])

    def view(self) -> tuple[TrainView, tuple[str, ...]]:
        """Return what the model is handed, and what a reader must know of its batches."""
        if not len(self.labelled):
            msg = (
                f"None of {len(self.rows):,} training cells of {self.fold.split_id} has a label of {self.task} that counts. Choose another fold or "
                "task, or map the labels first (cytolabe reconcile)."
            )
            raise UsageError(msg)
        merged = merged_batches(self.frozen.cells, [self.asked])
        why = why_nested(self.frozen.cells, self.labels, self.rows, merged=frozenset(merged))
        if why:
            msg = f"{self.fold.split_id}: {why}. Take data sets whose batches hold several classes, or a model that reads no batch."
            raise RefusedError(msg)
        # Which genes a test side measures says nothing of its cells, and a model that reads others could not be asked about them.
        genes = shared_genes(self.frozen, np.concatenate([self.rows, self.fold.test_rows]))
        view = train_view(self.frozen, self.rows, genes=genes, labels=self.labels[self.rows])
        own = view.technical
        is_merged = own["dataset_id"].isin(sorted(merged))
        technical = own.assign(batch=own["batch"].where(~is_merged, own["dataset_id"]))
        notes = tuple(
            f"{n_batches} batches of {name} hold one class each: the data set is its batch here (R12)"
            for name, (n_batches, _) in merged.items()
            if name in set(own["dataset_id"])
        )
        return dataclasses.replace(view, technical=technical), notes

    def classes(self, classes: tuple[str, ...]) -> list[dict[str, object]]:
        """Return each class with its name and its training cells."""
        ontology, found = load_ontology("CL"), self.labels[self.labelled]
        return [
            {
                "class": name,
                "name": ontology.name(name) if self.task == CELL_TYPE and name in ontology else name,
                "n_train": int((found == name).sum()),
            }
            for name in classes
        ]


def _side(frozen: Snapshot, fold: Fold, config: ScanviTraining) -> _Side:
    (asked,) = labels_of_tasks(frozen, (config.task,), level=config.level)
    found = task_fold(frozen, fold, asked, pairs=find_copies(frozen).pairs)
    labels = found.train_labels
    if config.hierarchical:
        labels = with_coarser(frozen.cells, found.data, asked.name, ontology=load_ontology("CL"))
    level = config.level if config.task == CELL_TYPE else ""
    return _Side(frozen=frozen, fold=fold, task=config.task, level=level, labels=labels, asked=asked.labels)


def _draw(fitted: FittedScanvi, path: Path) -> None:
    losses, looks = fitted.label_losses
    if losses:
        picture = loss_picture(
            losses, list(enumerate(looks, start=1)), title="The classifier of a scANVI, epoch by epoch"
        )
        create_new(path, picture)
