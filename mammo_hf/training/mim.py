"""Stage 1: masked image modelling on every image that is not of a validation or test patient."""

from __future__ import annotations

import importlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.augmentation import Augmentation
from ..data.torch_datasets import (
    EpochOfDatasets,
    LabelledImages,
    MaskedCollator,
    MaskedImages,
    StreamedMaskedImages,
    rows_of,
)
from ..errors import DataError
from ..models.checkpoint import load_starting_weights, starting_config
from ..models.configuration_mammo_swin import SIZES
from ..models.losses import denormalized
from ..models.modeling_mammo_swin import MammoSwinForMaskedImageModeling
from ..plotting import plot_loss_curves, plot_reconstruction
from ..processing.image_processing_mammo import MammoImageProcessor
from .callbacks import ModelCardCallback, Probes, WeightAverage
from .options import MimSettings
from .trainer import MimTrainer, run, without_last_batch_surprise, without_validation

logger = logging.getLogger(__name__)


def model_changes(settings: MimSettings) -> dict[str, Any]:
    """The changes of configuration that stage 1's settings mean."""
    return {
        "decoder": settings.decoder,
        "sparse_encoder": settings.sparse_encoder,
        "loss_region": settings.loss_region,
        "normalized_patch": settings.normalized_patch,
        "window_size": settings.window_size,
    }


def train_mim(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    args: TrainingArguments,
    *,
    model: str,
    checkpoint: Path,
    plots: Path,
    settings: MimSettings | None = None,
    stream: StreamedMaskedImages | None = None,
    resume: str | bool | None = None,
) -> dict[str, Any]:
    """Pre-trains an encoder and saves the best by validation loss.

    Args:
        prepared: Prepared images; training and unlabelled ones are learnt from, validation ones choose the checkpoint.
        processor: Saved beside the model.
        args: Trainer's own; ``output_dir`` holds its checkpoints.
        model: A size, a checkpoint folder of any Swin, or a ``.pth`` file of the Swin or SimMIM repositories.
        checkpoint: Where the model and the processor are saved.
        plots: Folder of the loss curve and the reconstruction panels.
        settings: Of decoder, loss, masks, learning rates and probes.
        stream: Learnt from in place of the prepared training and unlabelled images.
        resume: As in ``run``.

    Returns:
        Figures for ``metrics.json``: counts, and on validation images the loss, PSNR and SSIM.

    Raises:
        Diverged: The loss became NaN or infinite.
    """
    settings = settings or MimSettings()
    training, validation = _masked_images(prepared, processor, args.seed, settings, stream)
    without_last_batch_surprise(len(training), args.per_device_train_batch_size, "pre-training images")
    network = _network(model, processor, args.seed, settings)
    args.label_names = ["bool_masked_pos"]
    args.remove_unused_columns = False
    if stream is not None:
        args.ignore_data_skip = True  # a stream is no sequence to skip in: a resumed epoch begins anew
    args.prediction_loss_only = True
    if not len(validation):
        without_validation(args)
    card = ModelCardCallback()
    trainer = MimTrainer(
        network,
        args,
        train_dataset=training,
        eval_dataset=validation if len(validation) else None,
        data_collator=MaskedCollator(network.config, pack=args.n_gpu <= 1),
        callbacks=[EpochOfDatasets(training), card],
        layer_decay=settings.layer_decay,
        average=WeightAverage(network, settings.weight_average) if settings.weight_average else None,
    )
    if len(validation):
        trainer.add_callback(ReconstructionPanel(trainer, network, validation, plots / "mim_panels"))
    if settings.probes:
        trainer.add_callback(_probes(trainer, network, prepared, processor, settings))
    run(trainer, resume)
    figures: dict[str, Any] = {"train_images": len(training), "validation_images": len(validation)}
    figures |= {"processes": args.world_size, "run": card.facts}
    if len(validation):
        figures["validation_loss"] = trainer.evaluate()["eval_loss"]
    if trainer.average is not None:
        trainer.average.apply()
    if trainer.is_world_process_zero():
        if len(validation):
            figures["hidden_inside_the_breast"] = reconstruction_quality(network, validation)
        network.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
        plots.mkdir(parents=True, exist_ok=True)
        plot_loss_curves(trainer.state.log_history, plots / "mim_loss.png", "Masked image modelling")
        draw_reconstructions(network, validation if len(validation) else training, plots / "mim_reconstruction.png")
    return figures


def _network(
    model: str, processor: MammoImageProcessor, seed: int, settings: MimSettings
) -> MammoSwinForMaskedImageModeling:
    torch.manual_seed(seed)
    config = starting_config(model, processor.canvas, num_channels=processor.num_channels, **model_changes(settings))
    config.check_image_size(*processor.canvas)
    network = MammoSwinForMaskedImageModeling(config)
    if model not in SIZES:
        load_starting_weights(network, model, processor)
    return network


