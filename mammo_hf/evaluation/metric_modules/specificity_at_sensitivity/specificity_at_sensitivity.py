"""Specificity at a sensitivity as an ``evaluate`` metric: ``references`` 0 or 1, ``prediction_scores`` ``(n,)``."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.ranking import specificity_at_sensitivity

SpecificityAtSensitivity = metric_class(specificity_at_sensitivity, "scores")
