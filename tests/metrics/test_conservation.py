"""Types that lie apart are told to, and nothing is told of types that are none."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import comb

from cytolabe.metrics.conservation import cluster_agreement, label_silhouette


def cells(rng, *, n=240, spread=6.0):
    labels = rng.integers(0, 3, n)
    return rng.normal(size=(3, 5))[labels] * spread + rng.normal(size=(n, 5)), labels.astype(str)


def silhouette_over_all_pairs(embedding, labels):
    distances, widths = cdist(embedding, embedding), []
    for cell, own in enumerate(labels):
        others = [distances[cell, labels == label].mean() for label in set(labels.tolist()) - {own}]
        n_own = (labels == own).sum()
        inside = distances[cell, labels == own].sum() / max(n_own - 1, 1)
        widths.append(0.0 if n_own == 1 else (min(others) - inside) / max(min(others), inside))
    return (np.mean(widths) + 1) / 2


@pytest.mark.parametrize("spread", [0.0, 1.0, 6.0])
def test_the_silhouette_is_that_over_all_pairs(spread):
    embedding, labels = cells(np.random.default_rng(0), spread=spread)
    labels[7] = "alone"
    assert label_silhouette(embedding, labels) == pytest.approx(silhouette_over_all_pairs(embedding, labels))


def test_one_type_or_a_type_for_each_cell_has_no_silhouette():
    embedding, _ = cells(np.random.default_rng(1), n=9)
    assert label_silhouette(embedding, np.full(9, "t")) is None
    assert label_silhouette(embedding, np.arange(9).astype(str)) is None


def test_clusters_that_are_the_types_agree_and_chance_does_not():
    rng = np.random.default_rng(2)
    embedding, labels = cells(rng, spread=30.0)
    assert cluster_agreement(embedding, labels, seed=0) == pytest.approx((1.0, 1.0))
    nmi, ari = cluster_agreement(rng.permutation(embedding), labels, seed=0)
    assert nmi < 0.05
    assert abs(ari) < 0.05


def test_agreement_counts_pairs_of_cells_and_shares_of_entropy():
    # Two clusters that k-means cannot miss: {a, a, b} and {b, b, b}.
    embedding = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    labels = np.array(["a", "a", "b", "b", "b", "b"])
    nmi, ari = cluster_agreement(embedding, labels, seed=3)
    together = comb(2, 2) + comb(1, 2) + comb(3, 2)
    by_label, by_cluster, all_pairs = comb(2, 2) + comb(4, 2), 2 * comb(3, 2), comb(6, 2)
    expected = by_label * by_cluster / all_pairs
    assert ari == pytest.approx((together - expected) / ((by_label + by_cluster) / 2 - expected))
    joint, label, cluster = np.array([2, 1, 3]) / 6, np.array([2, 4]) / 6, np.array([3, 3]) / 6
    entropies = [-(share * np.log(share)).sum() for share in (joint, label, cluster)]
    mutual = entropies[1] + entropies[2] - entropies[0]
    assert nmi == pytest.approx(mutual / ((entropies[1] + entropies[2]) / 2))


def typed(rng, *, n_types, wrong, spread, n=500, dims=8):
    labels = rng.integers(0, n_types, n)
    embedding = rng.normal(size=(n_types, dims))[labels] * spread + rng.normal(size=(n, dims))
    return embedding, np.where(rng.random(n) < wrong, rng.integers(0, n_types, n), labels)


# What `nmi_ari_cluster_labels_kmeans` of scib-metrics 0.5.10 says of `typed(default_rng(seed), ...)`. Clusters that k-means cannot miss: where
# they overlap, its one start and our ten find other ones.
_SCIB = [
    (31, 3, 0.2, 6.0, 0.6258478488, 0.6992588849),
    (32, 5, 0.5, 8.0, 0.249444862, 0.2453613803),
    (33, 7, 0.1, 8.0, 0.771481928, 0.7882154177),
]


@pytest.mark.parametrize(("seed", "n_types", "wrong", "spread", "nmi", "ari"), _SCIB)
def test_agreement_of_clusters_is_what_scib_metrics_says(seed, n_types, wrong, spread, nmi, ari):
    embedding, labels = typed(np.random.default_rng(seed), n_types=n_types, wrong=wrong, spread=spread)
    assert cluster_agreement(embedding, labels, seed=0) == pytest.approx((nmi, ari), abs=1e-9)


def test_an_embedding_of_one_point_has_one_cluster():
    assert cluster_agreement(np.zeros((6, 2)), np.array(list("aabbcc")), seed=0) == (0.0, 0.0)
