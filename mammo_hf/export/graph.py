"""A classifier as a graph of tensors alone: from model input to the logits that its scores are made of."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..prediction.scoring import image_logits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..modeling_mammo_swin import MammoSwinForImageClassification

LARGEST_BATCH = 4096


class ScoreLogits(nn.Module):
    """The logits that count, ``config.score_from`` applied; what a task's calibration and softmax then take.

    Args:
        model: A classifier.
    """

    def __init__(self, model: MammoSwinForImageClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width), normalised, to (batch, labels of all tasks)."""
        return image_logits(self.model, pixel_values)


@contextmanager
def exportable(model: MammoSwinForImageClassification) -> Iterator[tuple[ScoreLogits, torch.Tensor, dict[str, Any]]]:
    """Lends a model in the state in which it can be traced, with an example batch and the shapes that may vary.

    Args:
        model: A classifier; it comes back in its mode, on its device and with its attention.
    """
    mode, attention = model.training, model.config._attn_implementation
    config: Any = model.config
    height, width = config.image_size
    # ONNX's decomposition of fused attention asks for a view of what is not contiguous
    model.set_attn_implementation("eager")
    try:
        example = torch.zeros(2, model.config.num_channels, height, width, dtype=model.dtype, device=model.device)
        batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
        yield ScoreLogits(model).eval(), example, {"pixel_values": {0: batch}}
    finally:
        model.set_attn_implementation(attention)
        model.train(mode)


def export_program(model: MammoSwinForImageClassification) -> torch.export.ExportedProgram:
    """The program that ``torch.export`` makes of a classifier, for any batch from 1 to 4096 images.

    Args:
        model: A classifier. The size of its images is fixed, as ``config.image_size`` says.
    """
    with exportable(model) as (graph, example, shapes), torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=shapes)
