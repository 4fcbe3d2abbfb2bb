"""What is measured in one fold at one level: which cells, which classes, which metric.

The list is fixed from the labels of the two sides before any model answers, so every model has the same rows, and a
model that fails or predicts nothing has them too. Everything but the open-set AUROC is a function of one tensor of
counts, donors x seeds x classes x classes; the value over several seeds is the mean of the seeds' values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from cytolabe.evaluate.labels import MIN_HEADLINE_CELLS, ClassSets
from cytolabe.metrics.classification import (
    auroc,
    confusion_accuracy,
    confusion_balanced_accuracy,
    confusion_counts,
    confusion_f1,
    confusion_macro_f1,
)
from cytolabe.metrics.intervals import DonorInterval, donor_intervals
from cytolabe.randomness import rng_for

__all__ = [
    "HEADLINE",
    "OPEN_SET",
    "RARE",
    "UNFLAGGED",
    "Cells",
    "Measure",
    "confusion_tensor",
    "intervals_of",
    "mean_values",
    "measures_of",
    "open_set_value",
    "values_of",
]

HEADLINE = ("macro_f1", "all")
OPEN_SET = ("open_set_auroc", "all")
RARE = ("macro_f1", "rare")
UNFLAGGED = "unflagged"
"""Stratum of the test cells without a flag of quality (rule R10)."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The labelled test cells of a fold at a level, one entry each; the closed set has training support.

    `persons` is empty for a cell of an unknown or pooled person; `is_flagged` is None where no quality was measured.
    """

    truth: np.ndarray
    datasets: np.ndarray
    persons: np.ndarray
    is_closed: np.ndarray
    is_flagged: np.ndarray | None = None

    def closed(self) -> "Cells":
        """Return the cells of classes with training support."""
        keep = self.is_closed
        return Cells(
            truth=self.truth[keep],
            datasets=self.datasets[keep],
            persons=self.persons[keep],
            is_closed=self.is_closed[keep],
            is_flagged=None if self.is_flagged is None else self.is_flagged[keep],
        )

    @property
    def n_donors(self) -> int:
        """Number of resolved persons."""
        return len(set(self.persons[self.persons != ""].tolist()))


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row to be: a metric on a stratum of the closed set.

    `classes` are the classes that it averages; `why_none` says why there is nothing to measure, or is empty.
    `is_refused` tells whether nothing to measure is a refusal (no clean cell) or simply does not occur.
    """

    metric: str
    stratum: str
    classes: tuple[str, ...]
    n_cells: int
    n_donors: int
    dataset_id: str = ""
    is_unflagged: bool = False
    why_none: str = ""
    is_refused: bool = False
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Metric and stratum."""
        return self.metric, self.stratum


def measures_of(cells: Cells, classes: ClassSets, datasets: Sequence[str]) -> tuple[Measure, ...]:
    """Return every row of a fold at a level.

    Parameters
    ----------
    cells
        All labelled test cells, closed and open set.
    datasets
        Every data set of the test side, also those without a clean labelled cell.
    """
    closed = cells.closed()

    def whole(metric: str, names: tuple[str, ...], *, why_none: str, stratum: str = "all") -> Measure:
        is_refused = stratum != "rare"
        return Measure(
            metric=metric,
            stratum=stratum,
            classes=names,
            n_cells=len(closed.truth) if stratum == "all" else int(np.isin(closed.truth, names).sum()),
            n_donors=closed.n_donors,
            why_none="" if names else why_none,
            is_refused=is_refused,
        )

    no_class = "no class has both test cells and training support"
    few = f"no class with training support has {MIN_HEADLINE_CELLS} test cells"
    rows = [
        whole("accuracy", classes.scored, why_none=no_class),
        whole("balanced_accuracy", classes.scored, why_none=no_class),
        whole("macro_f1", classes.headline, why_none=few),
        whole("macro_f1_all_classes", classes.scored, why_none=no_class),
        whole("macro_f1", classes.rare, stratum="rare", why_none="no class is rare here"),
        *(_of_class(closed, name, classes) for name in classes.scored),
    ]
    for dataset_id in datasets:
        rows += _of_dataset(closed, dataset_id)
    if closed.is_flagged is not None:
        rows += _without_flagged(closed, classes, closed.is_flagged)
    rows.append(_of_open_set(cells, classes))
    return tuple(rows)


def _of_class(closed: Cells, name: str, classes: ClassSets) -> Measure:
    own = closed.truth == name
    note = () if name in classes.headline else (f"under {MIN_HEADLINE_CELLS} test cells: outside of the headline",)
    return Measure(
        metric="f1",
        stratum=f"class:{name}",
        classes=(name,),
        n_cells=int(own.sum()),
        n_donors=len(set(closed.persons[own].tolist()) - {""}),
        notes=note,
    )


def _of_dataset(closed: Cells, dataset_id: str) -> list[Measure]:
    """Score a data set of the test side alone; its headline takes classes with enough cells in it."""
    own = closed.datasets == dataset_id
    names, counts = np.unique(closed.truth[own].astype(str), return_counts=True)
    scored = tuple(str(name) for name in names)
    headline = tuple(str(name) for name, n in zip(names, counts, strict=True) if n >= MIN_HEADLINE_CELLS)
    no_cell = "no clean labelled test cell with training support"
    few = no_cell if not scored else f"no class with training support has {MIN_HEADLINE_CELLS} cells here"
    shared = {
        "stratum": f"dataset:{dataset_id}",
        "dataset_id": dataset_id,
        "n_cells": int(own.sum()),
        "n_donors": len(set(closed.persons[own].tolist()) - {""}),
        "is_refused": True,
    }
    return [
        Measure(metric="accuracy", classes=scored, why_none="" if scored else no_cell, **shared),  # type: ignore[arg-type]
        Measure(metric="macro_f1", classes=headline, why_none="" if headline else few, **shared),  # type: ignore[arg-type]
    ]


def _without_flagged(closed: Cells, classes: ClassSets, is_flagged: np.ndarray) -> list[Measure]:
    """Score the cells without a flag of quality alone; the model is the same, so that only the test cells differ."""
    own = ~is_flagged
    scored = tuple(name for name in classes.scored if (closed.truth[own] == name).any())
    headline = tuple(name for name in classes.headline if (closed.truth[own] == name).sum() >= MIN_HEADLINE_CELLS)
    lost = len(classes.headline) - len(headline)
    shared = {
        "stratum": UNFLAGGED,
        "is_unflagged": True,
        "n_cells": int(own.sum()),
        "n_donors": len(set(closed.persons[own].tolist()) - {""}),
        "is_refused": True,
        "notes": (f"{int(is_flagged.sum())} of {len(own)} test cells are flagged for their quality",)
        + ((f"{lost} classes have too few cells without them",) if lost else ()),
    }
    none = "no test cell is without a flag"
    few = none if not scored else f"no class has {MIN_HEADLINE_CELLS} test cells without a flag"
    return [
        Measure(metric="accuracy", classes=scored, why_none="" if scored else none, **shared),  # type: ignore[arg-type]
        Measure(metric="macro_f1", classes=headline, why_none="" if headline else few, **shared),  # type: ignore[arg-type]
    ]


def _of_open_set(cells: Cells, classes: ClassSets) -> Measure:
    n_open = int((~cells.is_closed).sum())
    why_none = "" if n_open and cells.is_closed.any() else "no class of the test side is without training support"
    if n_open and not cells.is_closed.any():
        why_none = "every class of the test side is without training support"
    return Measure(
        metric=OPEN_SET[0],
        stratum=OPEN_SET[1],
        classes=classes.open_set,
        n_cells=len(cells.truth),
        n_donors=cells.n_donors,
        why_none=why_none,
        notes=(f"{n_open} cells of {len(classes.open_set)} unseen classes",) if n_open else (),
    )


def confusion_tensor(
    truth: Shaped[np.ndarray, " cells"],
    by_seed: Sequence[np.ndarray],
    *,
    groups: Shaped[np.ndarray, " cells"],
    classes: Sequence[str],
) -> tuple[tuple[str, ...], Integer[np.ndarray, "groups seeds classes classes"]]:
    """Count truth x prediction for each group of cells and each seed; groups sorted by name."""
    names = tuple(sorted({str(name) for name in groups}))
    tensor = np.zeros((len(names), len(by_seed), len(classes), len(classes)), dtype=np.int64)
    for g, name in enumerate(names):
        own = groups == name
        for s, predicted in enumerate(by_seed):
            tensor[g, s] = confusion_counts(truth[own], predicted[own], classes)
    return names, tensor


def _statistic(measure: Measure, classes: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from counts (..., classes, classes) to values (...)."""
    scored = [classes.index(name) for name in measure.classes]
    if measure.metric == "accuracy":
        return confusion_accuracy
    if measure.metric == "balanced_accuracy":
        return lambda counts: confusion_balanced_accuracy(counts, scored)
    if measure.metric == "f1":
        return lambda counts: confusion_f1(counts)[..., scored[0]]
    return lambda counts: confusion_macro_f1(counts, scored)


