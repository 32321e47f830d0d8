"""Explanations of where a model looked: the verb ``explain`` and the explainers, which are found as entry points.

What the author of a plug-in needs is here too: ``Explainer``, ``preserve_state``, ``score`` and ``gradients_of``.
"""

from __future__ import annotations

from .explain import Explainer, explain, explainers, find_explainer, is_supervised
from .explanation import Explanation
from .swin import preserve_state
from .targets import gradients_of, score

__all__ = [
    "Explainer",
    "Explanation",
    "explain",
    "explainers",
    "find_explainer",
    "gradients_of",
    "is_supervised",
    "preserve_state",
    "score",
]
