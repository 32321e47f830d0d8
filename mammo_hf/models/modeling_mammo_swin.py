"""The two models: masked image modelling on rectangles, and classification of several tasks with a lesion head.

Both keep transformers' own parameter names for the encoder and the classifier. What is added (decoder, lesion head)
is outside ``swin.`` and ``classifier``, so that stock classes load our checkpoints and ignore it.
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
from transformers import initialization as init
from transformers.models.swin.modeling_swin import SwinImageClassifierOutput, SwinMaskedImageModelingOutput
from transformers.utils.generic import can_return_tuple

from ..errors import UsageError
from .configuration_mammo_swin import MammoSwinConfig
from .losses import (
    counted_pixels,
    lesion_evidence_loss,
    lesion_token_loss,
    mean_absolute_error,
    multi_task_loss,
    normalized_target,
)
from .sparse_encoder import VisibleTokens, encode_visible, packed_for, warn_dense

# From the encoder's last tokens back to pixels: a light convolutional decoder, and SimMIM's single linear layer.


class Smoothing(nn.Conv2d):
    """A 3 x 3 convolution of each channel alone, at first (1, 2, 1) / 4 both ways.

    That kernel takes out exactly what alternates from pixel to pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            channels, channels, kernel_size=3, padding=1, groups=channels, bias=False, padding_mode="replicate"
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the kernel to that of a new model."""
        row = torch.tensor([1.0, 2.0, 1.0], device=self.weight.device) / 4
        init.copy_(self.weight, (row[:, None] * row).expand_as(self.weight))


class ConvDecoder(nn.Module):
    """The way from the last stage's tokens to pixels, halving the width at each doubling of the grid.

    1024-512-256-128-64 for Swin-B. A doubling is a 2 x 2 transposed convolution, whose kernel equals its stride so
    that no chequerboard can arise, and a depthwise 3 x 3 one that joins neighbours: about a ninth of the cost of plain
    3 x 3 convolutions at these widths. The last doubling, or what four of them leave, is done by a pixel shuffle: at
    full resolution even the narrowest layers would cost more than all others together. The pixels of a shuffle know
    nothing of each other, so a smoothing of the image itself joins them.
    """

    def __init__(self, hidden_size: int, num_channels: int, stride: int) -> None:
        super().__init__()
        doublings = min(4, (stride & -stride).bit_length() - 1)
        if stride == 2**doublings:
            doublings -= 1
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
        self.smoothing = Smoothing(num_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Decode (batch, hidden_size, rows, columns) to (batch, num_channels, rows * stride, columns * stride)."""
        smoothed: torch.Tensor = self.smoothing(self.to_pixels(self.blocks(features)))
        return smoothed


def linear_decoder(hidden_size: int, num_channels: int, stride: int) -> nn.Sequential:
    """Return SimMIM's decoder: each token to its own stride x stride pixels (arXiv 2111.09886, section 3.3)."""
    # the names of its parameters are stock Swin's
    return nn.Sequential(nn.Conv2d(hidden_size, num_channels * stride**2, kernel_size=1), nn.PixelShuffle(stride))


