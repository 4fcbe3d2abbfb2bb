"""What a score stands between: its floor, its ceiling, and how much it depends on who else is in the query.

* Floor: the best of `majority` and `metadata_only` for the same metric, stratum, level and genes.
* Ceiling (rule R14): the same model trained inside the test side, by person, in `N_CEILING_FOLDS` folds of whole
  persons; by cell where there is one person or persons are unknown, and then stamped leaky. Where the contrast is not
  estimable inside the test side (rule R12) there is no ceiling, and the note says why. Models with several seeds use
  the first.
* Sensitivity (rule R13): a model that fits on the query is fitted again without the most frequent type of the query;
  macro-F1 over the remaining types before and after.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Integer, Shaped

from cytolabe.audit.claims import cell_type_claim
from cytolabe.evaluate.fitting import Answer, Failure, FitTask, ModelRunner, combined
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.metrics.classification import macro_f1
from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN, ScoreStatus

__all__ = ["N_CEILING_FOLDS", "Ceiling", "Headline", "answer_of", "ceiling_of", "inner_folds", "sensitivity_of"]

N_CEILING_FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Terms that the model gives when it was trained inside the test side; None where there is no ceiling."""

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    terms: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The headline as it was: the label of each query cell (empty where it does not count), classes, and the answer."""

    truth: np.ndarray
    classes: tuple[str, ...]
    answer: Answer


def answer_of(
    runner: ModelRunner, annotator: AnnotatorPlan, tasks: dict[str, FitTask], *, terms: np.ndarray, rows: np.ndarray
) -> Answer | Failure:
    """Fit an annotator for every task and combine the answers over `rows`; one failure fails all."""
    answers: dict[str, tuple[np.ndarray, Answer]] = {}
    failures: list[Failure] = []
    for name, task in tasks.items():
        if not (terms[task.train_rows] != "").any():
            continue
        answer = runner.annotate(annotator, task, terms)
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            answers[name] = (task.query_rows, answer)
    if failures:
        return failures[0]
    covered = {int(row) for task_rows, _ in answers.values() for row in task_rows}
    if not covered >= {int(row) for row in rows}:
        return Failure(status=ScoreStatus.REFUSED, reason="no training label at this level")
    if len(answers) == 1:
        return next(iter(answers.values()))[1]
    return combined(answers, rows)


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


def ceiling_of(
    runner: ModelRunner,
    annotator: AnnotatorPlan,
    tasks: dict[str, FitTask],
    *,
    cells: pd.DataFrame,
    terms: Shaped[np.ndarray, " cells"],
) -> Ceiling:
    """Train an annotator inside the test side and return its terms for the rows of the tasks.

    Parameters
    ----------
    tasks
        By group of test cells: the cells to divide (`query_rows`) and the genes.
    terms
        Test labels at the level, one per cell of the snapshot, of the closed set only.
    """
    if not annotator.probe:
        return Ceiling(note="no ceiling: this model cannot be trained inside the test side")
    rows, predicted, stamps = [], [], []
    for name in sorted(tasks):
        found = _ceiling_inside(runner, annotator, tasks[name], cells=cells, terms=terms)
        if found.terms is None:
            return found
        rows.append(found.rows)
        predicted.append(found.terms)
        stamps.append(found.note)
    if not rows:
        return Ceiling(note="no ceiling: nothing to train inside the test side")
    note = "; ".join(dict.fromkeys(stamp for stamp in stamps if stamp))
    return Ceiling(rows=np.concatenate(rows), terms=np.concatenate(predicted), note=note)


def _ceiling_inside(
    runner: ModelRunner, annotator: AnnotatorPlan, task: FitTask, *, cells: pd.DataFrame, terms: np.ndarray
) -> Ceiling:
    # Folds are made of all query cells, whatever the level: the embeddings are then shared by the resolutions.
    rows = task.query_rows
    is_labelled = terms[rows] != ""
    if is_labelled.sum() < 2 * N_CEILING_FOLDS:
        return Ceiling(note=f"no ceiling: {int(is_labelled.sum())} labelled cells inside the test side")
    fold_of_row, stamp = inner_folds(cells, rows, seed=task.seed)
    predicted = np.full(len(rows), "", dtype=object)
    for inner in range(int(fold_of_row.max()) + 1):
        held_out = fold_of_row == inner
        train_rows, test_rows = rows[~held_out & is_labelled], rows[held_out & is_labelled]
        if not len(train_rows) or not len(test_rows):
            return Ceiling(note="no ceiling: an inner fold has a side without labels")
        claim = cell_type_claim(cells, terms, train_rows=train_rows, test_rows=test_rows)
        if claim.status is ScoreStatus.REFUSED:
            return Ceiling(note=f"no ceiling: inside the test side {claim.reason}")
        inside = dataclasses.replace(task, train_rows=rows[~held_out], query_rows=rows[held_out])
        answer = runner.annotate(annotator, inside, terms)
        if isinstance(answer, Failure):
            return Ceiling(note=f"no ceiling: {answer.reason}")
        predicted[held_out] = answer.terms
    return Ceiling(rows=rows[is_labelled], terms=predicted[is_labelled], note=stamp)


def sensitivity_of(
    runner: ModelRunner,
    annotator: AnnotatorPlan,
    tasks: dict[str, FitTask],
    *,
    terms: Shaped[np.ndarray, " cells"],
    headline: Headline,
) -> tuple[dict[str, float], str]:
    """Fit again without the most frequent type of the query; return macro-F1 before and after, and a note.

    Parameters
    ----------
    tasks
        The one fit of the policy.
    terms
        Training labels, one per cell of the snapshot.
    headline
        What the whole query gave.
    """
    truth = headline.truth
    (task,) = tasks.values()
    names, counts = np.unique(truth[truth != ""].astype(str), return_counts=True)
    if not len(names):
        return {}, ""
    removed = str(names[counts.argmax()])
    classes = [name for name in headline.classes if name != removed]
    keep = truth != removed
    scored = keep & np.isin(truth.astype(str), classes)
    if not classes or not scored.any():
        return {}, f"sensitivity not measured: without {removed} no headline class is left"
    reduced = dataclasses.replace(task, query_rows=task.query_rows[keep])
    answer = runner.annotate(annotator, reduced, terms)
    if isinstance(answer, Failure):
        return {}, f"sensitivity not measured: {answer.reason}"
    known = truth[scored]
    value_before = macro_f1(known, headline.answer.terms[scored], classes=classes)
    value_after = macro_f1(known, answer.terms[scored[keep]], classes=classes)
    values = {"before": value_before, "after": value_after, "difference": value_after - value_before}
    return values, f"sensitivity: query without its most frequent type {removed}"
