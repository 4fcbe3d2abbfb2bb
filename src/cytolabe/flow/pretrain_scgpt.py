"""`cytolabe train scgpt`: a small scGPT from scratch on the training side of a split, and on nothing else.

The training cells over the genes that all of their data sets measure; whole persons held out; pretraining by generation
(`models.scgpt.pretrainer`), with checkpoints beside the model so that a killed run goes on; then the folder that the
model `scgpt` opens. It says `self_supervised` and names the cells by the digest of the fit scope.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytolabe.apply.views import train_view
from cytolabe.errors import UsageError
from cytolabe.files import create_new, remove_directory, replace_file
from cytolabe.flow.pretrain import told_steps
from cytolabe.flow.splits import shared_genes
from cytolabe.flow.training_files import TrainingOrder, checked_table, read_training_file, training_table
from cytolabe.models.scgpt.checkpoint import ARGUMENTS_NAME, save_scgpt
from cytolabe.models.scgpt.pretrainer import ScgptPretrainer
from cytolabe.models.scgpt.source import ScgptScratchSource
from cytolabe.models.training import TrainingPlan
from cytolabe.models.training_means import TrainingMeans
from cytolabe.provenance import canonical_json, jsonable
from cytolabe.records import Fold
from cytolabe.report.training import loss_picture
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["ScgptPretrainingConfig", "pretrain_scgpt", "read_scgpt_training"]

_CURVE, _PICTURE = "training.json", "loss.svg"
_FLOOR = "mean of each gene alone"
_TOP = ("preset", "held_out_fraction", "panels", "tokens_per_minibatch", "max_length", "ties")
_TRAINING = tuple(field.name for field in dataclasses.fields(TrainingPlan))


@dataclass(frozen=True, kw_only=True)
class ScgptPretrainingConfig:
    """A training file: what is trained and how, and whose processes do it (`models.training_means`)."""

    learning: ScgptScratchSource
    processes: int = 1
    """Processes that share the minibatches of a step (`accumulation` of them, at least as many)."""
    engine: str = "local"
    address: str = ""


def read_scgpt_training(path: Path) -> ScgptPretrainingConfig:
    """Read a training file: `preset`, `panels`, `processes`, ... and a table `[training]` with `n_steps`.

    Raises
    ------
    UsageError
        If it is not there, no TOML, or has a key or a value that means nothing.
    """
    said = read_training_file(path)
    training = training_table(said, f"{path}")
    defaults = {field.name: field.default for field in dataclasses.fields(ScgptScratchSource)}
    shared = {"processes": 1}
    said = checked_table(said, (*_TOP, *shared), defaults={**defaults, **shared}, where=f"{path}")
    processes = said.pop("processes", 1)
    training = checked_table(training, _TRAINING, defaults=defaults, where=f"{path}: [training]")
    choices = {"preset": ("tiny", "small", "base"), "panels": ("refuse", "flag"), "ties": ("random", "lower", "mid")}
    for key, words in choices.items():
        if said.get(key, words[0]) not in words:
            msg = f"{path}: {key} = {said[key]!r} is none of {', '.join(words)}."
            raise UsageError(msg)
    return ScgptPretrainingConfig(learning=ScgptScratchSource(**said, **training), processes=processes)


def pretrain_scgpt(frozen: Snapshot, config: ScgptPretrainingConfig, order: TrainingOrder) -> dict[str, object]:
    """Train an scGPT on the training side of a fold and write its folder.

    Raises
    ------
    ConflictError
        If a model or another training lies there.
    UsageError
        If the fold has no training cell, or no gene is measured by all of its data sets.
    RefusedError
        If these genes are those of a panel (rule R3).
    """
    means = TrainingMeans(processes=config.processes, engine=config.engine, address=config.address)
    order.refuse_model(ARGUMENTS_NAME)
    _, fold = order.chosen(frozen)
    out, seed = order.out, order.seed
    rows = np.sort(fold.train_rows)
    genes = shared_genes(frozen, rows)
    order.on_progress(f"reading {len(rows):,} training cells over {len(genes):,} genes")
    view = train_view(frozen, rows, genes=genes, labels=np.full(rows.shape, "", dtype=object))
    learning = dataclasses.replace(config.learning, folder=order.checkpoints)
    trainer = ScgptPretrainer(learning=learning, card=learning.card_of("scgpt_scratch"))
    fitted, progress, n_held_out, errors = trainer.trained(
        view, seed=seed, on_step=told_steps(order.on_progress, learning.n_steps), means=means
    )
    floor = errors.floor_loss if errors else None
    told = {
        **_facts(frozen, fold, n_genes=len(genes), n_cells=len(rows)),
        "n_cells_held_out": n_held_out,
        "n_steps": len(progress.steps),
        "best_step": progress.best_step,
        "loss": progress.steps[-1].loss,
        "held_out_loss": progress.best_loss,
        "floor_loss": floor,
        "hidden_values": dataclasses.asdict(errors) if errors else None,
        "seed": seed,
        "notes": list(fitted.notes),
    }
    out.mkdir(parents=True, exist_ok=True)
    curve = {
        "steps": [dataclasses.asdict(step) for step in progress.steps],
        "config": jsonable(config.learning),
        **told,
    }
    replace_file(out / _CURVE, canonical_json(curve))
    looks = [(step.number, step.held_out_loss) for step in progress.steps if step.held_out_loss is not None]
    losses = [step.loss for step in progress.steps]
    picture = loss_picture(losses, looks, title="Generative training of an scGPT", floor=(_FLOOR, floor))
    create_new(out / _PICTURE, picture)
    weights = save_scgpt(fitted.model, out)
    remove_directory(order.checkpoints)
    return {
        **told,
        "model": str(out),
        "weights": weights,
        "dictionaries": {"vocabulary": fitted.model.vocabulary.digest},
        "scopes": jsonable(fitted.scopes),
    }


def _facts(frozen: Snapshot, fold: Fold, *, n_genes: int, n_cells: int) -> dict[str, object]:
    return {"snapshot_id": frozen.snapshot_id, "split_id": fold.split_id, "n_cells": n_cells, "n_genes": n_genes}
