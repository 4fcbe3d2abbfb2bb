"""The numbers that stand beside annotated cells: how answers held on cells of units that nothing had seen.

Those over persons are cross-fitted (`decisions.decide_crosswise`); those of a data set or type that was left out are of a model that had not seen it, under
decisions that had. Answers are held to every label: one above the answer decides nothing, so a coarser label can contradict a
fine answer and never confirm it, and precision is rather too low than too high. Classes and probabilities are held to cells whose label stands for one class. Cells of a class that only one fold has are an open set: no model of another fold knew the
class, so they are told apart and are in no number of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass

import numpy as np
import pandas as pd

from cytolabe.errors import RefusedError
from cytolabe.evaluate.decisions import AnswerSpace, Decided, HeldOutCells
from cytolabe.metrics import (
    ReliabilityBin,
    SelectiveScore,
    area_under_risk_coverage,
    class_wise_calibration_error,
    expected_calibration_error,
    f1_per_class,
    reliability_bins,
    risk_coverage,
    selective_macro_f1,
)
from cytolabe.models.calibration import Calibration
from cytolabe.ontology.answers import ANSWER_LEVELS

__all__ = ["CURVE_STEPS", "HeldOutRecord", "held_out_record", "record_document"]

CURVE_STEPS = 100
"""Steps of the risk-coverage curve that are kept."""


@dataclass(frozen=True, kw_only=True)
class HeldOutRecord:
    """What was found on held-out cells.

    `n_known` cells have a label that their model knew; `coverage` is the share of them that got an answer, `precision` the share of the answers that labels find right or
    wrong which is right; `levels` and `units` have both. `n_judged` of the cells have a label that stands for one class; the rest is about them. `ece_raw` is that of the uncalibrated probability of the most probable class, `ece` the calibrated one,
    `ece_answers` that of the confidence of the answers given. `units` has one row per unit, `classes` one per class, `curve` coverage and risk.
    """

    n_cells: int
    n_known: int
    n_judged: int
    n_coarse: int
    n_coarse_contradicted: int
    n_open: int
    open_unknown_fraction: float | None
    coverage: float
    precision: float | None
    ece_raw: float
    ece: float
    ece_answers: float | None
    class_wise_ece: float
    aurc: float
    accuracy: float
    bins_raw: tuple[ReliabilityBin, ...]
    bins: tuple[ReliabilityBin, ...]
    selective: tuple[SelectiveScore, ...]
    curve: tuple[tuple[float, float], ...]
    levels: pd.DataFrame
    units: pd.DataFrame
    classes: pd.DataFrame


def held_out_record(
    held: HeldOutCells, decided: Decided, space: AnswerSpace, *, names: Mapping[str, str]
) -> HeldOutRecord:
    """Measure answers against labels.

    Parameters
    ----------
    held
        Held-out cells.
    decided
        What was answered for them crosswise.
    names
        Term -> readable name.

    Raises
    ------
    RefusedError
        If no cell can be judged.
    """
    known = held.is_known(space.hierarchy)
    judged = known & space.can_judge(held.codes)
    if not judged.any():
        msg = (
            "No held-out cell has a label that stands for one class that its model knew: nothing says how often answers are right. "
            "Each class needs cells of two persons or data sets, and labels at its own level."
        )
        raise RefusedError(msg)
    verdict = np.where(decided.answer >= 0, space.verdict[decided.answer, held.codes], 0)
    truth = space.hierarchy.covers[held.codes].argmax(axis=1)
    is_top_right = decided.top == truth
    raw = Calibration.identity(space.hierarchy.classes).probability(held.scores[judged])
    raw_confidence, is_raw_right = np.clip(raw.max(axis=1), 0.0, 1.0), raw.argmax(axis=1) == truth[judged]
    answered = known & (decided.answer >= 0)
    is_decided = answered & (verdict != 0)
    confidence = decided.top_confidence[judged]
    coarse, open_cells = known & ~space.can_judge(held.codes), ~known
    classes = _class_table(decided, space, truth=truth, judged=judged, names=names)
    kinds = np.array(space.hierarchy.classes)
    return HeldOutRecord(
        n_cells=len(held.codes),
        n_known=int(known.sum()),
        n_judged=int(judged.sum()),
        n_coarse=int(coarse.sum()),
        n_coarse_contradicted=int((verdict[coarse] < 0).sum()),
        n_open=int(open_cells.sum()),
        open_unknown_fraction=float((decided.answer[open_cells] < 0).mean()) if open_cells.any() else None,
        coverage=float(answered.sum() / known.sum()),
        precision=_precision(verdict[answered]),
        ece_raw=_number(expected_calibration_error(raw_confidence, is_raw_right)),
        ece=_number(expected_calibration_error(confidence, is_top_right[judged])),
        ece_answers=expected_calibration_error(decided.confidence[is_decided], verdict[is_decided] > 0),
        class_wise_ece=float(classes["ece"].mean()),
        aurc=area_under_risk_coverage(confidence, is_top_right[judged]),
        accuracy=float(is_top_right[judged].mean()),
        bins_raw=reliability_bins(raw_confidence, is_raw_right),
        bins=reliability_bins(confidence, is_top_right[judged]),
        selective=selective_macro_f1(kinds[truth[judged]], kinds[decided.top[judged]], confidence),
        curve=_curve(confidence, is_top_right[judged]),
        levels=_level_table(decided, space, verdict=verdict, known=known),
        units=_unit_table(held, decided, verdict=verdict, known=known),
        classes=classes,
    )


def record_document(record: HeldOutRecord) -> dict[str, object]:
    """Return the numbers of a record as plain values for JSON; what is not defined is None."""
    found: dict[str, object] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, pd.DataFrame):
            found[field.name] = value.astype(object).where(value.notna(), None).to_dict("records")
        elif isinstance(value, tuple):
            found[field.name] = [
                asdict(one) if is_dataclass(one) and not isinstance(one, type) else list(one) for one in value
            ]
        else:
            found[field.name] = value
    return found


def _precision(verdict: np.ndarray) -> float | None:
    n_right, n_wrong = int((verdict > 0).sum()), int((verdict < 0).sum())
    return n_right / (n_right + n_wrong) if n_right + n_wrong else None


def _number(value: float | None) -> float:
    return 0.0 if value is None else value


def _level_table(decided: Decided, space: AnswerSpace, *, verdict: np.ndarray, known: np.ndarray) -> pd.DataFrame:
    level = np.array([*space.answers.levels, "unknown"], dtype=object)[decided.answer]
    rows = [
        {
            "level": name,
            "n_cells": int((known & (level == name)).sum()),
            "cells_fraction": float((known & (level == name)).sum() / known.sum()),
            "precision": _precision(verdict[known & (level == name)]) if name != "unknown" else None,
        }
        for name in (*ANSWER_LEVELS, "unknown")
    ]
    return pd.DataFrame(rows)


def _unit_table(held: HeldOutCells, decided: Decided, *, verdict: np.ndarray, known: np.ndarray) -> pd.DataFrame:
    rows = []
    for unit in sorted(set(held.units[known].tolist())):
        own = known & (held.units == unit)
        rows.append({
            "n_cells": int(own.sum()),
            "coverage": float((decided.answer[own] >= 0).mean()),
            "precision": _precision(verdict[own & (decided.answer >= 0)]),
        })  # fmt: skip
    # Units are persons: their rows are told, their names are not.
    return pd.DataFrame(rows).sort_values(["n_cells", "coverage"], ascending=False, ignore_index=True)


def _class_table(
    decided: Decided, space: AnswerSpace, *, truth: np.ndarray, judged: np.ndarray, names: Mapping[str, str]
) -> pd.DataFrame:
    places = space.answers.of_class
    order = np.array(space.hierarchy.classes)
    scored = sorted(set(truth[judged].tolist()))
    errors = class_wise_calibration_error(
        decided.probability[judged], order[truth[judged]], classes=space.hierarchy.classes
    )
    f1 = f1_per_class(order[truth[judged]], order[decided.top[judged]], classes=[order[k] for k in scored])
    rows = []
    for k in scored:
        own, term = judged & (truth == k), space.answers.terms[places[k]]
        answered = judged & (decided.answer == places[k])
        rows.append({
            "term": term,
            "name": names.get(term, term),
            "n_cells": int(own.sum()),
            "f1": f1[order[k]],
            "ece": errors[order[k]],
            "n_answered": int(answered.sum()),
            "precision": float((truth[answered] == k).mean()) if answered.any() else None,
            "confidence": float(decided.confidence[answered].mean()) if answered.any() else None,
            "answered_fraction": float((decided.answer[own] == places[k]).mean()),
            "unknown_fraction": float((decided.answer[own] < 0).mean()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _curve(confidence: np.ndarray, is_right: np.ndarray) -> tuple[tuple[float, float], ...]:
    coverage, risk = risk_coverage(confidence, is_right)
    kept: Sequence[int] = np.unique(np.linspace(0, len(coverage) - 1, CURVE_STEPS).round().astype(int)).tolist()
    return tuple((float(coverage[place]), float(risk[place])) for place in kept)
