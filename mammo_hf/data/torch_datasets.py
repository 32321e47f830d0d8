"""From a prepared row to an example of masked image modelling, and from examples to a batch."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from ..processing.geometry import Geometry
from .augmentation import Augmentation
from .prepare.reading import shards_of, stream_prepared
from .prepare.row import FULL_SCALE, LESION_CELL, SCHEMA, UNKNOWN_PATHOLOGY, unpacked_breast

if TYPE_CHECKING:
    from ..models.configuration_mammo_swin import MammoSwinConfig
    from ..processing.image_processing_mammo import MammoImageProcessor
    from ..processing.masking import BlockwiseMasking

Example = dict[str, torch.Tensor]


def masked_example(
    row: dict[str, Any],
    *,
    processor: MammoImageProcessor,
    masking: BlockwiseMasking,
    augmentation: Augmentation | None,
    seed: int,
    epoch: int,
    index: int,
    needs_breast: bool = False,
) -> Example:
    """One image and which of its patches are hidden; depends on (seed, epoch, index) alone.

    Args:
        row: Of a prepared dataset.
        processor: Normalises.
        masking: Decides what is hidden.
        augmentation: ``None``: the image as it is.
        seed: Of augmentation and mask.
        epoch: Counts up in training, and stays 0 in evaluation.
        index: The image's place in its dataset.
        needs_breast: Whether an image in which no breast was found is of no use, though the masking could do without.

    Returns:
        ``pixel_values`` (channels, height, width), ``bool_masked_pos`` (patches,), ``content_mask`` (height, width),
        false in the padding, and ``breast_mask`` (height, width), true in the breast that was found when the image was
        prepared.

    Raises:
        DataError: An image without a breast where that is needed, or pixels that are not finite; it names the image.
    """
    intensity, content, breast = _canvas(row)
    if augmentation is not None:
        generator = np.random.default_rng([seed, epoch, index])
        intensity, content, breast = augmentation(intensity, content, breast, view=row["view"], generator=generator)
    inside = breast[0] > 0.5
    if (needs_breast or masking.within == "breast") and not inside.any():
        raise DataError(
            "no breast stands out from the background",
            source=f"image {row['image_id']}",
            remedy="take it out of the collection, or mask and judge the whole image",
        )
    inside = inside.repeat_interleave(LESION_CELL, 0).repeat_interleave(LESION_CELL, 1)
    pixels = torch.from_numpy(processor.normalize_intensity(intensity[0].numpy()))
    if not torch.isfinite(pixels).all():
        raise DataError("pixel values that are not finite", source=f"image {row['image_id']}", remedy="prepare it anew")
    size = (intensity.shape[-2], intensity.shape[-1])
    patches = _patches_with(inside, masking.patch_size) if masking.within == "breast" else None
    try:
        mask = masking(size, seed=seed, epoch=epoch, index=index, breast=patches)
    except DataError as error:
        raise DataError(error.problem, source=f"image {row['image_id']}", remedy=error.remedy) from error
    # pixel values first: Trainer reads the batch size off the first entry
    return {
        "pixel_values": pixels,
        "bool_masked_pos": torch.from_numpy(mask),
        "content_mask": content[0] > 0.5,
        "breast_mask": inside,
    }


def _canvas(row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Intensity in [0, 1], 1 where the canvas shows the image and not padding, and 1 where cells lie in the breast.

    The first two are (1, height, width), the breast (1, height / 4, width / 4).
    """
    height, width = row["size"]
    pixels = np.frombuffer(row["pixels"], np.uint16).reshape(1, height, width)
    intensity = torch.from_numpy(np.divide(pixels, FULL_SCALE, dtype=np.float32))
    content = torch.ones(1, height, width)
    placement = json.loads(row["geometry"])
    if placement:
        geometry = Geometry.from_dict(placement)
        content.zero_()
        (top, left), (rows, columns) = geometry.offset, geometry.resized
        content[0, top : top + rows, left : left + columns] = 1.0
    cells = unpacked_breast(row["breast"], (height, width))
    return intensity, content, torch.from_numpy(cells.astype(np.float32))[None]


