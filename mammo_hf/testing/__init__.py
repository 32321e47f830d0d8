"""Conformance kits for authors of plug-ins, one file per kind of plug-in."""

from .commands import check_command as check_command
from .encoders import check_encoder as check_encoder
from .explainers import TASKS as TASKS
from .explainers import check_explainer as check_explainer
from .explainers import tiny_classifier as tiny_classifier
from .outputs import check_output as check_output
from .outputs import scored_exam as scored_exam
from .sources import check_source as check_source

__all__ = [
    "TASKS",
    "check_command",
    "check_encoder",
    "check_explainer",
    "check_output",
    "check_source",
    "scored_exam",
    "tiny_classifier",
]
