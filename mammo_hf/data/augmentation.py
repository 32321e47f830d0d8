"""Augmentations that keep a mammogram a mammogram, for training only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

_PIECES = 5  # of a random curve
BACKGROUND = 1e-3  # of the display range; what interpolation leaves of an edge is below it


@dataclass(frozen=True)
class Augmentation:
    """A small rotation, scale and shift, a flip where anatomy allows it, and a change of the display curve.

    Args:
        rotation: Largest angle in degrees.
        scale: Largest relative change of size.
        shift: Largest shift, as a fraction of each side.
        gamma: Largest change of the display curve: intensity ** g with g in [1 / (1 + gamma), 1 + gamma].
        flip: Whether cranio-caudal views are flipped upside down at random, which gives the other breast's view after
            both are oriented to one side. A medio-lateral oblique view has the pectoral muscle on top and is left as it
            is.
        noise: Largest standard deviation of noise that is added to whatever is not background.
        curve: Largest relative change of slope of a random monotone curve of the intensities, in five straight pieces
            from 0 to 1: the tone of a scanner then helps less. 0: no curve is drawn.
    """

    rotation: float = 10.0
    scale: float = 0.1
    shift: float = 0.04
    gamma: float = 0.2
    flip: bool = True
    noise: float = 0.0
    curve: float = 0.0

    def __call__(
        self,
        intensity: torch.Tensor,
        *maps: torch.Tensor,
        view: str | None,
        generator: np.random.Generator,
        features: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Transform an image and the maps that go with it alike.

        Args:
            intensity: (1, height, width) in [0, 1].
            *maps: (1, rows, columns) class numbers of any resolution, as lesions or the breast; never interpolated.
            view: "CC", "MLO", another, or ``None``.
            generator: Random generator that draws the transform.
            features: (channels, rows, columns) features of cells of the image; interpolated, at the edges continued.

        Returns:
            The image, the maps, and the features if there are any.
        """
        angle, log_scale, down, right, log_gamma = generator.uniform(-1, 1, 5)
        flipped = self.flip and view == "CC" and generator.random() < 0.5
        height, width = intensity.shape[-2:]
        matrix = _affine(
            math.radians(angle * self.rotation),
            math.exp(log_scale * math.log1p(self.scale)),
            (down * self.shift * 2, right * self.shift * 2),
            height / width,
            flipped,
        )
        gamma = math.exp(log_gamma * math.log1p(self.gamma))
        grids = {shape: _grid(matrix, *shape) for shape in {values.shape[-2:] for values in (intensity, *maps)}}
        moved = _warp(intensity, grids[intensity.shape[-2:]], "bilinear").clamp(0, 1) ** gamma
        if self.curve:
            moved = self._bent(moved, generator)
        if self.noise:
            grain = generator.standard_normal(moved.shape, np.float32) * np.float32(generator.uniform(0, self.noise))
            moved = torch.where(moved > BACKGROUND, (moved + torch.from_numpy(grain)).clamp(0, 1), moved)
        moved_maps = [_warp(values, grids[values.shape[-2:]], "nearest") for values in maps]
        if features is not None:
            moved_maps.append(_warp(features, _grid(matrix, *features.shape[-2:]), "bilinear", "border"))
        return moved, *moved_maps

    def _bent(self, intensity: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        """Change intensities by a random monotone curve that keeps 0, 1 and every order."""
        slopes = np.exp(generator.uniform(-1, 1, _PIECES) * math.log1p(self.curve))
        heights = np.concatenate([[0.0], np.cumsum(slopes) / slopes.sum()])
        bent = np.interp(intensity.numpy(), np.linspace(0, 1, _PIECES + 1), heights)
        return torch.from_numpy(bent.astype(np.float32))


# what a teacher sees, and what its student must classify alike (Sohn et al. 2020, arXiv 2001.07685); nothing is cut
# out, since a lesion may be all that makes an image malignant
WEAK_VIEW = Augmentation(rotation=4.0, scale=0.04, shift=0.02, gamma=0.05)
STRONG_VIEW = Augmentation(rotation=20.0, scale=0.2, shift=0.06, gamma=0.6, noise=0.05)


def rotated(intensity: torch.Tensor, angle: float, scale: float) -> torch.Tensor:
    """Rotate and scale images about their centre, with 0 where the canvas shows what was outside.

    Args:
        intensity: (batch, channels, height, width) in [0, 1].
        angle: Angle in radians.
        scale: Factor of the size; above 1: larger.
    """
    height, width = intensity.shape[-2:]
    grid = _grid(_affine(angle, scale, (0.0, 0.0), height / width, False), height, width).to(intensity)
    grid = grid.expand(len(intensity), -1, -1, -1)
    return functional.grid_sample(intensity, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _affine(angle: float, scale: float, shift: tuple[float, float], aspect: float, flipped: bool) -> torch.Tensor:
    """Return the 2 x 3 matrix of ``affine_grid``, with sides from -1 to 1; ``aspect`` keeps rotations rigid."""
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    up = -1.0 if flipped else 1.0
    return torch.tensor([[cos, -sin * aspect * up, shift[1]], [sin / aspect, cos * up, shift[0]]], dtype=torch.float32)


def _grid(matrix: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Do as torch's ``affine_grid`` in a third of its time: a coordinate is the sum of a row's and a column's part."""
    rows, columns = _centres(height), _centres(width)
    grid = torch.empty(1, height, width, 2)
    for axis, (across, down, shift) in enumerate(matrix.tolist()):
        torch.add(across * columns, (down * rows + shift)[:, None], out=grid[0, :, :, axis])
    return grid


@lru_cache(maxsize=32)
def _centres(length: int) -> torch.Tensor:
    """Return the centres of the pixels on a side from -1 to 1; computed once, which halves a small grid's time."""
    return (2 * torch.arange(length) + 1) / length - 1


def _warp(image: torch.Tensor, grid: torch.Tensor, mode: str, outside: str = "zeros") -> torch.Tensor:
    return functional.grid_sample(image[None], grid, mode=mode, padding_mode=outside, align_corners=False)[0]
