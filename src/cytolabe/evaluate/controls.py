"""What a score stands between: its floor, its ceiling, and how much it depends on who else is in the query.

* Floor: the best of `majority` and `metadata_only` for the same metric, stratum, level and genes.
* Ceiling (rule R14): the same model trained inside the test side, by person, in `N_CEILING_FOLDS` folds of whole
  persons; by cell where there is one person or persons are unknown, and then stamped leaky. Where the contrast is not
  estimable inside the test side (rule R12) there is no ceiling, and the note says why. Models with several seeds use
  the first. It is the ceiling of *that much* training: inside a small study a model may learn less than from many
  others, and then stands above it. So the note says on how many cells and persons it was trained.
* Sensitivity (rule R13): a model that fits on the query is fitted again without the most frequent type of the query;
  macro-F1 over the remaining types before and after.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Integer, Shaped

from cytolabe.audit.claims import cell_type_claim
from cytolabe.evaluate.fitting import Answer, Failure, FitTask, ModelRunner, combined
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.metrics.classification import macro_f1
from cytolabe.models.protocols import NOT_CONVERGED
from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN, ScoreStatus
from cytolabe.split.status import brief

__all__ = [
    "N_CEILING_FOLDS",
    "Ceiling",
    "CeilingPlan",
    "Headline",
    "answer_of",
    "ceiling_of",
    "ceiling_plan",
    "inner_folds",
    "sensitivity_of",
]

N_CEILING_FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class CeilingPlan:
    """The inner folds of one level, the same for every model: fits inside the test side.

    `terms` holds the label of each cell of the snapshot, of the closed set only; `stamp` says what is leaky;
    `trained_on` says how much a ceiling learns from; `why_none` why there is no ceiling.
    """

    terms: np.ndarray
    fits: tuple[FitTask, ...] = ()
    stamp: str = ""
    trained_on: str = ""
    why_none: str = ""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Terms that the model gives when it was trained inside the test side; None where there is no ceiling.

    `rows` ascend. `note` stands beside every row with a ceiling, `trained_on` beside the headline.
    """

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    terms: np.ndarray | None = None
    note: str = ""
    trained_on: str = ""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The headline as it was: the label of each query cell (empty where it does not count), classes, and the answer.

    `rows` are the query cells, `names` the readable names of terms.
    """

    truth: np.ndarray
    rows: np.ndarray
    classes: tuple[str, ...]
    answer: Answer
    names: Mapping[str, str]


def answer_of(
    runner: ModelRunner, annotator: AnnotatorPlan, tasks: dict[str, FitTask], *, terms: np.ndarray, rows: np.ndarray
) -> Answer | Failure:
    """Fit an annotator for every task and combine the answers over `rows`; one failure fails all."""
    reachable = np.isin(rows, _all_rows([task.query_rows for task in tasks.values()]))
    if not reachable.all():
        n_apart = int((~reachable).sum())
        reason = f"{n_apart} of {len(rows)} query cells share no gene with a labelled training data set"
        return Failure(status=ScoreStatus.REFUSED, reason=reason)
    labelled = {name: task for name, task in tasks.items() if (terms[task.train_rows] != "").any()}
    if not np.isin(rows, _all_rows([task.query_rows for task in labelled.values()])).all():
        return Failure(status=ScoreStatus.REFUSED, reason="no training label at this level")
    answers: dict[str, tuple[np.ndarray, Answer]] = {}
    failures: list[Failure] = []
    for name, task in labelled.items():
        answer = runner.annotate(annotator, task, terms)
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            answers[name] = (task.query_rows, answer)
    if failures:
        return failures[0]
    if len(answers) == 1:
        return next(iter(answers.values()))[1]
    return combined(answers, rows)


def _all_rows(pieces: Sequence[np.ndarray]) -> Integer[np.ndarray, " rows"]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])


def inner_folds(
    cells: pd.DataFrame, rows: Integer[np.ndarray, " rows"], *, seed: int
) -> tuple[Integer[np.ndarray, " rows"], str]:
    """Assign each row to one of the inner folds; the second value is the stamp, empty if persons are apart.

    Whole persons, largest first, each to the fold with fewest cells.
    """
    part = cells.iloc[rows]
    persons = part["person_id"].to_numpy(dtype=object)
    is_known = bool(((persons != UNKNOWN) & (part["person_state"] == "resolved").to_numpy()).all())
    sizes = pd.Series(persons, dtype=object).value_counts()
    if not is_known or len(sizes) < 2:
        order = rng_for(seed, "evaluate", "ceiling").permutation(len(rows))
        fold_of_row = np.empty(len(rows), dtype=np.int64)
        fold_of_row[order] = np.arange(len(rows)) % N_CEILING_FOLDS
        return fold_of_row, "ceiling leaky: by cell, " + ("one person" if is_known else "persons unknown")
    load = [0] * min(N_CEILING_FOLDS, len(sizes))
    fold_of: dict[str, int] = {}
    for name in sorted(sizes.index, key=lambda one: (-int(sizes[one]), str(one))):
        fold_of[str(name)] = load.index(min(load))
        load[fold_of[str(name)]] += int(sizes[name])
    return np.array([fold_of[str(name)] for name in persons], dtype=np.int64), ""


def ceiling_plan(
    tasks: Mapping[str, FitTask], *, cells: pd.DataFrame, terms: Shaped[np.ndarray, " cells"]
) -> CeilingPlan:
    """Divide the test side of a level into inner folds, or say why that is not possible.

    Parameters
    ----------
    tasks
        By group of test cells: the cells to divide (`query_rows`) and the genes.
    terms
        Test labels at the level, one per cell of the snapshot, of the closed set only.
    """
    fits: list[FitTask] = []
    stamps: list[str] = []
    for name in sorted(tasks):
        found, stamp, why_none = _inner_fits(tasks[name], cells=cells, terms=terms)
        if why_none:
            return CeilingPlan(terms=terms, why_none=f"no ceiling: {why_none}")
        fits += found
        stamps.append(stamp)
    if not fits:
        return CeilingPlan(terms=terms, why_none="no ceiling: nothing to train inside the test side")
    return CeilingPlan(
        terms=terms,
        fits=tuple(fits),
        stamp="; ".join(dict.fromkeys(stamp for stamp in stamps if stamp)),
        trained_on=_trained_on(fits, cells=cells, terms=terms),
    )


def _inner_fits(task: FitTask, *, cells: pd.DataFrame, terms: np.ndarray) -> tuple[list[FitTask], str, str]:
    """Return the inner fits of one group of test cells, their stamp, and why there are none."""
    # Folds are made of all query cells, whatever the level: the embeddings are then shared by the resolutions.
    rows = task.query_rows
    is_labelled = terms[rows] != ""
    if is_labelled.sum() < 2 * N_CEILING_FOLDS:
        return [], "", f"{int(is_labelled.sum())} labelled cells inside the test side"
    fold_of_row, stamp = inner_folds(cells, rows, seed=task.seed)
    fits = []
    for inner in range(int(fold_of_row.max()) + 1):
        held_out = fold_of_row == inner
        train_rows, test_rows = rows[~held_out & is_labelled], rows[held_out & is_labelled]
        if not len(train_rows) or not len(test_rows):
            return [], "", "an inner fold has a side without labels"
        claim = cell_type_claim(cells, terms, train_rows=train_rows, test_rows=test_rows)
        if claim.status is ScoreStatus.REFUSED:
            return [], "", f"inside the test side {brief(claim.reason)}"
        fits.append(dataclasses.replace(task, train_rows=rows[~held_out], query_rows=rows[held_out]))
    return fits, stamp, ""


def _trained_on(fits: Sequence[FitTask], *, cells: pd.DataFrame, terms: np.ndarray) -> str:
    labelled = [fit.train_rows[terms[fit.train_rows] != ""] for fit in fits]
    persons = cells["person_id"].to_numpy(dtype=object)
    told = f"{_range([len(rows) for rows in labelled])} labelled cells"
    known = [set(persons[rows].tolist()) for rows in labelled]
    if not any(UNKNOWN in names for names in known):
        told += f" of {_range([len(names) for names in known])} person(s)"
    return told


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def ceiling_of(runner: ModelRunner, annotator: AnnotatorPlan, plan: CeilingPlan) -> Ceiling:
    """Train an annotator inside the test side and return its terms for the labelled cells of the inner folds."""
    if not annotator.probe:
        return Ceiling(note="no ceiling: this model cannot be trained inside the test side")
    if plan.why_none:
        return Ceiling(note=plan.why_none)
    rows, predicted, notes = [], [], [plan.stamp]
    for fit in plan.fits:
        answer = runner.annotate(annotator, fit, plan.terms)
        if isinstance(answer, Failure):
            return Ceiling(note=f"no ceiling: {answer.reason}")
        is_labelled = plan.terms[fit.query_rows] != ""
        rows.append(fit.query_rows[is_labelled])
        predicted.append(answer.terms[is_labelled])
        notes += [f"ceiling {note}" for note in answer.notes if note.startswith(NOT_CONVERGED)]
    order = np.argsort(np.concatenate(rows), kind="stable")
    return Ceiling(
        rows=np.concatenate(rows)[order],
        terms=np.concatenate(predicted)[order],
        note="; ".join(dict.fromkeys(note for note in notes if note)),
        trained_on=plan.trained_on,
    )


def sensitivity_of(
    runner: ModelRunner,
    annotator: AnnotatorPlan,
    tasks: Mapping[str, FitTask],
    *,
    terms: Shaped[np.ndarray, " cells"],
    headline: Headline,
) -> tuple[dict[str, float], str]:
    """Fit again without the most frequent type of the query; return macro-F1 before and after, and a note.

    Parameters
    ----------
    tasks
        The fits of the policy.
    terms
        Training labels, one per cell of the snapshot.
    headline
        What the whole query gave.
    """
    truth = headline.truth
    names, counts = np.unique(truth[truth != ""].astype(str), return_counts=True)
    if not len(names):
        return {}, ""
    removed = str(names[counts.argmax()])
    told = f"{removed} ({headline.names.get(removed, removed)})"
    classes = [name for name in headline.classes if name != removed]
    keep = truth != removed
    scored = keep & np.isin(truth.astype(str), classes)
    if not classes or not scored.any():
        return {}, f"sensitivity not measured: without {told} no headline class is left"
    reduced = {
        name: dataclasses.replace(
            task, query_rows=task.query_rows[np.isin(task.query_rows, headline.rows[keep])], purpose="sensitivity"
        )
        for name, task in tasks.items()
    }
    reduced = {name: task for name, task in reduced.items() if len(task.query_rows)}
    answer = answer_of(runner, annotator, reduced, terms=terms, rows=headline.rows[keep])
    if isinstance(answer, Failure):
        return {}, f"sensitivity not measured: {answer.reason}"
    known = truth[scored]
    value_before = macro_f1(known, headline.answer.terms[scored], classes=classes)
    value_after = macro_f1(known, answer.terms[scored[keep]], classes=classes)
    values = {"before": value_before, "after": value_after, "difference": value_after - value_before}
    return values, f"sensitivity: query without its most frequent type {told}"
