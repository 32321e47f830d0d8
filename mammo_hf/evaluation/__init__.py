"""Evaluation of classifiers: metrics, intervals by patient, calibration, and one task's figures."""

from __future__ import annotations

from pathlib import Path

from ..metrics.aggregation import UNKNOWN
from ..metrics.calibration import calibrated, fit_calibration
from ..metrics.classification import (
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
from ..metrics.comparisons import DeLong, delong, paired_delong, paired_permutation
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bootstrap_interval, bootstrap_intervals, paired_interval
from ..metrics.operating_points import at_operating_point, choose_operating_points
from .task_figures import evaluate_task

METRIC_MODULE = str(Path(__file__).with_name("hf_metrics.py"))  # for evaluate.load(METRIC_MODULE, "auroc")

__all__ = [
    "METRIC_MODULE",
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
