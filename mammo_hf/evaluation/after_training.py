"""What training ends with: the test split read once, in the way that validation fixed, and a report of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..data.collection import Collection
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from .classifier import Evaluation, evaluate_classifier, fit_reading, store
from .report import PRIVATE_COLLECTION, About, write_report
from .report.facts import flow
from .report.pictures import confident_errors
from .report.writing import command_line, environment
from .scored import scored

Scores = tuple[datasets.Dataset, np.ndarray]


def evaluate_after_training(
    model: MammoSwinForImageClassification,
    *,
    validation: Scores | None,
    test: Scores | None,
    report: Path,
    checkpoint: str,
    table: Collection | None = None,
    unreadable: Sequence[str] = (),
    training: Mapping[str, Any] | None = None,
    preprocessing: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 2000,
) -> Evaluation | None:
    """Fits calibration and operating points on validation, evaluates the test split, and writes the report.

    The model runs over nothing: both splits come with their logits. Its configuration gets ``calibration`` and
    ``operating_points``, so save it after. The report holds no picture of an image, because what training writes may be
    pushed; ``mammo-hf evaluate`` writes one with pictures.

    Args:
        model: The trained one.
        validation: Prepared images of the validation split and their logits; ``None``: there is none, and what an
            earlier training had stored is taken away.
        test: Those of the test split; ``None``: there is none, and no report.
        report: The folder of ``report.html`` and ``report.json``.
        checkpoint: The model's name.
        table: The collection's table, for the flow and more subgroups.
        unreadable: Why images of its test split could not be prepared, a reason each.
        training: What is recorded of the training; the collection's name is taken from it.
        preprocessing: What the processor does, a sentence a step.
        seed: Of the bootstrap.
        resamples: Bootstrap resamples.

    Raises:
        UsageError: The report cannot be written.
    """
    config = model.config
    config.calibration = config.operating_points = None
    reading = None if validation is None else fit_reading(config.tasks, scored(validation[1], validation[0], table))
    if test is None:
        store(config, reading)
        return None
    evaluation = evaluate_classifier(
        config,
        scored(test[1], test[0], table),
        reading=reading,
        seed=seed,
        resamples=resamples,
    )
    recorded = training or {}
    about = About(
        checkpoint=checkpoint,
        collection=(recorded.get("collection") or {}).get("name") or PRIVATE_COLLECTION,
        split="test",
        tasks=config.tasks,
        model=model_facts(model),
        training=recorded,
        preprocessing=preprocessing,
        trained_here=True,
        seed=seed,
        resamples=resamples,
        flow=[] if table is None else flow(table, test[0], "test", unreadable),
        errors=confident_errors(evaluation),
        environment=environment(str(model.device)),
        command=command_line(),
    )
    write_report(evaluation, about, report)
    return evaluation


def model_facts(model: MammoSwinForImageClassification) -> dict[str, object]:
    """Of a report's `About.model`."""
    config = model.config
    size = config.image_size
    return {
        "image_size": [size, size] if isinstance(size, int) else list(size),
        "parameters": model.num_parameters(),
        "size": f"Swin transformer of {len(config.depths)} stages, width {config.embed_dim}",
    }
