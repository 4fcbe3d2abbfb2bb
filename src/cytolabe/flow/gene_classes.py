"""`cytolabe train geneformer_genes`: what classes of genes a fine-tuned Geneformer tells, for genes whose label it never saw.

Cells are of the training side of a split, and of no other. Genes are the unit: each is answered once by a model of the other
folds, beside a random network of the same shape that is fine-tuned alike and beside floors that know how often and how high
a gene stands. Then one model is fitted to all labels and written; it has no score of its own, and its folder says so.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.apply.tokens import tokens_of_cells
from cytolabe.errors import UsageError
from cytolabe.files import remove_directory, replace_file, tsv_text
from cytolabe.flow.fine_tuning_files import fine_tuning_options
from cytolabe.flow.gene_table import GeneTable, read_gene_table
from cytolabe.flow.split_records import REPORT_NAME
from cytolabe.flow.training_files import TrainingOrder, read_training_file
from cytolabe.flow.training_pages import GeneClassesFound, TrainedNetwork, write_page_of_genes
from cytolabe.genes.reference import load_reference
from cytolabe.metrics import Interval
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint, from_pretrained
from cytolabe.models.geneformer.fine_tuning import history
from cytolabe.models.geneformer.gene_classes import FittedGeneClasses, fit_gene_classes
from cytolabe.models.geneformer.gene_scores import GeneClassScores, GeneQuestion, score_gene_classes
from cytolabe.models.geneformer.head_files import MODEL_CARD_NAME, fine_tuned_card, save_gene_classes
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.hub import weight_files
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.models.scopes import fit_scope
from cytolabe.models.training_state import Progress
from cytolabe.provenance import artifact_of, canonical_json, jsonable
from cytolabe.randomness import rng_for
from cytolabe.records import Artifact, Fold, ScoreStatus
from cytolabe.report import Fitted
from cytolabe.snapshot.cell_table import cell_table
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["GeneClassesConfig", "read_gene_training", "train_gene_classes"]

_ANSWERS, _SCORES = "genes.tsv", "gene_scores.json"


@dataclass(frozen=True, kw_only=True)
class GeneClassesConfig:
    """A training file of `geneformer_genes`: `genes` (a table), `n_folds`, `n_cells`, and the options of a fine-tuning."""

    learning: GeneformerLearning
    genes: Path
    n_folds: int = 5
    n_cells: int = 2000
    """Most training cells that are read, drawn by the seed."""

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files that the training rests on beside split and configuration."""
        weights = weight_files(Path(self.learning.checkpoint))
        return (artifact_of(self.genes, "genes"), *(artifact_of(path, "model") for path in weights))


def read_gene_training(path: Path) -> GeneClassesConfig:
    """Read a training file; `checkpoint` and `genes` are relative to it.

    Raises
    ------
    UsageError
        If it is not there, no TOML, or has a key or a value that means nothing.
    """
    said = read_training_file(path)
    lacking = [name for name in ("checkpoint", "genes") if not isinstance(said.get(name), str)]
    if lacking:
        msg = f"{path}: {' and '.join(lacking)} is needed: the folder of a Geneformer, and a table with the columns gene and class."
        raise UsageError(msg)
    own = {"genes": "", "n_folds": GeneClassesConfig.n_folds, "n_cells": GeneClassesConfig.n_cells}
    found, learning = fine_tuning_options(said, path, own=own)
    return GeneClassesConfig(**{**found, "genes": path.parent / found["genes"]}, learning=learning)