def _patches_with(inside: torch.Tensor, patch: int) -> np.ndarray:
    """Which patches hold a part of the breast, bool (patches,), row by row."""
    height, width = inside.shape
    parts = np.asarray(inside.numpy().reshape(height // patch, patch, width // patch, patch).any(axis=(1, 3)))
    return parts.ravel()


@dataclass(frozen=True)
class MaskedCollator:
    """Stacks examples, and packs the visible tokens for the encoder, off the training thread where there are workers.

    Args:
        config: Of the model.
        pack: Whether to pack; not where one process feeds several GPUs, which would divide the batch once more.
    """

    config: MammoSwinConfig
    pack: bool = True

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """The batch of some examples."""
        batch: dict[str, Any] = {key: torch.stack([example[key] for example in examples]) for key in examples[0]}
        if self.pack and self.config.sparse_encoder:
            size = (batch["pixel_values"].shape[-2], batch["pixel_values"].shape[-1])
            visible = packed_for(self.config, batch["bool_masked_pos"], size)
            if visible is not None:
                batch["visible"] = visible
        return batch


# Prepared images as training examples: fresh augmentation and masks in training, fixed ones in evaluation.


# a lesion that covers less of a token than this share only grazes it: what the token sees is mostly something else, and
# a map whose peak lies there misses
GRAZED = 0.5


def augmented(
    row: dict[str, Any], augmentation: Augmentation | None, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A prepared row's intensity (1, height, width) in [0, 1] and lesion map (1, height / 4, width / 4).

    Args:
        row: Its ``pixels`` and ``lesions`` as bytes.
        augmentation: Moves both together; ``None``: they stay as they are.
        generator: Decides how.
    """
    height, width = row["size"]
    pixels = np.frombuffer(row["pixels"], np.uint16).reshape(1, height, width)
    # in one pass: touching new memory costs more here than arithmetic
    intensity = torch.from_numpy(np.divide(pixels, FULL_SCALE, dtype=np.float32))
    if row["lesions"] is None:
        lesions = torch.full((1, height // LESION_CELL, width // LESION_CELL), float(UNKNOWN_PATHOLOGY))
    else:
        cells = np.frombuffer(row["lesions"], np.uint8).reshape(1, height // LESION_CELL, width // LESION_CELL)
        lesions = torch.from_numpy(cells.astype(np.float32))
    if augmentation is not None:
        intensity, lesions = augmentation(intensity, lesions, view=row["view"], generator=generator)
    return intensity, lesions


class PreparedImages(Dataset[Example]):
    """Images of a prepared dataset, as ``pixel_values`` (channels, height, width).

    An example depends on (seed, epoch, index) alone, so that any number of workers and processes gives the same ones.

    Args:
        prepared: What ``mammo_hf.data.prepare`` wrote.
        processor: Normalises, with the numbers that are saved beside the model.
        augmentation: In training only; ``None``: the image as it is.
        seed: Of augmentation and masks.
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
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.prepared)

    def intensity_and_lesions(self, index: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Intensity (1, height, width) in [0, 1], lesion map (1, height / 4, width / 4), and the prepared row."""
        row = self.prepared[index]
        generator = np.random.default_rng([self.seed, self.epoch, index])
        intensity, lesions = augmented(row, self.augmentation, generator)
        return intensity, lesions, row

    def normalized(self, intensity: torch.Tensor) -> torch.Tensor:
        """(1, height, width) in [0, 1] to normalised (channels, height, width)."""
        return torch.from_numpy(self.processor.normalize_intensity(intensity[0].numpy()))


class MaskedImages(PreparedImages):
    """For stage 1: an image, which of its patches are hidden, and where it is padding and breast."""

    def __init__(
        self, *args: Any, masking: BlockwiseMasking, fresh: bool, needs_breast: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.masking = masking
        self.fresh = fresh
        self.needs_breast = needs_breast

    def __getitem__(self, index: int) -> Example:
        return masked_example(
            self.prepared[index],
            processor=self.processor,
            masking=self.masking,
            augmentation=self.augmentation,
            seed=self.seed,
            epoch=self.epoch if self.fresh else 0,
            index=index,
            needs_breast=self.needs_breast,
        )


class LabelledImages(PreparedImages):
    """For stage 2: an image, its labels (tasks,), and, where asked for, the lesion labels of the last stage's grid.

    Args:
        args: As `PreparedImages`.
        lesion_grid: (rows, columns) of the last stage; ``None``: no lesion labels.
        balanced: Whether each epoch draws the first task's classes equally often, instead of each image once.
        kwargs: As `PreparedImages`.
    """

    def __init__(
        self, *args: Any, lesion_grid: tuple[int, int] | None = None, balanced: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lesion_grid = lesion_grid
        self.balanced = balanced
        self._drawn: tuple[int, np.ndarray] | None = None

    def row_of(self, index: int) -> int:
        """The prepared row that stands at a place of this epoch."""
        if not self.balanced:
            return index
        if self._drawn is None or self._drawn[0] != self.epoch:
            labels = np.array([labels[0] for labels in self.prepared["labels"]])
            self._drawn = (self.epoch, balanced_rows(labels, np.random.default_rng([self.seed, self.epoch])))
        return int(self._drawn[1][index])

    def __getitem__(self, index: int) -> Example:
        index = self.row_of(index)
        intensity, lesions, row = self.intensity_and_lesions(index)
        example = {"pixel_values": self.normalized(intensity), "labels": torch.tensor(row["labels"])}
        if self.lesion_grid is not None:
            example["lesion_labels"] = lesion_tokens(lesions, self.lesion_grid)
        return example


def balanced_rows(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many rows as there are labels, each known class equally often, up to one.

    Args:
        labels: int (n,), -100 where not known; those rows are drawn as a class of their own.
        generator: Decides which rows of a class are repeated or left out, and the order.
    """
    classes = np.unique(labels)
    shares = np.full(len(classes), len(labels) // len(classes))
    shares[: len(labels) % len(classes)] += 1
    drawn = []
    for label, share in zip(classes, shares, strict=True):
        rows = np.flatnonzero(labels == label)
        # whole rounds, so that none is repeated before each has come
        rounds = [generator.permutation(rows) for _ in range(-(-share // len(rows)))]
        drawn.append(np.concatenate(rounds)[:share])
    return generator.permutation(np.concatenate(drawn))


def lesion_tokens(lesions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """What a token's cells hold: the largest of unknown over any label over none.

    A token that a lesion only grazes teaches neither that there is one nor that there is none, unless no other token
    of the image holds more of it.

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


class EpochOfDatasets(TrainerCallback):
    """Tells the datasets which epoch begins, also after a resume."""

    def __init__(self, *images: PreparedImages) -> None:
        self.images = images

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets ``epoch`` before the epoch's first example is drawn."""
        for images in self.images:
            images.epoch = int(state.epoch or 0)


def rows_of(prepared: datasets.Dataset, splits: Sequence[str]) -> list[int]:
    """The indices of the rows of some splits, in order."""
    return [index for index, split in enumerate(prepared["split"]) if split in splits]


# Prepared parquet shards as a stream, for stage 1 on collections that no disk of a trainer holds.
#
# The shards are divided among the ranks of a distributed run, and a rank's among its DataLoader workers. Within an
# epoch no image is seen twice. Ranks whose shards hold a few images more leave those out: all ranks take as many
# steps.


SHUFFLE_BUFFER = 128  # images that a worker keeps to draw from: 100 MB at 896 x 448


class StreamedMaskedImages(IterableDataset[Example]):
    """For stage 1: images of some rows of a prepared folder, in a new order each epoch, and their masks.

    An example depends on (seed, epoch, image) alone; which rank and worker gives it depends on their numbers.

    Args:
        folder: A finished prepared folder of the format parquet, or the URL of one.
        image_ids: The rows that are wanted.
        processor: Normalises and masks.
        augmentation: ``None``: the image as it is.
        seed: Of order, augmentation and masks.
        shuffle_buffer: How many images a worker draws from.
        rank: Of this process; ``None``: as the distributed run says.
        world_size: How many processes; ``None``: likewise.

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
        shards = shards_of(folder, "parquet")
        state = PartialState()
        self.world_size = state.num_processes if world_size is None else world_size
        if len(shards) < self.world_size:
            raise UsageError(
                f"has {len(shards)} shards for {self.world_size} processes",
                source=folder,
                remedy="prepare it with a smaller --shard_size",
            )
        self.processor = processor
        self.masking = processor.masking()
        self.needs_breast = False
        self.augmentation = augmentation
        self.seed = seed
        # numbers, not texts: eight bytes an image in every worker
        self._wanted = np.sort(np.array([int(image_id, 16) for image_id in image_ids], np.uint64))
        self._counts = shards.counts(image_ids)
        stream = stream_prepared(folder, SCHEMA.names)
        stream = stream.filter(self._is_wanted).shuffle(seed=seed, buffer_size=shuffle_buffer)
        rank = state.process_index if rank is None else rank
        self._stream: datasets.IterableDataset = split_dataset_by_node(stream, rank, self.world_size)

    def __len__(self) -> int:
        """The images of an epoch, over all ranks."""
        return len(self._wanted)

    @property
    def epoch(self) -> int:
        """Decides order, augmentation and masks; workers see it change."""
        return int(self._stream.epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._stream.set_epoch(epoch)

    def rows_of_a_rank(self, workers: int) -> int:
        """How many rows every rank has in any epoch, at least.

        `datasets` gives whole shards to the ranks where their number divides the shards'; otherwise all ranks read all
        shards, and each worker's rows go round the ranks.
        """
        if len(self._counts) % self.world_size == 0:
            return sum(sorted(self._counts)[: len(self._counts) // self.world_size])
        return max(0, sum(self._counts) // self.world_size - max(workers, 1))

    def __iter__(self) -> Iterator[Example]:
        for row in self._stream:
            image = int(row["image_id"], 16)
            yield masked_example(
                row,
                processor=self.processor,
                masking=self.masking,
                augmentation=self.augmentation,
                seed=self.seed,
                epoch=self.epoch,
                index=image,
                needs_breast=self.needs_breast,
            )

    def _is_wanted(self, row: dict[str, Any]) -> bool:
        image = np.uint64(int(row["image_id"], 16))
        place = int(np.searchsorted(self._wanted, image))
        return place < len(self._wanted) and bool(self._wanted[place] == image)


class StreamLoader(DataLoader[Example]):
    """A loader of a stream that takes the same number of batches on every rank, whatever their shards hold."""

    dataset: StreamedMaskedImages

    def __len__(self) -> int:
        """Batches an epoch on this rank and on each other."""
        rows = self.dataset.rows_of_a_rank(self.num_workers)
        return max(1, math.ceil(rows / (self.batch_size or 1)))

    def __iter__(self) -> Any:
        """The epoch's batches."""
        return itertools.islice(super().__iter__(), len(self))

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch begins."""
        self.dataset.epoch = epoch
