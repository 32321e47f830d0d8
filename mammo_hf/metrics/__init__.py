"""Metrics of classification as plain functions: vectorised, float64, and never a figure where none is defined.

Each equals scikit-learn's function of the same idea, where it has one. Where scikit-learn returns NaN, warns, or raises
something of its own, these raise :class:`UndefinedMetric`, whose ``reason`` a report writes beside the missing figure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .classes import (
    accuracy,
    accuracy_rows,
    balanced_accuracy,
    balanced_accuracy_rows,
    confusion,
    quadratic_kappa,
    quadratic_kappa_rows,
)
from .inputs import Ranking, Rows, UndefinedMetric, Weighted, check_classes
from .probabilities import brier, brier_rows, ece, ece_rows, pf1, pf1_rows, reliability
from .ranking import (
    auprc,
    auprc_rows,
    auroc,
    auroc_of,
    auroc_rows,
    macro_auroc,
    macro_auroc_rows,
    partial_auc,
    partial_auc_rows,
    pr_curve,
    roc_curve,
    sensitivity_at_specificity,
    sensitivity_rows,
    specificity_at_sensitivity,
    specificity_rows,
)

ROWS: dict[Callable[..., Any], Rows] = {
    accuracy: accuracy_rows,
    auprc: auprc_rows,
    auroc: auroc_rows,
    balanced_accuracy: balanced_accuracy_rows,
    brier: brier_rows,
    ece: ece_rows,
    macro_auroc: macro_auroc_rows,
    partial_auc: partial_auc_rows,
    pf1: pf1_rows,
    quadratic_kappa: quadratic_kappa_rows,
    sensitivity_at_specificity: sensitivity_rows,
    specificity_at_sensitivity: specificity_rows,
}


"""For each metric the one that computes it for all rows of weights at once."""


__all__ = [
    "ROWS",
    "Ranking",
    "Rows",
    "UndefinedMetric",
    "Weighted",
    "accuracy",
    "auprc",
    "auroc",
    "auroc_of",
    "balanced_accuracy",
    "brier",
    "check_classes",
    "confusion",
    "ece",
    "macro_auroc",
    "partial_auc",
    "pf1",
    "pr_curve",
    "quadratic_kappa",
    "reliability",
    "roc_curve",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
]