@contextmanager
def stateless_windows(swin: SwinModel) -> Iterator[None]:
    """Start every layer from the window and shift of the configuration, and leave them so.

    Stock Swin clamps window and shift in place if a grid is no larger than the window, and keeps the clamped
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


class MammoSwinForMaskedImageModeling(SwinPreTrainedModel):
    """Masked image modelling (SimMIM, arXiv 2111.09886) on any rectangle, with an encoder that skips what is hidden.

    With ``config.sparse_encoder``, all stages but the last run on visible tokens; ``deep_mask_token`` replaces
    the hidden ones before the last patch merging, and stock Swin's own mask token is not trained. An image size whose
    windows would be padded, or a mask that no patch merging respects, is run densely instead.
    """

    config_class = MammoSwinConfig

    def __init__(self, config: MammoSwinConfig) -> None:
        super().__init__(config)
        config.check_image_size(*config.image_size)
        self.swin = SwinModel(config, add_pooling_layer=False, use_mask_token=True)
        build = ConvDecoder if config.decoder == "conv" else linear_decoder
        self.decoder = build(config.hidden_size, config.num_channels, config.encoder_stride)
        self.deep_mask_token = None
        if config.sparse_encoder and config.takes_visible_tokens(*config.image_size):
            self.deep_mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size // 2))
            self._freeze_stock_mask_token()
        elif config.sparse_encoder:
            warn_dense("windows would be padded at %d x %d", *config.image_size)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does, and freeze the stock mask token again: loading makes every parameter trainable."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._freeze_stock_mask_token()
        return loaded

    def _freeze_stock_mask_token(self) -> None:
        # a trainable parameter without a gradient would stop distributed training
        if self.deep_mask_token is not None:
            self.swin.embeddings.mask_token.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Smoothing):
            module.reset_parameters()
            return
        super()._init_weights(module)
        if module is self and self.deep_mask_token is not None:
            # not zero: the layer norm of the merge would multiply its gradient by hundreds
            init.trunc_normal_(self.deep_mask_token, std=self.config.initializer_range)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        visible: VisibleTokens | None = None,
        content_mask: torch.Tensor | None = None,
        breast_mask: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> SwinMaskedImageModelingOutput:
        """Reconstruct images from their visible patches.

        Args:
            pixel_values: Normalised images (batch, channels, height, width).
            bool_masked_pos: Hidden patches, bool (batch, patches), row by row over the patch grid. ``None``: nothing is
                hidden and there is no loss.
            visible: Visible tokens of the mask, if a data loader has packed them already.
            content_mask: Mask of the image, bool (batch, height, width): false in the padding, which never counts.
            breast_mask: Mask of the breast, bool (batch, height, width); for ``loss_region="masked_breast"``.
            num_items_in_batch: Divisor of the loss, the counted pixels of all micro-batches of an update; ``None``:
                those of this batch.
            kwargs: Arguments of the encoder.

        Returns:
            Loss (mean absolute error over the pixels of ``config.loss_region`` and channels, in normalised units) and
            the reconstruction (batch, channels, height, width). With visible tokens alone, ``hidden_states`` of
            hidden tokens are zero.

        Raises:
            UsageError: The size fits no window, or the mask has the wrong shape.
        """
        height, width = pixel_values.shape[-2:]
        self.config.check_image_size(height, width)
        grids = self.config.stage_grids(height, width)
        if bool_masked_pos is not None:
            _check_mask(bool_masked_pos, len(pixel_values), grids[0])
        packable = self.deep_mask_token is not None and bool_masked_pos is not None
        if visible is None and packable and not kwargs.get("interpolate_pos_encoding"):
            visible = packed_for(self.config, bool_masked_pos, (height, width))
        with stateless_windows(self.swin):
            if visible is not None:
                outputs = encode_visible(
                    self.swin, pixel_values, visible.to(pixel_values.device), self.deep_mask_token, **kwargs
                )
            else:
                outputs = self.swin(pixel_values, bool_masked_pos=bool_masked_pos, **kwargs)
        reconstruction = self.decoder(outputs.last_hidden_state.transpose(1, 2).unflatten(2, grids[-1]))
        loss = None
        if bool_masked_pos is not None:
            counted = self.counted_pixels(bool_masked_pos, (height, width), content_mask, breast_mask)
            side = self.config.normalized_patch
            target = pixel_values if side is None else normalized_target(pixel_values, side)
            loss = mean_absolute_error(reconstruction, target, counted, num_items_in_batch)
            if visible is None and self.deep_mask_token is not None:
                # a trainable parameter without a gradient would stop distributed training
                loss = loss + 0.0 * self.deep_mask_token.sum()
        return SwinMaskedImageModelingOutput(
            loss=loss,
            reconstruction=reconstruction,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            reshaped_hidden_states=outputs.reshaped_hidden_states,
        )

    def counted_pixels(
        self,
        bool_masked_pos: torch.Tensor,
        size: tuple[int, int],
        content_mask: torch.Tensor | None = None,
        breast_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the pixels that the loss is taken over, bool (batch, height, width)."""
        return counted_pixels(
            bool_masked_pos,
            size,
            self.config.stage_grids(*size)[0],
            region=self.config.loss_region,
            content_mask=content_mask,
            breast_mask=breast_mask,
        )


def _check_mask(mask: torch.Tensor, images: int, grid: tuple[int, int]) -> None:
    rows, columns = grid
    if mask.shape != (images, rows * columns):
        raise UsageError(
            f"bool_masked_pos has shape {tuple(mask.shape)}, not (batch, patches) = {(images, rows * columns)}",
            remedy=f"give one value for each of the {rows} x {columns} patches of an image",
        )


@dataclass
class MammoSwinImageClassifierOutput(SwinImageClassifierOutput):
    """The output of stock Swin's classifier and of the lesion head.

    Attributes:
        lesion_logits: Logits (batch, 1 + labels of the lesion task, rows, columns) over the last stage's grid; channel
            0 is "no lesion here". ``None`` without a lesion head.
        lesion_scores: Largest log-odds over the tokens of each label against "no lesion here", (batch, labels of the
            lesion task).
    """

    lesion_logits: torch.Tensor | None = None
    lesion_scores: torch.Tensor | None = None


