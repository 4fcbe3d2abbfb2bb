"""How well each embedding of a fold mixes batches and keeps types, beside controls that show what a number is worth.

Judged are the labelled cells of both sides as the models of the fold embed them: what a probe learned from, and what
it was asked. Controls are the components without any correction (`none`), the same with the cells exchanged
(`shuffled`, which mixes batches perfectly and knows nothing) and the labels themselves (`cell types`, the upper end for
types). A raw value says little across data sets: it is read between its controls.

One batch, or one type, leaves nothing to measure. Where every batch holds one type, mixing them would be no merit and
the numbers are refused (rule R12).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from cytolabe.audit.evidence import decided_by_expression
from cytolabe.evaluate.annotation import FoldRun, Said
from cytolabe.evaluate.batches import why_nested
from cytolabe.evaluate.fitting import EMBEDS, Failure, FitTask
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.evaluate.scoring import RowContext
from cytolabe.evaluate.status import judged
from cytolabe.evaluate.verdicts import circular_labels
from cytolabe.metrics.conservation import cluster_agreement, label_silhouette
from cytolabe.metrics.integration import batch_variance, bras, cilisi, ilisi, variance_removed
from cytolabe.models.cards import CARDS
from cytolabe.models.threads import single_thread
from cytolabe.randomness import rng_for
from cytolabe.records import FitOnQuery, ModelCard, Protocol, Score, ScoreStatus

__all__ = ["CONTROL", "CONTROLS", "INTEGRATION_METRICS", "MOST_CELLS", "integration_scores", "measured"]

TASK = "integration"
CONTROL = "control: "
"""How the names of controls begin."""
INTEGRATION_METRICS = ("avg_bio", "nmi", "ari", "asw_label", "bras", "cilisi", "ilisi", "pcr_batch", "pcr_comparison")
"""What is told of an embedding: types first, then batches. Of `pcr_batch` less is better, of the others more."""

_WHY_NOT = {
    "bras": "no type has enough cells in two batches",
    "cilisi": "no type has enough cells in two batches",
    "ilisi": "fewer than 90 cells",
    "pcr_comparison": "batches explain nothing of the components without correction, or there are none",
}

CONTROLS = ("none", "shuffled", "cell types")

MOST_CELLS = 5_000
"""Cells that are measured; of more, a sample by the seed (silhouettes grow with their square)."""

_NONE = AnnotatorPlan(name="pca", component="pca", probe="", options={}, gene_policies=())
_JITTER = 0.01


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The cells that are measured: places in the embedding of the training and then the query cells."""

    places: np.ndarray
    labels: np.ndarray
    batches: np.ndarray
    n_donors: int
    qualifications: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _One:
    """A control or a model, and its embedding of the cells that are measured, or why there is none."""

    name: str
    values: np.ndarray | Failure
    said: Said = field(default_factory=Said)
    card: ModelCard | None = None


def integration_scores(run: FoldRun, context: RowContext, annotators: Sequence[AnnotatorPlan]) -> tuple[Score, ...]:
    """Return one row for each control and embedding of a fold and each metric, at the level of the context.

    Empty where a policy asks for several fits (`pairwise`): there is no one embedding of all cells.
    """
    if len(run.genes.tasks) != 1 or context.why_none:
        return ()
    (task,) = run.genes.tasks.values()
    cells = _judged_cells(run, task, level=context.resolution)
    # Of the probes of an embedding the first, which is the one that has nothing to converge.
    embedders = {one.name.partition("+")[0]: one for one in reversed(annotators) if _embeds(run, one)}
    embedders = dict(reversed(embedders.items()))
    if not embedders:
        return ()
    why = _why_nothing(run, task, cells)
    rows = []
    controls = _controls(run, task, cells)
    plain = controls["none"]
    before = None if isinstance(plain, Failure) or why is not None else batch_variance(plain, cells.batches)
    for name, values in controls.items():
        one = _One(name=f"{CONTROL}{name}", values=values)
        rows += _rows(context, cells, one, why=why, before=before)
    for name, annotator in embedders.items():
        found = run.runner.embedding(annotator, task)
        one = _One(
            name=name,
            values=found if isinstance(found, Failure) else found[cells.places],
            said=run.ledger.fits.get((annotator.name, context.resolution), Said()),
            card=run.runner.card(annotator),
        )
        rows += _rows(context, cells, one, why=why, before=before)
    return tuple(rows)


