"""Stage 1: masked image modelling on every image that is not of a validation or test patient."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.augmentation import Augmentation
from ..data.collection import Collection
from ..data.loading import load
from ..data.prepare.folder import folder_of
from ..data.prepared_row import without_pixels
from ..data.terms import united
from ..data.torch_datasets import (
    EpochOfDatasets,
    LabelledImages,
    MaskedCollator,
    MaskedImages,
    StreamedMaskedImages,
    rows_of,
)
from ..data.training_data import (
    check_near_duplicates,
    collection_facts,
    prepared_images,
    streamed_images,
    training_processor,
    usable_tasks,
)
from ..encoders.configuration_mammo_bag import public_record
from ..errors import DataError
from ..models.checkpoint import check_model, load_starting_weights, locate, name_of, starting_config
from ..models.configuration_mammo_swin import SIZES
from ..models.losses import denormalized
from ..models.modeling_mammo_swin import MammoSwinForMaskedImageModeling
from ..plotting import plot_loss_curves, plot_reconstruction
from ..processing.image_processing_mammo import MammoImageProcessor
from .callbacks import ModelCardCallback, Probes, WeightAverage
from .options import MimOptions
from .teacher import RECORDED, Teacher, explained
from .trainer import (
    StageConfig,
    SwinTrainer,
    TrainingResult,
    begin_stage,
    check_batch,
    check_output,
    end_stage,
    open_stage,
    resolve_config,
    run,
    terms_of_training,
    without_validation,
)

logger = logging.getLogger(__name__)


@dataclass
class MimConfig(MimOptions, StageConfig):
    """Configuration of stage 1: Trainer's arguments and `MimOptions`."""


def pretrain(
    images: Collection | str | Path,
    output_dir: str | Path,
    *,
    model: str | Path = "tiny",
    config: MimConfig | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **options: Any,
) -> TrainingResult:
    """Pre-train an encoder by masked image modelling, and save it with its split, metrics, curves and model card.

    Training and unlabelled images are trained on; validation images choose the best epoch; images of test patients
    are never seen. With a teacher, the features that a frozen encoder gives of these images are predicted too; they are
    computed once, below the output folder, and the result is the same checkpoint.

    Args:
        images: A collection, prepared or not, or anything that `mammo_hf.load` takes.
        output_dir: Folder of the checkpoint. Images that are not prepared yet are prepared below it.
        model: What training starts from: a size (nano, tiny, small, base, large), a checkpoint's folder, a ``.pth``
            file of Swin or SimMIM, or a Hub name with an optional ``@revision``.
        config: Configuration to start from; ``None``: the defaults. It is not changed.
        callbacks: Further callbacks of Trainer, such as early stopping.
        **options: Fields of `MimConfig` in place of the configuration's.

    Returns:
        The folder and the metrics; its ``str`` is one sentence about them.

    Raises:
        UsageError: An argument is wrong, or the folder holds work that would be lost.
        DataError: The collection cannot be trained on.
        Diverged: The loss became NaN or infinite.
        Interrupted: Ctrl-C; a checkpoint to resume from has been written.
    """
    # Check arguments, model and output folder before an image is read
    config = resolve_config(MimConfig, config, output_dir, options)
    out = Path(str(config.output_dir))
    checkpoint = check_output(out, config.resume_from_checkpoint, overwrite=config.overwrite_output_dir)
    start = str(locate(model))
    blocks = {"mask_block_size": config.mask_block_size, "mask_ratio": config.mask_ratio}
    as_asked: dict[str, Any] = {"named": config.processor, "settings": config.processor_settings}
    processor = training_processor(images, start=start, size=config.image_size, crop=config.crop, **as_asked, **blocks)
    check_model(start, processor.canvas, crops=bool(config.crop), **_model_changes(config))
    processor.masking()(processor.canvas, seed=0)  # refuses blocks that do not tile the image
    teacher = None if config.teacher is None else Teacher(config.teacher, config.model_terms)
    seen: dict[str, Any] = {"resumed": checkpoint is not None, "teachers": teacher.folders if teacher else []}
    # Open the collection: split by patient, no test patient whom the start or the teacher was trained on
    collection = open_stage(images, config, start=start, processor=processor, **seen)
    tasks = usable_tasks(collection, config.tasks)
    # From here on the output folder is written to
    terms = united(terms_of_training(collection, config, start), teacher.terms if teacher else ())
    target = begin_stage(collection, config, terms, model=str(model), start=start, **seen)
    prepared, stream = _prepared(collection, processor, config, tasks)
    if teacher is not None:
        _open_teacher(teacher, start, collection, prepared, processor, config)
    # Train
    training, validation = _masked_images(prepared, processor, config, stream, teacher)
    trainer = _trainer(start, training, validation, config, callbacks)
    if config.probes:
        trainer.add_callback(_probes(trainer, prepared, processor, config))
    run(trainer, checkpoint)
    # Save, measure and describe
    metrics = _save(trainer, training, validation, processor, config)
    if trainer.is_world_process_zero():
        metrics |= {"seed": config.seed, "model": name_of(Path(start)), "image_size": list(processor.canvas)}
        metrics["collection"] = collection_facts(collection, tasks)
    result = TrainingResult(out, metrics, _sentence(metrics))
    end_stage("mim", result, config, collection, start=start, target=target)
    return result


