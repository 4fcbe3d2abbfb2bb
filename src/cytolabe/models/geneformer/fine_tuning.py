"""Fine-tuning a Geneformer on labelled cells: a head for each task on one trunk, from a checkpoint or from random weights.

Cells of whole persons choose when to stop (`models.held_out`). Of the checkpoint nothing moves: each fit has a trunk of
its own. Which cells the medians and the weights of the checkpoint were made of stays with the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.cell_classes import MISSING, CellClassTraining, CellTask, cell_logits
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint
from cytolabe.models.geneformer.minibatches import by_length
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import GeneformerTokenizer, TokenizedCells
from cytolabe.models.held_out import hold_out_persons
from cytolabe.models.hierarchical import MARGINAL, label_weights
from cytolabe.models.learning import balanced_weights, run_training
from cytolabe.models.protocols import AnnotatorOutput, QueryView, TrainView
from cytolabe.models.scopes import fit_scope, refuse_other_genes, refuse_too_few_cells
from cytolabe.models.training_state import Progress
from cytolabe.models.weights import stored_digest
from cytolabe.ontology.hierarchy import Hierarchy
from cytolabe.randomness import derive_seed
from cytolabe.records import FitScope

__all__ = [
    "HEAD_METADATA",
    "FittedCellTasks",
    "TaskHeads",
    "TaskLabels",
    "fit_cell_tasks",
    "fit_task_heads",
    "history",
    "labelled_rows",
    "starting_network",
]

HEAD_METADATA = {"format": "pt"}
"""What the file of a fine-tuned network says beside its weights; its digest is over that as well."""

_LEAST_CELLS = 10
_TOKENS_PER_MINIBATCH = 16_384
_BLOCK_CELLS = 4096


@dataclass(frozen=True, kw_only=True)
class TaskLabels:
    """A label of one task for each cell of the train view; empty where nobody said."""

    labels: np.ndarray
    weight: float = 1.0
    """Of the task, beside the others."""
    hierarchy: Hierarchy | None = None
    """Which classes a label stands for, where labels may be coarser than classes."""


@dataclass(frozen=True, kw_only=True)
class TaskHeads:
    """A fine-tuned trunk and its heads, over cells that are tokens already. `notes` says how they were learned."""

    network: Any
    tasks: tuple[CellTask, ...]
    shares: Mapping[str, np.ndarray]
    """Of each task the shares of its classes in training, which a cell without a gene gets."""
    has_frame: bool
    """Whether the first and the last token of a cell are special (second generation)."""
    notes: tuple[str, ...] = ()
    progress: Progress | None = None
    """How the training went; None for what was read from a folder."""

    @property
    def weights_digest(self) -> str:
        """Digest of trunk and heads: that of the file in which `head_files` keeps them."""
        return stored_digest(self.network.state_dict(), metadata=HEAD_METADATA)

    def predict(self, cells: TokenizedCells) -> tuple[dict[str, AnnotatorOutput], int]:
        """Return class probabilities of each cell, float64, for each task, and how many cells have no gene."""
        filled = np.flatnonzero(cells.lengths > (2 if self.has_frame else 0))
        found = {task.name: np.tile(self.shares[task.name], (len(cells.lengths), 1)) for task in self.tasks}
        for name, probability in self._answered(cells, filled).items():
            found[name][filled] = probability
        outputs = {
            task.name: AnnotatorOutput(classes=task.classes, probability=found[task.name]) for task in self.tasks
        }
        return outputs, len(cells.lengths) - len(filled)

    def _answered(self, cells: TokenizedCells, rows: np.ndarray) -> dict[str, Float[np.ndarray, "cells classes"]]:
        torch = import_extra("torch")
        found = {task.name: np.empty((len(rows), len(task.classes))) for task in self.tasks}
        for places in by_length(cells.lengths[rows], tokens_per_minibatch=_TOKENS_PER_MINIBATCH):
            with torch.inference_mode():
                logits = cell_logits(self.network, cells, rows[places])
            for task, scores in zip(self.tasks, logits, strict=True):
                found[task.name][places] = torch.softmax(scores.double(), dim=1).cpu().numpy()
        return found


@dataclass(frozen=True, kw_only=True)
class FittedCellTasks:
    """A fine-tuned trunk and its heads, with the tokenizer of a view. `notes` grows with what the views brought."""

    heads: TaskHeads
    tokenizer: GeneformerTokenizer
    scopes: tuple[FitScope, ...]
    _met: dict[str, None] = field(default_factory=dict)

    @property
    def network(self) -> Any:  # noqa: ANN401 - a module of torch
        """Trunk and heads."""
        return self.heads.network

    @property
    def tasks(self) -> tuple[CellTask, ...]:
        """What is answered."""
        return self.heads.tasks

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the fit and of the views that were answered."""
        return tuple(self._met)

    def predict(self, view: QueryView) -> dict[str, AnnotatorOutput]:
        """Return class probabilities of each cell, float64, for each task.

        A cell without a gene of the dictionary gets the shares of the classes in training.

        Raises
        ------
        UnmeasuredGeneError
            If the view has other genes than the fit.
        NotRawCountsError
            If a value is no count.
        """
        refuse_other_genes(view, tuple(self.tokenizer.genes))
        found = {task.name: np.empty((len(view.cell_ids), len(task.classes))) for task in self.tasks}
        n_empty = 0
        for start in range(0, len(view.cell_ids), _BLOCK_CELLS):
            block = slice(start, start + _BLOCK_CELLS)
            answered, n = self.heads.predict(self.tokenizer.tokenize(view.counts[block]))
            n_empty += n
            for name, output in answered.items():
                found[name][block] = output.probability
        if n_empty:
            self._met[f"{n_empty} cells have no gene of the dictionary: they got the class shares of training"] = None
        return {task.name: AnnotatorOutput(classes=task.classes, probability=found[task.name]) for task in self.tasks}


