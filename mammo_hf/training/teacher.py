"""The teacher of stage 1: features of a frozen encoder, computed once, that the Swin's last tokens predict.

As in MaskFeat (Wei et al. 2022, arXiv 2112.09133) and EVA (Fang et al. 2023, arXiv 2211.07636) the targets are features
in place of pixels or next to them. No label is needed, and the result is the same stock Swin.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import PartialState
from torch.nn import functional

from ..data.collection import Collection
from ..data.prepare.folder import is_features
from ..data.prepared_row import breast_of, without_pixels
from ..data.splits import SPLIT_FILE
from ..data.terms import read_terms
from ..data.torch_datasets import MaskedCollator, MaskedImages
from ..encoders.embed import embed
from ..encoders.encoder import Encoder, load_encoder
from ..encoders.store import GRID, features_about, read_features
from ..errors import UsageError
from ..models.modeling_mammo_swin import MammoSwinForMaskedImageModeling, TeacherHead

logger = logging.getLogger(__name__)

ENOUGH = 1024  # training images that mean and deviation of the features are taken over
RECORDED = ("name", "kind", "revision", "weights", "licence", "citation")  # what a checkpoint says of its teacher


class Teacher:
    """A frozen encoder, or its features that are there already; after `open` a function from an image to its features.

    Args:
        source: Encoder as in `load_encoder`, or a folder of features that `embed` made with a grid.
        model_terms: Terms of the encoder that the user states.

    Attributes:
        record: Record of the encoder.
        terms: Terms of the encoder, or of all that the features come from.
        folders: Folder that says which patients the encoder was trained on, if it is a checkpoint of ours.

    Raises:
        UsageError: There is no such encoder, it gives no grid of features, or the folder's features have none.
    """

    def __init__(self, source: str, model_terms: str | None = None) -> None:
        self.source = source
        self.encoder: Encoder | None = None
        self.folders: list[str] = []
        if is_features(source):
            about = features_about(source)
            if GRID not in about:
                remedy = "embed them with --grid, the rows and columns of the last stage"
                raise UsageError("holds features of whole views, without a grid", source=source, remedy=remedy)
            self.record, self.terms = about["encoder"], read_terms(source) or ()
            self.folders = [source] if (Path(source) / SPLIT_FILE).is_file() else []
            return
        self.encoder = load_encoder(source, model_terms=model_terms)
        self.record, self.terms = self.encoder.record, self.encoder.terms
        self.folders = [source] if self.record["kind"] == "checkpoint" else []

    def open(
        self,
        collection: Collection,
        prepared: datasets.Dataset,
        folder: Path,
        *,
        canvas: tuple[int, int],
        grid: tuple[int, int],
        num_workers: int,
    ) -> None:
        """Compute the features of the prepared images, unless they are there, and open them.

        Args:
            collection: Collection of a prepared folder, which holds all these images.
            prepared: Rows of the images of training and validation.
            folder: Folder that features are written to if the teacher is an encoder.
            canvas: (height, width) of the images in pixels.
            grid: (rows, columns) of the last stage.
            num_workers: Processes that encode.

        Raises:
            UsageError: The folder of features has another grid, or holds features of other images.
        """
        ids = set(prepared["image_id"])
        if self.encoder is not None:
            state = PartialState()
            with state.main_process_first():
                if state.is_main_process or not is_features(folder):
                    some = collection.where(lambda row: row["image_id"] in ids)
                    about = {"tiles": "whole", "image_size": canvas, "grid": grid, "num_workers": num_workers}
                    # the other processes wait
                    logger.info("%s", embed(some, folder, encoder=self.source, together=False, **about))
        else:
            folder = Path(self.source)
        about = features_about(folder)
        if tuple(about[GRID]) != grid or tuple(about["image_size"]) != canvas:
            problem = f"holds a grid of {_text(about[GRID])} on {_text(about['image_size'])} pixels"
            options = f"--image_size {canvas[0]} {canvas[1]} --grid {grid[0]} {grid[1]}"
            raise UsageError(problem, source=folder, remedy=f"embed the prepared images with {options}")
        self.grid = grid
        self._rows = read_features(folder)
        self._index = {image_id: row for row, image_id in enumerate(self._rows["image_id"])}
        _check_images(self._rows, self._index, prepared, folder)
        self._rows = self._rows.select_columns([GRID, "features"])

    def __call__(self, image_id: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of the cells (channels, rows, columns), and their mean and maximum (2 * channels,)."""
        row = self._rows[self._index[image_id]]
        cells = np.frombuffer(row[GRID], np.float16).astype(np.float32).reshape(*self.grid, -1)
        whole = np.frombuffer(row["features"], np.float16)[: 2 * cells.shape[-1]].astype(np.float32)
        return torch.from_numpy(cells).permute(2, 0, 1), torch.from_numpy(whole)

    def standardize(self, head: TeacherHead, prepared: datasets.Dataset) -> None:
        """Set mean and deviation of a head's targets to those of training images, of cells that show the breast.

        Args:
            head: Head of the model.
            prepared: Rows of the training images.
        """
        chosen = np.unique(np.linspace(0, len(prepared) - 1, min(ENOUGH, len(prepared))).astype(int))
        cells, images = [], []
        for row in without_pixels(prepared.select(chosen)):
            grid, whole = self(row["image_id"])
            breast = torch.from_numpy(breast_of(row).astype(np.float32))[None]
            shown = functional.adaptive_avg_pool2d(breast, self.grid)[0] > 0
            cells.append(grid[:, shown if shown.any() else ~shown].T)
            images.append(whole)
        head.standardize_by(torch.cat(cells), torch.stack(images))


