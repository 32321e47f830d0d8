"""Balanced accuracy as an ``evaluate`` metric: ``references`` and ``predictions`` as class numbers."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.classes import balanced_accuracy

BalancedAccuracy = metric_class(balanced_accuracy, "predictions")
