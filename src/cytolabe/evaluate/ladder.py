"""The ladder: by how much a score falls when ever more of what a model could remember is held out.

Every rung answers for the same cells with the same models: random cells, then persons, then batches and data sets held
out as well. Rungs are compared two by two on the cells that both of them scored, with one set of classes, so that a gap
is never a difference of test sets; nor is it one of classes: a cell whose class a rung had not in training is left out of the pair. The gap is an inflation: the part of a random split's score that it owes to
persons, batches or data sets which it had seen, or to knowing what came later.

Intervals resample whole units (persons, or data sets where persons are unknown) with the cells of both rungs
together; rule R15 decides which kind, and under six units there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.evaluate.labels import level_labels
from cytolabe.evaluate.results import ALL_FOLDS, StudyResult
from cytolabe.metrics.classification import (
    confusion_accuracy,
    confusion_balanced_accuracy,
    confusion_counts,
    confusion_macro_f1,
)
from cytolabe.metrics.intervals import Statistic, donor_intervals
from cytolabe.ontology.resolutions import Resolutions
from cytolabe.randomness import rng_for
from cytolabe.records import ScoreStatus
from cytolabe.snapshot.view import SnapshotView
from cytolabe.split.keys import is_person_resolved

__all__ = ["LADDER_COLUMNS", "Rung", "inflation"]

LADDER_COLUMNS = (
    "model", "metric", "rung", "value_random", "value", "inflation", "low", "high", "method", "n_cells", "n_units",
    "unit", "status",
)  # fmt: skip
_LEAST_CELLS = 10
"""Classes with fewer cells in common are not averaged (rule R5)."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step: what is held out, the folds, and what came of it; `why_not` where it could not be run.

    `told` is what must be known of a rung that ran: after which day its test cells are, say.
    """

    name: str
    by: tuple[str, ...]
    n_groups: int
    n_folds: int = 0
    result: StudyResult | None = None
    refused: Mapping[str, str] | None = None
    why_not: str = ""
    told: str = ""


def inflation(
    rungs: Sequence[Rung], snapshot: SnapshotView, *, resolutions: Resolutions, level: str, gene_policy: str, seed: int
) -> pd.DataFrame:
    """Compare every rung with the first one; one row per model, metric and rung with `LADDER_COLUMNS`.

    Parameters
    ----------
    rungs
        The ladder; the first is the random one.
    snapshot
        The cells.
    resolutions, level, gene_policy
        Which labels are true, and which predictions are looked at.
    seed
        Of the resamples.
    """
    truth = _truth(snapshot, resolutions, level)
    ran = [rung for rung in rungs if rung.result is not None]
    if not ran:
        return pd.DataFrame(columns=list(LADDER_COLUMNS))
    answers = {rung.name: _answers(rung, truth, level=level, gene_policy=gene_policy) for rung in ran}
    models = sorted(set(answers[ran[0].name]["model"]))
    rows: list[dict[str, object]] = []
    for model in models:
        base = _of_model(answers[ran[0].name], model)
        for rung in ran[1:]:
            both = pd.concat([base, _of_model(answers[rung.name], model)], axis=1, join="inner", keys=["base", "rung"])
            paired = both.join(truth, how="inner")
            status = _status(rung, model, level=level, gene_policy=gene_policy)
            rows += _rows(paired, model=model, rung=rung, status=status, seed=seed)
    return pd.DataFrame(rows, columns=list(LADDER_COLUMNS))


def _truth(snapshot: SnapshotView, resolutions: Resolutions, level: str) -> pd.DataFrame:
    """Return term and unit of each labelled cell, by cell id."""
    cells = snapshot.cells
    terms = level_labels(cells, resolutions, level).terms
    is_person = is_person_resolved(cells)
    frame = pd.DataFrame(
        {"truth": terms, "person": cells["person_id"].where(is_person, ""), "dataset": cells["dataset_id"]}
    )
    frame.index = pd.Index(cells["cell_id"])
    return frame[frame["truth"] != ""]


def _answers(rung: Rung, truth: pd.DataFrame, *, level: str, gene_policy: str) -> pd.DataFrame:
    """Return the predictions of the folds that were not refused as splits, where training knew the class (rule R5)."""
    if rung.result is None:
        return pd.DataFrame()
    table, new = rung.result.predictions, rung.result.open_set
    unknown = set(new.loc[new["level"] == level, ["split", "term"]].itertuples(index=False, name=None))
    chosen = (table["resolution"] == level) & (table["gene_policy"] == gene_policy)
    table = table[chosen & ~table["split"].isin(list(rung.refused or {}))]
    terms = truth["truth"].reindex(table["cell_id"]).to_numpy(dtype=object)
    known = [pair not in unknown for pair in zip(table["split"], terms, strict=True)]
    return table[np.array(known, dtype=bool)]


def _of_model(answers: pd.DataFrame, model: str) -> pd.Series:
    own = answers[answers["model"] == model]
    return pd.Series(own["term"].to_numpy(dtype=object), index=pd.Index(own["cell_id"]), name="term")


def _rows(paired: pd.DataFrame, *, model: str, rung: Rung, status: str, seed: int) -> list[dict[str, object]]:
    """Return one row per metric: both values on the cells in common, their gap, and how far it would move."""
    sizes = paired["truth"].value_counts()
    scored = tuple(sorted(str(term) for term, n in sizes.items() if n >= _LEAST_CELLS))
    known = {"model": model, "rung": rung.name, "n_cells": len(paired), "status": status}
    if not scored:
        why = f"{len(paired)} cells in common, and no class with {_LEAST_CELLS} of them"
        return [{**known, "metric": "macro_f1", "method": why, "n_units": 0, "unit": "", "status": "NOT_RUN"}]
    unit = "person" if (paired["person"] != "").all() else "dataset"
    units = sorted(set(paired[unit].tolist()))
    classes = tuple(sorted({*paired["truth"], *paired["base"], *paired["rung"]}))
    counts = np.stack([_pair_of_counts(paired[paired[unit] == one], classes) for one in units])
    statistics = _statistics([classes.index(term) for term in scored])
    # Intervals are cut to [0, 1]; a gap between -1 and 1 goes there and back.
    halves: dict[str, Statistic] = {name: _halved(take) for name, take in statistics.items()}
    rng = rng_for(seed, "ladder", model, rung.name)
    intervals = donor_intervals(counts, halves, donors=units, rng=rng, population=f"{unit}s of this study, not labs")
    total = counts.sum(axis=0)
    rows: list[dict[str, object]] = []
    for name, take in statistics.items():
        before, after = float(take(total[None, 0])[0]), float(take(total[None, 1])[0])
        found = intervals[name].interval
        rows.append({
            **known, "metric": name, "value_random": before, "value": after, "inflation": before - after,
            "low": None if found is None else 2 * found.low - 1, "high": None if found is None else 2 * found.high - 1,
            "method": f"none: {len(units)} {unit}(s)" if found is None else found.method, "n_units": len(units),
            "unit": unit,
        })  # fmt: skip
    return rows


def _pair_of_counts(cells: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    truth = cells["truth"].to_numpy(dtype=object)
    return np.stack([confusion_counts(truth, cells[side].to_numpy(dtype=object), classes) for side in ("base", "rung")])


def _statistics(scored: Sequence[int]) -> dict[str, Statistic]:
    return {
        "macro_f1": lambda counts: confusion_macro_f1(counts, scored),
        "accuracy": confusion_accuracy,
        "balanced_accuracy": lambda counts: confusion_balanced_accuracy(counts, scored),
    }


def _halved(take: Statistic) -> Statistic:
    return lambda counts: (take(counts[:, 0]) - take(counts[:, 1]) + 1) / 2


def _status(rung: Rung, model: str, *, level: str, gene_policy: str) -> str:
    """Return the worst status of the model's headline in any fold that the split did not refuse."""
    scores = rung.result.scores if rung.result is not None else ()
    found = {
        score.status
        for score in scores
        if (score.model, score.metric, score.stratum) == (model, "macro_f1", "all")
        if (score.resolution, score.gene_policy) == (level, gene_policy)
        if score.split != ALL_FOLDS and score.split not in (rung.refused or {})
    }
    for status in (ScoreStatus.REFUSED, ScoreStatus.QUALIFIED):
        if status in found:
            return str(status.value)
    return "SCORED" if found else "NOT_RUN"
