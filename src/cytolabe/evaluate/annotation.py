"""One annotator in one fold at one level: fit with every seed, add its controls, write its rows.

The scope check comes after the fits and before the rows: a step that was fitted on cells outside of what it was
handed refuses the model; a model that cannot say what it was fitted on is QUALIFIED if it is a file that was made
elsewhere, and refused otherwise. No FitScope, no score.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.audit.leakage import FoldAudit, check_fit_scopes
from cytolabe.evaluate.controls import Ceiling, Headline, answer_of, ceiling_of, sensitivity_of
from cytolabe.evaluate.fitting import Answer, Failure, ModelRunner
from cytolabe.evaluate.folds import FoldData, PolicyData
from cytolabe.evaluate.measures import HEADLINE, confusion_tensor
from cytolabe.evaluate.plan import FLOOR_MODELS, AnnotatorPlan, EvaluationPlan
from cytolabe.evaluate.results import Confusion
from cytolabe.evaluate.scoring import Answered, RowContext, Scored, scored_rows
from cytolabe.models.cards import CARDS
from cytolabe.ontology.resolutions import Resolutions
from cytolabe.provenance import cells_digest
from cytolabe.records import FitOnQuery, FitScope, ModelCard, Score
from cytolabe.snapshot.view import SnapshotView

__all__ = ["PREDICTION_COLUMNS", "FoldRun", "Ledger", "score_annotator"]

PREDICTION_COLUMNS = ("cell_id", "split", "model", "gene_policy", "resolution", "term", "confidence")


@dataclass(kw_only=True)
class Ledger:
    """What a fold has produced so far; `scopes` by model, each scope once, in the order of the fits."""

    scores: list[Score] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    predictions: list[pd.DataFrame] = field(default_factory=list)
    scopes: dict[str, dict[FitScope, None]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FoldRun:
    """What all fits of one fold and gene policy share."""

    snapshot: SnapshotView
    plan: EvaluationPlan
    resolutions: Resolutions
    names: Mapping[str, str]
    merged_batches: Mapping[str, tuple[int, int]]
    data: FoldData
    genes: PolicyData
    audit: FoldAudit
    runner: ModelRunner
    ledger: Ledger


def score_annotator(
    run: FoldRun, annotator: AnnotatorPlan, context: RowContext, *, floors: Mapping[tuple[str, str], float]
) -> Scored:
    """Fit one annotator at one level with every seed, and write its rows, its confusion and its predictions.

    Parameters
    ----------
    run
        Fold, genes and what was written so far.
    annotator
        What to fit.
    context
        The level's rows.
    floors
        Best value of the floor models by (metric, stratum).
    """
    answered = _answered(run, annotator, context)
    scored = scored_rows(context, answered, floors=floors)
    run.ledger.scores += scored.scores
    if answered.by_seed:
        first = next(iter(answered.by_seed.values()))
        run.ledger.confusions.append(_confusion(run, annotator, context, scored=scored))
        run.ledger.predictions.append(_predictions(run, annotator, context, answer=first))
    return scored


def _answered(run: FoldRun, annotator: AnnotatorPlan, context: RowContext) -> Answered:
    card = run.runner.card(annotator) or CARDS.get(annotator.component)
    terms = run.data.train_terms[context.resolution]
    if context.why_none:
        return Answered(annotator=annotator, card=card, by_seed={})
    by_seed: dict[int, Answer] = {}
    for number in range(_n_seeds(run.plan, card)):
        tasks = {name: dataclasses.replace(task, seed=task.seed + number) for name, task in run.genes.tasks.items()}
        answer = answer_of(run.runner, annotator, tasks, terms=terms, rows=run.data.query_rows)
        if isinstance(answer, Failure):
            return Answered(annotator=annotator, card=card, by_seed={}, failure=answer)
        by_seed[number] = _at_level(answer, run.resolutions, context.resolution)
    for answer in by_seed.values():
        run.ledger.scopes.setdefault(annotator.name, {}).update(dict.fromkeys(answer.scopes))
    refusals, qualifications = _scope_verdict(run, card, by_seed=by_seed, level=context.resolution)
    sensitivity, note = _sensitivity(run, annotator, context, card=card, by_seed=by_seed)
    return Answered(
        annotator=annotator,
        card=card,
        by_seed=by_seed,
        ceiling=_ceiling(run, annotator, context),
        sensitivity=sensitivity,
        refusals=refusals,
        qualifications=qualifications,
        notes=_batch_notes(run, card),
        headline_notes=(note,) if note else (),
    )


def _n_seeds(plan: EvaluationPlan, card: ModelCard | None) -> int:
    return plan.n_seeds if card is not None and card.n_seeds > 1 else 1


def _at_level(answer: Answer, resolutions: Resolutions, level: str) -> Answer:
    """Sum probabilities of classes below a class of the level; a class without one there stays, and stays wrong."""
    known = set(resolutions.level(level).terms)
    projected = resolutions.project(level, np.array(answer.classes, dtype=str)).tolist()
    targets = [one if one in known or not to else str(to) for one, to in zip(answer.classes, projected, strict=True)]
    if targets == list(answer.classes):
        return answer
    classes = tuple(sorted(set(targets)))
    probability = np.zeros((len(answer.probability), len(classes)))
    for k, target in enumerate(targets):
        probability[:, classes.index(target)] += answer.probability[:, k]
    return dataclasses.replace(answer, classes=classes, probability=probability)


def _scope_verdict(
    run: FoldRun, card: ModelCard | None, *, by_seed: Mapping[int, Answer], level: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare what was fitted with what was allowed; return what refuses and what qualifies."""
    name = card.name if card is not None else ""
    exposure = {one.status for one in run.audit.exposures if one.model == name}
    if "in" in exposure:
        return ("the model saw a test data set in pretraining",), ()
    unknown = ("exposure unknown",) if "unknown" in exposure else ()
    scopes = tuple(dict.fromkeys(scope for answer in by_seed.values() for scope in answer.scopes))
    if not scopes or any(not answer.scopes for answer in by_seed.values()):
        if card is not None and card.pretraining:
            return (), (*unknown, "fit scope declared by nobody")
        return ("no fit scope: nobody can say which cells this model was fitted on",), ()
    findings = check_fit_scopes(scopes, allowed=_allowed_scopes(run, card, level))
    return tuple(f"{finding.code}: {finding.message}" for finding in findings), unknown


