"""How good a model is on images it has not seen: metrics, intervals by patient, calibration, one task's figures."""

from __future__ import annotations

from .classification import UNKNOWN, evaluate_task
from .comparisons import DeLong, delong, paired_delong, paired_permutation
from .intervals import bootstrap_interval, bootstrap_intervals, paired_interval
from .metric_modules import metric_names, metric_path
from .metrics import (
    UndefinedMetric,
    accuracy,
    auprc,
    auroc,
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

__all__ = [
    "UNKNOWN",
    "DeLong",
    "UndefinedMetric",
    "accuracy",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "bootstrap_interval",
    "bootstrap_intervals",
    "brier",
    "confusion",
    "delong",
    "ece",
    "evaluate_task",
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
