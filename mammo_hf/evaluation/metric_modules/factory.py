"""Makes an ``evaluate`` metric from one of this package's plain functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np

from ...metrics.inputs import UndefinedMetric

# 32 bits would tie scores that differ and so move a rank statistic in its fourth digit
_CLASSES, _SCORES = datasets.Value("int64"), datasets.Value("float64")
_INPUTS = {
    "scores": {"references": _CLASSES, "prediction_scores": _SCORES},
    "probabilities": {"references": _CLASSES, "prediction_scores": datasets.Sequence(_SCORES)},
    "predictions": {"references": _CLASSES, "predictions": _CLASSES},
}


def metric_class(function: Callable[..., float], inputs: str) -> type[evaluate.Metric]:
    """An ``evaluate.Metric`` whose ``compute`` is the function.

    ``compute`` returns ``{name: value}``, or ``{name: None, name_reason: why}`` where the metric is undefined. Further
    arguments of ``compute`` are options of the function.

    Args:
        function: A metric of ``(references, second)``; its name and docstring become the module's.
        inputs: What the second argument is: ``"scores"`` ``(n,)`` or ``"probabilities"`` ``(n, classes)``, both passed
            as ``prediction_scores``, or ``"predictions"`` ``(n,)`` class numbers.

    Returns:
        A class, to stand in a module of its own as ``evaluate.load`` asks.
    """
    features = datasets.Features(_INPUTS[inputs])
    second = next(name for name in features if name != "references")
    name = function.__name__

    class _Metric(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            text = function.__doc__ or ""
            return evaluate.MetricInfo(
                description=text.split("\n", 1)[0], citation="", inputs_description=text, features=features
            )

        def _compute(self, references: Any, **inputs: Any) -> dict[str, float | str | None]:
            # what is no feature is an option of the function, such as compute(..., specificity=0.95)
            values = np.asarray(inputs.pop(second))
            try:
                return {name: function(np.asarray(references), values, **inputs)}
            except UndefinedMetric as error:
                return {name: None, f"{name}_reason": error.reason}

    # evaluate names its cache folder after the class
    _Metric.__name__ = _Metric.__qualname__ = "".join(part.capitalize() for part in name.split("_"))
    return _Metric
