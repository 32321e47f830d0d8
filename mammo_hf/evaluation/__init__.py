"""How good a model is on images it has not seen: metrics, intervals by patient, calibration, one task's figures."""

from __future__ import annotations

from .calibration import calibrated, fit_calibration
from .classification import UNKNOWN, evaluate_task
from .comparisons import DeLong, delong, paired_delong, paired_permutation
from .intervals import bootstrap_interval, bootstrap_intervals, paired_interval
from .metric_modules import metric_names, metric_path
from .metrics import (
    UndefinedMetric,
    accuracy,
    auprc,
    auroc,
    auroc_of,
    balanced_accuracy,
    brier,
    confusion,
    ece,
    macro_auroc,
    partial_auc,
    pf1,
    pr_curve,
    quadratic_kappa,
    reliability,
    roc_curve,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from .operating_points import at_operating_point, choose_operating_points

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
