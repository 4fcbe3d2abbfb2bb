"""How far an embedding keeps cell types apart, whatever it does to batches: NMI, ARI, silhouette, and their mean.

The three that the zero-shot study averages as AvgBIO (Kedzierska 2025, doi:10.1186/s13059-025-03574-x), over clusters of
k-means with as many clusters as there are labels, as scib-metrics has it. The study itself takes the best of several
resolutions of Louvain; a maximum over tries that is chosen by the labels is not repeated here, so its figures are higher.
"""

import numpy as np
from jaxtyping import Float
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

__all__ = ["cluster_agreement", "label_silhouette"]

_STARTS = 10


def cluster_agreement(
    embedding: Float[np.ndarray, "cells dims"], labels: np.ndarray, *, seed: int
) -> tuple[float, float]:
    """Return the normalized mutual information (0 to 1) and the adjusted Rand index (0 by chance, 1) of clusters with labels.

    Clusters are those of k-means, the best of ten starts from the seed by its own criterion; mutual information is
    divided by the mean of both entropies.
    """
    words = labels.astype(str)
    n_clusters = min(len(np.unique(words)), len(np.unique(embedding, axis=0)))
    clusters = KMeans(n_clusters=n_clusters, n_init=_STARTS, random_state=seed).fit_predict(embedding)
    return float(normalized_mutual_info_score(words, clusters)), float(adjusted_rand_score(words, clusters))


def label_silhouette(embedding: Float[np.ndarray, "cells dims"], labels: np.ndarray) -> float | None:
    """Return the mean silhouette width of labels, Euclidean, put on 0 to 1; None where there are fewer than two.

    The work grows with the square of the number of cells.
    """
    words = labels.astype(str)
    if not 1 < len(np.unique(words)) < len(words):
        return None
    return float((silhouette_score(embedding, words) + 1) / 2)
