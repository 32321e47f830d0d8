"""How good a model is on images it has not seen: metrics, intervals by patient, one task's figures."""

from __future__ import annotations

from .classification import UNKNOWN, evaluate_task
from .intervals import bootstrap_interval
from .metric_modules import metric_names, metric_path
from .metrics import UndefinedMetric, accuracy, auroc, balanced_accuracy, confusion, macro_auroc, roc_curve

__all__ = [
    "UNKNOWN",
    "UndefinedMetric",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "bootstrap_interval",
    "confusion",
    "evaluate_task",
    "macro_auroc",
    "metric_names",
    "metric_path",
    "roc_curve",
]
