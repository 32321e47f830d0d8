"""Prepared rows as training examples of both stages, from a dataset or a stream, and examples as batches."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from datasets.distributed import split_dataset_by_node
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import DataError, UsageError
from ..models.sparse_encoder import packed_for
from .augmentation import Augmentation
from .native_row import OnCanvas
from .prepare.folder import drawn_by, stream_prepared, streamed_counts
from .prepared_row import CELL, GRAZED, UNKNOWN_PATHOLOGY, breast_of, geometry_of, intensity_of, lesions_of

if TYPE_CHECKING:
    from ..models.configuration_mammo_swin import MammoSwinConfig
    from ..processing.image_processing_mammo import MammoImageProcessor
    from ..processing.masking import BlockwiseMasking

Example = dict[str, torch.Tensor]
SHUFFLE_BUFFER = 128  # images that a worker keeps to draw from: 100 MB at 896 x 448

# Images of a prepared dataset.


class PreparedImages(Dataset[Example]):
    """Images of a prepared dataset, as ``pixel_values`` (channels, height, width).

    An example depends on (seed, epoch, index) alone, so that any number of workers and processes gives the same ones.

    Args:
        prepared: Rows from `mammo_hf.data.prepare.folder`.
        processor: Processor that normalises, with the values that are saved next to the model.
        augmentation: Augmentation, in training only; ``None``: the image as it is.
        seed: Random seed of augmentation and masks.
    """

    def __init__(
        self,
        prepared: datasets.Dataset,
        processor: MammoImageProcessor,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.prepared = prepared
        self.processor = processor
        self.augmentation = augmentation
        # crops of training are placed again in each epoch; of evaluation where the row draws them
        self._stored = prepared.with_format(None) if processor.native_crops and augmentation is not None else None
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.prepared)

    def row(self, index: int) -> dict[str, Any]:
        """Return a prepared row."""
        if self._stored is None:
            found: dict[str, Any] = self.prepared[index]
            return found
        generator = np.random.default_rng([self.seed, self.epoch, index, 2])
        return OnCanvas(self.processor).row(self._stored[index], generator)

    def intensity_and_lesions(self, index: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Return intensity (1, height, width) in [0, 1], lesion map (1, height / 4, width / 4) and the prepared row."""
        row = self.row(index)
        generator = np.random.default_rng([self.seed, self.epoch, index])
        intensity, lesions = augmented(row, self.augmentation, generator)
        return intensity, lesions, row

    def normalized(self, intensity: torch.Tensor) -> torch.Tensor:
        """Turn an intensity (1, height, width) in [0, 1] into normalised (channels, height, width)."""
        return torch.from_numpy(self.processor.normalize_intensity(intensity[0].numpy()))