def measured(
    embedding: Float[np.ndarray, "cells dims"],
    labels: np.ndarray,
    batches: np.ndarray,
    *,
    seed: int,
    before: float | None = None,
) -> dict[str, float]:
    """Return every metric of `INTEGRATION_METRICS` that can be told of some cells; see `metrics` for their definitions.

    BRAS leaves out cells whose vector is zero: they have no direction. `before` is the variance that batches explain without a
    correction; without it the comparison with it is not told.
    """
    with single_thread():
        nmi, ari = cluster_agreement(embedding, labels, seed=seed % 2**32)
        silhouette = label_silhouette(embedding, labels)
        variance = batch_variance(embedding, batches)
        has_direction = np.linalg.norm(embedding, axis=1) > 0
        told = {
            "nmi": nmi,
            "ari": ari,
            "asw_label": silhouette,
            "avg_bio": None if silhouette is None else (nmi + ari + silhouette) / 3,
            "bras": bras(embedding[has_direction], labels[has_direction], batches[has_direction])[0],
            "cilisi": cilisi(embedding, labels, batches)[0],
            "ilisi": ilisi(embedding, batches),
            "pcr_batch": variance,
            "pcr_comparison": None if before is None else variance_removed(before, variance),
        }
    return {name: value for name, value in told.items() if value is not None}


def _embeds(run: FoldRun, annotator: AnnotatorPlan) -> bool:
    card = run.runner.card(annotator) or CARDS.get(annotator.component)
    return card is not None and EMBEDS in card.capabilities


def _judged_cells(run: FoldRun, task: FitTask, *, level: str) -> _Judged:
    """Choose the labelled cells of both sides, and at most `MOST_CELLS` of them."""
    rows = np.concatenate([task.train_rows, task.query_rows])
    sides = run.data.train_terms[level][task.train_rows], run.data.test_terms[level][task.query_rows]
    labels = np.concatenate(sides).astype(str)
    # Truth on both sides here: what expression decided teaches a model, and judges none (rule R6b).
    labels[decided_by_expression(run.snapshot.cells, run.snapshot.mappings)[rows]] = ""
    places = np.flatnonzero(labels != "")
    notes: tuple[str, ...] = ()
    if len(places) > MOST_CELLS:
        notes = (f"{MOST_CELLS:,} of {len(places):,} labelled cells, drawn by the seed",)
        rng = rng_for(task.seed, "evaluate", "integration", "cells")
        places = np.sort(rng.choice(places, MOST_CELLS, replace=False))
    table = run.snapshot.cells.iloc[rows[places]]
    present = set(table["dataset_id"].tolist())
    notes += tuple(
        f"{n_batches} batches of {name} hold one type each: the data set is its batch here (R12)"
        for name, (n_batches, _) in sorted(run.merged_batches.items())
        if name in present
    )
    batch = table["batch"].where(~table["dataset_id"].isin(sorted(run.merged_batches)), table["dataset_id"])
    return _Judged(
        places=places,
        labels=labels[places],
        batches=(table["dataset_id"] + "|" + batch).to_numpy(dtype=object),
        n_donors=table.loc[table["person_state"] == "resolved", "person_id"].nunique(),
        qualifications=tuple(circular_labels(run.snapshot, rows[places])),
        notes=notes,
    )


