"""The folder of a Geneformer of several tasks: what was answered, what it is worth and what was tested, and the model itself.

answers.parquet      every test cell that counts: task, label, model, answer, probability
cell_scores.json     every score, the gains over each control, classes with their cells, findings
certificate.json     what was tested of each fold, with cells.tsv and the verifier that recomputes it
loss.svg             the loss of the network that was kept
report.html          the page: what was held out, what stands above its controls, how it was trained
model.safetensors ... as `models.geneformer.head_files` writes them; the card comes last
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cytolabe.audit import DuplicateReport, audit_fold, certify
from cytolabe.audit.fit_scopes import CellSet, FitRules
from cytolabe.audit.leakage import FoldAudit
from cytolabe.evaluate.cell_tasks import Gain
from cytolabe.evaluate.measures import HEADLINE
from cytolabe.evaluate.plan import FLOOR_MODELS
from cytolabe.files import create_new, remove_directory, replace_file
from cytolabe.flow.cell_task_scores import Judged
from cytolabe.flow.certificates import write_grounds
from cytolabe.flow.split_records import REPORT_NAME
from cytolabe.flow.training_pages import CellTasksFound, TrainedNetwork, believed_gains, write_page_of_cells
from cytolabe.models.cards import CARDS
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint
from cytolabe.models.geneformer.fine_tuning import TaskHeads
from cytolabe.models.geneformer.head_files import save_cell_tasks
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.training_state import Progress
from cytolabe.provenance import canonical_json, digest_of, jsonable
from cytolabe.records import Certificate, Finding, FitScope, Fold, ModelCard, Score
from cytolabe.report import Fitted
from cytolabe.report.training import loss_picture
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.store.tables import write_parquet

__all__ = ["TaskResults", "write_results"]

_ANSWERS, _SCORES, _PICTURE, _CERTIFICATE = "answers.parquet", "cell_scores.json", "loss.svg", "certificate.json"


@dataclass(frozen=True, kw_only=True)
class TaskResults:
    """Everything that a training of several tasks found; `model` names the network that is written."""

    frozen: Snapshot
    fold: Fold
    folds: tuple[Fold, ...]
    duplicates: DuplicateReport
    audit: FoldAudit
    judged: tuple[Judged, ...]
    heads: TaskHeads
    checkpoint: GeneformerCheckpoint
    cards: Mapping[str, ModelCard]
    model: str
    cell_sets: Mapping[str, CellSet]
    scopes: Mapping[str, tuple[FitScope, ...]]
    told: Mapping[str, object]
    notes: tuple[str, ...]
    rule: str
    """Of the split."""
    single: str
    """Name of the networks of one task alone."""
    learning: GeneformerLearning
    seed: int
    fitted: tuple[Fitted, ...]


def write_results(results: TaskResults, out: Path, *, checkpoints: Path) -> dict[str, object]:
    """Write the folder, remove the checkpoints of the training, and return the document of the command."""
    out.mkdir(parents=True, exist_ok=True)
    write_parquet(pd.concat([one.answers for one in results.judged], ignore_index=True), out / _ANSWERS)
    certificate = _certified(results, out)
    progress = results.heads.progress or Progress()
    told = {**results.told, **_training(progress)}
    tasks = [_task(one) for one in results.judged]
    findings = [*results.audit.findings, *(finding for one in results.judged for finding in one.findings)]
    said: dict[str, object] = {
        **told,
        "certificate": certificate.digest,
        "tasks": tasks,
        "findings": jsonable(findings),
        "notes": list(dict.fromkeys((*results.notes, *results.heads.notes))),
    }
    rows = [replace(row, certificate=certificate.digest) for one in results.judged for row in one.scores]
    scores = [jsonable(row) for row in rows]
    replace_file(out / _SCORES, canonical_json({**said, "scores": scores}))
    _draw(progress, out / _PICTURE)
    card = results.cards[results.model]
    about = {**results.told, "certificate": certificate.digest, "scores": digest_of(scores)}
    page = _page(results, certificate, scores=rows, findings=findings)
    card = save_cell_tasks(
        results.heads, out, checkpoint=results.checkpoint, card=card, about=about,
        beside=lambda card: write_page_of_cells(page, out, card),
    )  # fmt: skip
    remove_directory(checkpoints)
    return {
        **said, "model": str(out), "weights": card.weights_digest, "scopes": jsonable(card.scopes),
        "dictionaries": dict(results.checkpoint.card.dictionaries), "scores": str(out / _SCORES), "answers": str(out / _ANSWERS),
        "report": str(out / REPORT_NAME),
    }  # fmt: skip


def _page(
    results: TaskResults, certificate: Certificate, *, scores: Sequence[Score], findings: Sequence[Finding]
) -> CellTasksFound:
    network: Any = results.heads.network
    made = TrainedNetwork(
        network=network, learning=results.learning, checkpoint=results.checkpoint, pooling=network.pooling, seed=results.seed,
        progress=results.heads.progress, looked_at="held-out persons", fitted=results.fitted,
        notes=tuple(dict.fromkeys((*results.notes, *results.heads.notes))),
    )  # fmt: skip
    return CellTasksFound(
        frozen=results.frozen, fold=results.fold, rule=results.rule, tasks=tuple(one.name for one in results.judged), judged=results.judged,
        scores=tuple(scores), findings=tuple(findings), exposures=results.audit.exposures, certificate=certificate, single=results.single,
        files=(_ANSWERS, _SCORES, _PICTURE, _CERTIFICATE), made=made,
    )  # fmt: skip


def _certified(results: TaskResults, out: Path) -> Certificate:
    """Write a certificate of every fold of the split, as its verifier asks for, and return that of the fold that was trained on."""
    scopes: dict[str, dict[FitScope, None]] = {name: dict.fromkeys(found) for name, found in results.scopes.items()}
    for one in results.judged:
        for name, found in one.floor_scopes.items():
            scopes.setdefault(name, {}).update(dict.fromkeys(found))
    cards = {**results.cards, **{name: CARDS[name] for name in FLOOR_MODELS}}
    own = certify(
        results.frozen, results.fold, audit=results.audit, scopes={name: tuple(found) for name, found in scopes.items()},
        rules=FitRules(cards=cards, cell_sets=results.cell_sets),
    )  # fmt: skip
    made = [
        own
        if fold.split_id == results.fold.split_id
        else certify(
            results.frozen, fold, scopes={}, audit=audit_fold(results.frozen, fold, duplicates=results.duplicates)
        )
        for fold in results.folds
    ]
    replace_file(out / _CERTIFICATE, canonical_json({"certificates": [jsonable(one) for one in made]}))
    write_grounds(results.frozen, results.folds, out)
    return own


def _training(progress: Progress) -> dict[str, object]:
    return {
        "n_steps": len(progress.steps),
        "best_step": progress.best_step,
        "loss": progress.steps[-1].loss if progress.steps else None,
        "held_out_loss": progress.best_loss,
    }


def _draw(progress: Progress, path: Path) -> None:
    looks = [(step.number, step.held_out_loss) for step in progress.steps if step.held_out_loss is not None]
    picture = loss_picture(
        [step.loss for step in progress.steps], looks, title="Geneformer fine-tuned to several tasks"
    )
    create_new(path, picture)


def _task(judged: Judged) -> dict[str, Any]:
    """Return what is told of a task on one screen; every other score stands in the file of scores."""
    rows: dict[str, list[Score]] = {}
    for score in judged.scores:
        rows.setdefault(score.model, []).append(score)
    gains = believed_gains(judged)
    return {
        "task": judged.name,
        "n_train": judged.n_train,
        "n_masked": judged.n_masked,
        "n_test": len(judged.context.places),
        "n_test_missing": judged.n_missing_test,
        "n_donors": judged.context.cells.n_donors,
        "population": judged.context.population,
        "classes": [
            {"class": label, "name": name, "n_train": n_train, "n_test": n_test, "n_donors": n_donors}
            for label, name, n_train, n_test, n_donors in judged.classes
        ],
        "models": [_model(name, own, gains.get(name)) for name, own in rows.items()],
    }


def _model(name: str, scores: list[Score], gain: Gain | None) -> dict[str, Any]:
    by_key = {(score.metric, score.stratum): score for score in scores}
    headline = by_key[HEADLINE]
    found: dict[str, Any] = {"name": name, "status": headline.status.value, "reason": headline.reason}
    for metric, key in (
        ("macro_f1", HEADLINE),
        ("accuracy", ("accuracy", "all")),
        ("rare_macro_f1", ("macro_f1", "rare")),
    ):
        score = by_key[key]
        found |= {metric: score.value, f"{metric}_low": score.low, f"{metric}_high": score.high}
    found |= {"raw_macro_f1": headline.raw_value, "by_donor": dict(headline.points), "notes": list(headline.notes)}
    interval = None if gain is None else gain.interval
    return found | {
        "gain": gain.value if gain is not None else None,
        "gain_low": interval.low if interval is not None else None,
        "gain_high": interval.high if interval is not None else None,
        "gain_by_donor": dict(gain.points) if gain is not None else {},
    }
