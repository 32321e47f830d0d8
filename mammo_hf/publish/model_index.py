"""A card's metadata: what the Hub indexes, filters by and shows beside the text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..evaluation.report.writing import METRIC_NAMES, PRIVATE_COLLECTION
from .checkpoint import Checkpoint
from .pushed_files import REPOSITORY

_PIPELINE_TAGS = {"classifier": "image-classification", "mim": "image-feature-extraction"}
# from ours to the names that the Hub's own metrics have
_HUB_METRICS = {"auroc": "roc_auc", "brier": "brier_score"}
_INDEXED = ("auroc", "auprc", "sensitivity_at_90_specificity", "brier", "ece", "balanced_accuracy")
_UNITS = ("breast", "patient")


def card_data(checkpoint: Checkpoint) -> ModelCardData:
    """The metadata of a checkpoint's card.

    The licence is "unknown" until somebody says it, and a data set is named where it is a public one.
    """
    about = checkpoint.metrics.get("card") or {}
    name = (checkpoint.figures.get("collection") or {}).get("name")
    results = eval_results(checkpoint)
    return ModelCardData(
        license=about.get("license") or "unknown",
        library_name="transformers",
        pipeline_tag=_PIPELINE_TAGS.get(checkpoint.stage, "image-feature-extraction"),
        tags=["mammography", "medical-imaging", "swin", "mammo_hf"],
        base_model=about.get("base_model"),
        datasets=[_identifier(name)] if name else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=REPOSITORY if results else None,
        eval_results=results or None,
    )


def eval_results(checkpoint: Checkpoint) -> list[EvalResult]:
    """The test split's figures by image, by breast and by patient, each with its interval in words."""
    found = []
    collection = (checkpoint.figures.get("collection") or {}).get("name")
    for task, figures in _of_test(checkpoint).items():
        parts = {"image": figures}
        parts |= {unit: figures["units"][unit]["mean"] for unit in _UNITS if unit in figures.get("units", {})}
        for unit, part in parts.items():
            for metric in _INDEXED:
                if part.get(metric) is None:
                    continue
                found.append(
                    EvalResult(
                        task_type="image-classification",
                        task_name=plain(task),
                        dataset_type=_identifier(collection or "private"),
                        dataset_name=plain(collection or PRIVATE_COLLECTION),
                        dataset_config=plain(task),  # without it the Hub's index would put all tasks under one
                        dataset_split="test",
                        metric_type=_HUB_METRICS.get(metric, metric),
                        metric_name=f"{METRIC_NAMES[metric]} of {plain(task)} by {unit}, {_interval(part, metric)}",
                        metric_value=round(float(part[metric]), 4),
                    )
                )
    return found


def _of_test(checkpoint: Checkpoint) -> dict[str, Mapping[str, Any]]:
    found = checkpoint.figures.get("test") or {}
    return {task: figures for task, figures in found.items() if isinstance(figures, Mapping)}


def _interval(part: Mapping[str, Any], metric: str) -> str:
    interval = part.get(f"{metric}_interval")
    if interval is None:
        return "no interval"
    return f"95 % interval by patient {interval[0]:.3f} to {interval[1]:.3f}"


def plain(text: object) -> str:
    """A name on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _identifier(name: str) -> str:
    """As the Hub takes identifiers: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "collection"