def _prepared(
    collection: Collection, processor: MammoImageProcessor, config: MimConfig, tasks: list[dict[str, Any]]
) -> tuple[datasets.Dataset, StreamedMaskedImages | None]:
    """Return the prepared images, and a stream that reads the training images from prepared shards as they come."""
    stream = streamed_images(collection, processor, seed=config.seed) if config.streaming else None
    kept = collection.where(split="validation") if config.streaming else collection
    prepared = prepared_images(kept, processor, config.prepared_folder(), tasks=tasks, num_workers=config.num_workers)
    if config.near_duplicates:
        check_near_duplicates(collection, None if config.streaming else prepared)
    return prepared, stream


def _open_teacher(
    teacher: Teacher,
    start: str,
    collection: Collection,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    config: MimConfig,
) -> None:
    """Compute the teacher's features of training and validation images on the grid of the last stage."""
    grid = starting_config(start, processor.canvas, **_model_changes(config)).stage_grids(*processor.canvas)[-1]
    used = prepared.select(rows_of(prepared, ("train", "unlabelled", "validation")))
    whole = collection if folder_of(collection) is not None else load(config.prepared_folder())
    folder = Path(str(config.output_dir)) / "teacher"
    teacher.open(whole, used, folder, canvas=processor.canvas, grid=grid, num_workers=config.num_workers)


def _sentence(metrics: dict[str, Any]) -> str:
    trained = f"pre-trained on {metrics['train_images']:,} images"
    if "validation_loss" not in metrics:
        return f"{trained}, without a validation split"
    if "teacher" in metrics:
        of_image = metrics["teacher"]["explained"]["image"]
        return (
            f"{trained}, on validation images {of_image:.0%} of the variance of the teacher's pooled features explained"
        )
    return f"{trained}, L1 on hidden pixels of validation images {metrics['validation_loss']:.3f}"


def _model_changes(config: MimConfig) -> dict[str, Any]:
    """Return the fields of the model's configuration that the options set."""
    return {
        "mim_decoder": config.mim_decoder,
        "sparse_encoder": config.sparse_encoder,
        "loss_region": config.loss_region,
        "normalized_patch": config.normalized_patch,
        "window_size": config.window_size,
    }


def _masked_images(
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    config: MimConfig,
    stream: StreamedMaskedImages | None,
    teacher: Teacher | None = None,
) -> tuple[MaskedImages | StreamedMaskedImages, MaskedImages]:
    """Return the training images, with fresh masks and augmentation, and the validation images, with fixed masks."""
    trained_on = rows_of(prepared, ("train", "unlabelled"))
    if not (trained_on if stream is None else len(stream)):
        raise DataError("no image of a training patient to pre-train on", remedy="check the split of the collection")
    masking = replace(processor.masking(), within=config.mask_within)
    needs_breast = config.loss_region == "masked_breast"
    if needs_breast or config.mask_within == "breast":
        _check_breasts(prepared, rows_of(prepared, ("validation",)) + (trained_on if stream is None else []))
    augmentation = Augmentation(curve=config.tone_curves)
    common: dict[str, Any] = {"seed": config.seed, "masking": masking, "needs_breast": needs_breast}
    if stream is not None:
        stream.masking, stream.needs_breast, stream.augmentation = masking, needs_breast, augmentation
    common["teacher"] = teacher
    training = stream or MaskedImages(
        prepared.select(trained_on), processor, augmentation=augmentation, fresh=True, **common
    )
    check_batch(config, len(training), "pre-training images")
    validation = MaskedImages(prepared.select(rows_of(prepared, ("validation",))), processor, fresh=False, **common)
    return training, validation


