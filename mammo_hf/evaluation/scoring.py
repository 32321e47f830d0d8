"""Scoring prepared images with a classifier, each one once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader

from ..configuration_mammo_swin import MammoSwinConfig
from ..errors import DataError
from ..image_processing_mammo import MammoImageProcessor
from ..modeling_mammo_swin import MammoSwinForImageClassification, score_logits
from ..training.datasets import LabelledImages
from .facts import facts_of
from .scored import Scored

if TYPE_CHECKING:
    from ..data import MammoTable


def score_images(
    model: MammoSwinForImageClassification,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    *,
    batch_size: int = 16,
    num_workers: int = 0,
) -> np.ndarray:
    """The logits of prepared images, float64 ``(n, labels of all tasks)``, in their order.

    Args:
        model: On the device to compute on; it comes back in the mode that it was in.
        prepared: What ``mammo_hf.data.prepare`` wrote.
        processor: The model's.
        batch_size: Images a batch.
        num_workers: Processes that read.

    Raises:
        DataError: A score is not finite.
    """
    loader = DataLoader(LabelledImages(prepared, processor), batch_size=batch_size, num_workers=num_workers)
    training, found = model.training, []
    config = cast(MammoSwinConfig, model.config)
    model.eval()
    try:
        with torch.inference_mode():
            for batch in loader:
                output = model(pixel_values=batch["pixel_values"].to(model.device))
                chosen = score_logits(config, output.logits, output.lesion_scores)
                found.append(chosen.double().cpu().numpy())
    finally:
        model.train(training)
    logits = np.concatenate(found) if found else np.zeros((0, int(model.config.num_labels or 0)))
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(logits)} images get scores that are not finite", remedy="check the model's weights"
        )
    return logits


def scored(logits: np.ndarray, prepared: datasets.Dataset, table: MammoTable | None = None) -> Scored:
    """Logits with the labels and facts of their images.

    Args:
        logits: ``(n, labels of all tasks)``.
        prepared: The images that they are of, with ``labels`` in the order of the tasks.
        table: That the images were prepared from, where it is at hand: it knows more facts.
    """
    return Scored(
        logits=np.asarray(logits, dtype=np.float64),
        labels=np.array(prepared["labels"], dtype=np.int64),
        patients=list(prepared["patient"]),
        facts=facts_of(table, prepared),
        image_ids=list(prepared["image_id"]),
    )
