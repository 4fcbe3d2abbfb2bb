"""One annotator in one fold at one level: fit with every seed, add its controls, write its rows.

The scope check comes after the fits and before the rows: a step that was fitted on cells outside of what it was
handed refuses the model; a model that cannot say what it was fitted on is QUALIFIED if it is a file that was made
elsewhere, and refused otherwise. No FitScope, no score.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.audit.coded_dimensions import CodedDimensions
from cytolabe.audit.fit_scopes import CellSet, check_fit_scopes, may_fit_on
from cytolabe.audit.leakage import FoldAudit
from cytolabe.evaluate.coarse import takes_coarse_labels, with_coarser
from cytolabe.evaluate.controls import Ceiling, Headline, answer_of, ceiling_of, sensitivity_of
from cytolabe.evaluate.costs import Cost
from cytolabe.evaluate.dimensions import codes_in_embeddings, embedder_name
from cytolabe.evaluate.fitting import EMBEDS, Answer, Failure, FitTask, ModelRunner
from cytolabe.evaluate.folds import FoldData, PolicyData
from cytolabe.evaluate.measures import HEADLINE, RARE, confusion_tensor
from cytolabe.evaluate.plan import FLOOR_MODELS, AnnotatorPlan, EvaluationPlan
from cytolabe.evaluate.results import Confusion
from cytolabe.evaluate.scoring import Answered, RowContext, Scored, scored_rows
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.ontology.graph import load_ontology
from cytolabe.ontology.resolutions import Resolutions
from cytolabe.provenance import cells_digest
from cytolabe.records import Exposure, FitOnQuery, FitScope, ModelCard, Score, ScoreStatus
from cytolabe.snapshot.view import SnapshotView

__all__ = ["PREDICTION_COLUMNS", "FoldRun", "Ledger", "Said", "cell_sets_at", "fit_verdict", "score_annotator"]

PREDICTION_COLUMNS = ("cell_id", "split", "model", "gene_policy", "resolution", "term", "confidence")


@dataclass(frozen=True, kw_only=True)
class Said:
    """What refuses and what qualifies the fit of a model."""

    refusals: tuple[str, ...] = ()
    qualifications: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Ledger:
    """What a fold has produced so far; `scopes` by model, each scope once, in the order of the fits.

    `fits` keeps, by annotator and level, what refuses or qualifies its fit whatever is measured of it.

    `costs` are in the order of the fits; no other thing here depends on them.

    `coded` keeps, by embedder, which of its dimensions hold a code of the label.

    `tests` are for the certificate of the fold; `cell_sets` names the sets of cells that a fit of the fold could be handed, by digest; `sets_at` by level.

    `n_taken_up` counts the fits that a run before had made.
    """

    scores: list[Score] = field(default_factory=list)
    integration: list[Score] = field(default_factory=list)
    limited: list[Score] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    predictions: list[pd.DataFrame] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    coded: dict[str, tuple[CodedDimensions, ...]] = field(default_factory=dict)
    fits: dict[tuple[str, str], Said] = field(default_factory=dict)
    scopes: dict[str, dict[FitScope, None]] = field(default_factory=dict)
    tests: list[dict[str, object]] = field(default_factory=list)
    cell_sets: dict[str, CellSet] = field(default_factory=dict)
    sets_at: dict[str, dict[str, CellSet]] = field(default_factory=dict)
    n_taken_up: int = 0


@dataclass(frozen=True, kw_only=True)
class FoldRun:
    """What all fits of one fold and gene policy share; `say` tells whoever waits what is being done."""

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
    say: Callable[[str], None]


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
    run.ledger.fits[annotator.name, context.resolution] = _said(answered)
    scored = scored_rows(context, answered, floors=floors)
    run.ledger.scores += scored.scores
    if answered.by_seed:
        first = next(iter(answered.by_seed.values()))
        run.ledger.confusions.append(_confusion(run, annotator, context, scored=scored))
        run.ledger.predictions.append(_predictions(run, annotator, context, answer=first))
    return scored


def _said(answered: Answered) -> Said:
    failure = answered.failure
    is_refused = failure is not None and failure.status is ScoreStatus.REFUSED
    notes = [note for answer in answered.by_seed.values() for note in answer.notes if note.startswith(NOT_CONVERGED)]
    return Said(
        refusals=(*answered.refusals, *((failure.reason,) if failure is not None and is_refused else ())),
        qualifications=(*answered.qualifications, *dict.fromkeys(notes)),
    )


def _answered(run: FoldRun, annotator: AnnotatorPlan, context: RowContext) -> Answered:
    card = run.runner.card(annotator) or CARDS.get(annotator.component)
    terms = _training_terms(run, card, context.resolution)
    if context.why_none:
        return Answered(annotator=annotator, card=card, by_seed={})
    if context.nested_batches and _integrates(card):
        failure = Failure(status=ScoreStatus.REFUSED, reason=context.nested_batches)
        return Answered(annotator=annotator, card=card, by_seed={}, failure=failure)
    by_seed: dict[int, Answer] = {}
    for number in range(_n_seeds(run.plan, card)):
        tasks = _seeded(run, number, level=context.resolution)
        answer = answer_of(run.runner, annotator, tasks, terms=terms, rows=run.data.query_rows)
        if isinstance(answer, Failure):
            return Answered(annotator=annotator, card=card, by_seed={}, failure=answer)
        by_seed[number] = _at_level(answer, run.resolutions, context.resolution)
    for answer in by_seed.values():
        run.ledger.scopes.setdefault(annotator.name, {}).update(dict.fromkeys(answer.scopes))
    refusals, qualifications = _scope_verdict(run, card, by_seed=by_seed, level=context.resolution)
    refusals += _coded_refusals(run, annotator, card, level=context.resolution)
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


def _training_terms(run: FoldRun, card: ModelCard | None, level: str) -> np.ndarray:
    """Return the terms that a model is fitted on at a level; coarser ones only where its card asks for them (rule R5)."""
    if not takes_coarse_labels(card):
        return run.data.train_terms[level]
    return with_coarser(run.snapshot.cells, run.data, level, ontology=load_ontology("CL"))


def _integrates(card: ModelCard | None) -> bool:
    """Tell whether a model reads the technical batch, to correct for it."""
    return card is not None and "batch" in card.inputs


def _seeded(run: FoldRun, number: int, *, level: str) -> dict[str, FitTask]:
    """Return the fits with one seed. The sensitivity asks for the training of the first one again."""
    return {
        name: dataclasses.replace(task, seed=task.seed + number, is_asked_again=number == 0, resolution=level)
        for name, task in run.genes.tasks.items()
    }


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

    def named() -> Mapping[str, CellSet]:
        sets = cell_sets_at(run, level)
        if takes_coarse_labels(card):
            sets = sets | _named_cells(run, _training_terms(run, card, level), level=f"{level} or above it")
            run.ledger.cell_sets |= sets
        return sets

    return fit_verdict(card, tuple(by_seed.values()), exposures=run.audit.exposures, named=named)


def fit_verdict(
    card: ModelCard | None,
    answers: Sequence[Answer],
    *,
    exposures: Sequence[Exposure],
    named: Callable[[], Mapping[str, CellSet]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what refuses and what qualifies a model for the cells that it, or its pretraining, was fitted on.

    Parameters
    ----------
    answers
        One per seed, with the scopes of its fit.
    exposures
        What the audit of the fold found of pretraining.
    named
        Returns the sets of cells of the fold that have a name, by digest.
    """
    name = card.name if card is not None else ""
    exposure = {one.status for one in exposures if one.model == name}
    if "in" in exposure:
        return ("the model saw a test data set in pretraining",), ()
    unknown = ("exposure unknown",) if "unknown" in exposure else ()
    scopes = tuple(dict.fromkeys(scope for answer in answers for scope in answer.scopes))
    if not scopes or any(not answer.scopes for answer in answers):
        if card is not None and card.pretraining:
            return (), (*unknown, "fit scope declared by nobody")
        return ("no fit scope: nobody can say which cells this model was fitted on",), ()
    allowed = {digest: cells.name for digest, cells in named().items() if may_fit_on(card, cells, digest=digest)}
    findings = check_fit_scopes(scopes, allowed=allowed)
    return tuple(
        f"{f.code}: {f.where} was fitted on {f.n_affected} cells that it may not see" for f in findings
    ), unknown


