"""Sensitivity at a specificity as an ``evaluate`` metric: ``references`` 0 or 1, ``prediction_scores`` ``(n,)``."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.ranking import sensitivity_at_specificity

SensitivityAtSpecificity = metric_class(sensitivity_at_specificity, "scores")
