"""Conformance kits for authors of plug-ins, one file per kind of plug-in."""

from .encoders import check_encoder as check_encoder
from .explainers import TASKS as TASKS
from .explainers import check_explainer as check_explainer
from .explainers import tiny_classifier as tiny_classifier
from .sources import check_source as check_source

__all__ = ["TASKS", "check_encoder", "check_explainer", "check_source", "tiny_classifier"]