def _coded_refusals(run: FoldRun, annotator: AnnotatorPlan, card: ModelCard | None, *, level: str) -> tuple[str, ...]:
    """Refuse what probes read of an embedding whose dimensions spell the label on both sides."""
    if card is None or EMBEDS not in card.capabilities:
        return ()
    name, known = embedder_name(annotator), run.ledger.coded
    if name not in known:
        tasks = _seeded(run, 0, level=level).values()
        known[name] = codes_in_embeddings(
            run.snapshot, run.data.fold, run.runner, annotator=annotator, tasks=tasks
        )  # fmt: skip
    return tuple(dict.fromkeys(one.refusal for one in known[name] if one.refusal))


def cell_sets_at(run: FoldRun, level: str) -> dict[str, CellSet]:
    """Return the sets of cells that a step may be handed at a level, by digest; the ledger keeps all of them."""
    known = run.ledger.sets_at
    if level not in known:
        known[level] = _named_cells(run, run.data.train_terms[level], level=level)
        run.ledger.cell_sets |= known[level]
    return known[level]


def _named_cells(run: FoldRun, terms: np.ndarray, *, level: str) -> dict[str, CellSet]:
    ids = run.snapshot.cells["cell_id"].to_numpy(dtype=object)
    found: dict[str, CellSet] = {}
    for name, task in run.genes.tasks.items():
        train, query = task.train_rows, task.query_rows
        labelled = train[terms[train] != ""]
        sets = (
            (CellSet(name=f"query cells [{name}]", n_test=len(query)), query),
            (
                CellSet(name=f"training and query cells [{name}]", n_train=len(train), n_test=len(query)),
                np.concatenate([train, query]),
            ),
            (CellSet(name=f"training cells labelled at {level} [{name}]", n_train=len(labelled)), labelled),
            (CellSet(name=f"training cells [{name}]", n_train=len(train)), train),
        )
        found |= {cells_digest(ids[rows]): cells for cells, rows in sets}
    return found


