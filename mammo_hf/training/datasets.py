"""Prepared images as training examples: fresh augmentation and masks in training, fixed ones in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.prepare import FULL_SCALE, LESION_CELL, UNKNOWN_PATHOLOGY
from .augmentation import Augmentation
from .masked_examples import masked_example

if TYPE_CHECKING:
    from ..image_processing_mammo import MammoImageProcessor
    from ..masking import BlockwiseMasking

Example = dict[str, torch.Tensor]

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
