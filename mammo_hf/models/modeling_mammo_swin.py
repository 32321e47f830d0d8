"""The two models: masked image modelling on rectangles, and classification of several tasks with a lesion head.

Both keep transformers' own parameter names for the encoder and the classifier. What is added (decoder, lesion head)
is outside ``swin.`` and ``classifier``, so that stock classes load our checkpoints and ignore it.
"""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    PreTrainedConfig,
    SwinConfig,
    SwinForImageClassification,
    SwinModel,
    SwinPreTrainedModel,
)
from transformers import initialization as init
from transformers.models.swin.modeling_swin import (
    SwinImageClassifierOutput,
    SwinMaskedImageModelingOutput,
    SwinModelOutput,
    SwinRelativePositionBias,
    window_partition,
)
from transformers.models.swin.modeling_swin import SwinLayer as StockSwinLayer
from transformers.utils.generic import can_return_tuple

from ..errors import UsageError
from ..files import ModelFiles
from .configuration_mammo_swin import MammoSwinConfig
from .losses import (
    breast_pixels,
    counted_pixels,
    lesion_evidence_loss,
    lesion_token_loss,
    mean_absolute_error,
    multi_task_loss,
    normalized_target,
    spread_over_pixels,
    teacher_loss,
)
from .sparse_encoder import VisibleTokens, encode_visible, packed_for, passed_over_modules_are_plain, warn_dense

logger = logging.getLogger(__name__)

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


# A teacher of masked image modelling: what a frozen encoder gives is predicted from the last tokens.