def _allowed_scopes(run: FoldRun, card: ModelCard | None, level: str) -> dict[str, str]:
    """Return the digests of the sets of cells that a step of this model may be fitted on."""
    ids = run.snapshot.cells["cell_id"].to_numpy(dtype=object)
    terms = run.data.train_terms[level]
    allowed = {}
    for name, task in run.genes.tasks.items():
        train = task.train_rows
        allowed[cells_digest(ids[train])] = f"training cells [{name}]"
        allowed[cells_digest(ids[train[terms[train] != ""]])] = f"labelled training cells [{name}]"
        if card is not None and card.fit_on_query is not FitOnQuery.NONE:
            allowed[cells_digest(ids[task.query_rows])] = f"unlabelled query cells [{name}]"
            allowed[cells_digest([*ids[train], *ids[task.query_rows]])] = f"training and query cells [{name}]"
    return allowed


def _ceiling(run: FoldRun, annotator: AnnotatorPlan, context: RowContext) -> Ceiling:
    if not run.plan.ceilings or annotator.name in FLOOR_MODELS or not context.cells.is_closed.any():
        return Ceiling()
    closed = set(context.cells.closed().truth.tolist())
    own = run.data.test_terms[context.resolution]
    terms = np.array([term if term in closed else "" for term in own], dtype=object)
    return ceiling_of(run.runner, annotator, run.genes.ceilings, cells=run.snapshot.cells, terms=terms)


def _sensitivity(
    run: FoldRun,
    annotator: AnnotatorPlan,
    context: RowContext,
    *,
    card: ModelCard | None,
    by_seed: Mapping[int, Answer],
) -> tuple[dict[str, float], str]:
    """Measure how the headline moves with the query, for models that fit on it (rule R13)."""
    is_headline = context.resolution == run.plan.decision_level and context.gene_policy == run.plan.gene_policies[0]
    fits_on_query = card is not None and card.fit_on_query is not FitOnQuery.NONE
    if not is_headline or not fits_on_query or len(run.genes.tasks) != 1:
        return {}, ""
    headline = next((measure.classes for measure in context.measures if measure.key == HEADLINE), ())
    return sensitivity_of(
        run.runner,
        annotator,
        run.genes.tasks,
        terms=run.data.train_terms[context.resolution],
        headline=Headline(
            truth=run.data.test_terms[context.resolution][run.data.query_rows], classes=headline, answer=by_seed[0]
        ),
    )


def _batch_notes(run: FoldRun, card: ModelCard | None) -> tuple[str, ...]:
    if card is None or "batch" not in card.inputs:
        return ()
    touched = {name for space in run.genes.spaces for name in (*space.train_datasets, *space.test_datasets)}
    return tuple(
        f"{n_batches} batches of {name} hold one type each: the data set is its batch here (R12)"
        for name, (n_batches, _) in sorted(run.merged_batches.items())
        if name in touched
    )


def _confusion(run: FoldRun, annotator: AnnotatorPlan, context: RowContext, *, scored: Scored) -> Confusion:
    closed = context.cells.closed()
    _, tensor = confusion_tensor(
        closed.truth, scored.predicted, groups=np.full(len(closed.truth), "all", dtype=object), classes=scored.classes
    )
    matrices = tensor[0] if len(tensor) else np.zeros((1, len(scored.classes), len(scored.classes)), dtype=np.int64)
    headline = next(score for score in scored.scores if (score.metric, score.stratum) == HEADLINE)
    every = next(measure for measure in context.measures if measure.key == ("macro_f1_all_classes", "all"))
    return Confusion(
        split=context.split,
        model=annotator.name,
        resolution=context.resolution,
        gene_policy=context.gene_policy,
        classes=scored.classes,
        names=tuple(run.names.get(term, term) for term in scored.classes),
        matrix=matrices[0],
        by_seed={str(number): matrix for number, matrix in enumerate(matrices)},
        scored=every.classes,
        status=str(headline.status),
    )


def _predictions(run: FoldRun, annotator: AnnotatorPlan, context: RowContext, *, answer: Answer) -> pd.DataFrame:
    """Return the terms of every query cell, also of those whose label does not count at this level."""
    return pd.DataFrame(
        {
            "cell_id": run.snapshot.cells["cell_id"].to_numpy(dtype=object)[run.data.query_rows],
            "split": context.split,
            "model": annotator.name,
            "gene_policy": context.gene_policy,
            "resolution": context.resolution,
            "term": answer.terms,
            "confidence": answer.confidence,
        }
    )
