"""Reconstructions to look at and to measure: a panel each evaluation, on disk and in the trackers that Trainer uses."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..modeling_mammo_swin import MammoSwinForMaskedImageModeling
from ..reconstruction_loss import denormalized
from .masked_examples import MaskedCollator
from .panels import plot_reconstruction
from .reconstruction_quality import quality

if TYPE_CHECKING:
    from .datasets import MaskedImages

logger = logging.getLogger(__name__)

PANEL_ROWS = 4


def reconstruct(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, count: int = PANEL_ROWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, mask and reconstruction of some images, each (n, height, width), intensities in [0, 1].

    Where the model predicts normalised patches, the true patches' mean and deviation are put back. Padding is left as
    it is.
    """
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    inputs, masks, rebuilt, _ = _reconstructed(network, images, [int(index) for index in chosen])
    return inputs, masks, rebuilt


@torch.no_grad()
def _reconstructed(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, indices: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As ``reconstruct``, and which pixels are hidden, no padding, and inside the breast."""
    batch = MaskedCollator(network.config, pack=False)([images[index] for index in indices])
    pixels, hidden = batch["pixel_values"].to(network.device), batch["bool_masked_pos"]
    was_training = network.training
    network.eval()
    output = network(**{name: value.to(network.device) for name, value in batch.items()}).reconstruction.float()
    network.train(was_training)
    if network.config.normalized_patch is not None:
        output = denormalized(output, pixels, network.config.normalized_patch)
    height, width = int(pixels.shape[-2]), int(pixels.shape[-1])
    rows, columns = network.config.stage_grids(height, width)[0]
    mask = hidden.numpy().reshape(-1, rows, columns)
    mask = mask.repeat(height // rows, axis=1).repeat(width // columns, axis=2)
    inputs = images.processor.denormalize(pixels.cpu().numpy())
    content, breast = batch["content_mask"].numpy(), batch["breast_mask"].numpy()
    # nothing was learnt of the padding, and what stands there is no guess at an image: it stays as it is
    rebuilt = np.where(content, images.processor.denormalize(output.cpu().numpy()), inputs)
    return inputs, mask, rebuilt, mask & breast & content


def reconstruction_quality(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, batch_size: int = 16, limit: int = 512
) -> dict[str, float]:
    """PSNR in dB and SSIM on hidden pixels inside the breast, means over up to ``limit`` evenly chosen images."""
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int).tolist()
    parts = [
        _reconstructed(network, images, chosen[start : start + batch_size])
        for start in range(0, len(chosen), batch_size)
    ]
    inputs, _, rebuilt, counted = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return quality(inputs, rebuilt, counted)


class ReconstructionPanel(TrainerCallback):
    """Draws the panel of input, masked, reconstruction and difference at each evaluation.

    Args:
        trainer: Whose trackers get the picture.
        network: The model.
        images: Some of them are drawn, the same each time.
        folder: Gets ``step-N.png``.
    """

    def __init__(
        self, trainer: Trainer, network: MammoSwinForMaskedImageModeling, images: MaskedImages, folder: Path
    ) -> None:
        self.trainer = trainer
        self.network = network
        self.images = images
        self.folder = folder

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Draws, in the first process alone."""
        if not state.is_world_process_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{state.global_step}.png"
        plot_reconstruction(*reconstruct(self.network, self.images), path, f"step {state.global_step}")
        show_in_trackers(self.trainer, path, "reconstruction", state.global_step)


def show_in_trackers(trainer: Trainer, picture: Path, name: str, step: int) -> None:
    """Sends a picture to those of TensorBoard, Weights & Biases and Trackio that the Trainer reports to."""
    for callback in trainer.callback_handler.callbacks:
        kind = type(callback).__name__
        if kind == "TensorBoardCallback" and getattr(callback, "tb_writer", None) is not None:
            image = importlib.import_module("matplotlib.image").imread(picture)
            callback.tb_writer.add_image(name, image, step, dataformats="HWC")
        elif kind in ("WandbCallback", "TrackioCallback"):
            tracker = importlib.import_module("wandb" if kind == "WandbCallback" else "trackio")
            # the step as Trainer's own callbacks give it: the axis that everything is drawn over
            tracker.log({name: tracker.Image(str(picture)), "train/global_step": step})
