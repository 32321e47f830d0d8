"""The partial AUC as an ``evaluate`` metric: ``references`` 0 or 1, ``prediction_scores`` one number an image."""

from __future__ import annotations

from mammo_hf.evaluation.metric_modules.factory import metric_class
from mammo_hf.metrics.ranking import partial_auc

PartialAuc = metric_class(partial_auc, "scores")
