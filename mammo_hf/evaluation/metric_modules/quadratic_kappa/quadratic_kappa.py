"""Quadratic kappa as an ``evaluate`` metric: ``references`` and ``predictions`` class numbers."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.classes import quadratic_kappa

QuadraticKappa = metric_class(quadratic_kappa, "predictions")