def fit_cell_tasks(
    learning: GeneformerLearning,
    checkpoint: GeneformerCheckpoint,
    train: TrainView,
    *,
    tasks: Mapping[str, TaskLabels],
    seed: int,
) -> FittedCellTasks:
    """Fine-tune one trunk with a head for each task.

    Parameters
    ----------
    tasks
        Name -> labels; cells without a label of any of them move nothing (rule R4).

    Raises
    ------
    RefusedError
        If a task has fewer than two classes, too few cells have labels and counts, or the genes are those of a panel.
    UsageError
        If there is no task, labels are not one a cell, a weight is negative, or an option does not fit the network.
    """
    rows = labelled_rows(tasks, n_cells=len(train.cell_ids))
    tokenizer = GeneformerTokenizer(
        dictionaries=checkpoint.dictionaries, genes=train.genes, panels=learning.panels,
        max_length=learning.max_length or checkpoint.shape.n_positions,
    )  # fmt: skip
    heads = fit_task_heads(
        learning, checkpoint, tokenizer.tokenize(train.counts[rows]), persons=train.persons[rows],
        tasks={name: replace(asked, labels=asked.labels[rows]) for name, asked in tasks.items()}, seed=seed,
    )  # fmt: skip
    met = [*heads.notes, f"{len(tokenizer.lost):,} of {len(tokenizer.genes):,} genes have no token"]
    met += [f"a panel: {tokenizer.flag}"] if tokenizer.flag else []
    scope = fit_scope("geneformer/classes", train.cell_ids[rows])
    return FittedCellTasks(
        heads=heads, tokenizer=tokenizer, scopes=(*history(learning, checkpoint), scope), _met=dict.fromkeys(met)
    )


