"""Prepared parquet shards as a stream, for stage 1 on collections that no disk of a trainer holds.

The shards are divided among the ranks of a distributed run, and a rank's among its DataLoader workers. Within an epoch
no image is seen twice. Ranks whose shards hold a few images more leave those out: all ranks take as many steps.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
from accelerate import PartialState
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, IterableDataset

from ..data.prepare import SCHEMA, shards_of, stream_prepared
from ..errors import UsageError
from .augmentation import Augmentation
from .masked_examples import Example, masked_example

if TYPE_CHECKING:
    from ..image_processing_mammo import MammoImageProcessor

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
