"""What the answers to one task are worth: rows of scores, floors first, and how much the model of all tasks gains over each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cytolabe.evaluate.cell_tasks import CELL_TYPE, Gain, TaskFold, gain_over
from cytolabe.evaluate.collapse import collapse_findings
from cytolabe.evaluate.fitting import Answer, Failure, FitTask, ModelRunner
from cytolabe.evaluate.measures import HEADLINE, RARE, confusion_tensor
from cytolabe.evaluate.naming import term_names
from cytolabe.evaluate.plan import FLOOR_MODELS, AnnotatorPlan
from cytolabe.evaluate.results import Confusion
from cytolabe.evaluate.scoring import Answered, RowContext, Scored, scored_rows
from cytolabe.models.cards import CARDS
from cytolabe.records import Finding, FitScope, ModelCard, Score
from cytolabe.snapshot.frozen import Snapshot

__all__ = ["Answers", "Behind", "Judged", "score_task"]

Answers = dict[str, dict[int, Answer]]
"""Model -> seed -> what it answered to the query cells of a task."""


@dataclass(frozen=True, kw_only=True)
class Behind:
    """The card of a network, and what refuses and what qualifies it for the cells that it was fitted on."""

    card: ModelCard
    refusals: tuple[str, ...]
    qualifications: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One task: its scores by model, floors first, and what the first model gains over each other one.

    `floor_scopes` says what each floor was fitted on. `classes` are (class, name, training cells, test cells, of donors); `answers` has a row per cell and model.
    """

    name: str
    context: RowContext
    scores: tuple[Score, ...]
    gains: Mapping[str, Gain]
    floor_scopes: Mapping[str, tuple[FitScope, ...]]
    classes: tuple[tuple[str, str, int, int, int], ...]
    answers: pd.DataFrame
    confusions: tuple[Confusion, ...]
    findings: tuple[Finding, ...]
    n_train: int
    n_masked: int
    n_missing_test: int


def score_task(
    frozen: Snapshot,
    found: TaskFold,
    context: RowContext,
    *,
    answers: Answers,
    behind: Mapping[str, Behind],
    findings: Sequence[Finding],
) -> Judged:
    """Score the answers to one task; the first model is the one whose gains are told.

    Parameters
    ----------
    behind
        Of each network its card, and what refuses and what qualifies it.
    findings
        What was found of the task before anything was answered.
    """
    floors: dict[tuple[str, str], float] = {}
    scored: dict[str, Scored] = {}
    fitted: dict[str, tuple[FitScope, ...]] = {}
    for name in FLOOR_MODELS:
        answered = _floor(frozen, found, name)
        fitted[name] = tuple(scope for answer in answered.by_seed.values() for scope in answer.scopes)
        scored[name] = scored_rows(context, answered, floors=floors)
        for key, value in scored[name].values.items():
            floors[key] = max(value, floors.get(key, value))
    for name, by_seed in answers.items():
        own = behind[name]
        asked = Answered(
            annotator=_plan(name), card=own.card, by_seed=by_seed, refusals=own.refusals,
            qualifications=own.qualifications,
        )  # fmt: skip
        scored[name] = scored_rows(context, asked, floors=floors)
    first = next(iter(answers))
    said = {name: one for name, one in scored.items() if one.predicted}
    gains = {name: gain_over(context, scored[first].predicted, one.predicted) for name, one in said.items()}
    names = _names(frozen, found)
    table = _classes(found, context, names)
    confusions = [_confusion(context, name, one, names=names) for name, one in said.items()]
    return Judged(
        name=found.task.name,
        context=context,
        scores=tuple(replace(row, task="cell_tasks") for one in scored.values() for row in one.scores),
        gains={name: gain for name, gain in gains.items() if gain is not None and name != first},
        floor_scopes={name: scopes for name, scopes in fitted.items() if scopes},
        classes=table,
        answers=_table(frozen, found, answers),
        confusions=tuple(confusions),
        findings=(
            *findings,
            *(replace(one, where=f"{found.task.name}: {one.where}") for one in collapse_findings(confusions)),
        ),
        n_train=len(found.train_rows),
        n_masked=len(found.data.train_rows) - len(found.train_rows),
        n_missing_test=len(found.data.fold.test_rows) - len(context.places),
    )


