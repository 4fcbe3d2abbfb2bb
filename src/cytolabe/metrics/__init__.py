"""Metrics as pure functions on arrays, each with a card that says what it hides."""

from cytolabe.metrics.cards import METRICS, MetricCard
from cytolabe.metrics.classification import (
    accuracy,
    auroc,
    balanced_accuracy,
    confusion_accuracy,
    confusion_balanced_accuracy,
    confusion_counts,
    confusion_f1,
    confusion_macro_f1,
    f1_per_class,
    macro_f1,
)
from cytolabe.metrics.intervals import DonorInterval, Interval, donor_interval, donor_intervals

__all__ = [
    "METRICS",
    "DonorInterval",
    "Interval",
    "MetricCard",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "confusion_accuracy",
    "confusion_balanced_accuracy",
    "confusion_counts",
    "confusion_f1",
    "confusion_macro_f1",
    "donor_interval",
    "donor_intervals",
    "f1_per_class",
    "macro_f1",
]
