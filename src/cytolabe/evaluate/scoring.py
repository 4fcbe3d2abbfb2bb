"""Turns what models answered into scores: values, floors, ceilings, intervals, statuses and reasons.

Every planned row appears, with the same classes and the same cells for every model. A value is the mean over the
seeds; a refused one is kept as `raw_value`. Nothing is clipped: a model may stand below its floor or above its ceiling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cytolabe.evaluate.controls import Ceiling, CeilingPlan
from cytolabe.evaluate.fitting import Answer, Failure
from cytolabe.evaluate.measures import (
    HEADLINE,
    OPEN_SET,
    Cells,
    Measure,
    intervals_of,
    mean_values,
    open_set_value,
    values_of,
)
from cytolabe.evaluate.plan import FLOOR_MODELS, AnnotatorPlan
from cytolabe.evaluate.status import judged
from cytolabe.metrics.intervals import DonorInterval
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.records import FitOnQuery, ModelCard, Protocol, Score, ScoreStatus

__all__ = ["BELOW_FLOOR", "MIN_SEEDS", "Answered", "RowContext", "Scored", "scored_rows"]

Key = tuple[str, str]

MIN_SEEDS = 3
"""Seeds below which a model whose fit is random is QUALIFIED(single seed) (rule R13b)."""

BELOW_FLOOR = "does not beat its floor"


@dataclass(frozen=True, kw_only=True)
class RowContext:
    """What all rows of one fold, level and gene policy share.

    `override` says why refused numbers are let out; it is empty where they are not. `circular` names the data sets that
    a qualification for circular labels is about.
    `places` are positions in the query of the labelled cells, `closed_rows` positions in the snapshot of those with
    training support. `nested_batches` says why models that integrate batches are refused.
    """

    study: str
    split: str
    resolution: str
    gene_policy: str
    n_genes: int
    is_panel: bool
    why_none: str
    refusals: tuple[str, ...]
    qualifications: tuple[str, ...]
    notes: tuple[str, ...]
    population: str
    seed: int
    cells: Cells
    places: np.ndarray
    closed_rows: np.ndarray
    n_train_labelled: int
    measures: tuple[Measure, ...]
    ceilings: CeilingPlan | None = None
    nested_batches: str = ""
    override: str = ""
    circular: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One annotator at one level: an answer per seed, or why there is none, and its controls.

    `refusals` and `qualifications` are those of this model only (a failed fit scope, an unknown exposure).
    """

    annotator: AnnotatorPlan
    card: ModelCard | None
    by_seed: Mapping[int, Answer]
    failure: Failure | None = None
    ceiling: Ceiling = field(default_factory=Ceiling)
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    qualifications: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    headline_notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The rows of one annotator, its mean values (for floors), and its predicted terms of the closed set by seed."""

    scores: tuple[Score, ...]
    values: Mapping[Key, float]
    classes: tuple[str, ...]
    predicted: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    """Everything numeric of one annotator, by row."""

    seeds: tuple[int, ...] = ()
    values: Mapping[Key, tuple[float, ...]] = field(default_factory=dict)
    means: Mapping[Key, float] = field(default_factory=dict)
    intervals: Mapping[Key, DonorInterval] = field(default_factory=dict)
    ceilings: Mapping[Key, float] = field(default_factory=dict)
    floors: Mapping[Key, float] = field(default_factory=dict)
    qualifications: tuple[str, ...] = ()


def scored_rows(context: RowContext, answered: Answered, *, floors: Mapping[Key, float]) -> Scored:
    """Return every row of one annotator.

    Parameters
    ----------
    context
        What the rows share.
    answered
        What the model answered, or why it did not.
    floors
        Best value of the floor models by (metric, stratum).
    """
    if answered.failure is not None or context.why_none:
        rows = tuple(
            _row(context, answered, measure=measure, numbers=_Numbers(floors=floors)) for measure in context.measures
        )
        return Scored(scores=rows, values={}, classes=(), predicted=())
    closed = context.cells.closed()
    places = context.places[context.cells.is_closed]
    predicted = tuple(answer.terms[places] for answer in answered.by_seed.values())
    classes = _classes(closed, predicted, tuple(answered.by_seed.values()))
    values = values_of(context.measures, closed, predicted, classes=classes)
    values |= _open_set(context, answered)
    numbers = _Numbers(
        seeds=tuple(answered.by_seed),
        values=values,
        means=mean_values(values),
        intervals=intervals_of(
            context.measures, closed, predicted, classes=classes, seed=context.seed, population=context.population
        ),
        ceilings=_ceiling_values(context, answered.ceiling),
        floors=floors,
        qualifications=_model_qualifications(answered, predicted, closed),
    )
    rows = tuple(_row(context, answered, measure=measure, numbers=numbers) for measure in context.measures)
    return Scored(scores=rows, values=numbers.means, classes=classes, predicted=predicted)


def _classes(closed: Cells, predicted: Sequence[np.ndarray], answers: Sequence[Answer]) -> tuple[str, ...]:
    found = {str(term) for term in closed.truth}
    for terms in predicted:
        found |= {str(term) for term in terms}
    for answer in answers:
        found |= set(answer.classes)
    return tuple(sorted(found))


def _open_set(context: RowContext, answered: Answered) -> dict[Key, tuple[float, ...]]:
    found = [open_set_value(context.cells, answer.confidence[context.places]) for answer in answered.by_seed.values()]
    known = [value for value in found if value is not None]
    return {OPEN_SET: tuple(known)} if known else {}


def _ceiling_values(context: RowContext, ceiling: Ceiling) -> dict[Key, float]:
    """Score the ceiling's terms with the measures of the fold."""
    if ceiling.terms is None or not np.array_equal(ceiling.rows, context.closed_rows):
        return {}
    cells = context.cells.closed()
    classes = tuple(sorted({str(term) for term in (*cells.truth, *ceiling.terms)}))
    return mean_values(values_of(context.measures, cells, [ceiling.terms], classes=classes))