def labelled_rows(tasks: Mapping[str, TaskLabels], *, n_cells: int) -> np.ndarray:
    """Return the cells that have a label of some task; the others move nothing (rule R4).

    Raises
    ------
    RefusedError
        If a task has fewer than two classes.
    UsageError
        If there is no task, labels are not one a cell, or a weight is negative.
    """
    _refuse_bad_tasks(tasks, n_cells=n_cells)
    return np.flatnonzero(np.any([asked.labels.astype(str) != "" for asked in tasks.values()], axis=0))


def fit_task_heads(
    learning: GeneformerLearning,
    checkpoint: GeneformerCheckpoint,
    cells: TokenizedCells,
    *,
    persons: np.ndarray,
    tasks: Mapping[str, TaskLabels],
    seed: int,
) -> TaskHeads:
    """Fine-tune one trunk with a head for each task, on cells that are tokens of the checkpoint's dictionary.

    Parameters
    ----------
    cells, persons
        Labelled training cells, and the person of each.
    tasks
        Name -> labels of these cells; a cell without a label of a task is masked in that task only.

    Raises
    ------
    RefusedError
        If a task has fewer than two classes, or too few cells have genes.
    UsageError
        If an option does not fit the network.
    """
    has_frame = checkpoint.dictionaries.bounds is not None
    filled = np.flatnonzero(cells.lengths > (2 if has_frame else 0))
    refuse_too_few_cells(len(filled), least=_LEAST_CELLS, model="Geneformer")
    part = TokenizedCells(tokens=cells.tokens[filled], lengths=cells.lengths[filled])
    made = tuple(_task(name, asked, filled, is_balanced=learning.balanced) for name, asked in tasks.items())
    fit, held, note = hold_out_persons(
        persons[filled], fraction=learning.held_out_fraction, seed=derive_seed(seed, "models", "geneformer"),
        codes=[task.codes for task in made] if learning.keep_classes else (),
    )  # fmt: skip
    network = _heads(learning, checkpoint, made, seed=seed)
    objective = CellClassTraining(
        network=network, cells=part, tasks=made, fit_rows=fit, held_out_rows=held, size=learning.minibatch, seed=seed
    )
    progress, told = run_training(learning, objective, seed=seed)
    met = [*checkpoint.notes, note, told, *_notes(learning, checkpoint, tasks=made, fit=fit)]
    n_empty = len(cells.lengths) - len(filled)
    met += [f"{n_empty} training cells have no gene of the dictionary and moved nothing"] if n_empty else []
    return TaskHeads(
        network=network, tasks=made, shares={task.name: _class_shares(task) for task in made}, has_frame=has_frame,
        notes=tuple(dict.fromkeys(met)), progress=progress,
    )  # fmt: skip


def starting_network(learning: GeneformerLearning, checkpoint: GeneformerCheckpoint, *, seed: int) -> object:
    """Return the network that a fine-tuning starts from: that of the checkpoint, or random weights of its shape."""
    return blank_network(checkpoint.shape, seed=seed) if learning.weights == "random" else checkpoint.network


def history(learning: GeneformerLearning, checkpoint: GeneformerCheckpoint) -> tuple[FitScope, ...]:
    """Return the scopes that a fine-tuning inherits: random weights have seen nothing, but their medians have."""
    scopes = checkpoint.card.scopes
    return tuple(one for one in scopes if one.step.endswith("/medians")) if learning.weights == "random" else scopes


def _refuse_bad_tasks(tasks: Mapping[str, TaskLabels], *, n_cells: int) -> None:
    if not tasks:
        msg = "There is no task to train on: give labels of at least one."
        raise UsageError(msg)
    for name, asked in tasks.items():
        if len(asked.labels) != n_cells:
            msg = f"Task {name!r} has {len(asked.labels)} labels for {n_cells} cells. Give one per cell, empty where missing."
            raise UsageError(msg)
        if asked.weight < 0 or not np.isfinite(asked.weight):
            msg = f"Task {name!r} has the weight {asked.weight}. Give a number from 0 up."
            raise UsageError(msg)
        _refuse_one_class(name, sorted(set(asked.labels.astype(str).tolist()) - {""}))