def _ceiling(run: FoldRun, annotator: AnnotatorPlan, context: RowContext) -> Ceiling:
    if context.ceilings is None or annotator.name in FLOOR_MODELS:
        return Ceiling()
    return ceiling_of(run.runner, annotator, context.ceilings)


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
    if not is_headline or not fits_on_query:
        return {}, ""
    headline = next((measure.classes for measure in context.measures if measure.key == HEADLINE), ())
    return sensitivity_of(
        run.runner,
        annotator,
        _seeded(run, 0, level=context.resolution),
        terms=run.data.train_terms[context.resolution],
        headline=Headline(
            truth=run.data.test_terms[context.resolution][run.data.query_rows],
            rows=run.data.query_rows,
            classes=headline,
            answer=by_seed[0],
            names=run.names,
        ),
    )


def _batch_notes(run: FoldRun, card: ModelCard | None) -> tuple[str, ...]:
    if not _integrates(card):
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
        rare=_rare(context, scored),
        persons=tuple(sorted(set(closed.persons.tolist()) - {""})),
        status=str(headline.status),
    )


def _rare(context: RowContext, scored: Scored) -> tuple[str, ...]:
    """Return the rare classes, or none where their mean is refused: what it is made of is refused with it."""
    score = next(score for score in scored.scores if (score.metric, score.stratum) == RARE)
    is_believed = score.status in {ScoreStatus.SCORED, ScoreStatus.QUALIFIED}
    return next(measure.classes for measure in context.measures if measure.key == RARE) if is_believed else ()


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
