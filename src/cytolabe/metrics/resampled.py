"""How far scores of answers would move with other units of the same kind, where a unit is not a donor (a gene, a group of genes).

The same resamples serve every model that answered the same units, so that a difference between two is paired.
"""

import numpy as np
from jaxtyping import Bool, Float, Integer

from cytolabe.metrics.classification import confusion_macro_f1
from cytolabe.metrics.intervals import MIN_DONORS_BOOTSTRAP, N_BOOTSTRAP, Interval

__all__ = ["percentile_interval", "resampled_auroc", "resampled_macro_f1", "unit_resamples"]

_LEVEL = 0.95


def unit_resamples(units: np.ndarray, *, rng: np.random.Generator) -> Integer[np.ndarray, "resamples answers"] | None:
    """Return how often each answer counts in each of 2,000 resamples of whole units; None under 20 units.

    Parameters
    ----------
    units
        Unit of each answer; answers of one unit are drawn together.
    """
    names, codes = np.unique(units.astype(str), return_inverse=True)
    if len(names) < MIN_DONORS_BOOTSTRAP:
        return None
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=N_BOOTSTRAP)
    return drawn.astype(np.int32)[:, codes]


def resampled_macro_f1(
    truth: Integer[np.ndarray, " answers"],
    predicted: Integer[np.ndarray, " answers"],
    *,
    n_classes: int,
    times: Integer[np.ndarray, "resamples answers"],
) -> Float[np.ndarray, " resamples"]:
    """Return the macro-F1 of each resample.

    Compared, range, floor and source: as `confusion_macro_f1`. Hides: that the models were not fitted anew.
    """
    cells = np.zeros((len(truth), n_classes * n_classes))
    cells[np.arange(len(truth)), truth * n_classes + predicted] = 1
    return confusion_macro_f1((times @ cells).reshape(-1, n_classes, n_classes), range(n_classes))


def resampled_auroc(
    positive: Bool[np.ndarray, " answers"],
    score: Float[np.ndarray, " answers"],
    *,
    times: Integer[np.ndarray, "resamples answers"],
) -> Float[np.ndarray, " resamples"]:
    """Return the area under the ROC curve of each resample; ties count half, NaN where a resample lacks a side.

    Compared: scores of positives and of the others. Range 0 to 1, higher is better. Floor: 0.5. Hides: as
    `resampled_macro_f1`. Source: Fawcett 2006, doi:10.1016/j.patrec.2005.10.010, with weights.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)
    of_positive, of_others = (
        np.add.reduceat(times[:, order] * side[order].astype(np.int64), starts, axis=1).astype(np.float64)
        for side in (positive, ~positive)
    )
    below = of_others.cumsum(axis=1) - of_others / 2
    with np.errstate(invalid="ignore"):
        area: np.ndarray = (of_positive * below).sum(axis=1) / (of_positive.sum(axis=1) * of_others.sum(axis=1))
    return area


def percentile_interval(values: Float[np.ndarray, " resamples"], *, method: str, population: str) -> Interval | None:
    """Return the 95 % percentile interval; None where fewer than half of the resamples have a value."""
    defined = values[~np.isnan(values)]
    if len(defined) < len(values) / 2:
        return None
    low, high = np.quantile(defined, [0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2])
    return Interval(low=float(low), high=float(high), method=method, population=population)
