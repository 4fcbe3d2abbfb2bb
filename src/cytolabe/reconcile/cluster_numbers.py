"""Numbers of clusters before labels: `3.CD4act` among labels that all begin with a number is `CD4act`.

Read by itself such a label says another thing (`1.CD4rest` has the words of a B-1 cell). That the number counts clusters is seen from
the other labels of its data set alone, so only a whole data set is read.
"""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

__all__ = ["labels_as_read", "with_reading", "without_cluster_numbers"]

_NUMBERED = re.compile(r"\s*\d{1,3}[._: -]+(?=.*[A-Za-z])")
_LEAST_SHARE = 2 / 3
_LEAST_LABELS = 5


def without_cluster_numbers(labels: Iterable[str]) -> dict[str, str]:
    """Return how each label of one data set reads without the number of its cluster.

    Where two thirds of five labels or more begin with a number it is taken off; elsewhere, and from labels that are nothing
    but numbers, it is not.
    """
    distinct = list(dict.fromkeys(labels))
    numbered = sum(_NUMBERED.match(label) is not None for label in distinct)
    if len(distinct) < _LEAST_LABELS or numbered < _LEAST_SHARE * len(distinct):
        return {label: label for label in distinct}
    return {label: _NUMBERED.sub("", label, count=1) for label in distinct}


def labels_as_read(labels: Sequence[str], datasets: Sequence[str]) -> tuple[str, ...]:
    """Return the labels without numbers of clusters, in their order; `datasets` says which belong together."""
    by_dataset: dict[str, list[str]] = {}
    for label, dataset in zip(labels, datasets, strict=True):
        by_dataset.setdefault(dataset, []).append(label)
    read = {dataset: without_cluster_numbers(own) for dataset, own in by_dataset.items()}
    return tuple(read[dataset][label] for label, dataset in zip(labels, datasets, strict=True))


def with_reading(labels: pd.DataFrame) -> pd.DataFrame:
    """Return a table with `dataset_id` and `contributor_label` and one column more, `read`: the labels as they are read."""
    texts, datasets = labels["contributor_label"].astype(str), labels["dataset_id"].astype(str)
    return labels.assign(read=list(labels_as_read(texts.tolist(), datasets.tolist())))
