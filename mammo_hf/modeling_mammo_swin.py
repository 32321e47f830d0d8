"""The two models: masked image modelling on rectangles, and classification of several tasks with a lesion head.

Both keep transformers' own parameter names for the encoder and the classifier. What is added (decoder, lesion head)
stands outside ``swin.`` and ``classifier``, so that stock classes load our checkpoints and ignore it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import SwinForImageClassification, SwinModel, SwinPreTrainedModel
from transformers.models.swin.modeling_swin import SwinImageClassifierOutput, SwinMaskedImageModelingOutput

from .classification_loss import lesion_evidence_loss, lesion_token_loss, multi_task_loss
from .configuration_mammo_swin import MammoSwinConfig
from .errors import UsageError


@contextmanager
def stateless_windows(swin: SwinModel) -> Iterator[None]:
    """Starts every layer from the window and shift of the configuration, and leaves them so.

    Stock Swin clamps window and shift in place where a grid is no larger than the window, and keeps the clamped
    values: after one small image a large one would be computed with another shift.
    """
    window = swin.config.window_size
    layers = [(i, block) for stage in swin.encoder.layers for i, block in enumerate(stage.blocks)]

    def reset() -> None:
        for index, block in layers:
            block.window_size = window
            block.shift_size = window // 2 if index % 2 else 0

    reset()
    try:
        yield
    finally:
        reset()


class ConvDecoder(nn.Module):
    """From the last stage's tokens to pixels, halving the width at each doubling of the grid.

    1024-512-256-128-64 for Swin-B. A doubling is a 2 x 2 transposed convolution, whose kernel equals its stride so
    that no chequerboard can arise, and a depthwise 3 x 3 one that joins neighbours: about a ninth of the cost of plain
    3 x 3 convolutions at these widths. What four doublings leave of the stride is done by a pixel shuffle.
    """

    def __init__(self, hidden_size: int, num_channels: int, stride: int) -> None:
        super().__init__()
        doublings = min(4, int(math.log2(stride)))
        shuffle = stride // 2**doublings
        widths = [max(hidden_size // 2**i, 4) for i in range(doublings + 1)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(before, after, kernel_size=2, stride=2),
                    nn.Conv2d(after, after, kernel_size=3, padding=1, groups=after),
                    nn.GroupNorm(1, after),
                    nn.GELU(),
                )
                for before, after in pairwise(widths)
            )
        )
        self.to_pixels = nn.Sequential(
            nn.Conv2d(widths[-1], num_channels * shuffle**2, kernel_size=1), nn.PixelShuffle(shuffle)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, hidden_size, rows, columns) to (batch, num_channels, rows * stride, columns * stride)."""
        return self.to_pixels(self.blocks(features))