def values_of(
    measures: Sequence[Measure], closed: Cells, by_seed: Sequence[np.ndarray], *, classes: Sequence[str]
) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return the value of each measure for each seed; measures with nothing to measure are absent.

    Parameters
    ----------
    closed
        The closed set.
    by_seed
        Predicted terms of its cells, one array per seed.
    classes
        Every class that occurs in truth or prediction.
    """
    found: dict[tuple[str, str], tuple[float, ...]] = {}
    for part in dict.fromkeys(map(_part_of, measures)):
        own = _in_part(closed, part)
        if not own.any():
            continue
        seen = [predicted[own] for predicted in by_seed]
        _, tensor = confusion_tensor(closed.truth[own], seen, groups=np.full(int(own.sum()), "all"), classes=classes)
        for measure in measures:
            if _part_of(measure) == part and not measure.why_none and measure.key != OPEN_SET:
                values = _statistic(measure, classes)(tensor[0])
                found[measure.key] = tuple(float(value) for value in values)
    return found


def intervals_of(
    measures: Sequence[Measure],
    closed: Cells,
    by_seed: Sequence[np.ndarray],
    *,
    classes: Sequence[str],
    seed: int,
    population: str,
) -> dict[tuple[str, str], DonorInterval]:
    """Return the donor interval (or donor points) of each measure; nothing where a person is unknown."""
    found: dict[tuple[str, str], DonorInterval] = {}
    for part in dict.fromkeys(map(_part_of, measures)):
        own = _in_part(closed, part)
        if not own.any() or (closed.persons[own] == "").any():
            continue
        seen = [predicted[own] for predicted in by_seed]
        donors, tensor = confusion_tensor(closed.truth[own], seen, groups=closed.persons[own], classes=classes)
        wanted = [m for m in measures if _part_of(m) == part and not m.why_none and m.key != OPEN_SET]
        rng = rng_for(seed, "evaluate", "donor bootstrap")
        statistics = {f"{m.metric} {m.stratum}": _over_seeds(_statistic(m, classes)) for m in wanted}
        intervals = donor_intervals(tensor, statistics, donors=donors, rng=rng, population=population)
        found |= {m.key: intervals[f"{m.metric} {m.stratum}"] for m in wanted}
    return found


def _over_seeds(statistic: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda counts: np.asarray(statistic(counts).mean(axis=-1))


def _part_of(measure: Measure) -> tuple[str, bool]:
    """Return which test cells a measure is of: those of a data set, those without a flag, or all."""
    return measure.dataset_id, measure.is_unflagged


def _in_part(closed: Cells, part: tuple[str, bool]) -> Bool[np.ndarray, " cells"]:
    dataset_id, is_unflagged = part
    own = np.ones(len(closed.truth), dtype=bool) if not dataset_id else np.asarray(closed.datasets == dataset_id)
    return own & ~closed.is_flagged if is_unflagged and closed.is_flagged is not None else own


def open_set_value(cells: Cells, confidence: np.ndarray) -> float | None:
    """Return how well low confidence tells cells of unseen classes from the others; None with one group only."""
    return auroc(~cells.is_closed, 1.0 - confidence)


def mean_values(values: Mapping[tuple[str, str], tuple[float, ...]]) -> dict[tuple[str, str], float]:
    """Return the mean over seeds of each value."""
    return {key: float(np.mean(per_seed)) for key, per_seed in values.items()}
