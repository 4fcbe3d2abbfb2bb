"""`cytolabe train geneformer`: a small Geneformer from scratch on the training side of a split, and on nothing else.

In this order: the dictionary and the medians of the training cells; their tokens; whole persons held out, whose loss
ends the training; the loop (`models.training`), with checkpoints beside the model so that a killed run goes on; then the
folder that `from_pretrained` opens. Its card says `self_supervised` and names the cells by the digest of the fit scope:
where a study scores it on another split, the audit finds that digest among no set of cells that it may have seen.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.apply.tokens import dictionaries_of_cells, tokens_of_cells
from cytolabe.config.manifest import unknown_key_error
from cytolabe.errors import UsageError
from cytolabe.files import create_new, remove_directory, replace_file
from cytolabe.flow.training_files import TrainingOrder, read_training_file
from cytolabe.models.devices import placed
from cytolabe.models.geneformer.checkpoint import CARD_NAME, CheckpointCard, save_pretrained
from cytolabe.models.geneformer.masked import MaskedTraining
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.pretrainer import frequency_loss
from cytolabe.models.geneformer.shapes import GeneformerShape, shape_named
from cytolabe.models.held_out import hold_out_persons
from cytolabe.models.scopes import fit_scope
from cytolabe.models.training import TrainingPlan
from cytolabe.models.training_means import TrainingMeans
from cytolabe.models.training_state import Progress, Step
from cytolabe.provenance import canonical_json, jsonable
from cytolabe.records import Fold, Protocol
from cytolabe.report.training import loss_picture
from cytolabe.snapshot.cell_table import cell_table
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["PretrainingConfig", "pretrain_geneformer", "read_pretraining", "told_steps"]

_CURVE, _PICTURE = "training.json", "loss.svg"
_FLOOR = "gene frequencies alone"
_SHAPE_KEYS = (
    "n_layers", "width", "n_heads", "feed_forward", "n_positions", "dropout", "attention_dropout", "initializer_range",
)  # fmt: skip
_TOLD_EVERY = 10
_MEANS = ("engine", "address")


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """A training file: `preset`, `minibatch`, `held_out_fraction`, `panels`, `processes`, and the tables `[network]` and `[training]`."""

    plan: TrainingPlan
    preset: str = "small"
    minibatch: int = 16
    """Cells of a minibatch."""
    held_out_fraction: float = 0.1
    """Share of the training cells, by whole persons, that choose when to stop."""
    panels: str = "refuse"
    processes: int = 1
    """Processes that share the minibatches of a step (`accumulation` of them, at least as many)."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Sizes in place of the preset's."""
    engine: str = "local"
    """Whose processes these are: `local`, or workers of a `ray` cluster. No word of a training file: it changes no weight."""
    address: str = ""
    """Of the Ray cluster; without it one is started."""


def read_pretraining(path: Path) -> PretrainingConfig:
    """Read a training file.

    Raises
    ------
    UsageError
        If it is not there, no TOML, or has a key or a value that means nothing.
    """
    said = read_training_file(path)
    known = {f.name for f in dataclasses.fields(PretrainingConfig)} - {"plan", *_MEANS} | {"training"}
    _refuse_unknown(said, known, f"{path}")
    _refuse_unknown(said.get("network", {}), _SHAPE_KEYS, f"{path}: [network]")
    _refuse_unknown(said.get("training", {}), [f.name for f in dataclasses.fields(TrainingPlan)], f"{path}: [training]")
    try:
        return PretrainingConfig(plan=TrainingPlan(**said.pop("training")), **said)
    except KeyError:
        msg = f"{path}: [training] with n_steps is needed."
        raise UsageError(msg) from None
    except TypeError as error:
        msg = f"{path}: {error}."
        raise UsageError(msg) from None


