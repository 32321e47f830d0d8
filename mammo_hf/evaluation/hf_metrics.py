"""Metrics of this package as a module of Hugging Face ``evaluate``, one configuration per metric.

``evaluate.load(METRIC_MODULE, "auroc")`` needs no network, and computes exactly what the function of that name does.
"""

# evaluate copies this file into its cache, so its imports are absolute, and one per line.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np

from mammo_hf.errors import UsageError
from mammo_hf.metrics import classification
from mammo_hf.metrics.inputs import UndefinedMetric

# In 32 bits scores that differ would be tied, which moves a rank statistic in its fourth digit.
_CLASSES, _SCORES = datasets.Value("int64"), datasets.Value("float64")
_SCORE_PER_IMAGE = {"references": _CLASSES, "prediction_scores": _SCORES}
_PROBABILITY_PER_CLASS = {"references": _CLASSES, "prediction_scores": datasets.Sequence(_SCORES)}
_PREDICTED_CLASS = {"references": _CLASSES, "predictions": _CLASSES}
METRICS = {
    "accuracy": _PREDICTED_CLASS,
    "auprc": _SCORE_PER_IMAGE,
    "auroc": _SCORE_PER_IMAGE,
    "balanced_accuracy": _PREDICTED_CLASS,
    "brier": _SCORE_PER_IMAGE,
    "ece": _SCORE_PER_IMAGE,
    "macro_auroc": _PROBABILITY_PER_CLASS,
    "partial_auc": _SCORE_PER_IMAGE,
    "pf1": _SCORE_PER_IMAGE,
    "quadratic_kappa": _PREDICTED_CLASS,
    "sensitivity_at_specificity": _SCORE_PER_IMAGE,
    "specificity_at_sensitivity": _SCORE_PER_IMAGE,
}


class MammoMetric(evaluate.Metric):
    """Metric of ``evaluate`` that its configuration names.

    ``compute`` returns ``{name: value}``, or ``{name: None, name_reason: why}`` if the metric is undefined. Further
    arguments of ``compute`` are options of the function, such as ``compute(..., specificity=0.95)``.

    Raises:
        UsageError: There is no metric of that name.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            known = f"give one of {', '.join(METRICS)} as the second argument of evaluate.load"
            raise UsageError("is not a metric", source=self.config_name, remedy=known)
        text = self._function.__doc__ or ""
        features = datasets.Features(METRICS[self.config_name])
        description = text.split("\n", 1)[0]
        return evaluate.MetricInfo(description=description, citation="", inputs_description=text, features=features)

    @property
    def _function(self) -> Callable[..., float]:
        function: Callable[..., float] = getattr(classification, self.config_name)
        return function

    def _compute(self, references: Any, **inputs: Any) -> dict[str, float | str | None]:
        name = self.config_name
        values = np.asarray(inputs.pop("predictions" if "predictions" in METRICS[name] else "prediction_scores"))
        try:
            return {name: self._function(np.asarray(references), values, **inputs)}
        except UndefinedMetric as error:
            return {name: None, f"{name}_reason": error.reason}