def _why_nothing(run: FoldRun, task: FitTask, cells: _Judged) -> tuple[ScoreStatus, str] | None:
    """Say why no metric is told of these cells, or None."""
    n_batches, n_types = len(set(cells.batches.tolist())), len(set(cells.labels.tolist()))
    if n_batches < 2:
        return ScoreStatus.NOT_RUN, "not_applicable: all labelled cells are of one batch"
    if n_types < 2:
        return ScoreStatus.NOT_RUN, "not_applicable: all labelled cells are of one type"
    rows = np.concatenate([task.train_rows, task.query_rows])[cells.places]
    terms = np.full(len(run.snapshot.cells), "", dtype=object)
    terms[rows] = cells.labels
    nested = why_nested(run.snapshot.cells, terms, rows, merged=frozenset(run.merged_batches))
    return (ScoreStatus.REFUSED, nested.replace("training batches", "batches")) if nested else None


def _controls(run: FoldRun, task: FitTask, cells: _Judged) -> dict[str, np.ndarray | Failure]:
    found = run.runner.embedding(_NONE, task)
    rng = rng_for(task.seed, "evaluate", "integration", "controls")
    types = np.unique(cells.labels, return_inverse=True)[1]
    one_hot = np.eye(int(types.max(initial=0)) + 1)[types]
    # Equal vectors have no nearest neighbors: a little noise decides among them, and leaves the types where they are.
    upper = one_hot + rng.normal(0, _JITTER, one_hot.shape)
    if isinstance(found, Failure):
        return {"none": found, "shuffled": found, "cell types": upper}
    plain = found[cells.places]
    return {"none": plain, "shuffled": plain[rng.permutation(len(plain))], "cell types": upper}


def _rows(
    context: RowContext, cells: _Judged, one: _One, *, why: tuple[ScoreStatus, str] | None, before: float | None
) -> list[Score]:
    told: Mapping[str, float] = {}
    if not isinstance(one.values, Failure) and (why is None or why[0] is ScoreStatus.REFUSED):
        told = measured(one.values, cells.labels, cells.batches, seed=context.seed, before=before)
    rows = []
    for metric in INTEGRATION_METRICS:
        status, reason = why or _status(context, cells, one, is_told=metric in told)
        if not reason and status is ScoreStatus.NOT_RUN:
            reason = _why_not_told(metric)
        is_believed = status in {ScoreStatus.SCORED, ScoreStatus.QUALIFIED}
        value = told.get(metric)
        rows.append(
            Score(
                task=TASK,
                study=context.study,
                split=context.split,
                model=one.name,
                protocol=one.card.protocol if one.card is not None else Protocol.CONTROL,
                metric=metric,
                resolution=context.resolution,
                stratum="all",
                value=value if is_believed else None,
                raw_value=None if is_believed else value,
                status=status,
                reason=reason,
                n_cells=len(cells.places),
                n_donors=cells.n_donors,
                gene_policy=context.gene_policy,
                n_genes=context.n_genes,
                fit_on_query=one.card.fit_on_query if one.card is not None else FitOnQuery.NONE,
                notes=(*((f"refusals overridden: {context.override}",) if context.override else ()), *cells.notes),
            )
        )
    return rows


def _why_not_told(metric: str) -> str:
    return f"not_applicable: {_WHY_NOT.get(metric, 'no type has two cells')}"


def _status(context: RowContext, cells: _Judged, one: _One, *, is_told: bool) -> tuple[ScoreStatus, str]:
    if isinstance(one.values, Failure):
        return one.values.status, one.values.reason
    if not is_told:
        return ScoreStatus.NOT_RUN, ""
    found = (*context.refusals, *one.said.refusals)
    refusals = () if context.override else found
    overridden = [f"refusal overridden: {reason}" for reason in found] if context.override else []
    panel = f"panel: {context.n_genes} genes" if context.is_panel else ""
    is_random = one.card is not None and (one.card.determinism == "statistical" or one.card.n_seeds > 1)
    seeds = "single seed" if is_random else ""
    shared = [reason for reason in context.qualifications if reason not in context.circular]
    said = one.said.qualifications
    verdict = judged(refusals, [*overridden, panel, *shared, *cells.qualifications, *said, seeds])
    return verdict.status, verdict.reason
