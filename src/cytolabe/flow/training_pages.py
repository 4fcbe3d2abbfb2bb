"""What the pages of trainings are made of: results of `flow.cell_tasks` and `flow.gene_classes` as records of `report`.

Nothing is computed here that the training did not find.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytolabe.evaluate.cell_tasks import Gain
from cytolabe.evaluate.rare_types import rare_types
from cytolabe.evaluate.results import Confusion
from cytolabe.flow.cell_task_scores import Judged
from cytolabe.flow.claims import simulated_claim
from cytolabe.flow.split_records import REPORT_NAME
from cytolabe.metrics import confusion_counts
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint
from cytolabe.models.geneformer.gene_scores import GeneClassScores, GeneScore
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.network_size import size_of
from cytolabe.models.training_state import Progress
from cytolabe.provenance import artifact_of, code_identity
from cytolabe.records import Certificate, Exposure, Finding, Fold, ModelCard, Protocol, Score, ScoreStatus
from cytolabe.report import (
    CellTasksPage,
    Fitted,
    GeneClassesPage,
    GeneRow,
    ReportContent,
    RunFacts,
    TaskSizes,
    Trained,
    write_cell_tasks_page,
    write_gene_classes_page,
)
from cytolabe.snapshot.frozen import Snapshot

__all__ = [
    "CellTasksFound",
    "GeneClassesFound",
    "TrainedNetwork",
    "believed_gains",
    "write_page_of_cells",
    "write_page_of_genes",
]

_KEPT_ASIDE = ("precision", "pooling", "max_length", "folder", "checkpoint", "corpus", "expected")
_MODEL, _RANDOM = "geneformer", "random"


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """The network that is kept, and how it came to be. `network` is a module of torch."""

    network: object
    learning: GeneformerLearning
    checkpoint: GeneformerCheckpoint
    pooling: str
    seed: int
    progress: Progress | None
    looked_at: str
    fitted: tuple[Fitted, ...]
    notes: tuple[str, ...]

    def trained(self, card: ModelCard) -> Trained:
        """Return what a page says of it; `card` has the digest of its weights."""
        shape, steps = self.checkpoint.shape, self.progress.steps if self.progress is not None else []
        return Trained(
            card=card,
            started_from=self.checkpoint.card.weights,
            dictionaries=dict(self.checkpoint.card.dictionaries),
            layer=f"the last of {shape.n_layers}, under the heads",
            pooling=self.pooling,
            precision=self.learning.precision,
            max_length=self.learning.max_length or shape.n_positions,
            seed=self.seed,
            options={name: value for name, value in vars(self.learning).items() if name not in _KEPT_ASIDE},
            size=size_of(self.network, is_trained=True),
            fitted=self.fitted,
            losses=tuple(step.loss for step in steps),
            looks=tuple((step.number, step.held_out_loss) for step in steps if step.held_out_loss is not None),
            looked_at=self.looked_at,
            notes=self.notes,
        )


@dataclass(frozen=True, kw_only=True)
class CellTasksFound:
    """What a training of several tasks found; `scores` name their certificate, `files` lie beside the page."""

    frozen: Snapshot
    fold: Fold
    rule: str
    tasks: tuple[str, ...]
    judged: tuple[Judged, ...]
    scores: tuple[Score, ...]
    findings: tuple[Finding, ...]
    exposures: tuple[Exposure, ...]
    certificate: Certificate
    single: str
    files: tuple[str, ...]
    made: TrainedNetwork


def write_page_of_cells(found: CellTasksFound, out: Path, card: ModelCard) -> None:
    """Write the page of a training of several tasks."""
    confusions = tuple(confusion for one in found.judged for confusion in one.confusions)
    content = ReportContent(
        title=f"Geneformer: {', '.join(found.tasks)}",
        claims=simulated_claim(found.frozen),
        snapshot_id=found.frozen.snapshot_id,
        facts=_facts(found.frozen, seed=found.made.seed, rule=found.rule),
        decision_level=found.tasks[0],
        gene_policy=found.judged[0].context.gene_policy,
        datasets=tuple(found.frozen.datasets.values()),
        findings=found.findings,
        levels={one.name: [(term, name) for term, name, *_ in one.classes] for one in found.judged},
        folds=(found.fold,),
        exposure=found.exposures,
        scores=found.scores,
        confusions=confusions,
        rare_types=tuple(row for one in found.judged for row in rare_types(confusions, level=one.name)),
        certificates=(found.certificate,),
        artifacts=_files(out, found.files),
    )
    page = CellTasksPage(
        content=content,
        split=found.fold.split_id,
        model=_MODEL,
        single=found.single,
        random=_RANDOM,
        tasks=[_sizes(one) for one in found.judged],
        gains={one.name: believed_gains(one) for one in found.judged},
        trained=found.made.trained(card),
    )
    write_cell_tasks_page(page, out / REPORT_NAME)


def believed_gains(judged: Judged) -> dict[str, Gain]:
    """Return the gains whose two numbers may be told: with one of them a gain would give the other away."""
    told = {row.model: row.value for row in judged.scores if (row.metric, row.stratum) == ("macro_f1", "all")}
    if told.get(_MODEL) is None:
        return {}
    return {name: gain for name, gain in judged.gains.items() if told.get(name) is not None}


def _sizes(judged: Judged) -> TaskSizes:
    return TaskSizes(
        name=judged.name, n_train=judged.n_train, n_masked=judged.n_masked, n_test=len(judged.context.places),
        n_test_missing=judged.n_missing_test, n_donors=judged.context.cells.n_donors, classes=judged.classes,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GeneClassesFound:
    """What a training of classes of genes found; `left_out` is reason -> genes, `files` lie beside the page."""

    frozen: Snapshot
    fold: Fold
    rule: str
    scores: GeneClassScores
    reasons: tuple[str, ...]
    n_folds: int
    n_cells: int
    left_out: Mapping[str, Sequence[str]]
    files: tuple[str, ...]
    made: TrainedNetwork


def write_page_of_genes(found: GeneClassesFound, out: Path, card: ModelCard) -> None:
    """Write the page of a training of classes of genes."""
    scores, split = found.scores, found.fold.split_id
    confusions = [_confusion(one, scores, split=split) for one in scores.scores if one.name in (_MODEL, _RANDOM)]
    failures = [row for confusion in confusions for row in rare_types([confusion], level="genes")]
    worst = {name: min(row.recall for row in failures if row.term == name) for name in scores.classes}
    page = GeneClassesPage(
        content=ReportContent(
            title="Geneformer: classes of genes",
            claims=simulated_claim(found.frozen),
            snapshot_id=found.frozen.snapshot_id,
            facts=_facts(found.frozen, seed=found.made.seed, rule=found.rule),
            decision_level="genes",
            artifacts=_files(out, found.files),
        ),
        split=split,
        rows=[_row(one, found, card) for one in scores.scores],
        n_genes=len(scores.genes),
        n_folds=found.n_folds,
        n_cells=found.n_cells,
        classes={name: scores.labels.count(name) for name in scores.classes},
        left_out=found.left_out,
        confusions=confusions,
        failures=sorted(failures, key=lambda row: (worst[row.term], row.term)),
        population=next((one.macro_f1_interval.population for one in scores.scores if one.macro_f1_interval), ""),
        trained=found.made.trained(card),
    )
    write_gene_classes_page(page, out / REPORT_NAME)


def _row(one: GeneScore, found: GeneClassesFound, card: ModelCard) -> GeneRow:
    scores = found.scores
    is_network, over = one.name in (_MODEL, _RANDOM), one.macro_f1_interval
    protocol = card.protocol if one.name == _MODEL else Protocol.SUPERVISED if is_network else Protocol.CONTROL
    score = Score(
        task="gene_classes", study="", split=found.fold.split_id, model=one.name, protocol=protocol, metric="macro_f1", resolution="genes",
        stratum="all", value=one.macro_f1, status=ScoreStatus.QUALIFIED, reason="; ".join(found.reasons),
        low=None if over is None else over.low, high=None if over is None else over.high,
        interval="" if over is None else f"{over.method}: {over.population}",
        floor=max(other.macro_f1 for other in scores.scores if other.name in ("abundance", "majority")),
    )  # fmt: skip
    first, area = scores.scores[0], one.auroc_interval
    return GeneRow(
        macro_f1=score,
        accuracy=one.accuracy,
        auroc=one.auroc,
        auroc_bounds=None if area is None else (area.low, area.high),
        class_f1=one.class_f1,
        by_fold=one.by_fold,
        gain=None if one is first else Gain(value=first.macro_f1 - one.macro_f1, interval=one.gain, points={}),
    )


def _confusion(one: GeneScore, scores: GeneClassScores, *, split: str) -> Confusion:
    """Count genes by class and answer. All classes are listed for failures, few genes as they are."""
    truth, answered = np.array(scores.labels, dtype=object), np.array(one.predicted, dtype=object)
    return Confusion(
        split=split, model=one.name, resolution="genes", gene_policy="", classes=scores.classes, names=scores.classes,
        matrix=confusion_counts(truth, answered, classes=scores.classes), rare=scores.classes, status=ScoreStatus.QUALIFIED.value,
    )  # fmt: skip


def _facts(frozen: Snapshot, *, seed: int, rule: str) -> RunFacts:
    return RunFacts(
        cytolabe_version=code_identity()["version"], ontology_release=frozen.ontology_release,
        gene_reference=frozen.gene_reference, seed=seed, split_rule=rule,
    )  # fmt: skip


def _files(out: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, artifact_of(out / name, "output").sha256) for name in names]
