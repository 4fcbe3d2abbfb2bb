"""How far a score would move with other donors (rule R15). The unit is the donor, never the cell.

By the number of donors n: under 6 no interval, but the value of each donor; 6 to 19 the jackknife with Student's t on
n - 1 degrees of freedom (Miller 1974, doi:10.1093/biomet/61.1.1); from 20 on the percentile bootstrap over donors
with B = 2,000 resamples (Davison & Hinkley 1997, chapter 2). Everything is computed from one tensor of counts per
donor, so a resample of donors is a row of weights, and B resamples are one matrix product.

The set of classes is fixed before resampling. A class that no donor of a resample has is left out of that resample's
mean (see `classification.confusion_macro_f1`). Bounds are cut to the range of the metric; values never are.
The population is always named: donors of the studies at hand say nothing about other labs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Integer
from scipy.stats import t as student_t

__all__ = [
    "MIN_DONORS_BOOTSTRAP",
    "MIN_DONORS_INTERVAL",
    "N_BOOTSTRAP",
    "DonorInterval",
    "Interval",
    "Statistic",
    "donor_interval",
    "donor_intervals",
]

MIN_DONORS_INTERVAL = 6
MIN_DONORS_BOOTSTRAP = 20
N_BOOTSTRAP = 2000
_LEVEL = 0.95
_CHUNK_ENTRIES = 1 << 22

Statistic = Callable[[np.ndarray], np.ndarray]
"""Takes summed counts with one leading axis (resamples), returns one value per resample; NaN where undefined."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % interval; `method` says how it was made, `population` of whom it speaks."""

    low: float
    high: float
    method: str
    population: str


@dataclass(frozen=True, kw_only=True)
class DonorInterval:
    """An interval, or the value of each donor where donors are too few for one."""

    interval: Interval | None = None
    points: Mapping[str, float] = field(default_factory=dict)


def donor_interval(
    counts: Integer[np.ndarray, "donors ..."],
    statistic: Statistic,
    *,
    donors: Sequence[str],
    rng: np.random.Generator,
    population: str = "donors of this study, not labs",
) -> DonorInterval:
    """Return the interval of one statistic over donors; see `donor_intervals`."""
    return donor_intervals(counts, {"": statistic}, donors=donors, rng=rng, population=population)[""]


def donor_intervals(
    counts: Integer[np.ndarray, "donors ..."],
    statistics: Mapping[str, Statistic],
    *,
    donors: Sequence[str],
    rng: np.random.Generator,
    population: str = "donors of this study, not labs",
) -> dict[str, DonorInterval]:
    """Return the interval of each statistic, all from the same resamples of donors.

    Compared: the statistic of the donors at hand with that of other draws of donors. Range: that of the statistic,
    [0, 1]. Hides: labs, protocols, and any dependence between donors. Source: module docstring.

    Parameters
    ----------
    counts
        What each donor adds to the sum that a statistic is computed from, for example one confusion matrix each.
    statistics
        By name; each takes summed counts with one leading axis.
    donors
        Names, in the order of the first axis.
    rng
        Draws the resamples of the bootstrap; the jackknife draws nothing.
    population
        Of whom the interval speaks.

    Raises
    ------
    ValueError
        If a donor has no name of its own.
    """
    n_donors = counts.shape[0]
    if len(set(donors)) != n_donors:
        msg = f"{n_donors} rows of counts for {len(set(donors))} different donors: rows of one donor must be summed."
        raise ValueError(msg)
    if n_donors < MIN_DONORS_INTERVAL:
        return {name: DonorInterval(points=_points(counts, take, donors)) for name, take in statistics.items()}
    if n_donors < MIN_DONORS_BOOTSTRAP:
        found = {name: _jackknife_t(counts, take) for name, take in statistics.items()}
        method = f"jackknife-t over {n_donors} donors"
    else:
        found = _bootstrap(counts, statistics, rng=rng)
        method = f"bootstrap over {n_donors} donors, {N_BOOTSTRAP} resamples"
    return {name: _interval(bounds, method, population) for name, bounds in found.items()}


def _interval(bounds: tuple[float, float] | None, method: str, population: str) -> DonorInterval:
    if bounds is None:
        return DonorInterval()
    low, high = (min(max(bound, 0.0), 1.0) for bound in bounds)
    return DonorInterval(interval=Interval(low=low, high=high, method=method, population=population))


def _points(counts: np.ndarray, statistic: Statistic, donors: Sequence[str]) -> dict[str, float]:
    """Return the value of each donor for which it is defined, by donor name in sorted order."""
    values = statistic(counts)
    found = {str(name): float(value) for name, value in zip(donors, values, strict=True) if not np.isnan(value)}
    return dict(sorted(found.items()))


def _jackknife_t(counts: np.ndarray, statistic: Statistic) -> tuple[float, float] | None:
    """Leave out one donor at a time; None where the statistic is undefined without some donor."""
    total = counts.sum(axis=0)
    value = float(statistic(total[None])[0])
    without = statistic(total[None] - counts)
    if np.isnan(value) or np.isnan(without).any():
        return None
    n_donors = counts.shape[0]
    variance = (n_donors - 1) / n_donors * float(((without - without.mean()) ** 2).sum())
    reach = float(student_t.ppf(0.5 + _LEVEL / 2, n_donors - 1)) * variance**0.5
    return value - reach, value + reach


def _bootstrap(
    counts: np.ndarray, statistics: Mapping[str, Statistic], *, rng: np.random.Generator
) -> dict[str, tuple[float, float] | None]:
    """Draw donors with replacement; percentiles over the resamples in which the statistic is defined."""
    n_donors = counts.shape[0]
    flat = counts.reshape(n_donors, -1).astype(np.float64)
    weights = rng.multinomial(n_donors, np.full(n_donors, 1 / n_donors), size=N_BOOTSTRAP).astype(np.float64)
    step = max(1, _CHUNK_ENTRIES // max(flat.shape[1], 1))
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for start in range(0, N_BOOTSTRAP, step):
        summed = (weights[start : start + step] @ flat).reshape(-1, *counts.shape[1:])
        for name, statistic in statistics.items():
            pieces[name].append(statistic(summed))
    return {name: _percentiles(np.concatenate(values)) for name, values in pieces.items()}


def _percentiles(values: Float[np.ndarray, " resamples"]) -> tuple[float, float] | None:
    defined = values[~np.isnan(values)]
    if len(defined) < N_BOOTSTRAP / 2:
        return None
    low, high = np.quantile(defined, [0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2])
    return float(low), float(high)
