"""Whether a confidence means what it says, and what is gained by leaving the doubtful cells unanswered.

Confidence is binned in equal widths (15 bins, as in the literature). The binned error is biased upward where cells are few: with
n cells in a bin it cannot fall under about 0.4 / sqrt(n) in the mean, however honest the confidence is. So numbers stand beside their cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from cytolabe.metrics.classification import macro_f1

__all__ = [
    "N_BINS",
    "ReliabilityBin",
    "SelectiveScore",
    "area_under_risk_coverage",
    "class_wise_calibration_error",
    "expected_calibration_error",
    "reliability_bins",
    "risk_coverage",
    "selective_macro_f1",
]

N_BINS = 15


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Cells whose confidence lies in one bin: how many, what they claim on average, and how many of them are right."""

    low: float
    high: float
    n_cells: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class SelectiveScore:
    """Macro-F1 of the most confident cells. `n_classes` of them have a true cell left; `coverage` is what ties made of the wish."""

    coverage: float
    macro_f1: float
    n_cells: int
    n_classes: int


def reliability_bins(
    confidence: Float[np.ndarray, " cells"], is_right: Bool[np.ndarray, " cells"], *, n_bins: int = N_BINS
) -> tuple[ReliabilityBin, ...]:
    """Return the bins that hold a cell, from the lowest confidence to the highest; a bin includes its upper end.

    Raises
    ------
    ValueError
        If a confidence is not in [0, 1].
    """
    _refuse_bad_confidence(confidence)
    place = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    claimed = np.bincount(place, weights=confidence, minlength=n_bins)
    right = np.bincount(place, weights=is_right.astype(np.float64), minlength=n_bins)
    return tuple(
        ReliabilityBin(
            low=k / n_bins,
            high=(k + 1) / n_bins,
            n_cells=int(n[k]),
            confidence=float(claimed[k] / n[k]),
            accuracy=float(right[k] / n[k]),
        )
        for k in np.flatnonzero(n)
    )


def expected_calibration_error(
    confidence: Float[np.ndarray, " cells"], is_right: Bool[np.ndarray, " cells"], *, n_bins: int = N_BINS
) -> float | None:
    """Return the mean distance between claimed and found accuracy over bins, weighted by their cells.

    Compared: confidence and correctness of each cell. Range 0 to 1, lower is better; None without cells. Floor: 0 for
    whoever always claims the overall accuracy. Hides: whether the right cells are told from the wrong ones, and rare
    classes. Source: Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602; Guo et al. 2017, arXiv:1706.04599.
    """
    if not len(confidence):
        return None
    bins = reliability_bins(confidence, is_right, n_bins=n_bins)
    return float(sum(one.n_cells * abs(one.accuracy - one.confidence) for one in bins) / len(confidence))


def class_wise_calibration_error(
    probability: Float[np.ndarray, "cells classes"],
    truth: Shaped[np.ndarray, " cells"],
    *,
    classes: Sequence[str],
    n_bins: int = N_BINS,
) -> dict[str, float]:
    """Return for each class the calibration error of its column: cells with 30 % of B cell should be one in 30 % of cases.

    Compared: the probability of the class, and whether a cell is of it. Range 0 to 1, lower is better. Floor: the
    share of the class, for a column of zeros, so look at the support. Hides: which class took what is missing.
    Source: Kull et al. 2019, arXiv:1910.12656.

    Raises
    ------
    ValueError
        If there is no cell, or not one column per class.
    """
    if probability.shape != (len(truth), len(classes)) or not len(truth):
        msg = f"probabilities of shape {probability.shape} for {len(truth)} cells and {len(classes)} classes"
        raise ValueError(msg)
    found = {}
    for k, name in enumerate(classes):
        error = expected_calibration_error(np.clip(probability[:, k], 0.0, 1.0), truth == name, n_bins=n_bins)
        found[name] = 0.0 if error is None else error
    return found


def risk_coverage(
    confidence: Float[np.ndarray, " cells"], is_right: Bool[np.ndarray, " cells"]
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Return coverage (share of cells answered) and risk (share of these that is wrong), most confident cells first.

    Cells of one confidence are answered together: their order must not matter.

    Raises
    ------
    ValueError
        If there is no cell, or a confidence is not in [0, 1].
    """
    _refuse_bad_confidence(confidence)
    if not len(confidence):
        msg = "No cell to answer: a risk over nothing is not a number."
        raise ValueError(msg)
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    wrong = np.cumsum(~is_right[order])
    last = np.flatnonzero(np.append(sorted_confidence[1:] < sorted_confidence[:-1], True))
    n = last + 1
    return n / len(confidence), wrong[last] / n


def area_under_risk_coverage(confidence: Float[np.ndarray, " cells"], is_right: Bool[np.ndarray, " cells"]) -> float:
    """Return the mean risk over all coverages (AURC), where cells come one by one and ties share their mean.

    Compared: the order of confidences and correctness. Range 0 to 1, lower is better. Floor: the error rate, for a
    confidence that knows nothing. Hides: whether the confidence is calibrated. Source: Geifman & El-Yaniv 2017,
    arXiv:1705.08500.
    """
    coverage, risk = risk_coverage(confidence, is_right)
    n = np.round(coverage * len(confidence)).astype(np.int64)
    wrong = np.round(risk * n)
    total = 0.0
    before_n, before_wrong = 0, 0.0
    for until, until_wrong in zip(n, wrong, strict=True):
        steps = np.arange(1, until - before_n + 1)
        expected = before_wrong + steps * (until_wrong - before_wrong) / (until - before_n)
        total += float(np.sum(expected / (before_n + steps)))
        before_n, before_wrong = int(until), float(until_wrong)
    return total / len(confidence)


def selective_macro_f1(
    truth: Shaped[np.ndarray, " cells"],
    predicted: Shaped[np.ndarray, " cells"],
    confidence: Float[np.ndarray, " cells"],
    *,
    coverages: Sequence[float] = (1.0, 0.95, 0.9, 0.8),
) -> tuple[SelectiveScore, ...]:
    """Return macro-F1 of the most confident cells, at each coverage.

    Compared: true and predicted terms of the cells that are kept. Range 0 to 1, higher is better. Floor: macro-F1 at
    full coverage, for a confidence that knows nothing. Hides: rare classes, all of whose cells may be left out: the
    number of classes that still have a true cell stands beside it. Source: El-Yaniv & Wiener 2010 (JMLR 11), with macro-F1.

    Raises
    ------
    ValueError
        If there is no cell, or a confidence is not in [0, 1].
    """
    _refuse_bad_confidence(confidence)
    found = []
    ordered = np.sort(confidence)[::-1]
    for wish in coverages:
        n_wanted = max(1, int(np.ceil(wish * len(truth) - 1e-9)))
        kept = confidence >= ordered[n_wanted - 1]
        classes = sorted({str(term) for term in truth[kept]})
        found.append(
            SelectiveScore(
                coverage=float(kept.mean()),
                macro_f1=macro_f1(truth[kept], predicted[kept], classes=classes),
                n_cells=int(kept.sum()),
                n_classes=len(classes),
            )
        )
    return tuple(found)


def _refuse_bad_confidence(confidence: np.ndarray) -> None:
    n_bad = int((~((confidence >= 0.0) & (confidence <= 1.0))).sum())
    if n_bad:
        msg = f"{n_bad} of {len(confidence)} confidences are not in [0, 1]."
        raise ValueError(msg)
