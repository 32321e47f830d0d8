"""A head with its encoder: the classifier that takes images and scores them, their breasts and their exams."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import UsageError
from ..metrics.aggregation import unit_keys
from ..models.checkpoint import BAG, OWN_ENCODER, load_model, read_classifier_config
from ..models.modeling_mammo_swin import pooled
from ..processing.geometry import area_weights, fitted
from .bags import TILE, WHOLE, Image, MammoBagForClassification, MammoBagOutput, bag_image, collate_bags
from .configuration_mammo_bag import MammoBagConfig
from .encoder import Encoder, load_encoder
from .encoding import BATCH_SIZE, Bag, bag_of
from .views import Drawn, Views, tile_corners


class BagClassifier(nn.Module):
    """An encoder and the head over its features.

    Files are scored by `bag`, which gives the very features that `embed` does, and `unit_logits`. As a model of
    ``pixel_values`` it is what explainers take: a function of `Drawn.finest`, the pixels at the spacing of the tiles.

    Args:
        head: Head over bags.
        encoder: Encoder that it was trained on.

    Raises:
        UsageError: The head does not say how images are cut into tiles.
    """

    def __init__(self, head: MammoBagForClassification, encoder: Encoder) -> None:
        super().__init__()
        if not head.config.tiles:
            raise UsageError("does not say how images are cut into tiles", source="the head", remedy="train it again")
        self.head, self.encoder, self.views = head, encoder, Views.of(head.config.tiles)
        self.eval()

    @property
    def config(self) -> MammoBagConfig:
        """Configuration of the head."""
        return self.head.config

    @property
    def device(self) -> torch.device:
        """Device of encoder and head."""
        return self.head.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of encoder and head."""
        return self.head.dtype

    def bag(self, image: Drawn, laterality: str | None, view: str | None) -> tuple[Bag, Image]:
        """Encode the views of an image.

        Args:
            image: Views of the image.
            laterality: "L" or "R"; anything else is not known.
            view: "CC", "MLO" or another; "" or ``None`` if it is not known.

        Returns:
            The bag as `embed` stores it, and as an image of a unit.
        """
        bag = bag_of(image, self.encoder, self.views)
        return bag, bag_image(bag.features.tobytes(), bag.scales.tobytes(), None, laterality or None, view or None)

    @torch.no_grad()
    def unit_logits(self, images: Sequence[Image]) -> np.ndarray:
        """Return the logits of a unit, float64 (labels of all tasks,).

        Args:
            images: Images of the unit, from `bag`. A unit is scored alone, so that its score depends on no other.
        """
        inputs = {name: values.to(self.device) for name, values in collate_bags([{"images": images}]).items()}
        found: np.ndarray = self.head(**inputs).logits[0].double().cpu().numpy()
        return found

    # As a function of pixels, for explainers.

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> MammoBagOutput:
        """Score images as they are at the spacing of the tiles; gradients flow back to the pixels.

        The whole view is made of these pixels, so that a score differs a little from that of a file, whose whole view
        is drawn from the file's own pixels.

        Args:
            pixel_values: Intensity in [0, 1], (batch, 1, height, width).
            kwargs: Further arguments of other models; they are ignored.
        """
        bags = [self._bag_of_pixels(one[None]) for one in pixel_values.to(self.dtype)]
        count = max(len(features) for features, _ in bags)
        features = torch.stack([functional.pad(one, (0, 0, 0, count - len(one))) for one, _ in bags])
        scales = torch.stack([functional.pad(one, (0, count - len(one))) for _, one in bags])
        nothing = torch.zeros(len(bags), 1, dtype=torch.long, device=features.device)
        return self.head(features[:, None], scales[:, None], nothing, nothing)

    def tiles(self, pixels: torch.Tensor) -> np.ndarray:
        """Return where the tiles of one image are, int (tiles, 2): row and column of the top left pixel.

        Args:
            pixels: Intensity (height, width).
        """
        if self.views.tiles == "whole":
            return np.zeros((0, 2), int)
        return tile_corners(pixels.detach().cpu().numpy(), self.encoder.tile, self.views.overlap)

    def inputs(self, pixels: torch.Tensor) -> Iterator[tuple[torch.Tensor, list[tuple[int, int, int, int]]]]:
        """Yield what the encoder sees of one image, each batch with the (top, left, bottom, right) of its pictures.

        Args:
            pixels: Intensity (1, 1, height, width).
        """
        height, width = pixels.shape[-2:]
        if self.views.tiles != "native":
            yield _fitted(pixels, self.views.image_size), [(0, 0, height, width)]
        side, corners = self.encoder.tile, self.tiles(pixels[0, 0])
        for first in range(0, len(corners), BATCH_SIZE):
            boxes = [(row, column, row + side, column + side) for row, column in corners[first : first + BATCH_SIZE]]
            yield torch.cat([pixels[..., top:bottom, left:right] for top, left, bottom, right in boxes]), boxes

    def _bag_of_pixels(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = [pooled(self.encoder(seen), seen > 0) for seen, _ in self.inputs(pixels)]
        whole = self.views.tiles != "native"
        scales = [WHOLE] * whole + [TILE] * (sum(map(len, features)) - whole)
        return torch.cat(features), torch.tensor(scales, device=pixels.device)


def _fitted(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Fit a picture (1, 1, height, width) on a canvas as the processor does."""
    sides = int(pixels.shape[-2]), int(pixels.shape[-1])
    if sides == size:
        return pixels
    (height, width), (top, left) = fitted(sides, size)
    weights = (area_weights(side, to).toarray() for side, to in zip(sides, (height, width), strict=True))
    down, across = (torch.from_numpy(one).to(pixels) for one in weights)
    return functional.pad(down @ pixels @ across.T, (left, size[1] - width - left, top, size[0] - height - top))


def units_of(level: str, sides: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return the units of the images of one exam: the side of each, "" if it is not one breast, and its images.

    Args:
        level: "breast" or "exam".
        sides: Side of each image; other than "L" and "R" it is not known.
    """
    known = [side if side in ("L", "R") else None for side in sides]
    keys = unit_keys(level, [""] * len(sides), [""] * len(sides), known)
    members: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    return [("" if level == "exam" else known[rows[0]] or "", rows) for rows in members.values()]


# From the folder of a head to the classifier.


def load_bag_classifier(
    folder: Path,
    *,
    head: MammoBagForClassification | None = None,
    encoder: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
) -> BagClassifier:
    """Load a head with the encoder that it was trained on.

    Args:
        folder: Folder of the head.
        head: The head, if it is loaded already.
        encoder: Encoder as in `load_encoder`; ``None``: the one that the head's configuration names.
        trust_remote_code: Whether code of the encoder's own repository may be run.

    Raises:
        UsageError: The encoder is not there, or is another one than the head was trained on.
        DataError: The head or the encoder cannot be read.
    """
    if head is None:
        read_classifier_config(folder, (BAG,))
        head = load_model(MammoBagForClassification, folder)
    named = encoder_name(head.config, folder, encoder)
    found = load_encoder(named, trust_remote_code=trust_remote_code)
    check_encoder(head.config, found.record, named)
    return BagClassifier(head, found.to(head.device))


def encoder_name(config: Any, folder: Path, given: str | os.PathLike[str] | None = None) -> str:
    """Return the name by which `load_encoder` finds the encoder of a head.

    Args:
        config: Configuration of the head.
        folder: Folder of the head, which may hold the encoder too.
        given: Name that the user gives.

    Raises:
        UsageError: The configuration names none, or a folder that is no longer there.
    """
    if given is not None:
        return os.fspath(given)
    if (folder / OWN_ENCODER).is_dir():
        return str(folder / OWN_ENCODER)
    record: Mapping[str, Any] = config.encoder_record or {}
    name = str(record.get("name") or "")
    if not name:
        raise UsageError("does not name its encoder", source=folder, remedy="say where it is: `encoder=FOLDER`")
    if record.get("kind") == "checkpoint" and not Path(name).expanduser().exists():
        problem = f"was trained on features of the encoder {name}, which is not there any more"
        raise UsageError(problem, source=folder, remedy="say where it is now: `encoder=FOLDER`")
    commit = record.get("revision") if record.get("kind") == "hub" else None
    return f"{name}@{commit}" if commit else name


def check_encoder(config: Any, record: Mapping[str, Any], source: str) -> None:
    """Refuse an encoder with other weights than the one that a head was trained on.

    Raises:
        UsageError: It has.
    """
    own = config.encoder_record or {}
    if own.get("weights") != record["weights"]:
        problem = f"has other weights than the encoder {own.get('name')} that the head was trained on"
        raise UsageError(problem, source=source, remedy="say where that one is: `encoder=FOLDER`")