def _model_qualifications(answered: Answered, predicted: Sequence[np.ndarray], closed: Cells) -> tuple[str, ...]:
    """Return what an honest reader would want to know of these predictions before believing them."""
    found = list(answered.qualifications)
    notes = [note for answer in answered.by_seed.values() for note in answer.notes]
    found += [note for note in dict.fromkeys(notes) if note.startswith(NOT_CONVERGED)]
    card = answered.card
    if card is not None and _is_random(card) and len(answered.by_seed) < MIN_SEEDS:
        found.append("single seed" if len(answered.by_seed) == 1 else f"{len(answered.by_seed)} seeds")
    if answered.annotator.name in FLOOR_MODELS or not len(closed.truth):
        return tuple(found)
    n_classes = len(set(closed.truth.tolist()))
    if n_classes > 1 and any(len(set(terms.tolist())) == 1 for terms in predicted):
        found.append("one class predicted for every cell")
    from_elsewhere = not answered.annotator.probe or (card is not None and card.protocol is Protocol.UNKNOWN)
    if n_classes > 1 and from_elsewhere and all((terms == closed.truth).all() for terms in predicted):
        found.append("equal to the labels in every cell: copied?")
    return tuple(found)


def _is_random(card: ModelCard) -> bool:
    return card.determinism == "statistical" or card.n_seeds > 1


