"""Stage 1: masked image modelling on every image that is not of a validation or test patient."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import TrainingArguments

from ..configuration_mammo_swin import SIZES, MammoSwinConfig
from ..errors import DataError, UsageError
from ..image_processing_mammo import MammoImageProcessor
from ..modeling_mammo_swin import MammoSwinForMaskedImageModeling
from ..publish.run_facts import ModelCardCallback
from .arguments import MimSettings
from .augmentation import Augmentation
from .datasets import EpochOfDatasets, LabelledImages, MaskedImages, rows_of
from .loading import read_config
from .masked_examples import MaskedCollator
from .mim_trainer import MimTrainer
from .panels import plot_reconstruction
from .plots import plot_loss_curves
from .probes import Probes
from .reconstruction import ReconstructionPanel, reconstruct, reconstruction_quality
from .running import run, without_last_batch_surprise, without_validation
from .simmim_checkpoint import simmim_config
from .starting_weights import load_starting_weights
from .streaming import StreamedMaskedImages
from .weight_average import WeightAverage

__all__ = ["reconstruct", "starting_config", "train_mim"]

logger = logging.getLogger(__name__)


def starting_config(model: str, image_size: tuple[int, int], **changes: Any) -> MammoSwinConfig:
    """The configuration of a size by name, or of a checkpoint, for an input of (height, width).

    Raises:
        UsageError: Neither a known size, nor a folder with a Swin's ``config.json``, nor a ``.pth`` file of one.
    """
    if model in SIZES:
        return MammoSwinConfig(**{**SIZES[model], **changes}, image_size=image_size)
    if Path(model).is_file():
        return MammoSwinConfig(**{**simmim_config(Path(model)), **changes, "image_size": image_size})
    if not (Path(model) / "config.json").is_file():
        raise UsageError(
            "neither a model size nor a checkpoint folder", source=model, remedy=f"use {', '.join(SIZES)} or a folder"
        )
    config_dict = read_config(Path(model))
    if "tasks" in changes:
        # the checkpoint's own labels belong to its own tasks
        config_dict = {key: value for key, value in config_dict.items() if key not in ("id2label", "label2id")}
    # built anew rather than changed after loading: the configuration checks and completes itself when it is made
    return MammoSwinConfig(**{**config_dict, **changes, "image_size": image_size})


def other_window(window_size: int | None) -> dict[str, Any]:
    """The change of configuration that a window asked for means; ``None``: the model's own stays."""
    return {} if window_size is None else {"window_size": window_size}


def model_changes(settings: MimSettings) -> dict[str, Any]:
    """The changes of configuration that stage 1's settings mean."""
    return {
        "decoder": settings.decoder,
        "sparse_encoder": settings.sparse_encoder,
        "loss_region": settings.loss_region,
        "normalized_patch": settings.normalized_patch,
        **other_window(settings.window_size),
    }


def check_model(model: str, image_size: tuple[int, int], **changes: Any) -> None:
    """Refuses a model that is not there, or whose windows do not fit the image, before an image is read.

    Args:
        model: A size or a checkpoint.
        image_size: (height, width) in pixels.
        changes: Of the configuration.

    Raises:
        UsageError: As `starting_config`, or the size does not fit; the nearest that does is named.
    """
    starting_config(model, image_size, **changes).check_image_size(*image_size)


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
        load_starting_weights(network, model)
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
