"""How well predicted terms agree with true terms: counts first, then every metric from the counts.

A confusion matrix per donor is enough for all of these, for every bootstrap over donors and for pooling over folds,
so each metric exists twice: over arrays of terms, and over confusion counts with any leading axes (`confusion_*`).
Letters: `k` classes; rows of a confusion matrix are the truth, columns the prediction.

The set of classes is always the caller's. Left to the predictions, one cell predicted as a class that the truth lacks
moves the macro-F1 of a perfect two-class result from 0.995 to 0.663.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Integer, Real, Shaped
from scipy.stats import rankdata

__all__ = [
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "confusion_accuracy",
    "confusion_balanced_accuracy",
    "confusion_counts",
    "confusion_f1",
    "confusion_macro_f1",
    "f1_per_class",
    "macro_f1",
]


def confusion_counts(
    truth: Shaped[np.ndarray, " cells"], predicted: Shaped[np.ndarray, " cells"], classes: Sequence[str]
) -> Integer[np.ndarray, "classes classes"]:
    """Count cells by true and predicted class.

    Compared: the two terms of each cell. Range: counts from 0 to the number of cells. Floor: none. Hides: which
    donor a cell is from. Source: by definition.

    Parameters
    ----------
    truth, predicted
        One term per cell.
    classes
        Order of rows (truth) and columns (prediction); must hold every term that occurs.

    Raises
    ------
    ValueError
        If a term is not among `classes`: leaving the cell out would turn an error into nothing.
    """
    position = {name: k for k, name in enumerate(classes)}
    strangers = sorted({str(term) for term in (*truth, *predicted)} - position.keys())
    if strangers:
        msg = (
            f"{len(strangers)} term(s) are none of the {len(classes)} classes: {', '.join(strangers[:5])}. "
            "Their cells would vanish from the matrix; add the terms to the classes."
        )
        raise ValueError(msg)
    n_classes = len(classes)
    rows = np.array([position[str(term)] for term in truth], dtype=np.int64)
    columns = np.array([position[str(term)] for term in predicted], dtype=np.int64)
    flat = np.bincount(rows * n_classes + columns, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes)


def confusion_accuracy(confusion_kk: Real[np.ndarray, "*lead classes classes"]) -> Float[np.ndarray, "*lead"]:
    """Return the share of cells on the diagonal.

    Compared: truth and prediction of each cell. Range 0 to 1, higher is better; NaN without cells. Floor: the share
    of the most frequent class. Hides: rare classes. Source: by definition.
    """
    correct = np.trace(confusion_kk, axis1=-2, axis2=-1)
    return _ratio(correct, confusion_kk.sum(axis=(-2, -1)))


def confusion_f1(confusion_kk: Real[np.ndarray, "*lead classes classes"]) -> Float[np.ndarray, "*lead classes"]:
    """Return F1_k = 2 TP_k / (2 TP_k + FP_k + FN_k) of each class.

    Compared: the cells that are, and that are called, class k. Range 0 to 1, higher is better; NaN for a class that
    has no true cell, whatever was predicted: it has no recall. Floor: 0 for a class never predicted. Hides: which
    class the errors went to. Source: Sokolova & Lapalme 2009, doi:10.1016/j.ipm.2009.03.002.
    """
    true_k = confusion_kk.sum(axis=-1)
    predicted_k = confusion_kk.sum(axis=-2)
    correct_k = np.diagonal(confusion_kk, axis1=-2, axis2=-1)
    return _ratio(np.where(true_k > 0, 2.0 * correct_k, np.nan), true_k + predicted_k)


def confusion_macro_f1(
    confusion_kk: Real[np.ndarray, "*lead classes classes"], scored: Sequence[int]
) -> Float[np.ndarray, "*lead"]:
    """Return the mean F1 over the classes at positions `scored` that have a true cell.

    Compared: as `confusion_f1`. Range 0 to 1, higher is better; NaN if no scored class has a cell. Floor: 2p / ((1 +
    p) K) for a constant predictor of a class with share p among K. Hides: how few cells a class has. Source: Opitz &
    Burst 2019, arXiv:1911.03347.

    Notes
    -----
    Rule for absent classes: a class without a true cell (in a resample of donors, or in one donor) is left out of
    that mean. Counted as 0 it would make every resample look worse than the study.
    """
    return _mean_of_defined(confusion_f1(confusion_kk)[..., np.asarray(scored, dtype=np.int64)])


def confusion_balanced_accuracy(
    confusion_kk: Real[np.ndarray, "*lead classes classes"], scored: Sequence[int]
) -> Float[np.ndarray, "*lead"]:
    """Return the mean recall over the classes at positions `scored` that have a true cell.

    Compared: per class, the share of its cells that is found. Range 0 to 1, higher is better; NaN if no scored class
    has a cell. Floor: 1 / K for a constant predictor. Hides: false positives. Source: Brodersen et al. 2010,
    doi:10.1109/ICPR.2010.764.
    """
    correct_k = np.diagonal(confusion_kk, axis1=-2, axis2=-1)
    recall_k = _ratio(correct_k, confusion_kk.sum(axis=-1))
    return _mean_of_defined(recall_k[..., np.asarray(scored, dtype=np.int64)])


def accuracy(truth: Shaped[np.ndarray, " cells"], predicted: Shaped[np.ndarray, " cells"]) -> float:
    """Return the share of cells whose predicted term is the true term.

    Compared: the two terms of each cell. Range 0 to 1, higher is better. Floor: the share of the most frequent class.
    Hides: rare classes. Source: by definition.

    Raises
    ------
    ValueError
        If there is no cell.
    """
    _refuse_empty(len(truth))
    return float(np.mean(truth == predicted))


def balanced_accuracy(
    truth: Shaped[np.ndarray, " cells"], predicted: Shaped[np.ndarray, " cells"], *, classes: Sequence[str]
) -> float:
    """Return the mean recall over `classes` that have a true cell.

    Compared: per class, the share of its cells that is found. Range 0 to 1, higher is better. Floor: 1 / K for a
    constant predictor. Hides: false positives. Source: Brodersen et al. 2010, doi:10.1109/ICPR.2010.764.

    Raises
    ------
    ValueError
        If there is no cell, or no cell of any of the classes.
    """
    confusion, scored = _counted(truth, predicted, classes)
    return _defined(confusion_balanced_accuracy(confusion, scored), classes)


def f1_per_class(
    truth: Shaped[np.ndarray, " cells"], predicted: Shaped[np.ndarray, " cells"], *, classes: Sequence[str]
) -> dict[str, float | None]:
    """Return the F1 of each of `classes`, None for a class without a true cell.

    Compared: the cells that are, and that are called, a class. Range 0 to 1, higher is better. Floor: 0 for a class
    never predicted. Hides: which class the errors went to. Source: Sokolova & Lapalme 2009,
    doi:10.1016/j.ipm.2009.03.002.

    Raises
    ------
    ValueError
        If there is no cell.
    """
    confusion, scored = _counted(truth, predicted, classes)
    values = confusion_f1(confusion)[scored]
    return {name: None if np.isnan(value) else float(value) for name, value in zip(classes, values, strict=True)}


def macro_f1(
    truth: Shaped[np.ndarray, " cells"], predicted: Shaped[np.ndarray, " cells"], *, classes: Sequence[str]
) -> float:
    """Return the mean F1 over `classes` that have a true cell.

    Compared: truth and prediction of each cell, one vote per class. Range 0 to 1, higher is better. Floor: 2p / ((1 +
    p) K) for a constant predictor of a class with share p among K. Hides: how few cells a class has. Source: Opitz &
    Burst 2019, arXiv:1911.03347.

    Parameters
    ----------
    truth, predicted
        One term per cell. A prediction outside of `classes` stays an error of the cell's true class; a cell of
        another class predicted as one of them stays a false positive.
    classes
        Fixed before anything was predicted: classes with test cells and training support.

    Raises
    ------
    ValueError
        If there is no cell, or no cell of any of the classes.
    """
    confusion, scored = _counted(truth, predicted, classes)
    return _defined(confusion_macro_f1(confusion, scored), classes)


def auroc(is_positive: Bool[np.ndarray, " cells"], score: Float[np.ndarray, " cells"]) -> float | None:
    """Return the probability that a positive cell has a higher score than a negative one; ties count one half.

    Compared: the ranks of the two groups. Range 0 to 1, higher is better; None where a group is empty. Floor: 0.5
    for a score that knows nothing. Hides: where to put the threshold. Source: Hanley & McNeil 1982,
    doi:10.1148/radiology.143.1.7063747.
    """
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return None
    rank_sum = float(rankdata(score)[is_positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _counted(
    truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> tuple[Integer[np.ndarray, "k k"], list[int]]:
    """Count over every term that occurs; return the counts and the positions of `classes`."""
    _refuse_empty(len(truth))
    order = sorted({str(term) for term in (*truth, *predicted, *classes)})
    position = {name: k for k, name in enumerate(order)}
    return confusion_counts(truth, predicted, order), [position[name] for name in classes]


def _refuse_empty(n_cells: int) -> None:
    if n_cells == 0:
        msg = "No cell to score: an average over nothing is not a number."
        raise ValueError(msg)


def _defined(value: np.ndarray, classes: Sequence[str]) -> float:
    if np.isnan(value):
        msg = f"None of the {len(classes)} classes has a true cell: nothing to average."
        raise ValueError(msg)
    return float(value)


def _ratio(above: npt.ArrayLike, below: npt.ArrayLike) -> np.ndarray:
    """Divide, with NaN where there is nothing to divide by."""
    divisor = np.asarray(below, dtype=np.float64)
    quotient = np.full(divisor.shape, np.nan)
    np.divide(above, divisor, out=quotient, where=divisor > 0)
    return quotient


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    is_defined = ~np.isnan(values)
    return _ratio(np.where(is_defined, values, 0.0).sum(axis=-1), is_defined.sum(axis=-1))
