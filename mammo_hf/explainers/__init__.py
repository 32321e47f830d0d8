"""Where a model looked: one verb, ``explain``, over explainers that are found as entry points.

What the author of a plugin needs stands here too: ``Explainer``, ``lent`` and ``score``.
"""

from __future__ import annotations

from .base import Explainer, Explanation
from .discovery import Found, explainers, find_explainer
from .explain import explain
from .model_state import lent
from .targets import score

__all__ = ["Explainer", "Explanation", "Found", "explain", "explainers", "find_explainer", "lent", "score"]
