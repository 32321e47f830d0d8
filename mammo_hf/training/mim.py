"""Stage 1: masked image modelling on every image that is not of a validation or test patient."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import TrainingArguments

from ..configuration_mammo_swin import SIZES, MammoSwinConfig
from ..errors import DataError, UsageError
from ..image_processing_mammo import MammoImageProcessor
from ..modeling_mammo_swin import MammoSwinForMaskedImageModeling
from .augmentation import Augmentation
from .datasets import EpochOfDatasets, MaskedImages, rows_of
from .panels import plot_reconstruction
from .plots import plot_loss_curves
from .running import SwinTrainer, run, without_last_batch_surprise
from .streaming import StreamedMaskedImages

logger = logging.getLogger(__name__)

PANEL_ROWS = 4


def starting_config(model: str, image_size: tuple[int, int], **changes: Any) -> MammoSwinConfig:
    """The configuration of a size by name, or of a checkpoint, for an input of (height, width).

    Raises:
        UsageError: Neither a known size nor a folder with a Swin's ``config.json``.
    """
    if model in SIZES:
        return MammoSwinConfig(**SIZES[model], image_size=image_size, **changes)
    if not (Path(model) / "config.json").is_file():
        raise UsageError(
            "neither a model size nor a checkpoint folder", source=model, remedy=f"use {', '.join(SIZES)} or a folder"
        )
    config_dict = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    if config_dict.get("model_type") != "swin":
        raise UsageError(
            f"a checkpoint of the architecture {config_dict.get('model_type')!r}", source=model, remedy="give a Swin"
        )
    if "tasks" in changes:
        # the checkpoint's own labels belong to its own tasks
        config_dict = {key: value for key, value in config_dict.items() if key not in ("id2label", "label2id")}
    # built anew rather than changed after loading: the configuration checks and completes itself when it is made
    return MammoSwinConfig(**{**config_dict, **changes, "image_size": image_size})


def train_mim(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    args: TrainingArguments,
    *,
    model: str,
    checkpoint: Path,
    plots: Path,
    stream: StreamedMaskedImages | None = None,
    resume: str | bool | None = None,
) -> dict[str, Any]:
    """Pre-trains an encoder and saves the best by validation loss.

    Args:
        prepared: Prepared images; training and unlabelled ones are learnt from, validation ones choose the checkpoint.
        processor: Saved beside the model.
        args: Trainer's own; ``output_dir`` holds its checkpoints.
        model: A size or a checkpoint folder.
        checkpoint: Where the model and the processor are saved.
        plots: Folder of the loss curve and the reconstruction panel.
        stream: Learnt from in place of the prepared training and unlabelled images.
        resume: As in ``run``.

    Returns:
        Figures for ``metrics.json``: counts, and the loss on validation images.
    """
    training, validation = _masked_images(prepared, processor, args.seed, stream)
    without_last_batch_surprise(len(training), args.per_device_train_batch_size, "pre-training images")
    torch.manual_seed(args.seed)
    size = (processor.size["height"], processor.size["width"])
    config = starting_config(model, size, num_channels=processor.num_channels)
    config.check_image_size(*size)
    if model in SIZES:
        network = MammoSwinForMaskedImageModeling(config)
    else:
        network = MammoSwinForMaskedImageModeling.from_pretrained(model, config=config)
    args.label_names = ["bool_masked_pos"]
    args.remove_unused_columns = False
    if stream is not None:
        args.ignore_data_skip = True  # a stream is no sequence to skip in: a resumed epoch begins anew
    args.prediction_loss_only = True
    trainer = SwinTrainer(
        network,
        args,
        train_dataset=training,
        eval_dataset=validation if len(validation) else None,
        callbacks=[EpochOfDatasets(training)],
    )
    run(trainer, resume)
    figures: dict[str, Any] = {"train_images": len(training), "validation_images": len(validation)}
    figures["processes"] = args.world_size
    if len(validation):
        figures["validation_loss"] = trainer.evaluate()["eval_loss"]
    if trainer.is_world_process_zero():
        network.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
        plots.mkdir(parents=True, exist_ok=True)
        plot_loss_curves(trainer.state.log_history, plots / "mim_loss.png", "Masked image modelling")
        draw_reconstructions(network, validation if len(validation) else training, plots / "mim_reconstruction.png")
    return figures


def _masked_images(
    prepared: datasets.Dataset, processor: MammoImageProcessor, seed: int, stream: StreamedMaskedImages | None
) -> tuple[MaskedImages | StreamedMaskedImages, MaskedImages]:
    learnt = rows_of(prepared, ("train", "unlabelled"))
    if not (learnt if stream is None else len(stream)):
        raise DataError("no image of a training patient to pre-train on", remedy="check the split of the collection")
    masking = processor.masking()
    training = stream or MaskedImages(
        prepared.select(learnt), processor, augmentation=Augmentation(), seed=seed, masking=masking, fresh=True
    )
    validation = MaskedImages(
        prepared.select(rows_of(prepared, ("validation",))), processor, seed=seed, masking=masking, fresh=False
    )
    return training, validation


@torch.no_grad()
def reconstruct(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, count: int = PANEL_ROWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, mask and reconstruction of some images, each (n, height, width), intensities in [0, 1]."""
    chosen = [images[index] for index in np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]
    pixels = torch.stack([example["pixel_values"] for example in chosen]).to(network.device)
    hidden = torch.stack([example["bool_masked_pos"] for example in chosen]).to(network.device)
    was_training = network.training
    network.eval()
    output = network(pixels, bool_masked_pos=hidden).reconstruction.float().cpu().numpy()
    network.train(was_training)
    height, width = pixels.shape[-2:]
    rows, columns = network.config.stage_grids(height, width)[0]
    mask = hidden.cpu().numpy().reshape(-1, rows, columns)
    mask = mask.repeat(height // rows, axis=1).repeat(width // columns, axis=2)
    denormalize = images.processor.denormalize
    return denormalize(pixels.cpu().numpy()), mask, denormalize(output)


def draw_reconstructions(network: MammoSwinForMaskedImageModeling, images: MaskedImages, path: Path) -> None:
    """Writes the panel of input, masked, reconstruction and difference."""
    plot_reconstruction(*reconstruct(network, images), path, "Reconstruction of hidden blocks")
