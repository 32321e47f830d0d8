"""Where a model looked: one verb, ``explain``, over explainers that are found as entry points.

What the author of a plugin needs stands here too: ``Explainer``, ``lent``, ``score`` and ``gradients_of``.
"""

from __future__ import annotations

from .discovery import Explainer, Found, explainers, find_explainer
from .explain import explain
from .explanation import Explanation
from .swin import lent
from .targets import gradients_of, score

__all__ = [
    "Explainer",
    "Explanation",
    "Found",
    "explain",
    "explainers",
    "find_explainer",
    "gradients_of",
    "lent",
    "score",
]