class MammoSwinForImageClassification(SwinForImageClassification):
    """Swin under one linear layer over all tasks, and a lesion head on the last stage's tokens."""

    config_class = MammoSwinConfig
    accepts_loss_kwargs = False
    # parameters of masked image modelling that a classifier which starts from it does not need
    _keys_to_ignore_on_load_unexpected = (r"^decoder\.", r"^deep_mask_token$", r"^swin\.embeddings\.mask_token$")

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
        num_items_in_batch: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MammoSwinImageClassifierOutput:
        """Score each label of each task.

        Args:
            pixel_values: Normalised images (batch, channels, height, width).
            labels: Labels in the order of ``config.tasks``, int64 (batch, tasks), or (batch,) for one task; -100 is not
                known.
            lesion_labels: Labels of the last stage's tokens, int64 (batch, rows, columns): 0 no lesion, 1 + label of
                the lesion task, -100 if a finding has no known location.
            num_items_in_batch: `loss_counts` of all micro-batches of an update; ``None``: of this batch.
            kwargs: Arguments of the encoder.

        Returns:
            Logits (batch, labels of all tasks); a task's probabilities are the softmax over its own slice.

        Raises:
            UsageError: The size fits no window.
        """
        height, width = pixel_values.shape[-2:]
        self.config.check_image_size(height, width)
        with stateless_windows(self.swin):
            if self.config.tasks is None:
                return super().forward(pixel_values, labels=labels, **kwargs)
            outputs = self.swin(pixel_values, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        lesion_logits = lesion_scores = None
        if self.lesion_head is not None:
            grid = self.config.stage_grids(height, width)[-1]
            lesion_logits = self.lesion_head(outputs.last_hidden_state).transpose(1, 2).unflatten(2, grid)
            lesion_scores = (lesion_logits[:, 1:] - lesion_logits[:, :1]).flatten(2).amax(-1)
        loss = None
        if labels is not None:
            loss = multi_task_loss(logits, labels, self.config, num_items_in_batch)
            if lesion_logits is not None and lesion_labels is not None:
                tokens = outputs.last_hidden_state
                loss = loss + self._lesion_loss(tokens, lesion_logits, lesion_labels, num_items_in_batch)
        return MammoSwinImageClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            reshaped_hidden_states=outputs.reshaped_hidden_states,
            lesion_logits=lesion_logits,
            lesion_scores=lesion_scores,
        )

    def _lesion_loss(
        self, tokens: torch.Tensor, lesion_logits: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor | None
    ) -> torch.Tensor:
        config = self.config
        token_loss = lesion_token_loss(lesion_logits, labels, config.lesion_background_weight, counts)
        evidence = self.classifier(tokens)[..., config.task_slices[config.lesion_task]]
        return config.lesion_loss_weight * (token_loss + lesion_evidence_loss(evidence, labels.flatten(1), counts))

    def probabilities(self, logits: torch.Tensor, lesion_scores: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Return by task the probabilities (batch, labels): the softmax over the task's own slice.

        Args:
            logits: Logits (batch, labels of all tasks).
            lesion_scores: Lesion scores of the output; needed if ``config.score_from`` takes the lesion task's from
                there.

        Raises:
            UsageError: They are needed and not given.
        """
        return probabilities(self.config, logits, lesion_scores)


def probabilities(
    config: MammoSwinConfig, logits: torch.Tensor, lesion_scores: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Return what `MammoSwinForImageClassification.probabilities` returns, from a configuration alone."""
    chosen = score_logits(config, logits, lesion_scores).float()
    return {name: chosen[:, part].softmax(-1) for name, part in config.task_slices.items()}


def score_logits(
    config: MammoSwinConfig, logits: torch.Tensor, lesion_scores: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the logits whose softmax over a task's slice is the task's score, (batch, labels of all tasks).

    They are the classifier's own, except for the lesion task if ``config.score_from`` takes it from the lesion head.

    Raises:
        UsageError: ``lesion_scores`` is needed and not given.
    """
    if config.score_from == "pooled":
        return logits
    if lesion_scores is None:
        raise UsageError(f"score_from is {config.score_from!r}", remedy="give the output's lesion_scores too")
    part = config.task_slices[str(config.lesion_task)]
    lesion, pooled = lesion_scores.float().log_softmax(-1), logits[:, part].float().log_softmax(-1)
    chosen = logits.clone()
    both = torch.logaddexp(lesion, pooled) - math.log(2)
    chosen[:, part] = (lesion if config.score_from == "lesion" else both).to(logits.dtype)
    return chosen