def _plan(name: str) -> AnnotatorPlan:
    return AnnotatorPlan(name=name, component=name, probe="", options={}, gene_policies=())


def _floor(frozen: Snapshot, found: TaskFold, name: str) -> Answered:
    """Fit a floor, which reads no gene, on the cells that the networks learn the task from."""
    task = FitTask(train_rows=found.train_rows, query_rows=found.data.query_rows, genes=(), seed=0)
    if not len(found.train_rows) or not len(found.data.query_rows):
        return Answered(annotator=_plan(name), card=CARDS[name], by_seed={})
    answer = ModelRunner(frozen).annotate(_plan(name), task, found.train_labels)
    failure = answer if isinstance(answer, Failure) else None
    by_seed = {} if isinstance(answer, Failure) else {0: answer}
    return Answered(annotator=_plan(name), card=CARDS[name], by_seed=by_seed, failure=failure)


def _names(frozen: Snapshot, found: TaskFold) -> dict[str, str]:
    levels = sorted({str(label) for label in found.task.labels} - {""})
    return term_names(frozen, levels) if found.task.column == CELL_TYPE else {label: label for label in levels}


def _classes(
    found: TaskFold, context: RowContext, names: Mapping[str, str]
) -> tuple[tuple[str, str, int, int, int], ...]:
    train, test = found.train_labels[found.train_rows], context.cells.truth
    donors = {
        label: len(set(context.cells.persons[test == label].tolist()) - {""}) for label in set(test.tolist())
    }  # fmt: skip
    levels = sorted({*train.tolist(), *test.tolist()})
    return tuple(
        (label, names.get(label, label), int((train == label).sum()), int((test == label).sum()), donors.get(label, 0))
        for label in levels
    )


def _confusion(context: RowContext, model: str, scored: Scored, *, names: Mapping[str, str]) -> Confusion:
    closed = context.cells.closed()
    groups = np.full(len(closed.truth), "all", dtype=object)
    _, tensor = confusion_tensor(closed.truth, scored.predicted, groups=groups, classes=scored.classes)
    size = len(scored.classes)
    matrices = tensor[0] if len(tensor) else np.zeros((1, size, size), dtype=np.int64)
    headline = next(score for score in scored.scores if (score.metric, score.stratum) == HEADLINE)
    return Confusion(
        split=context.split, model=model, resolution=context.resolution, gene_policy=context.gene_policy,
        classes=scored.classes, names=tuple(names.get(term, term) for term in scored.classes), matrix=matrices[0],
        rare=_rare(context, scored), status=str(headline.status),
    )  # fmt: skip


def _rare(context: RowContext, scored: Scored) -> tuple[str, ...]:
    """Return the rare classes, or none where their mean is refused: what it is made of is refused with it."""
    score = next(score for score in scored.scores if (score.metric, score.stratum) == RARE)
    return (
        next(measure.classes for measure in context.measures if measure.key == RARE) if score.value is not None else ()
    )


def _table(frozen: Snapshot, found: TaskFold, answers: Answers) -> pd.DataFrame:
    """Return what each network answered, by its first seed, to every test cell that counts for the task."""
    rows = found.data.query_rows
    ids = frozen.cells["cell_id"].to_numpy(dtype=object)[rows]
    labels = found.data.test_terms[found.task.name][rows]
    tables = [
        pd.DataFrame({
            "cell_id": ids, "task": found.task.name, "label": labels, "model": name,
            "answer": answer.terms, "probability": answer.confidence,
        })
        for name, answer in ((name, next(iter(by_seed.values()))) for name, by_seed in answers.items())
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)