def _probes(
    trainer: MimTrainer,
    network: MammoSwinForMaskedImageModeling,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    settings: MimSettings,
) -> Probes:
    train, validation = (
        LabelledImages(prepared.select(rows_of(prepared, (split,))), processor) for split in ("train", "validation")
    )
    return Probes(trainer, network, train, validation, settings.probes)


def _masked_images(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    seed: int,
    settings: MimSettings,
    stream: StreamedMaskedImages | None,
) -> tuple[MaskedImages | StreamedMaskedImages, MaskedImages]:
    learnt = rows_of(prepared, ("train", "unlabelled"))
    if not (learnt if stream is None else len(stream)):
        raise DataError("no image of a training patient to pre-train on", remedy="check the split of the collection")
    masking = replace(processor.masking(), within=settings.mask_within)
    needs_breast = settings.loss_region == "masked_breast"
    if needs_breast or settings.mask_within == "breast":
        check_breasts(prepared, rows_of(prepared, ("validation",)) + (learnt if stream is None else []))
    common: dict[str, Any] = {"seed": seed, "masking": masking, "needs_breast": needs_breast}
    if stream is not None:
        stream.masking, stream.needs_breast = masking, needs_breast
    training = stream or MaskedImages(
        prepared.select(learnt), processor, augmentation=Augmentation(), fresh=True, **common
    )
    validation = MaskedImages(prepared.select(rows_of(prepared, ("validation",))), processor, fresh=False, **common)
    return training, validation


def check_breasts(prepared: datasets.Dataset, rows: list[int]) -> None:
    """Refuses, before the first step, images in which no breast was found, where masks or loss ask for one.

    Raises:
        DataError: Names the first of them.
    """
    chosen = prepared.select(rows).select_columns(["image_id", "breast"])
    without = [row["image_id"] for row in chosen if not any(row["breast"])]
    if without:
        raise DataError(
            f"no breast stands out from the background, nor in {len(without) - 1} other images",
            source=f"image {without[0]}",
            remedy="take them out of the collection, or mask and judge the whole image",
        )


def draw_reconstructions(network: MammoSwinForMaskedImageModeling, images: MaskedImages, path: Path) -> None:
    """Writes the panel of input, masked, reconstruction and difference."""
    plot_reconstruction(*reconstruct(network, images), path, "Reconstruction of hidden blocks")


# How good a reconstruction is: PSNR and SSIM on hidden pixels inside the breast.


def psnr(image: np.ndarray, reconstruction: np.ndarray, counted: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of intensities in [0, 1] over the counted pixels; infinite where they agree."""
    error = float(np.mean((np.asarray(image, np.float64) - reconstruction)[counted] ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim_map(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Structural similarity at each pixel, in [-1, 1] (Wang et al. 2004, IEEE Trans. Image Process. 13:600, eq. 13).

    Args:
        image: (height, width) in [0, 1].
        reconstruction: The same shape and range.

    Returns:
        (height, width): windows weighted by a Gaussian of 1.5 pixels, K1 = 0.01 and K2 = 0.03, as in the paper.
    """
    one, other = np.asarray(image, np.float64), np.asarray(reconstruction, np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        smoothed: np.ndarray = gaussian_filter(values, 1.5, truncate=3.5)
        return smoothed

    mean_one, mean_other = mean(one), mean(other)
    variance_one, variance_other = mean(one**2) - mean_one**2, mean(other**2) - mean_other**2
    covariance = mean(one * other) - mean_one * mean_other
    c1, c2 = 0.01**2, 0.03**2
    similarity: np.ndarray = ((2 * mean_one * mean_other + c1) * (2 * covariance + c2)) / (
        (mean_one**2 + mean_other**2 + c1) * (variance_one + variance_other + c2)
    )
    return similarity


def quality(images: np.ndarray, reconstructions: np.ndarray, counted: np.ndarray) -> dict[str, float]:
    """Means over images of PSNR and SSIM on the counted pixels; images that count none are left out.

    Args:
        images: (n, height, width) in [0, 1].
        reconstructions: The same shape and range; pasted into the images where nothing is counted.
        counted: bool (n, height, width): hidden and inside the breast.
    """
    ratios, similarities = [], []
    for image, reconstruction, where in zip(images, reconstructions, counted, strict=True):
        if not where.any():
            continue
        ratios.append(psnr(image, reconstruction, where))
        similarities.append(float(ssim_map(image, np.where(where, reconstruction, image))[where].mean()))
    finite = [value for value in ratios if np.isfinite(value)]
    return {
        "psnr": float(np.mean(finite)) if finite else float("nan"),
        "ssim": float(np.mean(similarities)) if similarities else float("nan"),
        "images": len(similarities),
    }


# Reconstructions to look at and to measure: a panel each evaluation, on disk and in the trackers that Trainer uses.


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
