"""The gradient CAM family: a stage's features, weighted by the gradient of the target's score.

All members take the same two tensors from one backward pass, a stage's tokens and the gradient of the score with
respect to them, both float32 (batch, rows, columns, channels). They differ in how the two are combined into a map
(batch, rows, columns), so that each is stated here as this rule alone. Early stages give finer maps: pass ``stage=0``
or ``stage=1``. Of a head over features the two are those of its encoder's grids, of the whole view and of each tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from ..encoders.classifier import BagClassifier
from ..errors import UsageError
from .bags import bag_cam
from .explain import Explainer, explainer
from .swin import default_stage, feature_tap, preserve_state, stage_grids, swin_of
from .targets import gradients_of, score

Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cam(rule: Rule) -> Explainer:
    """Make an explainer of a rule that combines a stage's tokens with their gradient.

    Args:
        rule: A function of tokens and gradient, both (batch, rows, columns, channels), that returns a map (batch, rows,
            columns). Its name and docstring become the explainer's.
    """

    def explain_map(
        model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], *, stage: int | None = None
    ) -> torch.Tensor:
        if not isinstance(model, BagClassifier):
            return rule(*tokens_and_gradient(model, pixel_values, target, stage))
        if stage is not None:
            raise UsageError(
                "is for a Swin", source="stage", remedy="leave it out: an encoder of features has one grid"
            )
        return bag_cam(rule, model, pixel_values, target)

    explain_map.__name__, explain_map.__doc__ = rule.__name__, rule.__doc__
    return explainer(explain_map)


@cam
def grad_cam(tokens: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Weight each channel by its gradient's spatial mean: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391).

    Equations 1 and 2 of the paper.
    """
    return (tokens * gradient.mean(dim=(1, 2), keepdim=True)).sum(-1).relu()


@cam
def hires_cam(tokens: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Weight each activation by its own gradient: HiResCAM (Draelos and Carin 2020, arXiv 2011.08891).

    Equation 5 of the paper. Equal to Grad-CAM if only mean pooling and a linear layer come after the stage.
    """
    return (tokens * gradient).sum(-1).relu()


@cam
def layer_cam(tokens: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Weight each activation by its positive gradient: LayerCAM (Jiang et al. 2021, 10.1109/TIP.2021.3089943).

    Equations 4 to 6 of the paper. Made for early, fine stages.
    """
    return (tokens * gradient.relu()).sum(-1).relu()


def tokens_and_gradient(
    model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], stage: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a stage's tokens and the gradient of the targets' score with respect to them.

    Gradients flow only through what comes after the stage.

    Args:
        model: A Swin classifier.
        pixel_values: Normalised images (batch, channels, height, width).
        target: The index into the logits that is explained, per image.
        stage: Index of the stage; by default the last one whose grid has at least 14 rows.

    Returns:
        Both float32 (batch, rows, columns, channels).

    Raises:
        UsageError: See ``swin_of``, ``checked_stage`` and ``gradients_of``.
    """
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with preserve_state(model):
        stage = default_stage(swin_of(model, *size).config, *size) if stage is None else stage
        with feature_tap(model, size, stage) as recorded:
            logits = model(pixel_values).logits
            tokens = recorded[-1]
            (gradient,) = gradients_of(score(logits, target, model.config), [tokens])
    grid = stage_grids(model.config, *size)[stage]
    return tokens.detach().float().unflatten(1, grid), gradient.detach().float().unflatten(1, grid)