def augmented(
    row: Mapping[str, Any], augmentation: Augmentation | None, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a prepared row's intensity (1, height, width) in [0, 1] and lesion map (1, height / 4, width / 4).

    Args:
        row: Prepared row.
        augmentation: Augmentation that moves both together; ``None``: they stay as they are.
        generator: Random generator of the augmentation.
    """
    intensity, cells = torch.from_numpy(intensity_of(row))[None], lesions_of(row)
    if cells is None:
        height, width = row["size"]
        lesions = torch.full((1, height // CELL, width // CELL), float(UNKNOWN_PATHOLOGY))
    else:
        lesions = torch.from_numpy(cells.astype(np.float32))[None]
    if augmentation is not None:
        intensity, lesions = augmentation(intensity, lesions, view=row["view"], generator=generator)
    return intensity, lesions


def rows_of(prepared: datasets.Dataset, splits: Sequence[str]) -> list[int]:
    """Return the indices of the rows of some splits, in order."""
    return [index for index, split in enumerate(prepared["split"]) if split in splits]


class EpochOfDatasets(TrainerCallback):
    """Callback that sets the datasets' epoch when it begins, also after a resume.

    Args:
        *images: Datasets of the training.
    """

    def __init__(self, *images: PreparedImages) -> None:
        self.images = images

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set ``epoch`` before the epoch's first example is drawn."""
        for images in self.images:
            images.epoch = int(state.epoch or 0)


# Stage 2: labelled images.


class LabelledImages(PreparedImages):
    """Images with their labels (tasks,), and on request the lesion labels of the last stage's grid.

    Args:
        args: Arguments of `PreparedImages`.
        lesion_grid: (rows, columns) of the last stage; ``None``: no lesion labels.
        balanced: Whether each epoch draws the first task's classes equally often, instead of each image once.
        strata: Column within whose values the classes are drawn equally often; ``None``: over all images.
        kwargs: Arguments of `PreparedImages`.
    """

    def __init__(
        self,
        *args: Any,
        lesion_grid: tuple[int, int] | None = None,
        balanced: bool = False,
        strata: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lesion_grid = lesion_grid
        self.balanced = balanced
        self.strata = strata
        self._drawn: tuple[int, np.ndarray] | None = None

    def row_of(self, index: int) -> int:
        """Return the prepared row that an index of this epoch means."""
        if not self.balanced:
            return index
        if self._drawn is None or self._drawn[0] != self.epoch:
            labels = np.array([labels[0] for labels in self.prepared["labels"]])
            strata = np.array([str(value) for value in self.prepared[self.strata]]) if self.strata else None
            self._drawn = (self.epoch, balanced_rows(labels, np.random.default_rng([self.seed, self.epoch]), strata))
        return int(self._drawn[1][index])

    def __getitem__(self, index: int) -> Example:
        intensity, lesions, row = self.intensity_and_lesions(self.row_of(index))
        labels = torch.tensor(row["labels"])
        if self.processor.native_crops and row["lesions"] is not None and not any(row["lesions"]):
            labels[0] = -100  # the lesions that decide the first task are elsewhere in the image
        example = {"pixel_values": self.normalized(intensity), "labels": labels}
        if self.lesion_grid is not None:
            example["lesion_targets"] = lesion_tokens(lesions, self.lesion_grid)
        return example


class WithOtherBreast(Dataset[Example]):
    """Labelled images, each with one of the patient's other breast in the same view if their labels differ.

    Examples have in addition ``other_breasts``, the other image, and ``pair_signs``: 1 if the image's class is the
    higher one, -1 if the other's is, 0 without a pair. Classes are those of the first task.

    Args:
        labelled: Labelled images; their number is the length of this set.

    Raises:
        DataError: No patient has two breasts of different known classes in one view.
    """

    def __init__(self, labelled: LabelledImages) -> None:
        self.labelled = labelled
        names = ("patient", "view", "laterality")
        keys = list(zip(*(labelled.prepared[name] for name in names), strict=True))
        self.classes = [labels[0] for labels in labelled.prepared["labels"]]
        at: dict[tuple[str, str], list[int]] = {}
        for row, (patient, view, side) in enumerate(keys):
            if view is not None and side is not None and self.classes[row] >= 0:
                at.setdefault((patient, view), []).append(row)
        self.others: dict[int, list[int]] = {}
        for rows in at.values():
            for row in rows:
                pairs = [r for r in rows if keys[r][2] != keys[row][2] and self.classes[r] != self.classes[row]]
                self.others |= {row: pairs} if pairs else {}
        if not self.others:
            placed = sum(len(rows) for rows in at.values())
            raise DataError(
                "no training patient has one breast of each class in the same view: "
                f"{placed} of {len(keys)} training images have view, side and a label of the first task",
                source="pair_loss",
                remedy="leave it out, or name a task in which the other breast has a label"
                if placed
                else "leave it out, or give view and laterality in the table",
            )

    @property
    def epoch(self) -> int:
        """Return the epoch of the labelled images."""
        return self.labelled.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.labelled.epoch = epoch

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, index: int) -> Example:
        example, row = self.labelled[index], self.labelled.row_of(index)
        pairs = self.others.get(row)
        if not pairs:
            nothing = torch.zeros_like(example["pixel_values"])
            return example | {"other_breasts": nothing, "pair_signs": torch.tensor(0)}
        other = pairs[int(np.random.default_rng([self.labelled.seed, self.epoch, index, 1]).integers(len(pairs)))]
        image = self.labelled.normalized(self.labelled.intensity_and_lesions(other)[0])
        sign = 1 if self.classes[row] > self.classes[other] else -1
        return example | {"other_breasts": image, "pair_signs": torch.tensor(sign)}


def balanced_rows(labels: np.ndarray, generator: np.random.Generator, strata: np.ndarray | None = None) -> np.ndarray:
    """Draw as many rows as there are labels, each known class equally often, up to one.

    Within strata a row of class c of stratum s counts N_s / (K N_sc): a stratum keeps its size, and tells nothing about
    the class. A stratum of one class is left out, and the others are drawn more often.

    Args:
        labels: int (n,), -100 if not known; those rows are drawn as a class of their own.
        generator: Random generator that decides which rows of a class are repeated or left out, and the order.
        strata: (n,) value of each row; ``None``: all rows are one stratum.

    Raises:
        DataError: No stratum has two classes.
    """
    cells = balanced_cells(labels, np.zeros(len(labels), int) if strata is None else strata)
    sizes = np.array([size for size, _ in cells])
    wanted = len(labels) * sizes / max(sizes.sum(), 1)
    counts = np.floor(wanted + 1e-9).astype(int)
    counts[np.argsort(counts - wanted, kind="stable")[: len(labels) - counts.sum()]] += 1
    drawn = []
    for (_, rows), count in zip(cells, counts, strict=True):
        # whole rounds, so that none is repeated before each has been drawn
        rounds = [generator.permutation(rows) for _ in range(-(-count // len(rows)))]
        drawn.append(np.concatenate([np.zeros(0, int), *rounds])[:count])
    return generator.permutation(np.concatenate(drawn))


def balanced_cells(labels: np.ndarray, strata: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Return for each class of each stratum the number of rows that it should have, and its rows.

    Raises:
        DataError: No stratum has two classes.
    """
    cells: list[tuple[float, np.ndarray]] = []
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        classes = np.unique(labels[rows])
        if len(classes[classes >= 0]) > 1:
            cells += [(len(rows) / len(classes), rows[labels[rows] == label]) for label in classes]
    if not cells:
        raise DataError("no stratum has two classes", source="sampling", remedy="use balanced or weighted")
    return cells


def lesion_tokens(lesions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return what each token's cells hold: the largest of unknown over any label over none.

    A token that a lesion only grazes counts as unknown, neither lesion nor background, unless no other token of the
    image holds more of it.

    Args:
        lesions: (1, height / 4, width / 4) as in a prepared row.
        grid: (rows, columns) of the last stage.

    Returns:
        int64 (rows, columns): 0 none, 1 + label, -100 not known.
    """
    tokens = functional.adaptive_max_pool2d(lesions, grid)[0].long()
    covered = functional.adaptive_avg_pool2d((lesions > 0).float(), grid)[0]
    grazed = (covered > 0) & (covered < GRAZED) & (covered < covered.max())
    return torch.where(grazed | (tokens == UNKNOWN_PATHOLOGY), -100, tokens)


# Stage 1: masked images.


class MaskedImages(PreparedImages):
    """Images with their hidden patches, and with masks of their content and breast.

    Args:
        args: Arguments of `PreparedImages`.
        masking: Masking that decides which patches are hidden.
        fresh: Whether each epoch has new masks and augmentation, as in training.
        needs_breast: Whether an image in which no breast was found is refused even if the masking needs none.
        teacher: Function from an ``image_id`` to the teacher's features of cells (channels, rows, columns) and of the
            image (2 * channels,); ``None``: no teacher.
        kwargs: Arguments of `PreparedImages`.
    """

    def __init__(
        self,
        *args: Any,
        masking: BlockwiseMasking,
        fresh: bool,
        needs_breast: bool = False,
        teacher: Callable[[str], tuple[torch.Tensor, torch.Tensor]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = teacher
        self.masking = masking
        self.fresh = fresh
        self.needs_breast = needs_breast

    def __getitem__(self, index: int) -> Example:
        return masked_example(
            self.row(index),
            processor=self.processor,
            masking=self.masking,
            augmentation=self.augmentation,
            seed=self.seed,
            epoch=self.epoch if self.fresh else 0,
            index=index,
            needs_breast=self.needs_breast,
            teacher=self.teacher,
        )


def masked_example(
    row: Mapping[str, Any],
    *,
    processor: MammoImageProcessor,
    masking: BlockwiseMasking,
    augmentation: Augmentation | None,
    seed: int,
    epoch: int,
    index: int,
    needs_breast: bool = False,
    teacher: Callable[[str], tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> Example:
    """Return one image and which of its patches are hidden; both depend on (seed, epoch, index) alone.

    Args:
        row: Prepared row.
        processor: Processor that normalises.
        masking: Masking that decides which patches are hidden.
        augmentation: Augmentation; ``None``: the image as it is.
        seed: Random seed of augmentation and mask.
        epoch: Number of the epoch, which counts up in training and stays 0 in evaluation.
        index: Index of the image in its dataset.
        needs_breast: Whether an image in which no breast was found is refused even if the masking needs none.
        teacher: Function from an ``image_id`` to the teacher's features, as for `MaskedImages`.

    Returns:
        ``pixel_values`` (channels, height, width), ``bool_masked_pos`` (patches,), ``content_mask`` (height, width),
        false in the padding, and ``breast_mask`` (height, width), true in the breast that was found when the image was
        prepared. With a teacher also ``teacher_cells`` (channels, rows, columns), moved as the image is, and
        ``teacher_image`` (2 * channels,).

    Raises:
        DataError: An image without a breast although it is needed, or pixels that are not finite; it names the image.
    """
    name = f"image {row['image_id']}"
    # Move the image and the maps that go with it alike.
    maps = _canvas(row)
    cells, of_image = (None, None) if teacher is None else teacher(row["image_id"])
    if augmentation is not None:
        generator = np.random.default_rng([seed, epoch, index])
        maps = augmentation(*maps, view=row["view"], generator=generator, features=cells)
        cells = maps[-1] if cells is not None else None
    intensity, content, breast = maps[:3]
    inside = breast[0] > 0.5
    if (needs_breast or masking.within == "breast") and not inside.any():
        raise DataError(
            "no breast stands out from the background",
            source=name,
            remedy="take it out of the collection, or mask and judge the whole image",
        )
    inside = inside.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
    pixels = torch.from_numpy(processor.normalize_intensity(intensity[0].numpy()))
    if not torch.isfinite(pixels).all():
        raise DataError("pixel values that are not finite", source=name, remedy="prepare it again")
    # Choose the hidden patches.
    height, width = intensity.shape[-2:]
    patches = _patches_with(inside, masking.patch_size) if masking.within == "breast" else None
    try:
        mask = masking((height, width), seed=seed, epoch=epoch, index=index, breast=patches)
    except DataError as error:
        raise DataError(error.problem, source=name, remedy=error.remedy) from error
    # pixel values first: Trainer reads the batch size off the first entry
    example = {
        "pixel_values": pixels,
        "bool_masked_pos": torch.from_numpy(mask),
        "content_mask": content[0] > 0.5,
        "breast_mask": inside,
    }
    if cells is not None and of_image is not None:
        example |= {"teacher_cells": cells, "teacher_image": of_image}
    return example


def _canvas(row: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Return the intensity in [0, 1], 1 where the canvas shows the image and not padding, and 1 in cells of the breast.

    The first two are (1, height, width), the breast (1, height / 4, width / 4).
    """
    intensity = torch.from_numpy(intensity_of(row))[None]
    content, geometry = torch.ones_like(intensity), geometry_of(row)
    if geometry is not None:
        content.zero_()
        (top, left), (rows, columns) = geometry.offset, geometry.resized
        content[0, top : top + rows, left : left + columns] = 1.0
    return intensity, content, torch.from_numpy(breast_of(row).astype(np.float32))[None]


def _patches_with(inside: torch.Tensor, patch: int) -> np.ndarray:
    """Tell which patches hold a part of the breast, bool (patches,), row by row."""
    height, width = inside.shape
    parts = np.asarray(inside.numpy().reshape(height // patch, patch, width // patch, patch).any(axis=(1, 3)))
    return parts.ravel()


class MaskedCollator:
    """Function that stacks examples, and packs the visible tokens for the encoder, in the loader's workers if any.

    Args:
        config: Configuration of the model.
        pack: Whether to pack; not if one process feeds several GPUs, which would divide the batch once more.
    """

    def __init__(self, config: MammoSwinConfig, pack: bool = True) -> None:
        self.config, self.pack = config, pack

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """Return the batch of some examples."""
        batch: dict[str, Any] = {key: torch.stack([example[key] for example in examples]) for key in examples[0]}
        if self.pack and self.config.sparse_encoder:
            size = (batch["pixel_values"].shape[-2], batch["pixel_values"].shape[-1])
            visible = packed_for(self.config, batch["bool_masked_pos"], size)
            if visible is not None:
                batch["visible"] = visible
        return batch


# Stage 1 from a stream of prepared parquet shards, for collections that no disk of a trainer holds.
#
# The shards are divided among the ranks of a distributed run, and a rank's among its DataLoader workers. Within an
# epoch no image is seen twice. Ranks with a few images more in their shards leave those out: all ranks take the same
# number of steps.


class StreamedMaskedImages(IterableDataset[Example]):
    """Images of some rows of a prepared folder, in a new order each epoch, and their masks.

    An example depends on (seed, epoch, image) alone; which rank and worker gives it depends on their numbers.

    Args:
        folder: Finished prepared folder of the format parquet, or its URL.
        image_ids: Rows that are wanted.
        processor: Processor that normalises and masks.
        augmentation: Augmentation; ``None``: the image as it is.
        seed: Random seed of order, augmentation and masks.
        shuffle_buffer: Number of images that a worker draws from.
        rank: Number of this process; ``None``: as the distributed run says.
        world_size: Number of processes; ``None``: as the distributed run says.

    Raises:
        UsageError: The folder is not finished or not of parquet, or there are fewer shards than processes.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        image_ids: Sequence[str],
        processor: MammoImageProcessor,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        shuffle_buffer: int = SHUFFLE_BUFFER,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self._counts = streamed_counts(folder, image_ids)
        state = PartialState()
        self.world_size = state.num_processes if world_size is None else world_size
        if len(self._counts) < self.world_size:
            raise UsageError(
                f"has {len(self._counts)} shards for {self.world_size} processes",
                source=folder,
                remedy="prepare it with a smaller `shard_size`",
            )
        self.processor = processor
        self.masking = processor.masking()
        self.needs_breast = False
        self.augmentation = augmentation
        self.seed = seed
        # numbers, not texts: eight bytes per image in every worker
        self._wanted = np.sort(np.array([int(image_id, 16) for image_id in image_ids], np.uint64))
        self._drawn = drawn_by(folder, processor)
        stream = stream_prepared(folder)
        stream = stream.filter(self._is_wanted).shuffle(seed=seed, buffer_size=shuffle_buffer)
        rank = state.process_index if rank is None else rank
        self._stream: datasets.IterableDataset = split_dataset_by_node(stream, rank, self.world_size)

    def __len__(self) -> int:
        """Return the number of images of an epoch, over all ranks."""
        return len(self._wanted)

    @property
    def epoch(self) -> int:
        """Number that decides order, augmentation and masks; workers see it change."""
        return int(self._stream.epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._stream.set_epoch(epoch)

    def rows_of_a_rank(self, workers: int) -> int:
        """Return how many rows every rank has in any epoch, at least.

        `datasets` gives whole shards to the ranks if the number of ranks divides that of the shards; otherwise all
        ranks read all shards, and each worker's rows are dealt to the ranks in turn.
        """
        if len(self._counts) % self.world_size == 0:
            return sum(sorted(self._counts)[: len(self._counts) // self.world_size])
        return max(0, sum(self._counts) // self.world_size - max(workers, 1))

    def __iter__(self) -> Iterator[Example]:
        for row in self._stream:
            yield masked_example(
                self._drawn(row, np.random.default_rng([self.seed, self.epoch, int(row["image_id"], 16)])),
                processor=self.processor,
                masking=self.masking,
                augmentation=self.augmentation,
                seed=self.seed,
                epoch=self.epoch,
                index=int(row["image_id"], 16),
                needs_breast=self.needs_breast,
            )

    def _is_wanted(self, row: dict[str, Any]) -> bool:
        image = np.uint64(int(row["image_id"], 16))
        at = int(np.searchsorted(self._wanted, image))
        return at < len(self._wanted) and bool(self._wanted[at] == image)


class StreamLoader(DataLoader[Example]):
    """Loader of a stream that takes the same number of batches on every rank, whatever their shards hold."""

    dataset: StreamedMaskedImages

    def __len__(self) -> int:
        """Return the number of batches per epoch on this rank and on each other."""
        rows = self.dataset.rows_of_a_rank(self.num_workers)
        return max(1, math.ceil(rows / (self.batch_size or 1)))

    def __iter__(self) -> Any:
        """Return the epoch's batches."""
        return itertools.islice(super().__iter__(), len(self))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that begins."""
        self.dataset.epoch = epoch