def _row(context: RowContext, answered: Answered, *, measure: Measure, numbers: _Numbers) -> Score:
    value = numbers.means.get(measure.key)
    floor = numbers.floors.get(measure.key)
    is_floor = answered.annotator.name in FLOOR_MODELS
    status, reason = _status(context, answered, measure, numbers=numbers, beats_floor=is_floor or _beats(value, floor))
    is_believed = status in {ScoreStatus.SCORED, ScoreStatus.QUALIFIED}
    found = numbers.intervals.get(measure.key, DonorInterval())
    interval = found.interval if is_believed else None
    card = answered.card
    per_seed = numbers.values.get(measure.key, ())
    has_seeds = card is not None and _is_random(card)
    ceiling = numbers.ceilings.get(measure.key)
    notes = _notes(context, answered, measure, is_above=_is_above(value, ceiling))
    return Score(
        task="annotation",
        study=context.study,
        split=context.split,
        model=answered.annotator.name,
        protocol=card.protocol if card is not None else Protocol.UNKNOWN,
        metric=measure.metric,
        resolution=context.resolution,
        stratum=measure.stratum,
        value=value if is_believed else None,
        status=status,
        reason=reason,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        interval=f"{interval.method}; {interval.population}" if interval else "",
        n_cells=measure.n_cells,
        n_donors=measure.n_donors,
        floor=floor,
        ceiling=ceiling,
        gene_policy=context.gene_policy,
        n_genes=context.n_genes,
        fit_on_query=card.fit_on_query if card is not None else FitOnQuery.NONE,
        raw_value=None if is_believed else value,
        points=found.points if is_believed else {},
        seeds=dict(zip(map(str, numbers.seeds), per_seed, strict=False)) if has_seeds else {},
        sensitivity=answered.sensitivity if measure.key == HEADLINE else {},
        notes=tuple(note for note in notes if note not in reason.split("; ")),
    )


def _status(
    context: RowContext, answered: Answered, measure: Measure, *, numbers: _Numbers, beats_floor: bool
) -> tuple[ScoreStatus, str]:
    refusals = [*context.refusals, *answered.refusals, context.why_none]
    if measure.why_none and measure.is_refused:
        refusals.append(measure.why_none)
    failure = answered.failure
    if failure is not None and failure.status is ScoreStatus.REFUSED:
        refusals.append(failure.reason)
    overridden: list[str] = []
    if context.override and measure.key in numbers.means:
        overridden, refusals = [f"refusal overridden: {reason}" for reason in refusals if reason], []
    verdict = judged(refusals, [])
    if verdict.status is ScoreStatus.REFUSED:
        return verdict.status, verdict.reason
    if failure is not None:
        return failure.status, failure.reason
    if measure.why_none:
        return ScoreStatus.NOT_RUN, f"not_applicable: {measure.why_none}"
    if measure.key not in numbers.means:
        return ScoreStatus.REFUSED, "nothing to average in this stratum"
    panel = f"panel: {context.n_genes} genes" if context.is_panel else ""
    weak = "" if beats_floor else BELOW_FLOOR
    # A data set whose own labels are not circular is scored without the others': with and without (rule R7).
    of_others = {
        text for text, names in context.circular.items() if measure.dataset_id and measure.dataset_id not in names
    }
    shared = [text for text in context.qualifications if text not in of_others]
    verdict = judged([], [*overridden, panel, *shared, *numbers.qualifications, weak])
    return verdict.status, verdict.reason


def _beats(value: float | None, floor: float | None) -> bool:
    return value is None or floor is None or value > floor


def _is_above(value: float | None, ceiling: float | None) -> bool:
    return value is not None and ceiling is not None and value > ceiling


def _notes(context: RowContext, answered: Answered, measure: Measure, *, is_above: bool) -> tuple[str, ...]:
    """Return what a reader must know of a row; what stands in its reason is taken out afterwards."""
    from_fits = [note for answer in answered.by_seed.values() for note in answer.notes]
    ceiling = [answered.ceiling.note]
    if answered.ceiling.trained_on and (is_above or measure.key == HEADLINE):
        where = "above its ceiling: that was" if is_above else "ceiling"
        ceiling.append(f"{where} trained on {answered.ceiling.trained_on}, the model on {context.n_train_labelled}")
    headline = answered.headline_notes if measure.key == HEADLINE else ()
    stamp = f"refusals overridden: {context.override}" if context.override else ""
    everything = [stamp, *context.notes, *measure.notes, *answered.notes, *from_fits, *ceiling, *headline]
    return tuple(note for note in dict.fromkeys(everything) if note)
