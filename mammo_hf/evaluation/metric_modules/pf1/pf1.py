"""Probabilistic F1 as an ``evaluate`` metric: ``references`` 0 or 1, ``prediction_scores`` one probability an image."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.probabilities import pf1

Pf1 = metric_class(pf1, "scores")
