"""How good a model is on images it has not seen: metrics, intervals by patient, calibration, one task's figures."""

from __future__ import annotations

from ..metrics.calibration import calibrated, fit_calibration
from ..metrics.classes import accuracy, balanced_accuracy, confusion, quadratic_kappa
from ..metrics.comparisons import DeLong, delong, paired_delong, paired_permutation
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bootstrap_interval, bootstrap_intervals, paired_interval
from ..metrics.operating_points import at_operating_point, choose_operating_points
from ..metrics.probabilities import brier, ece, pf1, reliability
from ..metrics.ranking import (
    auprc,
    auroc,
    auroc_of,
    macro_auroc,
    partial_auc,
    pr_curve,
    roc_curve,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from .classification import UNKNOWN, evaluate_task
from .metric_modules import metric_names, metric_path

__all__ = [
    "UNKNOWN",
    "DeLong",
    "UndefinedMetric",
    "accuracy",
    "at_operating_point",
    "auprc",
    "auroc",
    "auroc_of",
    "balanced_accuracy",
    "bootstrap_interval",
    "bootstrap_intervals",
    "brier",
    "calibrated",
    "choose_operating_points",
    "confusion",
    "delong",
    "ece",
    "evaluate_task",
    "fit_calibration",
    "macro_auroc",
    "metric_names",
    "metric_path",
    "paired_delong",
    "paired_interval",
    "paired_permutation",
    "partial_auc",
    "pf1",
    "pr_curve",
    "quadratic_kappa",
    "reliability",
    "roc_curve",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
]
