"""From scores to two probabilities per row, and to the threshold from which a mapping is accepted without a person.

`exact`: the first candidate is the very term an expert would choose. `lineage`: it equals, is above or is below that
term. Both come from the same few facts of a row (share of the first candidate, share of its whole lineage, lead over the second,
what the memory and the words say) through a ridge-regularized logistic regression, fitted on rows that the ranker had
not seen: their studies were left out when it was fitted. Every study counts the same in it, whatever its rows: the next
one is drawn from studies, and the policy of the one that has most labels is not its policy. Where the family of the rows
that will be asked is among them with `_LEAST_OWN_STUDIES` studies, these carry `_OWN_SHARE` of the weight and choose the
thresholds alone: how often a likely term is the one that was chosen depends on who chose.

The accept rule is two thresholds, chosen on the same unseen rows: the most rows such that the precision of the accepted
ones reaches `_AIMED_EXACT` and `AUTO_LINEAGE` after `_ERRORS` standard errors are taken off. The error counts studies, not
rows, because the next study is never like the last ones: forty labels of one laboratory are wrong together. It is aimed
above what is promised (`AUTO_EXACT`) by what the choice of the best among many thresholds flatters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from cytolabe.reconcile.ranking.engine import FEATURES, Weighed
from cytolabe.reconcile.ranking.lexical import TermIndex
from cytolabe.reconcile.ranking.ranker import softmax_in_rows, study_weights

__all__ = [
    "AUTO_EXACT",
    "AUTO_LINEAGE",
    "FEW_STUDIES",
    "MANY_STUDIES",
    "Calibrator",
    "Ranked",
    "fit_calibrator",
    "ranked_of",
]

AUTO_EXACT = 0.83
AUTO_LINEAGE = 0.95
_LEAST_ACCEPTED = 50
"""Rows below which a precision is no measurement."""
_FACTS = ("near_vote", "near_below", "twin_share", "any_twin", "kind", "doubtful", "label_explained", "blend",
          "label_words", "context_share", "tissue_closure", "usage")  # fmt: skip
_AIMED_EXACT = AUTO_EXACT + 0.02
_ERRORS = 4.0
_OWN_SHARE = 0.8
_LEAST_OWN_STUDIES = 10
"""Fewer studies of a family say too little for thresholds of their own: with five, half of a table missed both promises."""
_N_KEPT = 10
FEW_STUDIES = 0.003
MANY_STUDIES = 0.3
"""Rows of made-up studies are plenty and differ in everything; those of real ones come from few curators."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """The order of each row's candidates: the best `_N_KEPT` terms (-1 where there are fewer) and facts of the row."""

    rows: Int64[np.ndarray, " rows"]
    terms: Int64[np.ndarray, "rows best"]
    facts: Float64[np.ndarray, "rows facts"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrator:
    """Weights of the two probabilities and the two thresholds of acceptance."""

    mean: Float64[np.ndarray, " facts"]
    scale: Float64[np.ndarray, " facts"]
    exact: Float64[np.ndarray, " weights"]
    lineage: Float64[np.ndarray, " weights"]
    least_exact: float
    least_lineage: float

    def probabilities(
        self, facts: Float64[np.ndarray, "rows facts"]
    ) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """Return the probabilities of being exact and of being on the lineage; the second is at least the first."""
        design = np.column_stack([np.clip((facts - self.mean) / self.scale, -4, 4), np.ones(len(facts))])
        exact = 1 / (1 + np.exp(-(design @ self.exact)))
        return exact, np.maximum(1 / (1 + np.exp(-(design @ self.lineage))), exact)

    def accepts(
        self, exact: Float64[np.ndarray, " rows"], lineage: Float64[np.ndarray, " rows"]
    ) -> Bool[np.ndarray, " rows"]:
        """Return which rows are accepted without a person."""
        return (exact >= self.least_exact) & (lineage >= self.least_lineage)

    def document(self) -> dict[str, object]:
        """Return the calibrator as plain lists for a JSON text."""
        vectors = {"mean": self.mean, "scale": self.scale, "exact": self.exact, "lineage": self.lineage}
        return {
            **{name: [float(f"{v:.6g}") for v in vector] for name, vector in vectors.items()},
            "least_exact": float(f"{self.least_exact:.6g}"),
            "least_lineage": float(f"{self.least_lineage:.6g}"),
        }

    @classmethod
    def of(cls, document: Mapping[str, object]) -> "Calibrator":
        """Read what `document` gives."""
        vectors = {name: np.array(document[name], dtype=np.float64) for name in ("mean", "scale", "exact", "lineage")}
        return cls(
            **vectors,
            least_exact=float(str(document["least_exact"])),
            least_lineage=float(str(document["least_lineage"])),
        )


def ranked_of(weighed: Weighed, scores: Float64[np.ndarray, " pairs"], *, index: TermIndex) -> Ranked:
    """Order the candidates of each row and collect the facts that its confidence rests on."""
    pairs = weighed.pairs
    order = np.lexsort((pairs.term, -scores, pairs.row))
    n_rows = len(weighed.rows)
    place = np.arange(len(order)) - pairs.starts[pairs.row[order]]
    terms = np.full((n_rows, _N_KEPT), -1, dtype=np.int64)
    kept = place < _N_KEPT
    terms[pairs.row[order][kept], place[kept]] = pairs.term[order][kept]
    share = softmax_in_rows(scores, pairs)
    first = order[place == 0]
    second = np.zeros(n_rows)
    second[pairs.row[order][place == 1]] = share[order][place == 1]
    closure = index.closure
    top = pairs.term[first][pairs.row]
    on_lineage = np.asarray(closure[pairs.term, top]).ravel() + np.asarray(closure[top, pairs.term]).ravel() > 0
    lineage = np.add.reduceat(share * on_lineage, pairs.starts[:-1])
    log_odds = scores[first]
    columns = [_logit(share[first]), _logit(lineage), np.log(share[first] + 1e-6) - np.log(second + 1e-6), log_odds]
    columns += [weighed.features[first, FEATURES.index(name)] for name in _FACTS]
    return Ranked(rows=weighed.rows, terms=terms, facts=np.column_stack(columns).astype(np.float64))


def fit_calibrator(
    facts: Float64[np.ndarray, "rows facts"],
    is_exact: Bool[np.ndarray, " rows"],
    is_lineage: Bool[np.ndarray, " rows"],
    *,
    study: Int64[np.ndarray, " rows"],
    strength: float = FEW_STUDIES,
    own: Bool[np.ndarray, " rows"] | None = None,
) -> Calibrator:
    """Fit both probabilities and choose the thresholds, on rows that the ranker had not seen; `study` numbers theirs.

    `strength` is the inverse of the ridge penalty: low where few curators stand for all others. `own` marks the rows of the
    family that will be asked; they count for more where they are of `_LEAST_OWN_STUDIES` studies, and else like all others.
    """
    mean, scale = facts.mean(axis=0), facts.std(axis=0) + 1e-6
    design = np.clip((facts - mean) / scale, -4, 4)
    weight = study_weights(study, power=1.0)
    chosen = np.ones(len(study), dtype=bool)
    if own is not None and len(np.unique(study[own])) >= _LEAST_OWN_STUDIES:
        weight, chosen = _own_first(weight, own), own
    draft = Calibrator(
        mean=mean,
        scale=scale,
        exact=_logistic(design, is_exact, weight=weight, strength=strength),
        lineage=_logistic(design, is_lineage, weight=weight, strength=strength),
        least_exact=1.0,
        least_lineage=1.0,
    )
    exact, lineage = draft.probabilities(facts)
    least = _thresholds(
        exact[chosen],
        lineage[chosen],
        is_exact=is_exact[chosen],
        is_lineage=is_lineage[chosen],
        study=study[chosen],
    )
    return Calibrator(
        mean=mean, scale=scale, exact=draft.exact, lineage=draft.lineage, least_exact=least[0], least_lineage=least[1]
    )


def _own_first(weight: Float64[np.ndarray, " rows"], own: Bool[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    """Scale weights so that the rows of the own family carry `_OWN_SHARE` of them, and 1 stays the mean."""
    if own.all():
        return weight
    scaled = np.where(own, _OWN_SHARE * weight / weight[own].sum(), (1 - _OWN_SHARE) * weight / weight[~own].sum())
    return np.asarray(scaled / scaled.mean(), dtype=np.float64)


def _thresholds(
    exact: Float64[np.ndarray, " rows"],
    lineage: Float64[np.ndarray, " rows"],
    *,
    is_exact: Bool[np.ndarray, " rows"],
    is_lineage: Bool[np.ndarray, " rows"],
    study: Int64[np.ndarray, " rows"],
) -> tuple[float, float]:
    """Return the pair of thresholds that accepts most rows within the targets; (1, 1) accepts none."""
    best, found = (0, 0.0, 0.0), (1.0, 1.0)
    for least_lineage in np.linspace(0.5, 0.99, 50):
        for least_exact in np.linspace(0.3, 0.98, 35):
            taken = (exact >= least_exact) & (lineage >= least_lineage)
            n = int(taken.sum())
            if n < max(_LEAST_ACCEPTED, best[0]):
                continue
            reached = _least_share(is_exact[taken], study[taken]), _least_share(is_lineage[taken], study[taken])
            if reached[0] >= _AIMED_EXACT and reached[1] >= AUTO_LINEAGE:
                candidate = (n, float(reached[1]), float(reached[0]))
                if candidate > best:
                    best, found = candidate, (float(least_exact), float(least_lineage))
    return found


def _least_share(is_right: Bool[np.ndarray, " rows"], study: Int64[np.ndarray, " rows"]) -> float:
    """Return the share of right rows less `_ERRORS` standard errors over studies."""
    share = is_right.mean()
    off = np.bincount(study, is_right - share)
    return float(share - _ERRORS * np.sqrt((off**2).sum()) / len(is_right))


def _logistic(
    design: np.ndarray, is_right: Bool[np.ndarray, " rows"], *, weight: Float64[np.ndarray, " rows"], strength: float
) -> Float64[np.ndarray, " weights"]:
    if is_right.all() or not is_right.any():
        share = (is_right.sum() + 1) / (len(is_right) + 2)
        return np.array([*np.zeros(design.shape[1]), np.log(share / (1 - share))])
    with threadpool_limits(limits=1):
        fitted = LogisticRegression(C=strength, max_iter=500).fit(design, is_right, sample_weight=weight)
    return np.concatenate([fitted.coef_[0], fitted.intercept_]).astype(np.float64)


def _logit(share: np.ndarray) -> np.ndarray:
    clipped = np.clip(share, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped / (1 - clipped)))