def train_gene_classes(frozen: Snapshot, config: GeneClassesConfig, order: TrainingOrder) -> dict[str, object]:
    """Score classes of genes by folds over genes, then fit a model to all labels and write its folder.

    Raises
    ------
    ConflictError
        If a model or another training lies there.
    UsageError
        If the fold has no training cell, or the configuration does not fit.
    RefusedError
        If the table puts a gene into two classes, a class has too few genes, or a data set is a panel (rule R3).
    """
    order.refuse_model(MODEL_CARD_NAME)
    document, fold = order.chosen(frozen)
    out, seed = order.out, order.seed
    table = read_gene_table(config.genes, load_reference(next(iter(frozen.entries.values())).record.organism))
    checkpoint = from_pretrained(config.learning.checkpoint, expected=config.learning.expected)
    made = _Training(frozen=frozen, config=config, fold=fold, checkpoint=checkpoint, table=table, seed=seed)
    rows = made.rows()
    order.on_progress(f"reading {len(rows):,} of {len(fold.train_rows):,} training cells")
    cells, persons, notes = made.cells(rows)
    learning = dataclasses.replace(config.learning, folder=order.checkpoints)
    order.on_progress(
        f"{config.n_folds} folds over {len(table.labels):,} genes, each by a fine-tuned and a random network"
    )
    asked = GeneQuestion(labels=table.labels, n_folds=config.n_folds, groups=table.groups)
    scores = score_gene_classes(learning, checkpoint, cells, persons=persons, asked=asked, seed=seed)
    order.on_progress("fitting one model to all labels")
    last = dataclasses.replace(learning, folder=order.checkpoints / "all")
    labels = dict(zip(scores.genes, scores.labels, strict=True))
    fitted = fit_gene_classes(last, checkpoint, cells, persons=persons, labels=labels, seed=seed)
    ids = cell_table(frozen, ["cell_id"])["cell_id"].iloc[rows].tolist()
    scopes = (*history(config.learning, checkpoint), fit_scope("geneformer/gene_classes", ids))
    told = made.told(scores, n_cells=len(rows), notes=(*notes, *checkpoint.notes))
    title = "Geneformer fine-tuned to classes of genes, from a checkpoint (fine_tuned) or random weights (supervised)"
    card = fine_tuned_card(config.learning, checkpoint, name="geneformer_genes", title=title, scopes=scopes)
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / _ANSWERS, _answers(scores))
    replace_file(out / _SCORES, canonical_json(jsonable(told)))
    page = made.page(scores, fitted, told=told, rule=document.rule)
    card = save_gene_classes(
        fitted, out, shape=checkpoint.shape, card=card, about=made.about(), beside=lambda card: write_page_of_genes(page, out, card)
    )  # fmt: skip
    remove_directory(order.checkpoints)
    return {
        **told, "model": str(out), "weights": card.weights_digest, "dictionaries": dict(checkpoint.card.dictionaries),
        "scopes": jsonable(scopes), "genes": str(out / _ANSWERS), "report": str(out / REPORT_NAME),
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What is trained, on what."""

    frozen: Snapshot
    config: GeneClassesConfig
    fold: Fold
    checkpoint: GeneformerCheckpoint
    table: GeneTable
    seed: int

    def rows(self) -> np.ndarray:
        """Draw the training cells that are read."""
        rows, most = np.sort(self.fold.train_rows), self.config.n_cells
        if not len(rows) or most < 1:
            msg = f"{len(rows)} training cells in the fold, at most n_cells = {most} of them: nothing can be learned."
            raise UsageError(msg)
        if len(rows) <= most:
            return rows
        drawn = rng_for(self.seed, "flow", "gene_classes").choice(len(rows), most, replace=False)
        return np.sort(rows[drawn])

    def cells(self, rows: np.ndarray) -> tuple[TokenizedCells, np.ndarray, tuple[str, ...]]:
        """Read cells as tokens, with the person of each."""
        shape, learning = self.checkpoint.shape, self.config.learning
        if learning.max_length > shape.n_positions:
            msg = f"max_length = {learning.max_length:,}: the network has {shape.n_positions:,} positions."
            raise UsageError(msg)
        cells, notes = tokens_of_cells(
            self.frozen, rows, dictionaries=self.checkpoint.dictionaries,
            max_length=learning.max_length or shape.n_positions, panels=learning.panels,
        )  # fmt: skip
        persons = cell_table(self.frozen, ["person_id"])["person_id"].iloc[rows].to_numpy(dtype=object).astype(str)
        return cells, persons, notes

    def about(self) -> dict[str, object]:
        """Say what the stored model was made by."""
        options = {
            k: v for k, v in dataclasses.asdict(self.config.learning).items() if k not in ("checkpoint", "folder")
        }
        return {
            "snapshot_id": self.frozen.snapshot_id, "split_id": self.fold.split_id, "seed": self.seed, "options": options,
            "started_from": self.checkpoint.card.weights, "has_score_of_its_own": False,
        }  # fmt: skip

    def page(
        self, scores: GeneClassScores, fitted: FittedGeneClasses, *, told: Mapping[str, Any], rule: str
    ) -> GeneClassesFound:
        """Return what the page says."""
        learning, n_folds, n_cells = self.config.learning, self.config.n_folds, int(told["n_cells"])
        progress = fitted.progress or Progress()
        networks = [one.name for one in scores.scores if one.name not in ("abundance", "majority")]
        made = TrainedNetwork(
            network=fitted.network, learning=learning, checkpoint=self.checkpoint, seed=self.seed, progress=progress, looked_at="held-out genes",
            pooling="none: a head at every position, and the mean over the cells that have a gene", notes=tuple(told["notes"]),
            fitted=(
                *(Fitted(name=name, told="genes of the other folds", n_fits=n_folds, n_cells=n_cells, n_steps=learning.n_steps) for name in networks),
                Fitted(name=networks[0], told="all genes (the network that is kept)", n_fits=1, n_cells=n_cells, n_steps=len(progress.steps)),
            ),
        )  # fmt: skip
        return GeneClassesFound(
            frozen=self.frozen, fold=self.fold, rule=rule, scores=scores, reasons=tuple(told["reasons"]), n_folds=n_folds, n_cells=n_cells,
            left_out=told["left_out"], files=(_ANSWERS, _SCORES), made=made,
        )  # fmt: skip

    def told(self, scores: GeneClassScores, *, n_cells: int, notes: Sequence[str]) -> dict[str, Any]:
        """Return what is said of the scores."""
        reasons = ["one seed (rule R13b)"]
        reasons += [f"{NOT_CONVERGED}: see notes"] if any(NOT_CONVERGED in note for note in scores.notes) else []
        reasons += ["panels"] if notes and self.config.learning.panels == "flag" else []
        return {
            "snapshot_id": self.frozen.snapshot_id,
            "split_id": self.fold.split_id,
            "n_cells": n_cells,
            "n_genes": len(scores.genes),
            "n_folds": self.config.n_folds,
            "classes": dict(sorted(Counter(scores.labels).items())),
            "left_out": {
                "unknown": list(self.table.unknown), "ambiguous": list(self.table.ambiguous),
                "without_token": list(scores.without_token), "never_detected": list(scores.never_detected),
            },
            "scores": [
                {
                    "name": one.name, "macro_f1": one.macro_f1, **_bounds("macro_f1", one.macro_f1_interval),
                    "auroc": one.auroc, **_bounds("auroc", one.auroc_interval), **_bounds("gain", one.gain),
                    "accuracy": one.accuracy, "class_f1": dict(one.class_f1), "by_fold": list(one.by_fold),
                }
                for one in scores.scores
            ],
            "population": next((one.macro_f1_interval.population for one in scores.scores if one.macro_f1_interval), None),
            "status": ScoreStatus.QUALIFIED.value,
            "reasons": reasons,
            "seed": self.seed,
            "notes": [*notes, *scores.notes],
        }  # fmt: skip


def _bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {f"{name}_low": low, f"{name}_high": high}


def _answers(scores: GeneClassScores) -> bytes:
    """Write each gene with the answer of a model that never saw its label, and those of the controls."""
    names = [(score, name) for score in scores.scores for name in scores.classes]
    rows: list[list[object]] = [
        ["gene", "class", "fold", "n_cells", *(s.name for s in scores.scores), *(f"{s.name}:{c}" for s, c in names)]
    ]
    for place, gene in enumerate(scores.genes):
        said = [score.predicted[place] for score in scores.scores]
        shares = [f"{score.probability[place, scores.classes.index(name)]:.6g}" for score, name in names]
        rows.append(
            [gene, scores.labels[place], int(scores.folds[place]) + 1, int(scores.n_cells[place]), *said, *shares]
        )
    return tsv_text(rows).encode()