def pretrain_geneformer(frozen: Snapshot, config: PretrainingConfig, order: TrainingOrder) -> dict[str, object]:
    """Train a Geneformer on the training side of a fold and write its folder.

    Raises
    ------
    ConflictError
        If a model or another training lies there.
    UsageError
        If the fold has no training cell, or the configuration does not fit.
    RefusedError
        If a training data set is a panel (rule R3).
    """
    means = TrainingMeans(processes=config.processes, engine=config.engine, address=config.address)
    order.refuse_model(CARD_NAME)
    _, fold = order.chosen(frozen)
    made = _Training(frozen=frozen, config=config, fold=fold, order=order)
    order.on_progress(f"reading {len(fold.train_rows):,} training cells")
    objective, notes = made.objective()
    told = told_steps(order.on_progress, config.plan.n_steps)
    progress = means.train(objective, config.plan, seed=order.seed, folder=order.checkpoints, on_step=told)
    return made.written(objective, progress, notes=notes)


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What is trained, on what."""

    frozen: Snapshot
    config: PretrainingConfig
    fold: Fold
    order: TrainingOrder

    def objective(self) -> tuple[MaskedTraining, tuple[str, ...]]:
        """Read the training cells, and return what is trained with what to say of it."""
        rows, config = np.sort(self.fold.train_rows), self.config
        dictionaries = dictionaries_of_cells(self.frozen, rows)
        sizes = {**config.network, "n_tokens": len(dictionaries.tokens)}
        shape = dataclasses.replace(shape_named(config.preset), **sizes)
        cells, notes = tokens_of_cells(
            self.frozen, rows, dictionaries=dictionaries, max_length=shape.n_positions, panels=_panels(config.panels)
        )
        table = cell_table(self.frozen, ["cell_id", "person_id"]).iloc[rows]
        persons = table["person_id"].to_numpy(dtype=object).astype(str)
        fit, held, note = hold_out_persons(persons, fraction=config.held_out_fraction, seed=self.order.seed)
        objective = MaskedTraining(
            network=placed(blank_network(shape, seed=self.order.seed)), dictionaries=dictionaries, cells=cells,
            cell_ids=table["cell_id"].to_numpy(dtype=object), fit_rows=fit, held_out_rows=held,
            size=config.minibatch, seed=self.order.seed,
        )  # fmt: skip
        return objective, (note, *notes)

    def written(self, objective: MaskedTraining, progress: Progress, *, notes: tuple[str, ...]) -> dict[str, object]:
        """Write the folder, and return the document of the command."""
        out = self.order.out
        shape = dataclasses.replace(
            shape_named(self.config.preset), **self.config.network, n_tokens=len(objective.dictionaries.tokens)
        )
        ids = objective.cell_ids.tolist()
        floor = None
        if progress.best_loss is not None:
            floor = frequency_loss(
                objective.cells,
                objective.fit_rows,
                objective.held_out_rows,
                n_tokens=len(objective.dictionaries.tokens),
            )
        told: dict[str, object] = {
            "snapshot_id": self.frozen.snapshot_id,
            "split_id": self.fold.split_id,
            "n_cells": len(ids),
            "n_cells_held_out": len(objective.held_out_rows),
            "n_genes": len(objective.dictionaries.genes),
            "n_steps": len(progress.steps),
            "best_step": progress.best_step,
            "loss": progress.steps[-1].loss,
            "held_out_loss": progress.best_loss,
            "floor_loss": floor,
            "seed": self.order.seed,
            "notes": list(notes),
        }
        card = _saved(out, objective, shape=shape, ids=ids, told={**told, "config": _asked(self.config)})
        curve = {"steps": [dataclasses.asdict(step) for step in progress.steps], **told}
        replace_file(out / _CURVE, canonical_json(curve))
        looks = [(step.number, step.held_out_loss) for step in progress.steps if step.held_out_loss is not None]
        losses = [step.loss for step in progress.steps]
        picture = loss_picture(losses, looks, title="Masked training of a Geneformer", floor=(_FLOOR, floor))
        create_new(out / _PICTURE, picture)
        remove_directory(self.order.checkpoints)
        scopes = jsonable(card.scopes)
        return {
            **told,
            "model": str(out),
            "weights": card.weights,
            "dictionaries": dict(card.dictionaries),
            "scopes": scopes,
        }


def _saved(
    out: Path, objective: MaskedTraining, *, shape: GeneformerShape, ids: list[str], told: Mapping[str, object]
) -> CheckpointCard:
    about = CheckpointCard(
        weights="", dictionaries={}, protocol=Protocol.SELF_SUPERVISED, pretraining=(), training=told,
        scopes=tuple(fit_scope(step, ids) for step in ("geneformer/medians", "geneformer/weights")),
    )  # fmt: skip
    return save_pretrained(out, objective.network, shape=shape, dictionaries=objective.dictionaries, about=about)


def told_steps(on_progress: Callable[[str], None], n_steps: int) -> Callable[[Step], None]:
    """Return a listener that tells of every tenth step, and of every look at held-out persons."""

    def tell(step: Step) -> None:
        if step.number % _TOLD_EVERY == 0 or step.held_out_loss is not None:
            held = "" if step.held_out_loss is None else f", {step.held_out_loss:.3f} on held-out persons"
            on_progress(f"step {step.number:,} of {n_steps:,}: loss {step.loss:.3f}{held}")

    return tell


def _asked(config: PretrainingConfig) -> dict[str, object]:
    """Return what a card says of a configuration: what changes a weight."""
    said: Any = jsonable(config)
    return {name: value for name, value in said.items() if name not in _MEANS}


def _panels(word: str) -> Any:  # noqa: ANN401 - one of two words
    if word not in ("refuse", "flag"):
        msg = f"panels = {word!r} is none of refuse, flag."
        raise UsageError(msg)
    return word


def _refuse_unknown(said: Mapping[str, object], known: Any, where: str) -> None:  # noqa: ANN401 - any collection of names
    for key in said:
        if key not in known:
            raise unknown_key_error(key, sorted(known), where)