def _check_breasts(prepared: datasets.Dataset, rows: list[int]) -> None:
    """Refuse images in which no breast was found, if masks or loss need one, before the first step.

    Raises:
        DataError: Names the first of them.
    """
    without = [row["image_id"] for row in without_pixels(prepared.select(rows)) if not any(row["breast"])]
    if without:
        raise DataError(
            f"no breast was found in it, nor in {len(without) - 1} other images",
            source=f"image {without[0]}",
            remedy="take them out of the collection, or mask and count the whole image",
        )


def _trainer(
    start: str,
    training: MaskedImages | StreamedMaskedImages,
    validation: MaskedImages,
    config: MimConfig,
    callbacks: Sequence[TrainerCallback],
) -> MimTrainer:
    torch.manual_seed(config.seed)
    processor = training.processor
    changes = {"num_channels": processor.num_channels, **_model_changes(config)}
    teacher: Any = getattr(training, "teacher", None)
    if teacher is not None:
        changes["teacher"] = {
            **{"channels": teacher.record["channels"], "tokens": config.teacher_tokens},
            **{"weight": config.teacher_weight, "l1_weight": config.l1_weight},
        }
    network = MammoSwinForMaskedImageModeling(starting_config(start, processor.canvas, **changes))
    if start not in SIZES:
        load_starting_weights(network, start, processor)
    if teacher is not None:
        teacher.standardize(network.teacher_head, training.prepared)
    config.label_names = ["bool_masked_pos"]
    config.prediction_loss_only = True
    if isinstance(training, StreamedMaskedImages):
        config.ignore_data_skip = True  # a stream cannot be skipped in: a resumed epoch begins again
    if not len(validation):
        without_validation(config)
    trainer = MimTrainer(
        network,
        config,
        train_dataset=training,
        eval_dataset=validation if len(validation) else None,
        data_collator=MaskedCollator(network.config, pack=config.n_gpu <= 1),
        callbacks=[EpochOfDatasets(training), ModelCardCallback(), *callbacks],
        layer_decay=config.layer_decay,
        average=WeightAverage(network, config.weight_average) if config.weight_average else None,
    )
    if len(validation):
        panels = Path(str(config.output_dir)) / "plots" / "mim_panels"
        trainer.add_callback(ReconstructionPanel(trainer, network, validation, panels))
    return trainer


def _probes(
    trainer: MimTrainer, prepared: datasets.Dataset, processor: MammoImageProcessor, config: MimConfig
) -> Probes:
    train, validation = (
        LabelledImages(prepared.select(rows_of(prepared, (split,))), processor) for split in ("train", "validation")
    )
    return Probes(trainer, trainer.model, train, validation, config.probes)


def _save(
    trainer: MimTrainer,
    training: MaskedImages | StreamedMaskedImages,
    validation: MaskedImages,
    processor: MammoImageProcessor,
    config: MimConfig,
) -> dict[str, Any]:
    """Save model, processor and plots, and return the metrics: counts, and loss, PSNR and SSIM on validation images."""
    card = next(found for found in trainer.callback_handler.callbacks if isinstance(found, ModelCardCallback))
    metrics: dict[str, Any] = {"train_images": len(training), "validation_images": len(validation)}
    metrics |= {"processes": config.world_size, "run": card.facts}
    if len(validation):
        metrics["validation_loss"] = trainer.evaluate()["eval_loss"]
    if trainer.average is not None:
        trainer.average.apply()
    if trainer.is_world_process_zero():
        out, network = Path(str(config.output_dir)), trainer.accelerator.unwrap_model(trainer.model)
        shown = validation if len(validation) else training
        if len(validation):
            metrics["hidden_inside_the_breast"] = reconstruction_quality(network, validation)
        teacher: Any = validation.teacher
        if teacher is not None:
            metrics["teacher"] = _about_teacher(network, teacher.record, shown)
            network.drop_teacher()
        network.save_pretrained(out)
        processor.save_pretrained(out)
        plot_loss_curves(trainer.state.log_history, out / "plots" / "mim_loss.png", "Masked image modelling")
        panel = out / "plots" / "mim_reconstruction.png"
        plot_reconstruction(*reconstruct(network, shown), panel, "Reconstruction of hidden blocks")
    return metrics


def _about_teacher(
    network: MammoSwinForMaskedImageModeling, record: dict[str, Any], images: MaskedImages
) -> dict[str, Any]:
    """Return what metrics and card say of a teacher: who it is, how it was weighed, and how much of it is explained."""
    settings = {name: value for name, value in network.config.teacher.items() if name != "channels"}
    public = public_record(record)
    return {**{name: public[name] for name in RECORDED}, **settings, "explained": explained(network, images)}


