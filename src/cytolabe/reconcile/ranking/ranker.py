"""The learned order of candidates: a linear choice among all, then trees among the best of it.

**Linear.** A conditional logit (softmax over the candidates of a row, ridge penalty) on standardized features. It is
convex, so the same rows give the same weights, and it says in which direction every feature counts.
**Trees.** Gradient boosting on the `N_TREE_CANDIDATES` best of each row; they add what is not linear: a similar name is worth
another thing where the memory knows the label. They never see the linear score, which is added to theirs: it was fitted on the
very rows that they learn from, fits these better than any row to come, and trees that see it trust it too much.

Settings are constants, the same for every fold; they came from short trials on folds of one public table. Fitted trees
are turned into plain arrays at once, and those arrays predict: what is shipped as JSON text and what was just fitted run
through the same code, without pickle. Everything is fitted on one thread: several add up in another order, the last digits
of the linear scores move, and trees that split there move whole rows of a scored table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from cytolabe.reconcile.ranking.features import Pairs

__all__ = ["Ranker", "Tree", "fit_ranker", "softmax_in_rows", "study_weights"]

N_TREE_CANDIDATES = 20
_RIDGE = 10.0
_MOST_STEPS = 120
_CLIP = 4.0
_FAR = -30.0
"""Added to the score of candidates that the trees never see; they keep their linear order behind the others."""
_LINEAR_SHARE = 0.6
"""How much of the linear score is added to that of the trees, which are coarse steps: many candidates share a leaf."""
_TREES = {
    "max_iter": 200, "max_leaf_nodes": 6, "learning_rate": 0.05, "min_samples_leaf": 60, "l2_regularization": 20.0,
    "max_features": 0.4,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """One tree as arrays over its nodes; a leaf has `left` < 0. A value at most the threshold goes left."""

    feature: Int64[np.ndarray, " nodes"]
    threshold: Float64[np.ndarray, " nodes"]
    left: Int64[np.ndarray, " nodes"]
    right: Int64[np.ndarray, " nodes"]
    value: Float64[np.ndarray, " nodes"]

    def predict(self, features: Float32[np.ndarray, "pairs features"]) -> Float64[np.ndarray, " pairs"]:
        """Return the value of the leaf of each row."""
        at = np.zeros(len(features), dtype=np.int64)
        going = np.flatnonzero(self.left[at] >= 0)
        while going.size:
            node = at[going]
            goes_left = features[going, self.feature[node]] <= self.threshold[node]
            at[going] = np.where(goes_left, self.left[node], self.right[node])
            going = going[self.left[at[going]] >= 0]
        return self.value[at]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranker:
    """A fitted order of candidates."""

    mean: Float64[np.ndarray, " features"]
    scale: Float64[np.ndarray, " features"]
    weight: Float64[np.ndarray, " features"]
    baseline: float
    trees: tuple[Tree, ...]

    def scores(self, features: Float32[np.ndarray, "pairs features"], pairs: Pairs) -> Float64[np.ndarray, " pairs"]:
        """Return a score per pair: the greater the likelier right; lower than all of these where the trees do not look."""
        linear = self._linear(features)
        gap, best = _gap_and_best(linear, pairs)
        if not self.trees:
            return linear
        given = features[best]
        scores = _FAR - gap
        scores[best] = self.baseline + np.sum([tree.predict(given) for tree in self.trees], axis=0)
        scores[best] += _LINEAR_SHARE * linear[best]
        return scores

    def _linear(self, features: Float32[np.ndarray, "pairs features"]) -> Float64[np.ndarray, " pairs"]:
        return np.asarray(_standard(features, self.mean, self.scale) @ self.weight, dtype=np.float64)

    def document(self) -> dict[str, object]:
        """Return the ranker as plain lists for a JSON text; a number keeps every digit, because thresholds lie on values."""
        return {
            "mean": _numbers(self.mean), "scale": _numbers(self.scale), "weight": _numbers(self.weight),
            "baseline": self.baseline,
            "trees": [
                {
                    "feature": tree.feature.tolist(), "threshold": _numbers(tree.threshold),
                    "left": tree.left.tolist(), "right": tree.right.tolist(), "value": _numbers(tree.value),
                }
                for tree in self.trees
            ],
        }  # fmt: skip

    @classmethod
    def of(cls, document: Mapping[str, object]) -> "Ranker":
        """Read what `document` gives."""
        trees = document["trees"]
        if not isinstance(trees, list):
            msg = "the trees of a ranker are a list"
            raise TypeError(msg)
        return cls(
            mean=np.array(document["mean"], dtype=np.float64),
            scale=np.array(document["scale"], dtype=np.float64),
            weight=np.array(document["weight"], dtype=np.float64),
            baseline=float(str(document["baseline"])),
            trees=tuple(
                Tree(
                    feature=np.array(tree["feature"], dtype=np.int64),
                    threshold=np.array(tree["threshold"], dtype=np.float64),
                    left=np.array(tree["left"], dtype=np.int64),
                    right=np.array(tree["right"], dtype=np.int64),
                    value=np.array(tree["value"], dtype=np.float64),
                )
                for tree in trees
            ),
        )


def fit_ranker(
    features: Float32[np.ndarray, "pairs features"],
    is_right: Bool[np.ndarray, " pairs"],
    *,
    pairs: Pairs,
    seed: int,
    weight: Float64[np.ndarray, " rows"] | None = None,
) -> Ranker:
    """Fit the order on rows whose right term is known; rows whose right term is no candidate teach nothing.

    `weight` says how much a row counts in the linear order, 1 on average; without it all count the same. To the trees all
    rows are worth the same: they have few of each kind as it is.
    """
    has_right = np.add.reduceat(is_right.astype(np.int64), pairs.starts[:-1]) > 0
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64) + 1e-6
    kept = has_right[pairs.row]
    lengths = np.diff(pairs.starts)[has_right]
    counts = np.ones(int(has_right.sum())) if weight is None else weight[has_right]
    with threadpool_limits(limits=1):
        fitted = _conditional_logit(
            _standard(features[kept], mean, scale), is_right[kept], lengths=lengths, counts=counts
        )
    linear = Ranker(mean=mean, scale=scale, weight=fitted, baseline=0.0, trees=())
    _, best = _gap_and_best(linear.scores(features, pairs), pairs)
    if not is_right[best].any() or is_right[best].all():
        return linear
    boosted = HistGradientBoostingClassifier(**_TREES, random_state=seed, early_stopping=False)
    with threadpool_limits(limits=1):
        boosted.fit(features[best], is_right[best])
    baseline, trees = _plain(boosted)
    return Ranker(mean=mean, scale=scale, weight=fitted, baseline=baseline, trees=trees)


def study_weights(study: Int64[np.ndarray, " rows"], *, power: float) -> Float64[np.ndarray, " rows"]:
    """Return n ** -power for a row of a study of n rows, scaled to a mean of 1: 0 counts rows, 1 counts studies."""
    n_rows = np.bincount(study)[study]
    weight = n_rows**-power
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def softmax_in_rows(scores: Float64[np.ndarray, " pairs"], pairs: Pairs) -> Float64[np.ndarray, " pairs"]:
    """Return the scores of each row as shares that sum to 1."""
    lengths = np.diff(pairs.starts)
    top = np.repeat(np.maximum.reduceat(scores, pairs.starts[:-1]), lengths)
    raised = np.exp(scores - top)
    return np.asarray(raised / np.repeat(np.add.reduceat(raised, pairs.starts[:-1]), lengths), dtype=np.float64)


def _conditional_logit(
    design: Float32[np.ndarray, "pairs features"],
    is_right: Bool[np.ndarray, " pairs"],
    *,
    lengths: Int64[np.ndarray, " rows"],
    counts: Float64[np.ndarray, " rows"],
) -> Float64[np.ndarray, " features"]:
    """Return the weights that make the right term of each row likeliest; a row counts `counts` times."""
    starts = np.cumsum([0, *lengths[:-1]]).astype(np.int64)
    of_pair = np.repeat(counts, lengths)
    rewarded = of_pair[is_right] @ design[is_right]

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        score = np.asarray(design @ weight.astype(np.float32), dtype=np.float64)
        top = np.maximum.reduceat(score, starts)
        raised = np.exp(score - np.repeat(top, lengths))
        whole = np.add.reduceat(raised, starts)
        share = of_pair * raised / np.repeat(whole, lengths)
        likelihood = of_pair[is_right] @ score[is_right] - counts @ (np.log(whole) + top)
        gradient = rewarded - np.asarray(share.astype(np.float32) @ design, dtype=np.float64)
        return float(_RIDGE / 2 * weight @ weight - likelihood), _RIDGE * weight - gradient

    start = np.zeros(design.shape[1])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MOST_STEPS}).x)


def _standard(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Float32[np.ndarray, "pairs features"]:
    return np.asarray(np.clip((features - mean) / scale, -_CLIP, _CLIP), dtype=np.float32)


def _gap_and_best(
    values: Float64[np.ndarray, " pairs"], pairs: Pairs
) -> tuple[Float64[np.ndarray, " pairs"], Int64[np.ndarray, " best"]]:
    """Return how far each pair is behind the best of its row, and the pairs that the trees order."""
    top = np.repeat(np.maximum.reduceat(values, pairs.starts[:-1]), np.diff(pairs.starts))
    order = np.lexsort((pairs.term, -values, pairs.row))
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values)) - pairs.starts[pairs.row[order]]
    return top - values, np.flatnonzero(place < N_TREE_CANDIDATES)


def _plain(boosted: HistGradientBoostingClassifier) -> tuple[float, tuple[Tree, ...]]:
    """Return the baseline and the trees of a fitted booster as arrays."""
    trees = []
    for (grown,) in boosted._predictors:
        nodes = grown.nodes
        is_leaf = nodes["is_leaf"].astype(bool)
        trees.append(
            Tree(
                feature=nodes["feature_idx"].astype(np.int64),
                threshold=nodes["num_threshold"].astype(np.float64),
                left=np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
                right=np.where(is_leaf, -1, nodes["right"].astype(np.int64)),
                value=nodes["value"].astype(np.float64),
            )
        )
    return float(np.ravel(boosted._baseline_prediction)[0]), tuple(trees)


def _numbers(values: Sequence[float] | np.ndarray) -> list[float]:
    return [float(value) for value in values]
