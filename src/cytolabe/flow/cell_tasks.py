"""`cytolabe train geneformer_cells`: one Geneformer fine-tuned to several questions about cells, and whether asking them together helped.

Learned from the training side of a split and nothing else; whole persons of it choose when to stop; every task is answered once,
on the test side. Beside it, on the same cells: the same network fine-tuned to each task alone (`single_task`), a network of
the same shape with random weights fine-tuned to all of them (`random`), and the floors. How much higher the model stands
than each of them is paired by donor. Only the network of all tasks is written.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cytolabe.apply.tokens import tokens_of_cells
from cytolabe.audit import audit_fold, find_copies
from cytolabe.audit.fit_scopes import CellSet
from cytolabe.audit.leakage import FoldAudit
from cytolabe.errors import UsageError
from cytolabe.evaluate.annotation import fit_verdict
from cytolabe.evaluate.cell_tasks import TaskFold, task_context, task_fold
from cytolabe.evaluate.fitting import Answer
from cytolabe.evaluate.verdicts import folds_of_a_rule
from cytolabe.flow.cell_task_files import TaskResults, write_results
from cytolabe.flow.cell_task_scores import Answers, Behind, Judged, score_task
from cytolabe.flow.fine_tuning_files import fine_tuning_options
from cytolabe.flow.task_labels import labels_of_tasks
from cytolabe.flow.training_files import TrainingOrder, read_training_file
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint, from_pretrained
from cytolabe.models.geneformer.fine_tuning import TaskHeads, TaskLabels, fit_task_heads, history, labelled_rows
from cytolabe.models.geneformer.head_files import MODEL_CARD_NAME, fine_tuned_card
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.hub import weight_files
from cytolabe.models.scopes import fit_scope
from cytolabe.models.training_state import Progress
from cytolabe.provenance import artifact_of, cells_digest
from cytolabe.randomness import rng_for
from cytolabe.records import Artifact, FitScope, Fold, ModelCard, Split
from cytolabe.report import Fitted
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["CellTasksConfig", "read_cell_training", "train_cell_tasks"]

MODEL, SINGLE, RANDOM = "geneformer", "single_task", "random"
_TITLE = "Geneformer fine-tuned to several questions about cells, from a checkpoint (fine_tuned) or random weights (supervised)"


@dataclass(frozen=True, kw_only=True)
class CellTasksConfig:
    """A training file of `geneformer_cells`: `tasks`, `level`, `n_cells`, `n_seeds`, and the options of a fine-tuning."""

    learning: GeneformerLearning
    tasks: tuple[str, ...] = ()
    level: str = "mid"
    """Of `cell_type`: which level of the snapshot's terms is asked for."""
    n_cells: int = 0
    """Most training cells that are read, drawn by the seed; 0 reads all."""
    n_seeds: int = 1
    """Fits of each network; under three every score is QUALIFIED (rule R13b)."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises
        ------
        UsageError
            If one does.
        """
        if self.n_cells < 0 or self.n_seeds < 1:
            msg = f"n_cells = {self.n_cells}, n_seeds = {self.n_seeds}: give cells from 0 (all) and seeds from 1."
            raise UsageError(msg)

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files that the training rests on beside split and configuration."""
        return tuple(artifact_of(path, "model") for path in weight_files(Path(self.learning.checkpoint)))


def read_cell_training(path: Path) -> CellTasksConfig:
    """Read a training file; `checkpoint` is relative to it, and may be left to the command.

    Raises
    ------
    UsageError
        If it is not there, no TOML, or has a key or a value that means nothing.
    """
    own = {"tasks": [], "level": CellTasksConfig.level, "n_cells": 0, "n_seeds": 1}
    found, learning = fine_tuning_options(
        read_training_file(path), path, own=own, more=("pooling", "task_weighting")
    )  # fmt: skip
    tasks = found.pop("tasks", [])
    if not all(isinstance(name, str) for name in tasks):
        msg = f"{path}: tasks = {tasks!r} has what is no text."
        raise UsageError(msg)
    # Of several tasks one may have labels in two persons only: held out, they would leave a head that never saw one.
    learning = dataclasses.replace(learning, keep_classes=True)
    return CellTasksConfig(learning=learning, tasks=tuple(tasks), **found)


def train_cell_tasks(frozen: Snapshot, config: CellTasksConfig, order: TrainingOrder) -> dict[str, object]:
    """Fine-tune a Geneformer to several tasks, score it on the test side beside its controls, and write its folder.

    Raises
    ------
    ConflictError
        If a model or another training lies there.
    UsageError
        If a task is none, a side has no cell, or the configuration does not fit.
    RefusedError
        If a task has fewer than two classes in training, too few cells, or a data set is a panel (rule R3).
    """
    order.refuse_model(MODEL_CARD_NAME)
    if not config.learning.checkpoint:
        msg = "No checkpoint to fine-tune: name the folder of a Geneformer as checkpoint = '...' in the file, or by --checkpoint."
        raise UsageError(msg)
    document, fold = order.chosen(frozen)
    labels = labels_of_tasks(frozen, config.tasks, level=config.level)
    checkpoint = from_pretrained(config.learning.checkpoint, expected=config.learning.expected)
    order.on_progress(f"looking for copies among {frozen.n_cells:,} cells")
    pairs = find_copies(frozen)
    made = _Training(
        frozen=frozen, config=config, split=document, fold=fold, checkpoint=checkpoint, order=order,
        tasks=tuple(task_fold(frozen, fold, one, pairs=pairs.pairs) for one in labels),
    )  # fmt: skip
    cards = made.cards()
    audit = audit_fold(frozen, fold, duplicates=pairs, cards=tuple(made.judged_card(card) for card in cards.values()))
    heads, answers, fitted = made.answers()
    judged = made.judged(audit, answers, cards=cards)
    results = TaskResults(
        frozen=frozen, fold=fold, folds=document.folds, duplicates=pairs, audit=audit, judged=judged, heads=heads, checkpoint=checkpoint, cards=cards, model=MODEL,
        cell_sets=made.cell_sets, scopes=made.scopes(), told=made.told(), notes=(*made.token_notes, *made.lost_notes), rule=document.rule,
        single=SINGLE, learning=config.learning, seed=order.seed, fitted=fitted,
    )  # fmt: skip
    return write_results(results, order.out, checkpoints=order.checkpoints)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """One network to be fitted: `tasks` are the names that it has heads for."""

    name: str
    place: str
    learning: GeneformerLearning
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What is trained, on what."""

    frozen: Snapshot
    config: CellTasksConfig
    split: Split
    fold: Fold
    checkpoint: GeneformerCheckpoint
    tasks: tuple[TaskFold, ...]
    order: TrainingOrder

    @cached_property
    def rows(self) -> np.ndarray:
        """Training cells that are read, ascending: those with a label of some task, at most as many as were asked for."""
        rows, most = np.unique(np.concatenate([one.train_rows for one in self.tasks])), self.config.n_cells
        if not len(rows) or not len(self.query_rows):
            msg = (
                f"{self.fold.split_id}: {len(rows)} training and {len(self.query_rows)} test cells have a label of a task that "
                "counts. Choose another fold or task, or map the labels first (cytolabe reconcile)."
            )
            raise UsageError(msg)
        if not most or len(rows) <= most:
            return rows
        return np.sort(rng_for(self.order.seed, "flow", "cell_tasks").choice(rows, most, replace=False))

    @cached_property
    def query_rows(self) -> np.ndarray:
        """Test cells that count for some task, ascending."""
        return np.unique(np.concatenate([one.data.query_rows for one in self.tasks]))

    @cached_property
    def read_tasks(self) -> tuple[TaskFold, ...]:
        """The tasks, over the training cells that are read."""
        kept = [one.train_rows[np.isin(one.train_rows, self.rows)] for one in self.tasks]
        return tuple(dataclasses.replace(one, train_rows=rows) for one, rows in zip(self.tasks, kept, strict=True))

    @cached_property
    def _tokens(self) -> tuple[TokenizedCells, TokenizedCells, tuple[str, ...]]:
        learning, shape = self.config.learning, self.checkpoint.shape
        if learning.max_length > shape.n_positions:
            msg = f"max_length = {learning.max_length:,}: the network has {shape.n_positions:,} positions."
            raise UsageError(msg)
        self.order.on_progress(f"reading {len(self.rows):,} training and {len(self.query_rows):,} test cells")
        sides = [
            tokens_of_cells(
                self.frozen, rows, dictionaries=self.checkpoint.dictionaries, panels=learning.panels,
                max_length=learning.max_length or shape.n_positions,
            )
            for rows in (self.rows, self.query_rows)
        ]  # fmt: skip
        notes = tuple(dict.fromkeys(note for _, told in sides for note in told))
        return sides[0][0], sides[1][0], notes

    @property
    def token_notes(self) -> tuple[str, ...]:
        """What a reader must know of the data sets as the model reads them."""
        return self._tokens[2]

    @property
    def lost_notes(self) -> tuple[str, ...]:
        """How many cells have no gene of the dictionary."""
        n_empty = [int((cells.lengths <= (2 if self._has_frame else 0)).sum()) for cells in self._tokens[:2]]
        sides = ("training", "test")
        return tuple(
            f"{n} {side} cells have no gene of the dictionary" for n, side in zip(n_empty, sides, strict=True) if n
        )

    @property
    def _has_frame(self) -> bool:
        return self.checkpoint.dictionaries.bounds is not None

    def _fits(self) -> Iterator[_Fit]:
        learning, names = self.config.learning, self.config.tasks
        yield _Fit(name=MODEL, place=MODEL, learning=learning, tasks=names)
        if len(names) > 1:
            for number, name in enumerate(names, start=1):
                yield _Fit(name=SINGLE, place=f"{SINGLE}-{number}", learning=learning, tasks=(name,))
        if learning.weights != "random":
            yield _Fit(name=RANDOM, place=RANDOM, learning=dataclasses.replace(learning, weights="random"), tasks=names)

    def cards(self) -> dict[str, ModelCard]:
        """Return the card of each network, without the digest of weights that are not written yet."""
        return {
            fit.name: fine_tuned_card(
                fit.learning, self.checkpoint, name=fit.name, title=_TITLE, scopes=self._scopes(fit)
            )
            for fit in self._fits()
        }

    def judged_card(self, card: ModelCard) -> ModelCard:
        """Return the card by which exposure is judged: what a fine-tuning has seen beside its cells is its checkpoint's history."""
        is_random = card.name == RANDOM or self.config.learning.weights == "random"
        learning = dataclasses.replace(self.config.learning, weights="random" if is_random else "checkpoint")
        protocol = card.protocol if is_random else self.checkpoint.card.protocol
        return dataclasses.replace(card, protocol=protocol, scopes=history(learning, self.checkpoint))

    def _labelled(self, fit: _Fit) -> np.ndarray:
        """Return the places, among the rows that are read, of the cells that a fit is handed."""
        return labelled_rows(self._asked(fit), n_cells=len(self.rows))

    def _asked(self, fit: _Fit) -> dict[str, TaskLabels]:
        own = {one.task.name: one for one in self.read_tasks}
        return {name: TaskLabels(labels=own[name].train_labels[self.rows]) for name in fit.tasks}

    def _scopes(self, fit: _Fit) -> tuple[FitScope, ...]:
        ids = self.frozen.cells["cell_id"].to_numpy(dtype=object)[self.rows[self._labelled(fit)]]
        return (*history(fit.learning, self.checkpoint), fit_scope("geneformer/classes", ids.tolist()))

    def scopes(self) -> dict[str, tuple[FitScope, ...]]:
        """Return what each network was fitted on."""
        found: dict[str, dict[FitScope, None]] = {}
        for fit in self._fits():
            found.setdefault(fit.name, {}).update(dict.fromkeys(self._scopes(fit)))
        return {name: tuple(scopes) for name, scopes in found.items()}

    @cached_property
    def cell_sets(self) -> dict[str, CellSet]:
        """The sets of training cells that a fit may be handed, by digest."""
        ids = self.frozen.cells["cell_id"].to_numpy(dtype=object)
        sets = [("training cells", self.fold.train_rows)]
        sets += [
            (f"training cells with a label of {', '.join(fit.tasks)}", self.rows[self._labelled(fit)])
            for fit in self._fits()
        ]
        return {cells_digest(ids[rows]): CellSet(name=name, n_train=len(rows)) for name, rows in reversed(sets)}

    def answers(self) -> tuple[TaskHeads, dict[str, Answers], tuple[Fitted, ...]]:
        """Fit every network with every seed; return the first of all tasks, the answers by task, model and seed, and what was fitted."""
        train, query, _ = self._tokens
        persons = self.frozen.cells["person_id"].to_numpy(dtype=object)[self.rows].astype(str)
        found: dict[str, Answers] = {one.task.name: {} for one in self.tasks}
        kept: list[TaskHeads] = []
        work: list[Fitted] = []
        for fit in self._fits():
            places, asked = self._labelled(fit), self._asked(fit)
            part = TokenizedCells(tokens=train.tokens[places], lengths=train.lengths[places])
            n_steps = 0
            for number in range(self.config.n_seeds):
                self.order.on_progress(
                    f"{fit.name}: {', '.join(fit.tasks)}, seed {number + 1} of {self.config.n_seeds}"
                )
                heads = fit_task_heads(
                    dataclasses.replace(fit.learning, folder=self._kept(fit, number)), self.checkpoint, part,
                    persons=persons[places], seed=self.order.seed + number,
                    tasks={name: dataclasses.replace(one, labels=one.labels[places]) for name, one in asked.items()},
                )  # fmt: skip
                kept += [heads] if not kept else []
                n_steps = max(n_steps, len((heads.progress or Progress()).steps))
                self._answer(fit, heads, query, number=number, into=found)
            work.append(
                Fitted(
                    name=fit.name,
                    told=", ".join(fit.tasks),
                    n_fits=self.config.n_seeds,
                    n_cells=len(places),
                    n_steps=n_steps,
                )
            )
        return kept[0], found, tuple(work)

    def _kept(self, fit: _Fit, number: int) -> Path:
        """Return where the checkpoints of a fit are kept: other weights to begin with are another training."""
        began = self.checkpoint.card.weights.rpartition(":")[2][:12]
        return self.order.checkpoints / f"{fit.place}-{number}-{began}"

    def _answer(
        self, fit: _Fit, heads: TaskHeads, query: TokenizedCells, *, number: int, into: Mapping[str, Answers]
    ) -> None:
        outputs, _ = heads.predict(query)
        for one in self.tasks:
            if one.task.name in outputs:
                output = outputs[one.task.name]
                own = np.searchsorted(self.query_rows, one.data.query_rows)
                into[one.task.name].setdefault(fit.name, {})[number] = Answer(
                    classes=output.classes,
                    probability=output.probability[own],
                    scopes=self._scopes(fit),
                    notes=heads.notes,
                )

    def judged(
        self, audit: FoldAudit, answers: Mapping[str, Answers], *, cards: Mapping[str, ModelCard]
    ) -> tuple[Judged, ...]:
        """Score every task."""
        rule = self.split.rule, self.fold.split_id in folds_of_a_rule(self.frozen, self.split)
        genes = self._n_genes(), bool(self.token_notes)
        found = []
        for one in self.read_tasks:
            name = one.task.name
            context, findings = task_context(self.frozen, one, audit, rule=rule, genes=genes, seed=self.order.seed)
            behind = {}
            for model, by_seed in answers[name].items():
                refusals, qualifications = fit_verdict(
                    cards[model], tuple(by_seed.values()), exposures=audit.exposures, named=lambda: self.cell_sets
                )
                behind[model] = Behind(card=cards[model], refusals=refusals, qualifications=qualifications)
            found.append(score_task(self.frozen, one, context, answers=answers[name], behind=behind, findings=findings))
        return tuple(found)

    def _n_genes(self) -> int:
        """Return the genes with a token of the data set that measures fewest of them."""
        known = self.checkpoint.dictionaries.tokens
        rows = np.concatenate([self.rows, self.query_rows])
        names = sorted(set(self.frozen.cells["dataset_id"].to_numpy(dtype=object)[rows].tolist()))
        return min(sum(gene in known for gene in self.frozen.measured_genes(name)) for name in names)

    def told(self) -> dict[str, object]:
        """Return what the document and the folder say of how the model was made."""
        left_out = ("checkpoint", "folder")
        options = {key: value for key, value in dataclasses.asdict(self.config.learning).items() if key not in left_out}
        return {
            "snapshot_id": self.frozen.snapshot_id,
            "split_id": self.fold.split_id,
            "n_cells": len(self.rows),
            "n_cells_test": len(self.query_rows),
            "n_genes": self._n_genes(),
            "level": self.config.level,
            "seed": self.order.seed,
            "n_seeds": self.config.n_seeds,
            "options": options,
            "started_from": self.checkpoint.card.weights,
        }