def _refuse_one_class(name: str, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        msg = (
            f"Geneformer: task {name!r} has {len(classes)} class(es) with labelled training cells "
            f"({', '.join(classes) or 'none'}) and needs two to tell apart."
        )
        raise RefusedError(msg)


def _task(name: str, asked: TaskLabels, rows: np.ndarray, *, is_balanced: bool) -> CellTask:
    """Return a task over some cells of the view, with its classes and how much each counts."""
    words = asked.labels[rows].astype(str)
    labelled = words != ""
    hierarchy = asked.hierarchy
    labels = tuple(sorted(set(words[labelled].tolist()))) if hierarchy is None else hierarchy.labels
    classes = labels if hierarchy is None else hierarchy.classes
    _refuse_one_class(name, classes)
    codes = np.full(len(rows), MISSING, dtype=np.int64)
    if hierarchy is None:
        codes[labelled] = np.searchsorted(np.array(labels), words[labelled])
        weights = balanced_weights(codes[labelled], len(labels)).astype(np.float64)
    else:
        codes[labelled] = hierarchy.codes(words[labelled])
        weights = label_weights(hierarchy, codes[labelled])
    return CellTask(
        name=name, labels=labels, codes=codes, weight=asked.weight, hierarchy=hierarchy,
        label_weights=weights if is_balanced else np.ones(len(labels)),
    )  # fmt: skip


def _heads(
    learning: GeneformerLearning, checkpoint: GeneformerCheckpoint, tasks: Sequence[CellTask], *, seed: int
) -> object:
    import_extra("torch")
    from cytolabe.models.geneformer.heads import POOLINGS, CellHeads, freeze, make_heads  # noqa: PLC0415 - needs torch

    pooling = learning.pooling or "pooler"
    if pooling not in POOLINGS:
        msg = f"pooling = {pooling!r} is none of {', '.join(POOLINGS)}."
        raise UsageError(msg)
    network = make_heads(
        CellHeads, starting_network(learning, checkpoint, seed=seed), seed=seed,
        n_classes=[len(task.classes) for task in tasks], pooling=pooling, weighting=learning.task_weighting,
        has_frame=checkpoint.dictionaries.bounds is not None,
    )  # fmt: skip
    freeze(network, n_layers=learning.frozen_layers, has_embeddings=learning.frozen_embeddings)
    return network


def _notes(
    learning: GeneformerLearning,
    checkpoint: GeneformerCheckpoint,
    *,
    tasks: Sequence[CellTask],
    fit: np.ndarray,
) -> list[str]:
    notes = []
    if checkpoint.dictionaries.bounds is None and (learning.pooling or "pooler") in ("pooler", "cls"):
        notes.append("the first generation has no <cls>: pooled is the gene that ranks highest, as published")
    for task in tasks:
        seen = np.bincount(task.codes[fit][task.codes[fit] != MISSING], minlength=len(task.labels))
        known = np.bincount(task.codes[task.codes != MISSING], minlength=len(task.labels))
        unseen = [label for label, n, total in zip(task.labels, seen, known, strict=True) if total and not n]
        if unseen:
            notes.append(f"{task.name}: {', '.join(unseen[:5])} only in persons who choose when to stop: never learned")
        if task.hierarchy is not None:
            n_coarse = int((task.hierarchy.covers[task.codes[task.codes != MISSING]].sum(axis=1) > 1).sum())
            notes += [f"{MARGINAL}: {n_coarse} training cells have a label above the classes"] if n_coarse else []
    return notes


def _class_shares(task: CellTask) -> Float[np.ndarray, " classes"]:
    """Return the share of each class among cells that are labelled as such."""
    counts = np.bincount(task.codes[task.codes != MISSING], minlength=len(task.labels)).astype(np.float64)
    own = counts[[task.labels.index(name) for name in task.classes]]
    shares: np.ndarray = own / own.sum()
    return shares
