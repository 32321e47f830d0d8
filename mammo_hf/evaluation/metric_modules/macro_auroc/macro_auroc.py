"""Macro AUROC as an ``evaluate`` metric: ``prediction_scores`` one row of class probabilities an image."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.ranking import macro_auroc

MacroAuroc = metric_class(macro_auroc, "probabilities")
