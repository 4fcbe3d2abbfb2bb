"""Metrics as pure functions on arrays, each with a card that says what it hides."""

from cytolabe.metrics.calibration import (
    ReliabilityBin,
    SelectiveScore,
    area_under_risk_coverage,
    class_wise_calibration_error,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
    selective_macro_f1,
)
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
from cytolabe.metrics.resampled import percentile_interval, resampled_auroc, resampled_macro_f1, unit_resamples

__all__ = [
    "METRICS",
    "DonorInterval",
    "Interval",
    "MetricCard",
    "ReliabilityBin",
    "SelectiveScore",
    "accuracy",
    "area_under_risk_coverage",
    "auroc",
    "balanced_accuracy",
    "class_wise_calibration_error",
    "confusion_accuracy",
    "confusion_balanced_accuracy",
    "confusion_counts",
    "confusion_f1",
    "confusion_macro_f1",
    "donor_interval",
    "donor_intervals",
    "expected_calibration_error",
    "f1_per_class",
    "macro_f1",
    "percentile_interval",
    "reliability_bins",
    "resampled_auroc",
    "resampled_macro_f1",
    "risk_coverage",
    "selective_macro_f1",
    "unit_resamples",
]