def _text(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _check_images(rows: datasets.Dataset, index: dict[str, int], prepared: datasets.Dataset, folder: Path) -> None:
    """Refuse features of other images, or of the same images on another crop.

    Raises:
        UsageError: Counts them.
    """
    wanted = prepared.select_columns(["image_id", "geometry"])[:]
    missing = [image_id for image_id in wanted["image_id"] if image_id not in index]
    if missing:
        problem = f"has no features of {len(missing)} of {len(prepared)} images"
        raise UsageError(problem, source=folder, remedy="embed the prepared images that are trained on")
    geometries = rows["geometry"]
    for image_id, geometry in zip(wanted["image_id"], wanted["geometry"], strict=True):
        if geometries[index[image_id]] != geometry and geometry != "null":
            problem = f"holds features of another crop of image {image_id}"
            raise UsageError(problem, source=folder, remedy="embed the prepared folder, not the source files")


@torch.no_grad()
def explained(
    network: MammoSwinForMaskedImageModeling, images: MaskedImages, batch_size: int = 16, limit: int = 512
) -> dict[str, float]:
    """Return which fraction of the variance of a teacher's features is predicted on images, of cells and of images.

    Args:
        network: Model with a teacher's head.
        images: Images with features of the teacher.
        batch_size: Images per batch.
        limit: Number of evenly chosen images.
    """
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int).tolist()
    left, total = {"cells": 0.0, "image": 0.0}, {"cells": 0.0, "image": 0.0}
    collate, training = MaskedCollator(network.config), network.training
    network.eval()
    for start in range(0, len(chosen), batch_size):
        batch = collate([images[index] for index in chosen[start : start + batch_size]])
        batch = {name: value.to(network.device) for name, value in batch.items()}
        masks = (batch["bool_masked_pos"], tuple(batch["pixel_values"].shape[-2:]))
        weights = network.taught_cells(*masks, batch["content_mask"], batch["breast_mask"])
        for name, (predicted, wanted) in network(**batch).taught.items():
            weight = weights[..., None] if name == "cells" else torch.ones_like(wanted[:, :1])
            left[name] += float(((predicted - wanted).square() * weight).sum())
            total[name] += float((wanted.square() * weight).sum())
    network.train(training)
    return {name: 1 - left[name] / max(total[name], 1e-12) for name in left}
