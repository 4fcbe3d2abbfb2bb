"""Numbers over folds: one confusion matrix pooled over the folds that may be believed, then its macro-F1.

The mean of the folds' macro-F1 is another, more biased number (Forman & Scholz 2010, doi:10.1145/1882471.1882479), so
the counts are pooled first. Only folds whose headline is SCORED or QUALIFIED enter, and the row says how many of how
many. Several seeds are pooled seed by seed and then averaged. These rows compare folds of one study, not models: what
a ranking would need is said in the report.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer

from cytolabe.evaluate.labels import MIN_HEADLINE_CELLS
from cytolabe.evaluate.measures import HEADLINE
from cytolabe.evaluate.plan import FLOOR_MODELS
from cytolabe.evaluate.results import ALL_FOLDS, Confusion
from cytolabe.metrics.classification import confusion_macro_f1
from cytolabe.records import Score, ScoreStatus

__all__ = ["pooled_scores"]

_BELIEVED = frozenset({ScoreStatus.SCORED, ScoreStatus.QUALIFIED})

_Group = tuple[str, str, str]


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
    headlines: dict[_Group, list[Score]] = {}
    for score in scores:
        if (score.metric, score.stratum) == HEADLINE:
            headlines.setdefault((score.model, score.resolution, score.gene_policy), []).append(score)
    matrices = {(c.split, c.model, c.resolution, c.gene_policy): c for c in confusions}
    values = {
        group: _pooled_value([matrices[row.split, *group] for row in rows if row.status in _BELIEVED])
        for group, rows in headlines.items()
    }
    floors = _floors(values)
    return tuple(
        _pooled(rows, values[group], floor=floors.get(group[1:]), n_folds=n_folds) for group, rows in headlines.items()
    )


def _floors(values: Mapping[_Group, tuple[float, ...]]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for (model, resolution, policy), per_seed in values.items():
        if model in FLOOR_MODELS and per_seed:
            key = (resolution, policy)
            found[key] = max(float(np.mean(per_seed)), found.get(key, 0.0))
    return found


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


def _pooled(rows: Sequence[Score], per_seed: tuple[float, ...], *, floor: float | None, n_folds: int) -> Score:
    believed = [row for row in rows if row.status in _BELIEVED]
    first = rows[0]
    denominator = f"{len(believed)} of {n_folds} folds"
    status, reason = _status(rows, believed, per_seed, denominator=denominator)
    value = float(np.mean(per_seed)) if per_seed and status in _BELIEVED else None
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
        n_donors=sum(row.n_donors for row in believed),
        floor=floor,
        gene_policy=first.gene_policy,
        n_genes=min((row.n_genes for row in believed), default=0),
        fit_on_query=first.fit_on_query,
        seeds={str(seed): one for seed, one in enumerate(per_seed)} if len(per_seed) > 1 and value is not None else {},
        notes=(f"counts pooled over {denominator}", *(f"{row.split}: {row.status}" for row in rows)),
    )


def _status(
    rows: Sequence[Score], believed: Sequence[Score], per_seed: tuple[float, ...], *, denominator: str
) -> tuple[ScoreStatus, str]:
    if not believed or not per_seed:
        kinds = {row.status for row in rows}
        status = kinds.pop() if len(kinds) == 1 and not believed else ScoreStatus.REFUSED
        return status, f"{denominator} may be pooled"
    reasons = [part for row in believed for part in row.reason.split("; ") if part]
    if len(believed) == len(rows) and all(row.status is ScoreStatus.SCORED for row in believed):
        return ScoreStatus.SCORED, ""
    return ScoreStatus.QUALIFIED, "; ".join(dict.fromkeys([denominator, *reasons]))