def pooled(grid: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Pool a grid of features over the breast: the weighted mean, then the maximum.

    Args:
        grid: Features (batch, channels, rows, columns).
        inside: Whether a pixel shows the breast, bool or float (batch, 1, height, width): where the intensity is above
            0, which is what our processor makes of everything else. A cell's weight is the fraction of its pixels that
            do; if none does, all cells count.

    Returns:
        Features (batch, 2 * channels).
    """
    weights = functional.adaptive_avg_pool2d(inside.to(grid.dtype), grid.shape[-2:])
    weights = torch.where(weights.sum((2, 3), keepdim=True) > 0, weights, 1)
    mean = (grid * weights).sum((2, 3)) / weights.sum((2, 3))
    highest = grid.masked_fill(weights == 0, -torch.inf).amax((2, 3))
    return torch.cat([mean, highest], 1)


class TeacherHead(nn.Module):
    """Linear predictions of a teacher's standardised features, from each token and from their mean and maximum.

    It is a part of the network in training alone; a finished encoder is saved without it.

    Args:
        hidden_size: Channels of the last stage.
        channels: Channels of the teacher.
    """

    def __init__(self, hidden_size: int, channels: int) -> None:
        super().__init__()
        self.of_cells = nn.Linear(hidden_size, channels)
        self.of_image = nn.Linear(2 * hidden_size, 2 * channels)
        for name, size in (("cells", channels), ("image", 2 * channels)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def standardize_by(self, cells: torch.Tensor, image: torch.Tensor) -> None:
        """Set mean and deviation of the targets.

        Args:
            cells: Features of cells, (cells, channels).
            image: Features of images, (images, 2 * channels).
        """
        for name, values in (("cells", cells), ("image", image)):
            deviation = values.std(0)
            getattr(self, f"{name}_mean").copy_(values.mean(0))
            # a channel that never changes has nothing to predict
            getattr(self, f"{name}_std").copy_(torch.where(deviation > 1e-6, deviation, 1))

    def forward(
        self, grid: torch.Tensor, inside: torch.Tensor, cells: torch.Tensor, image: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Return predictions and standardised targets of the cells and of the image.

        Args:
            grid: Last tokens (batch, hidden_size, rows, columns).
            inside: Whether a pixel shows the breast, bool (batch, height, width).
            cells: Features of the teacher (batch, channels, rows, columns).
            image: Their mean and maximum (batch, 2 * channels).

        Returns:
            "cells": two of (batch, rows, columns, channels); "image": two of (batch, 2 * channels).
        """
        of_cells, of_image = self.of_cells(grid.permute(0, 2, 3, 1)), self.of_image(pooled(grid, inside[:, None]))
        return {
            "cells": (of_cells, self._standardized("cells", cells.permute(0, 2, 3, 1))),
            "image": (of_image, self._standardized("image", image)),
        }

    def _standardized(self, name: str, values: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.get_buffer(f"{name}_mean"), self.get_buffer(f"{name}_std")
        return (values - mean) / deviation


# What both models change in stock Swin: layers without a memory, and weights under the names of published checkpoints.


class SwinLayer(StockSwinLayer):
    """Stock Swin's layer with a window and shift that do not depend on earlier images; it can ignore hidden tokens.

    Stock Swin clamps window and shift in place if a grid is no larger than the window, and keeps the clamped
    values: after one small image a large one would be computed with another shift, as would what gradient checkpointing
    computes again. Policies of FSDP find the class by stock Swin's name, which it therefore keeps.
    """

    def place(self, shift: int, *, before_last_stage: bool, before_last_merge: bool) -> None:
        """Set the shift of the configuration, and where in the encoder the layer is."""
        self.configured = (self.window_size, shift)
        self.before_last_stage, self.before_last_merge = before_last_stage, before_last_merge
        self._hidden: torch.Tensor | None = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        input_dimensions: tuple[int, int],
        always_partition: bool = False,
        hidden_tokens: torch.Tensor | None = None,
        deep_mask_token: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the layer as stock Swin does.

        Args:
            hidden_states: Tokens (batch, rows * columns, channels).
            input_dimensions: (rows, columns) of the grid of tokens.
            always_partition: Whether to keep the window even if it is larger than the grid.
            hidden_tokens: Hidden patches, bool (batch, rows of patches, columns of patches): no token attends to them.
            deep_mask_token: Token (1, 1, channels) that replaces the hidden ones before the last merge.
            kwargs: Arguments of the attention.
        """
        if hidden_tokens is not None and self.before_last_stage:
            step = hidden_tokens.shape[1] // input_dimensions[0]
            self._hidden = hidden_tokens[:, ::step, ::step]
        self.window_size, self.shift_size = self.configured
        try:
            result, weights = super().forward(hidden_states, input_dimensions, always_partition, **kwargs)
        finally:
            hidden, self._hidden = self._hidden, None
            self.window_size, self.shift_size = self.configured
        if hidden is not None and self.before_last_merge and deep_mask_token is not None:
            result = torch.where(hidden.flatten(1)[..., None], deep_mask_token.to(result.dtype), result)
        return result, weights

    def get_attn_mask(self, height: int, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
        """Return stock Swin's mask of shifted windows, or one for each image that also forbids hidden tokens."""
        mask: torch.Tensor | None = super().get_attn_mask(height, width, dtype, device)
        if self._hidden is None:
            return mask
        area = self.window_size**2
        keys = window_partition(self.cyclic_shift(self._hidden[..., None].to(dtype)), self.window_size)
        # finite, so that a window without a visible token is no 0 / 0; its exponential is 0 in every precision
        forbidden = (-1e4 * keys.reshape(-1, 1, area)).expand(-1, area, -1)
        return forbidden if mask is None else forbidden + mask.repeat(len(self._hidden), 1, 1)


def use_own_layers(swin: SwinModel) -> None:
    """Turn the layers of a new stock Swin into `SwinLayer`."""
    stages = list(swin.encoder.layers)
    for number, stage in enumerate(stages):
        for index, block in enumerate(stage.blocks):
            block.__class__ = SwinLayer
            block.place(
                swin.config.window_size // 2 if index % 2 else 0,
                before_last_stage=number < len(stages) - 1,
                before_last_merge=number == len(stages) - 2 and index == len(stage.blocks) - 1,
            )


# from the names of published checkpoints, under which transformers saves a Swin, to those of its modules
_MODULE_NAMES = (
    (r"\.attention\.self\.query\.", ".attention.q_proj."),
    (r"\.attention\.self\.key\.", ".attention.k_proj."),
    (r"\.attention\.self\.value\.", ".attention.v_proj."),
    (r"\.attention\.self\.(relative_position_bias_table)$", r".attention.relative_position_bias.\1"),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)  # fmt: skip


class _MammoSwinModel(ModelFiles, SwinPreTrainedModel):
    """Common part of both models."""

    config_class = MammoSwinConfig

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights as any module does, under the names of its modules or of its saved checkpoints.

        transformers saves a Swin under the names of its published checkpoints, and its Trainer loads the best model, or
        the one to resume from, by those of the modules: the head would be of the best step, the encoder of the last.
        """
        renamed = {}
        for name, value in state_dict.items():
            for pattern, replacement in _MODULE_NAMES:
                name = re.sub(pattern, replacement, name)
            renamed[name] = value
        found = super().load_state_dict(renamed, strict=strict, assign=assign)
        for module in self.modules():
            # follows from the window's size, is not saved, and has no values if the model was made on the meta device
            if assign and isinstance(module, SwinRelativePositionBias) and module.relative_position_index.is_meta:
                module.relative_position_index = module._create_relative_position_index().view(-1)
        return found


# arguments of `from_pretrained` that say where a checkpoint is, which its configuration and its weights both need
_PLACE_ARGUMENTS = (
    *("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies"),
    *("_commit_hash", "gguf_file", "trust_remote_code"),
)
_LABEL_FIELDS = (
    *("tasks", "id2label", "label2id", "class_weights", "task_weights", "ordinal_tasks", "label_smoothing"),
    *("lesion_task", "score_from", "calibration", "operating_points", "confidences"),
)


def _take_labels(config: MammoSwinConfig, other: MammoSwinConfig) -> None:
    # all at once: one after the other they would not fit each other
    config.__dict__.update({name: copy.deepcopy(getattr(other, name)) for name in _LABEL_FIELDS})


def _own_config(config: SwinConfig) -> MammoSwinConfig:
    """Return a configuration that has been checked; one of stock Swin is taken over.

    Raises:
        UsageError: Its fields do not fit each other, or the image size fits no window.
    """
    if not isinstance(config, MammoSwinConfig):
        attention = config._attn_implementation
        config = MammoSwinConfig.from_dict(config.to_dict())
        config._attn_implementation = attention
    config.check()
    config.check_image_size(*config.image_size)
    return config


@dataclass
class MammoSwinMaskedImageModelingOutput(SwinMaskedImageModelingOutput):
    """The output of stock Swin's masked image model and of a teacher's head.

    Attributes:
        taught: Predictions and targets of `TeacherHead`. ``None`` without a teacher.
    """

    taught: dict[str, tuple[torch.Tensor, torch.Tensor]] | None = None


class MammoSwinForMaskedImageModeling(_MammoSwinModel):
    """Masked image modelling (SimMIM, arXiv 2111.09886) on any rectangle, with an encoder that skips what is hidden.

    With ``config.sparse_encoder``, all stages but the last run on visible tokens; ``deep_mask_token`` replaces
    the hidden ones before the last patch merging, and stock Swin's own mask token is not trained. An image size whose
    windows would be padded, or a mask that no patch merging respects, is run densely instead, with that token. So is an
    encoder whose modules are wrapped, sharded or hooked, or whose hidden states are asked for, with the same result as
    on visible tokens.

    With ``config.teacher``, a `TeacherHead` predicts the features of a frozen encoder from the last tokens, those of
    hidden patches too: the last stage always runs on all of them.
    """

    accepts_loss_kwargs = False

    def __init__(self, config: MammoSwinConfig) -> None:
        config = _own_config(config)
        super().__init__(config)
        self.swin = SwinModel(config, add_pooling_layer=False, use_mask_token=True)
        use_own_layers(self.swin)
        build = ConvDecoder if config.mim_decoder == "conv" else linear_decoder
        self.decoder = build(config.hidden_size, config.num_channels, config.encoder_stride)
        teacher = config.teacher
        self.teacher_head = None if teacher is None else TeacherHead(config.hidden_size, teacher["channels"])
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

    def drop_teacher(self) -> None:
        """Leave the teacher's head out of what is saved from here on."""
        self.teacher_head = self.config.teacher = None

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
        teacher_cells: torch.Tensor | None = None,
        teacher_image: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> MammoSwinMaskedImageModelingOutput:
        """Reconstruct images from their visible patches.

        Args:
            pixel_values: Normalised images (batch, channels, height, width).
            bool_masked_pos: Hidden patches, bool (batch, patches), row by row over the patch grid. ``None``: nothing is
                hidden and there is no loss.
            visible: Visible tokens of the mask, if a data loader has packed them already.
            content_mask: Mask of the image, bool (batch, height, width): false in the padding, which never counts.
            breast_mask: Mask of the breast, bool (batch, height, width); for ``loss_region="masked_breast"``.
            teacher_cells: Features of the teacher on the last stage's grid (batch, channels, rows, columns); needed
                with ``config.teacher``.
            teacher_image: Their mean and maximum over the breast (batch, 2 * channels).
            num_items_in_batch: Divisors of the losses, `loss_counts` of all micro-batches of an update; ``None``: those
                of this batch.
            return_loss: Whether to compute the loss. Trainer looks for this argument to know that a model without
                labels can be evaluated.
            kwargs: Arguments of the encoder.

        Returns:
            Loss (mean absolute error over the pixels of ``config.loss_region`` and channels, in normalised units) and
            the reconstruction (batch, channels, height, width). With a teacher the loss is that times its
            ``l1_weight``, plus the teacher's loss times its ``weight``. With an encoder on visible tokens,
            ``hidden_states`` and ``attentions`` of hidden tokens before the last stage mean nothing.

        Raises:
            UsageError: The size fits no window, or the mask has the wrong shape.
        """
        height, width = size = (pixel_values.shape[-2], pixel_values.shape[-1])
        self.config.check_image_size(height, width)
        grids = self.config.stage_grids(height, width)
        if bool_masked_pos is not None:
            _check_mask(bool_masked_pos, len(pixel_values), grids[0])
        packable = self.deep_mask_token is not None and bool_masked_pos is not None
        if visible is None and packable and not kwargs.get("interpolate_pos_encoding"):
            visible = packed_for(self.config, bool_masked_pos, (height, width))
        outputs = self._encoded(pixel_values, bool_masked_pos, visible, **kwargs)
        tokens = outputs.last_hidden_state.transpose(1, 2).unflatten(2, grids[-1])
        reconstruction = self.decoder(tokens)
        loss, taught = None, None
        if bool_masked_pos is not None and return_loss:
            masks = (bool_masked_pos, size, content_mask, breast_mask)
            counts = (self.loss_counts(*masks) if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
            side = self.config.normalized_patch
            target = pixel_values if side is None else normalized_target(pixel_values, side)
            loss = mean_absolute_error(reconstruction, target, self.counted_pixels(*masks), counts[0])
            if self.teacher_head is not None:
                inside = breast_pixels(bool_masked_pos, size, content_mask, breast_mask)
                taught = self.teacher_head(tokens, inside, teacher_cells, teacher_image)
                of_teacher = teacher_loss(taught, self.taught_cells(*masks), counts)
                loss = self.config.teacher["l1_weight"] * loss + self.config.teacher["weight"] * of_teacher
            if visible is None and self.deep_mask_token is not None:
                # a trainable parameter without a gradient would stop distributed training
                loss = loss + 0.0 * self.deep_mask_token.sum()
        return MammoSwinMaskedImageModelingOutput(
            loss=loss,
            reconstruction=reconstruction,
            taught=taught,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            reshaped_hidden_states=outputs.reshaped_hidden_states,
        )

    def _encoded(
        self, pixel_values: torch.Tensor, mask: torch.Tensor | None, visible: VisibleTokens | None, **kwargs: Any
    ) -> SwinModelOutput:
        if visible is None:
            return self.swin(pixel_values, bool_masked_pos=mask, return_dict=True, **kwargs)
        records = (
            kwargs.get(name, getattr(self.config, name)) for name in ("output_hidden_states", "output_attentions")
        )
        recorded = any(asked is not None and asked is not False for asked in records)
        plain = passed_over_modules_are_plain(self.swin)
        if mask is None or (plain and not recorded):
            return encode_visible(
                self.swin, pixel_values, visible.to(pixel_values.device), self.deep_mask_token, **kwargs
            )
        # Call every module as it is, with the hidden tokens left out of attention
        if not plain:
            warn_dense("a module of it is wrapped, sharded or hooked, and has to be called")
        hidden = mask.bool().view(-1, *visible.grid)
        shown = ~spread_over_pixels(mask.bool(), pixel_values.shape[-2:], visible.grid)[:, None]
        shown_pixels = torch.where(shown, pixel_values, 0.0)  # infinity would come through a weight of 0
        return self.swin(
            shown_pixels, hidden_tokens=hidden, deep_mask_token=self.deep_mask_token, return_dict=True, **kwargs
        )

    def loss_counts(self, *masks: Any) -> torch.Tensor:
        """Return the divisors of the losses, float (3,), to be summed over the batches of an update.

        Args:
            *masks: Arguments of `counted_pixels`.

        Returns:
            The number of pixels of the reconstruction's loss and, with a teacher, of cells and of images.
        """
        pixels = self.counted_pixels(*masks).sum().float()
        cells = pixels.new_zeros(()) if self.teacher_head is None else self.taught_cells(*masks).sum()
        return torch.stack([pixels, cells, pixels.new_tensor(float(len(masks[0])))])

    def taught_cells(
        self,
        bool_masked_pos: torch.Tensor,
        size: tuple[int, int],
        content_mask: torch.Tensor | None = None,
        breast_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the weight of each last token in the teacher's loss, (batch, rows, columns) from 0 to 1.

        It is the fraction of its pixels that show the breast and, by the teacher's ``tokens``, are hidden or visible.
        """
        grids, tokens = self.config.stage_grids(*size), self.config.teacher["tokens"]
        counted = breast_pixels(bool_masked_pos, size, content_mask, breast_mask)
        if tokens != "all":
            hidden = spread_over_pixels(bool_masked_pos.bool(), size, grids[0])
            counted = counted & (hidden if tokens == "hidden" else ~hidden)
        return functional.adaptive_avg_pool2d(counted.float(), grids[-1])

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


class MammoSwinForImageClassification(_MammoSwinModel, SwinForImageClassification):
    """Swin under one linear layer over all tasks, and a lesion head on the last stage's tokens."""

    accepts_loss_kwargs = False
    # parameters of masked image modelling that a classifier which starts from it does not need
    _keys_to_ignore_on_load_unexpected = (r"^decoder\.", r"^deep_mask_token$", r"^swin\.embeddings\.mask_token$")

    def __init__(self, config: MammoSwinConfig) -> None:
        config = _own_config(config)
        super().__init__(config)
        use_own_layers(self.swin)
        self.lesion_head = None
        if config.lesion_task is not None:
            lesion_slice = config.task_slices[config.lesion_task]
            self.lesion_head = nn.Linear(self.swin.num_features, 1 + lesion_slice.stop - lesion_slice.start)
        self._tasks = copy.deepcopy(config.tasks)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does; rows of tasks that the checkpoint has too, with the same labels, are kept.

        Args:
            pretrained_model_name_or_path: Folder, or name on the Hub.
            args: Further arguments of the constructor.
            kwargs: Fields of the configuration to change, such as ``tasks``, and arguments of transformers. Rows of
                tasks that the checkpoint does not have are new; one warning names the tasks of both kinds.
        """
        place = {name: kwargs[name] for name in _PLACE_ARGUMENTS if name in kwargs}
        try:
            stored, _ = MammoSwinConfig.get_config_dict(pretrained_model_name_or_path, **place)
        except OSError:  # an adapter without a configuration of its own, or nothing at all: transformers knows which
            stored = {}
        if not stored or "ForMaskedImageModeling" in " ".join(stored.get("architectures") or ()):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        before = MammoSwinConfig.from_dict(dict(stored))
        config, options = kwargs.pop("config", None), kwargs
        if isinstance(config, PreTrainedConfig):
            config = _own_config(copy.deepcopy(config))
        else:
            source = pretrained_model_name_or_path if config is None else config
            own = {name: kwargs.pop(name) for name in ("dtype", "torch_dtype", "attn_implementation") if name in kwargs}
            config, options = MammoSwinConfig.from_pretrained(source, return_unused_kwargs=True, **kwargs)
            options |= place | own
        same_head = before.lesion_task == config.lesion_task or None in (before.lesion_task, config.lesion_task)
        if before.tasks == config.tasks and same_head:
            return super().from_pretrained(pretrained_model_name_or_path, *args, config=config, **options)
        _take_labels(between := copy.deepcopy(config), before)
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, config=between, **options)
        model, info = loaded if isinstance(loaded, tuple) else (loaded, {"missing_keys": set()})
        info["missing_keys"] = {*info["missing_keys"], *model._change_tasks(config)}
        return loaded

    def _change_tasks(self, config: MammoSwinConfig) -> list[str]:
        """Take over the tasks of another configuration, and return the names of the parameters with new rows."""
        before = self.config.task_slices
        kept = [task["name"] for task in config.tasks or () if task in (self.config.tasks or ())]
        new = [task["name"] for task in config.tasks or () if task["name"] not in kept]
        keeps_lesions = self.config.lesion_task == config.lesion_task and config.lesion_task in kept
        _take_labels(self.config, config)
        self.num_labels, self._tasks = config.num_labels, copy.deepcopy(config.tasks)
        old, self.classifier = self.classifier, self._new_head(config.num_labels)
        with torch.no_grad():
            for name in kept:
                self.classifier.weight[config.task_slices[name]] = old.weight[before[name]]
                self.classifier.bias[config.task_slices[name]] = old.bias[before[name]]
        if not keeps_lesions:
            part = config.task_slices.get(config.lesion_task)
            self.lesion_head = None if part is None else self._new_head(1 + part.stop - part.start)
        logger.warning(
            "the checkpoint has other tasks: rows of the classifier that are kept: %s; that are new: %s",
            ", ".join(kept) or "none",
            ", ".join(new) or ("none" if config.tasks else "all"),
        )
        heads = [] if keeps_lesions or self.lesion_head is None else ["lesion_head"]
        heads += ["classifier"] if new or not config.tasks else []
        return [f"{head}.{kind}" for head in heads for kind in ("weight", "bias")]

    def _check_tasks(self) -> None:
        if self._tasks != self.config.tasks:
            raise UsageError(
                f"the model's rows are those of {self._tasks}, its config.tasks has become {self.config.tasks}",
                remedy="save the model first, then from_pretrained(folder, tasks=...)",
            )

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save as transformers does, unless the configuration has other tasks than the model.

        Raises:
            UsageError: ``config.tasks`` was changed after the model had been built.
        """
        self._check_tasks()
        super().save_pretrained(*args, **kwargs)

    def _new_head(self, rows: int) -> nn.Linear:
        weight = self.classifier.weight
        head = nn.Linear(weight.shape[1], rows, device=weight.device, dtype=weight.dtype)
        self._init_weights(head)
        return head.train(self.training)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        lesion_targets: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MammoSwinImageClassifierOutput:
        """Score each label of each task.

        Args:
            pixel_values: Normalised images (batch, channels, height, width).
            labels: Labels in the order of ``config.tasks``, int64 (batch, tasks), or (batch,) for one task; -100 is not
                known.
            lesion_targets: Labels of the last stage's tokens, int64 (batch, rows, columns): 0 no lesion, 1 + label of
                the lesion task, -100 if a finding has no known location. Not read without a lesion head.
            num_items_in_batch: `loss_counts` of all micro-batches of an update; ``None``: of this batch.
            kwargs: Arguments of the encoder.

        Returns:
            Logits (batch, labels of all tasks); a task's probabilities are the softmax over its own slice.

        Raises:
            UsageError: The size fits no window, or labels or lesion targets have another shape.
        """
        height, width = pixel_values.shape[-2:]
        self.config.check_image_size(height, width)
        self._check_tasks()
        outputs = self.swin(pixel_values, return_dict=True, **kwargs)
        logits, tokens = self.classifier(outputs.pooler_output), outputs.last_hidden_state
        lesion_logits = lesion_scores = loss = None
        if self.lesion_head is not None:
            grid = self.config.stage_grids(height, width)[-1]
            lesion_logits = self.lesion_head(tokens).transpose(1, 2).unflatten(2, grid)
            lesion_scores = (lesion_logits[:, 1:] - lesion_logits[:, :1]).flatten(2).amax(-1)
        if labels is not None and self.config.tasks is None:
            loss = self.loss_function(labels, logits, self.config)
        elif labels is not None:
            loss = multi_task_loss(logits, labels, self.config, num_items_in_batch)
        if lesion_logits is not None and lesion_targets is not None:
            lesion_loss = self._lesion_loss(tokens, lesion_logits, lesion_targets, num_items_in_batch)
            loss = lesion_loss if loss is None else loss + lesion_loss
        elif lesion_logits is not None and loss is not None:
            # a trainable parameter without a gradient would stop distributed training
            loss = loss + lesion_logits.float().sum() * 0.0
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
        if labels.shape != (len(lesion_logits), *lesion_logits.shape[2:]):
            wanted = (len(lesion_logits), *lesion_logits.shape[2:])
            raise UsageError(f"lesion_targets have shape {tuple(labels.shape)}, not (batch, rows, columns) = {wanted}")
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
    """Return the logits that scores are the softmax of, slice by slice, (batch, labels of all tasks).

    They are the classifier's own, except for the lesion task if ``config.score_from`` takes it from the lesion head.

    Raises:
        UsageError: ``lesion_scores`` is needed and not given.
    """
    if getattr(config, "score_from", "pooled") == "pooled":
        return logits
    if lesion_scores is None:
        raise UsageError(f"score_from is {config.score_from!r}", remedy="give the output's lesion_scores too")
    part = config.task_slices[str(config.lesion_task)]
    lesion, pooled = lesion_scores.float().log_softmax(-1), logits[:, part].float().log_softmax(-1)
    chosen = logits.clone()
    both = torch.logaddexp(lesion, pooled) - math.log(2)
    chosen[:, part] = (lesion if config.score_from == "lesion" else both).to(logits.dtype)
    return chosen


# By the class of the configuration: what a checkpoint's file of the type "swin" loads stays a stock Swin.
AutoModelForImageClassification.register(MammoSwinConfig, MammoSwinForImageClassification, exist_ok=True)
AutoModelForMaskedImageModeling.register(MammoSwinConfig, MammoSwinForMaskedImageModeling, exist_ok=True)
