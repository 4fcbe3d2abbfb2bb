"""Numbers over folds: one confusion matrix pooled over the folds that may be believed, then its macro-F1.

The mean of the folds' macro-F1 is another, more biased number (Forman & Scholz 2010, doi:10.1145/1882471.1882479), so
the counts are pooled first. Only folds whose cells are SCORED or QUALIFIED enter, and the row says how many of how many:
a fold of one small person, too few for a headline of its own, still adds its cells to that of all. Several seeds are pooled seed by seed and then averaged. A floor is pooled over the same folds as the model that
stands on it, or it is no floor of that model; persons that several folds test count once. These rows compare folds of
one study, not models: what a ranking would need is said in the report.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer

from cytolabe.evaluate.labels import MIN_HEADLINE_CELLS
from cytolabe.evaluate.plan import FLOOR_MODELS
from cytolabe.evaluate.results import ALL_FOLDS, Confusion
from cytolabe.evaluate.scoring import BELOW_FLOOR
from cytolabe.evaluate.status import judged
from cytolabe.metrics.classification import confusion_macro_f1
from cytolabe.records import Score, ScoreStatus

__all__ = ["pooled_scores"]

_BELIEVED = frozenset({ScoreStatus.SCORED, ScoreStatus.QUALIFIED})
_ALL_CELLS = ("macro_f1_all_classes", "all")
"""The row whose status says whether the cells of a fold count: it leaves no class out for being small."""

_Group = tuple[str, str, str]
_Matrices = Mapping[tuple[str, str, str, str], Confusion]


def pooled_scores(scores: Sequence[Score], confusions: Sequence[Confusion], *, n_folds: int) -> tuple[Score, ...]:
    """Return one headline macro-F1 over all folds for each model, level and gene policy.

    Parameters
    ----------
    scores
        Rows of the folds.
    confusions
        Counts of the same rows.
    n_folds
        Number of folds of the split: the denominator.
    """
    folds_of: dict[_Group, list[Score]] = {}
    for score in scores:
        if (score.metric, score.stratum) == _ALL_CELLS:
            folds_of.setdefault((score.model, score.resolution, score.gene_policy), []).append(score)
    matrices = {(c.split, c.model, c.resolution, c.gene_policy): c for c in confusions}
    return tuple(
        _pooled(
            rows, _of_group(matrices, group, _believed(rows)), floor=_floor(folds_of, matrices, group), n_folds=n_folds
        )
        for group, rows in folds_of.items()
    )


def _believed(rows: Sequence[Score]) -> list[str]:
    return [row.split for row in rows if row.status in _BELIEVED]


def _of_group(matrices: _Matrices, group: _Group, splits: Sequence[str]) -> list[Confusion]:
    return [matrices[split, *group] for split in splits]


def _floor(folds_of: Mapping[_Group, Sequence[Score]], matrices: _Matrices, group: _Group) -> float | None:
    """Return the best floor model over the folds of a group; a floor that lacks one of them is left out."""
    splits = _believed(folds_of[group])
    found = []
    for model in FLOOR_MODELS:
        floor = (model, *group[1:])
        if splits and set(splits) <= set(_believed(folds_of.get(floor, ()))):
            found += [
                float(np.mean(values)) for values in [_pooled_value(_of_group(matrices, floor, splits))] if values
            ]
    return max(found, default=None)


def _pooled_value(confusions: Sequence[Confusion]) -> tuple[float, ...]:
    """Pool counts over folds for each seed; classes that some fold could score, with enough cells in the pool."""
    if not confusions:
        return ()
    classes = sorted({name for confusion in confusions for name in confusion.classes})
    n_seeds = min(len(confusion.by_seed) for confusion in confusions)
    pooled = np.zeros((n_seeds, len(classes), len(classes)), dtype=np.int64)
    for confusion in confusions:
        place = [classes.index(name) for name in confusion.classes]
        for seed in range(n_seeds):
            pooled[seed][np.ix_(place, place)] += confusion.by_seed[str(seed)]
    scorable = {name for confusion in confusions for name in confusion.scored}
    headline = _headline(pooled, [k for k, name in enumerate(classes) if name in scorable])
    if not headline:
        return ()
    return tuple(float(value) for value in confusion_macro_f1(pooled, headline))


def _headline(pooled: Integer[np.ndarray, "seeds classes classes"], scorable: Sequence[int]) -> list[int]:
    n_true = pooled[0].sum(axis=-1)
    return [k for k in scorable if n_true[k] >= MIN_HEADLINE_CELLS]


def _pooled(rows: Sequence[Score], pool: Sequence[Confusion], *, floor: float | None, n_folds: int) -> Score:
    believed = [row for row in rows if row.status in _BELIEVED]
    first = rows[0]
    per_seed = _pooled_value(pool)
    pooled = float(np.mean(per_seed)) if per_seed else None
    is_weak = first.model not in FLOOR_MODELS and pooled is not None and floor is not None and pooled <= floor
    denominator = f"{len(believed)} of {n_folds} folds"
    status, reason = _status(rows, is_defined=pooled is not None, is_weak=is_weak, denominator=denominator)
    value = pooled if status in _BELIEVED else None
    return Score(
        task=first.task,
        study=first.study,
        split=ALL_FOLDS,
        model=first.model,
        protocol=first.protocol,
        metric="macro_f1",
        resolution=first.resolution,
        stratum="all",
        value=value,
        status=status,
        reason=reason,
        n_cells=sum(row.n_cells for row in believed),
        n_donors=len({person for confusion in pool for person in confusion.persons}),
        floor=floor,
        gene_policy=first.gene_policy,
        n_genes=min((row.n_genes for row in believed), default=0),
        fit_on_query=first.fit_on_query,
        seeds={str(seed): one for seed, one in enumerate(per_seed)} if len(per_seed) > 1 and value is not None else {},
        notes=(f"counts pooled over {denominator}", *(f"{row.split}: {row.status}" for row in rows)),
    )


def _status(rows: Sequence[Score], *, is_defined: bool, is_weak: bool, denominator: str) -> tuple[ScoreStatus, str]:
    """Judge the pool by its folds; whether it beats its floor is judged by the pool itself."""
    believed = [row for row in rows if row.status in _BELIEVED]
    if not believed or not is_defined:
        kinds = {row.status for row in rows}
        status = kinds.pop() if len(kinds) == 1 and not believed else ScoreStatus.REFUSED
        return status, f"{denominator} may be pooled"
    reasons = [part for row in believed for part in row.reason.split("; ") if part != BELOW_FLOOR]
    fewer = "" if len(believed) == len(rows) else denominator
    verdict = judged([], [fewer, *reasons, BELOW_FLOOR if is_weak else ""])
    return verdict.status, verdict.reason