class MimTrainer(SwinTrainer):
    """Trainer of a masked image model; its losses are means however an update is divided."""

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Return what the losses of one update are divided by, over all its micro-batches and processes."""
        if not batch_samples or self.args.n_gpu > 1:
            return None
        network = self.accelerator.unwrap_model(self.model)
        counts = torch.zeros(3, device=device)
        for batch in batch_samples:
            size = tuple(batch["pixel_values"].shape[-2:])
            masks = (batch["bool_masked_pos"], size, batch.get("content_mask"), batch.get("breast_mask"))
            counts += network.loss_counts(*masks).to(device)
        # in evaluation each process's batch counts by itself
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            counts = self.accelerator.gather(counts[None]).sum(0)
        return counts


def psnr(image: np.ndarray, reconstruction: np.ndarray, counted: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB of intensities in [0, 1] over the counted pixels."""
    error = float(np.mean((np.asarray(image, np.float64) - reconstruction)[counted] ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim_map(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Return the structural similarity at each pixel (Wang et al. 2004, IEEE Trans. Image Process. 13:600, eq. 13).

    Args:
        image: Intensity (height, width) in [0, 1].
        reconstruction: Intensity of the same shape and range.

    Returns:
        (height, width) in [-1, 1]: windows weighted by a Gaussian of 1.5 pixels, K1 = 0.01 and K2 = 0.03.
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
    """Return the means over images of PSNR and SSIM on the counted pixels; images that count none are left out.

    Args:
        images: Intensity (n, height, width) in [0, 1].
        reconstructions: Intensity of the same shape and range; only counted pixels are used.
        counted: Pixels that are hidden and inside the breast, bool (n, height, width).
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


PANEL_ROWS = 4


def reconstruct(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, count: int = PANEL_ROWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return input, mask and reconstruction of some images, each (n, height, width), intensities in [0, 1].

    If the model predicts normalised patches, the true patches' mean and deviation are put back. Padding is left as it
    is.
    """
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    inputs, masks, rebuilt, _ = _reconstructed(network, images, [int(index) for index in chosen])
    return inputs, masks, rebuilt


@torch.no_grad()
def _reconstructed(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, indices: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what `reconstruct` does, and the pixels that are hidden, not padding, and inside the breast."""
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
    # the loss ignores padding, so that what the decoder writes there means nothing: it stays as it is
    rebuilt = np.where(content, images.processor.denormalize(output.cpu().numpy()), inputs)
    return inputs, mask, rebuilt, mask & breast & content


def reconstruction_quality(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, batch_size: int = 16, limit: int = 512
) -> dict[str, float]:
    """Return PSNR in dB and SSIM on hidden pixels inside the breast, means over ``limit`` evenly chosen images."""
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int).tolist()
    parts = [
        _reconstructed(network, images, chosen[start : start + batch_size])
        for start in range(0, len(chosen), batch_size)
    ]
    inputs, _, rebuilt, counted = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return quality(inputs, rebuilt, counted)


class ReconstructionPanel(TrainerCallback):
    """Callback that draws input, masked, reconstruction and difference at each evaluation.

    Args:
        trainer: Trainer whose trackers get the picture.
        network: Model that reconstructs.
        images: Images to draw from, the same ones each time.
        folder: Folder of the pictures ``step-N.png``.
    """

    def __init__(
        self, trainer: Trainer, network: MammoSwinForMaskedImageModeling, images: MaskedImages, folder: Path
    ) -> None:
        self.trainer = trainer
        self.network = network
        self.images = images
        self.folder = folder

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Draw in the main process."""
        if not state.is_world_process_zero:
            return
        path = self.folder / f"step-{state.global_step}.png"
        plot_reconstruction(*reconstruct(self.network, self.images), path, f"step {state.global_step}")
        show_in_trackers(self.trainer, path, "reconstruction", state.global_step)


def show_in_trackers(trainer: Trainer, picture: Path, name: str, step: int) -> None:
    """Send a picture to those of TensorBoard, Weights & Biases and Trackio that the Trainer reports to."""
    for callback in trainer.callback_handler.callbacks:
        kind = type(callback).__name__
        if kind == "TensorBoardCallback" and getattr(callback, "tb_writer", None) is not None:
            image = importlib.import_module("matplotlib.image").imread(picture)
            callback.tb_writer.add_image(name, image, step, dataformats="HWC")
        elif kind in ("WandbCallback", "TrackioCallback"):
            tracker = importlib.import_module("wandb" if kind == "WandbCallback" else "trackio")
            # the step as Trainer's own callbacks give it: the axis that everything is drawn over
            tracker.log({name: tracker.Image(str(picture)), "train/global_step": step})
