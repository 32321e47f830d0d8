"""Accuracy as an ``evaluate`` metric: ``references`` and ``predictions`` as class numbers."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.classes import accuracy

Accuracy = metric_class(accuracy, "predictions")
