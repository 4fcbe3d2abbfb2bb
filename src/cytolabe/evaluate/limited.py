"""What each embedding and probe reach with few labels: cells of each type, and donors (`[study.limited_labels]`).

The embedding is that of the fold: it sees no label, so few of them leave it as it is. Only the probe is fitted again,
on the labels of a draw; test cells, classes and the headline are those of the fold. A value is the mean over draws, and
its interval is over the donors of the test side, as everywhere (rule R15): it does not say how draws differ, which
`seeds` of the row does. Asked at the decision level and under the first gene policy, with the first seed of a model.

Models without a probe are trained anew for each draw, on the cells of the draw alone, and only those that the study names
(`annotators`): each draw costs a training. Those that start from a network of all training cells without labels are fine-tuned anew.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolabe.audit.fit_scopes import CellSet, check_fit_scopes, may_fit_on
from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.errors import UsageError
from cytolabe.evaluate.annotation import FoldRun, Said, cell_sets_at
from cytolabe.evaluate.fitting import Answer, Failure, FitTask
from cytolabe.evaluate.label_draws import AXES, LabelDraw, Pool, label_draws, limited_stratum, pool_of
from cytolabe.evaluate.labels import level_labels
from cytolabe.evaluate.measures import HEADLINE, values_of
from cytolabe.evaluate.plan import FLOOR_MODELS, AnnotatorPlan, EvaluationPlan
from cytolabe.evaluate.scoring import MIN_SEEDS, Answered, RowContext, scored_rows
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.models.tuned import UNLABELLED_CELLS
from cytolabe.records import ModelCard, Score, ScoreStatus

__all__ = ["LIMITED_TASK", "LIMITED_TEST", "limited_scores", "refuse_unknown_annotators"]

LIMITED_TASK = "limited_labels"
"""`Score.task` of rows on few labels."""
LIMITED_TEST = "limited labels"
"""Test of a certificate that names every draw."""

_ALONE = "a model without a probe is trained anew on the labelled cells of each draw and no other; an embedding has read every training cell"

_STARTED = "the network was made of every training cell without its label, as an embedding is, and fine-tuned anew on the labelled cells of each draw"

_Floors = Mapping[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """The one fit of a fold, and its draws by stratum."""

    task: FitTask
    draws: Mapping[str, tuple[LabelDraw, ...]]
    sets: Mapping[str, CellSet]

    def which(self, asked: LabelDraw) -> str:
        """Say which draw of all one is."""
        found = [(draw.stratum, draw.number) for own in self.draws.values() for draw in own if not draw.why_none]
        return f"draw {found.index((asked.stratum, asked.number)) + 1} of {len(found)}"


def limited_scores(
    run: FoldRun, context: RowContext, annotators: Sequence[AnnotatorPlan], *, floors: _Floors
) -> tuple[Score, ...]:
    """Return a headline row for each number of labels and each embedding with its probe, or annotator that the study names.

    The ledger of the run gets the steps that were fitted, and the test that names the draws.

    Parameters
    ----------
    run
        Fold, genes and what was written so far; the models of the fold have been scored.
    context
        The rows of the decision level.
    annotators
        Those of the gene policy.
    floors
        Best value of the floor models by (metric, stratum), with all labels.
    """
    asked = run.plan.limited_labels
    if asked is None or context.gene_policy != run.plan.gene_policies[0]:
        return ()
    probed = [one for one in annotators if one.probe or one.name in asked.annotators]
    headline = tuple(measure for measure in context.measures if measure.key == HEADLINE)
    context = dataclasses.replace(context, measures=headline, ceilings=None)
    if context.why_none or len(run.genes.tasks) != 1:
        n_fits = len(run.genes.tasks)
        why = (
            context.why_none or f"not_applicable: {n_fits} fits on genes of their own; the policy intersection has one"
        )
        failure = Failure(status=ScoreStatus.NOT_RUN, reason=why)
        strata = [limited_stratum(axis, value) for axis in AXES for value in getattr(asked, axis)]
        return tuple(
            _marked(
                context,
                _answered(run, one, context.resolution, by_draw={}, failure=failure),
                stratum=stratum,
                floors=floors,
            )
            for one in probed
            for stratum in strata
        )
    limits = _limits(run, context, asked)
    rows = []
    for one in probed:
        if one.probe:
            run.say(f"{run.data.fold.split_id}: few labels: {one.name}")
        rows += [_row(run, context, one, limits=limits, stratum=stratum, floors=floors) for stratum in limits.draws]
    return tuple(rows)


def refuse_unknown_annotators(plan: EvaluationPlan, annotators: Sequence[AnnotatorPlan]) -> None:
    """Refuse few labels for a model that is not there, or that answers through probes: it would be left out in silence.

    Raises
    ------
    UsageError
        If the study names such a model.
    """
    asked = plan.limited_labels.annotators if plan.limited_labels is not None else ()
    known = [one.name for one in annotators if not one.probe and one.name not in FLOOR_MODELS]
    unknown = sorted(set(asked) - set(known))
    if unknown:
        msg = f"[study.limited_labels] names {', '.join(unknown)}: no model of the study that is trained with labels ({', '.join(known) or 'it has none'}). Embeddings are asked with their probes, without being named."
        raise UsageError(msg)


def _limits(run: FoldRun, context: RowContext, asked: LimitedLabels) -> _Limits:
    """Draw, and write down every draw where the certificate of the fold will find it."""
    ((name, task),) = run.genes.tasks.items()
    level, terms = context.resolution, run.data.train_terms[context.resolution]
    pool = pool_of(run.snapshot.cells, task.train_rows, terms)
    draws: dict[str, tuple[LabelDraw, ...]] = {}
    for draw in label_draws(pool, asked, seed=run.plan.seed):
        draws[draw.stratum] = (*draws.get(draw.stratum, ()), draw)
    found = [draw for own in draws.values() for draw in own if not draw.why_none]
    sets = {
        draw.cells_digest: CellSet(
            name=f"training cells labelled at {level}, {draw.stratum}, draw {draw.number} [{name}]",
            n_train=len(draw.rows),
        )
        for draw in found
    }
    # A set that is known by another name (all labels: no type has more) keeps that one.
    run.ledger.cell_sets |= {digest: one for digest, one in sets.items() if digest not in run.ledger.cell_sets}
    run.ledger.tests.append(_test(run, pool, found, level=level))
    return _Limits(task=dataclasses.replace(task, purpose=LIMITED_TASK, resolution=level), draws=draws, sets=sets)


def _test(run: FoldRun, pool: Pool, draws: Sequence[LabelDraw], *, level: str) -> dict[str, object]:
    """Name the draws, and the labelled training cells that could not be drawn: whoever doubts them can draw again."""
    train = run.data.fold.train_rows
    labelled = train[level_labels(run.snapshot.cells, run.resolutions, level).terms[train] != ""]
    return {
        "test": LIMITED_TEST,
        "n_tested": len(draws),
        "n_found": 0,
        "power": "by digest of the cells of each draw, in the order of SHA-256 of seed, draw and name",
        "level": level,
        "seed": run.plan.seed,
        "not_drawn_from": sorted(set(labelled.tolist()) - set(pool.rows.tolist())),
        "draws": [
            {"stratum": draw.stratum, "draw": draw.number, "n_cells": len(draw.rows), "cells_digest": draw.cells_digest}
            for draw in draws
        ],
    }


def _row(
    run: FoldRun, context: RowContext, annotator: AnnotatorPlan, *, limits: _Limits, stratum: str, floors: _Floors
) -> Score:
    own = limits.draws[stratum]
    by_draw: dict[int, Answer] = {}
    failure = next((Failure(status=ScoreStatus.NOT_RUN, reason=one.why_none) for one in own if one.why_none), None)
    for draw in own if failure is None else ():
        terms = run.data.train_terms[context.resolution].copy()
        kept = terms[draw.rows]
        terms[limits.task.train_rows] = ""
        terms[draw.rows] = kept
        if not annotator.probe:
            run.say(f"{run.data.fold.split_id}: few labels: {annotator.name}, {limits.which(draw)}")
        answer = run.runner.annotate(annotator, limits.task, terms)
        if isinstance(answer, Failure):
            failure, by_draw = answer, {}
            break
        by_draw[draw.number] = answer
    answered = _answered(run, annotator, context.resolution, by_draw=by_draw, failure=failure)
    if failure is None:
        scopes = dict.fromkeys(scope for answer in by_draw.values() for scope in answer.scopes)
        run.ledger.scopes.setdefault(annotator.name, {}).update(scopes)
        known = {**cell_sets_at(run, context.resolution), **limits.sets}
        allowed = {
            digest: cells.name for digest, cells in known.items() if may_fit_on(answered.card, cells, digest=digest)
        }
        stray = check_fit_scopes(tuple(scopes), allowed=allowed)
        answered = dataclasses.replace(
            answered,
            refusals=(*answered.refusals, *(f"{f.code}: {f.where} was fitted on cells that it may not see" for f in stray)),
            notes=tuple(dict.fromkeys((*_trained_on(annotator, answered.card), *(n for draw in own for n in draw.notes)))),
        )  # fmt: skip
    return _marked(context, answered, stratum=stratum, floors=floors)


def _answered(
    run: FoldRun, annotator: AnnotatorPlan, level: str, *, by_draw: Mapping[int, Answer], failure: Failure | None
) -> Answered:  # fmt: skip
    """Return the answers of all draws with what refuses or qualifies the model of the fold."""
    said = run.ledger.fits.get((annotator.name, level), Said())
    card = run.runner.card(annotator)
    qualifications = [text for text in said.qualifications if not text.startswith(NOT_CONVERGED)]
    qualifications += ["single seed"] if _is_random(card) else []
    qualifications += [f"{len(by_draw)} draw(s) of labels"] if 0 < len(by_draw) < MIN_SEEDS else []
    return Answered(
        annotator=annotator,
        # Draws are no seeds: the card that counts them is one that needs none.
        card=dataclasses.replace(card, determinism="bit_exact", n_seeds=1) if card is not None else None,
        by_seed=by_draw,
        failure=failure,
        refusals=said.refusals if failure is None else (),
        qualifications=tuple(dict.fromkeys(qualifications)),
    )


def _trained_on(annotator: AnnotatorPlan, card: ModelCard | None) -> tuple[str, ...]:
    if annotator.probe:
        return ()
    return (_STARTED if card is not None and UNLABELLED_CELLS in card.capabilities else _ALONE,)


def _is_random(card: ModelCard | None) -> bool:
    return card is not None and (card.determinism == "statistical" or card.n_seeds > 1)


def _marked(context: RowContext, answered: Answered, *, stratum: str, floors: _Floors) -> Score:
    """Return the headline of some draws, marked with their axis and value; `seeds` holds the value of each draw."""
    scored = scored_rows(context, answered, floors=floors)
    (row,) = scored.scores
    by_draw: dict[str, float] = {}
    if scored.predicted:
        values = values_of(context.measures, context.cells.closed(), scored.predicted, classes=scored.classes)
        by_draw = dict(zip(map(str, answered.by_seed), values.get(HEADLINE, ()), strict=False))
    return dataclasses.replace(row, task=LIMITED_TASK, stratum=stratum, seeds=by_draw)