class MammoSwinForMaskedImageModeling(SwinPreTrainedModel):
    """Swin encoder, convolutional decoder, L1 on the hidden pixels (SimMIM, arXiv 2111.09886), any rectangle."""

    config_class = MammoSwinConfig
    # the loss is a mean over equally many hidden pixels an image: Trainer's own division by micro-batches is right
    accepts_loss_kwargs = False

    def __init__(self, config: MammoSwinConfig) -> None:
        super().__init__(config)
        config.check_image_size(*config.image_size)
        self.swin = SwinModel(config, add_pooling_layer=False, use_mask_token=True)
        self.decoder = ConvDecoder(config.hidden_size, config.num_channels, config.encoder_stride)
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SwinMaskedImageModelingOutput:
        """Reconstructs an image from its visible patches.

        Args:
            pixel_values: (batch, channels, height, width), normalised.
            bool_masked_pos: (batch, patches) bool, row by row over the patch grid; true: hidden. Without it nothing is
                hidden and there is no loss.
            kwargs: Passed on to the encoder.

        Returns:
            Loss (mean absolute error over hidden pixels and channels, in normalised units) and the reconstruction
            (batch, channels, height, width).

        Raises:
            UsageError: A size that fits no window, or a mask of the wrong shape.
        """
        height, width = pixel_values.shape[-2:]
        self.config.check_image_size(height, width)
        rows, columns = self.config.stage_grids(height, width)[0]
        if bool_masked_pos is not None and bool_masked_pos.shape != (len(pixel_values), rows * columns):
            raise UsageError(
                f"bool_masked_pos has shape {tuple(bool_masked_pos.shape)}, not (batch, patches) = "
                f"{(len(pixel_values), rows * columns)}",
                remedy=f"give one value for each of the {rows} x {columns} patches of an image",
            )
        with stateless_windows(self.swin):
            outputs = self.swin(pixel_values, bool_masked_pos=bool_masked_pos, **kwargs)
        last_grid = self.config.stage_grids(height, width)[-1]
        reconstruction = self.decoder(outputs.last_hidden_state.transpose(1, 2).unflatten(2, last_grid))
        loss = None
        if bool_masked_pos is not None:
            hidden = bool_masked_pos.view(-1, 1, rows, columns)
            hidden = hidden.repeat_interleave(height // rows, 2).repeat_interleave(width // columns, 3)
            error = (reconstruction - pixel_values).abs() * hidden
            loss = error.sum() / hidden.sum().clamp(min=1) / pixel_values.shape[1]
        return SwinMaskedImageModelingOutput(
            loss=loss,
            reconstruction=reconstruction,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            reshaped_hidden_states=outputs.reshaped_hidden_states,
        )


@dataclass
class MammoSwinImageClassifierOutput(SwinImageClassifierOutput):
    """Stock Swin's classifier output, and the lesion head's.

    Attributes:
        lesion_logits: (batch, 1 + labels of the lesion task, rows, columns) over the last stage's grid; channel 0 is
            "no lesion here". ``None`` without a lesion head.
    """

    lesion_logits: torch.Tensor | None = None


class MammoSwinForImageClassification(SwinForImageClassification):
    """Swin under one linear layer over all tasks, and a lesion head on the last stage's tokens."""

    config_class = MammoSwinConfig
    accepts_loss_kwargs = False

    def __init__(self, config: MammoSwinConfig) -> None:
        config.check_image_size(*config.image_size)
        super().__init__(config)
        self.lesion_head = None
        if config.lesion_task is not None:
            lesion_slice = config.task_slices[config.lesion_task]
            self.lesion_head = nn.Linear(self.swin.num_features, 1 + lesion_slice.stop - lesion_slice.start)
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        lesion_labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MammoSwinImageClassifierOutput:
        """Scores each label of each task.

        Args:
            pixel_values: (batch, channels, height, width), normalised.
            labels: int64 (batch, tasks) in the order of ``config.tasks``, -100 where not known; (batch,) for one task.
            lesion_labels: int64 (batch, rows, columns) over the last stage's grid: 0 no lesion, 1 + label of the lesion
                task, -100 where the place of a finding is not known.
            kwargs: Passed on to the encoder.

        Returns:
            Logits (batch, labels of all tasks); a task's probabilities are the softmax over its own slice.

        Raises:
            UsageError: A size that fits no window.
        """
        height, width = pixel_values.shape[-2:]
        self.config.check_image_size(height, width)
        with stateless_windows(self.swin):
            if self.config.tasks is None:
                return super().forward(pixel_values, labels=labels, **kwargs)
            outputs = self.swin(pixel_values, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        lesion_logits = None
        if self.lesion_head is not None:
            grid = self.config.stage_grids(height, width)[-1]
            lesion_logits = self.lesion_head(outputs.last_hidden_state).transpose(1, 2).unflatten(2, grid)
        loss = None
        if labels is not None:
            loss = multi_task_loss(logits, labels, self.config)
            if lesion_logits is not None and lesion_labels is not None:
                token_loss = lesion_token_loss(lesion_logits, lesion_labels, self.config.lesion_background_weight)
                evidence = self.classifier(outputs.last_hidden_state)[
                    ..., self.config.task_slices[self.config.lesion_task]
                ]
                evidence_loss = lesion_evidence_loss(evidence, lesion_labels.flatten(1))
                loss = loss + self.config.lesion_loss_weight * (token_loss + evidence_loss)
        return MammoSwinImageClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            reshaped_hidden_states=outputs.reshaped_hidden_states,
            lesion_logits=lesion_logits,
        )

    def probabilities(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """For each task's name the probabilities (batch, labels): the softmax over the task's own slice."""
        return {name: logits[:, part].float().softmax(-1) for name, part in self.config.task_slices.items()}
