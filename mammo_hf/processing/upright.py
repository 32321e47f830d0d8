"""Pictures that are stored upside down or on their side: turned upright where header and picture agree.

PatientOrientation (PS3.3 C.7.6.1.1.1) gives the directions of rows and columns. A mammogram is upright if the chest
wall is at the left or right and the head above; of a cranio-caudal view the lateral side is above, as the IHE
Mammography Image profile displays it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..notes import Note, codes
from .breast import Breast, find_breast
from .geometry import ORIENTATIONS, in_source, mirrored, oriented

POLICIES = ("agreeing", "header", "ignore")
# of the breast's height: the upper and lower part that are compared; the muscle fills the upper one of an oblique view
PART = 0.25
# by how much the upper part is brighter than the lower one, as a fraction of both: so on nine in ten upright films
TOP_HEAVY = 0.05
BAND = 0.03  # of the breast's height or width: along a side of its box, where a straight side covers most
_DISAGREEING = {"breast_not_found", "chest_wall_unclear", "chest_wall_contradicted"}


def upright_by_header(directions: Sequence[str], laterality: str) -> tuple[str, str] | None:
    """Return the orientation that makes a picture upright, and the side of the chest wall in it.

    Both are as if nothing were mirrored yet: the chest wall may be at either side.

    Args:
        directions: PatientOrientation, the directions of rows and columns, such as ("P", "FL").
        laterality: "L" or "R", which decides where the lateral side is, or any other text.

    Returns:
        One of "identity", "flip_top_bottom", "transpose" and "rotate_90", and "left" or "right"; ``None`` if the
        directions do not say.
    """
    if len(directions) != 2 or not all(directions):
        return None
    along_rows, along_columns = directions
    exchanged = along_rows[0] not in "AP"
    wall, down = (along_columns, along_rows) if exchanged else (along_rows, along_columns)
    # what is below, in the direction of the columns: the foot, or the medial side
    upright = {"F": True, "H": False, laterality: False}
    upright |= {{"L": "R", "R": "L"}.get(laterality, ""): True}
    if wall[0] not in "AP" or down[0] not in upright:
        return None
    side = "right" if wall[0] == "P" else "left"
    if exchanged:
        # the rows' direction becomes the columns': reversed, if it leads upwards
        return ("transpose" if upright[down[0]] else "rotate_90"), side
    return ("identity" if upright[down[0]] else "flip_top_bottom"), side


def find_upright_breast(
    view: np.ndarray,
    size: tuple[int, int],
    header: tuple[str, str] | None,
    policy: str,
    *,
    stride: int,
    expected_chest_wall: str | None,
    chest_wall_left: bool,
    shows_muscle: bool,
    **options: Any,
) -> Breast:
    """Find the breast in a view of a picture, and the orientation in which it is upright.

    Args:
        view: Every ``stride``-th pixel of the source, (height, width) in [0, 1].
        size: (height, width) of the source.
        header: Orientation and side of the chest wall in it, from `upright_by_header`.
        policy: "agreeing" to turn the picture if it shows what the header says, "header" to turn it without looking,
            "ignore" never to turn it.
        stride: Source pixels per pixel of the view, in both directions.
        expected_chest_wall: Side that the header's laterality implies.
        chest_wall_left: Whether the picture is mirrored if its chest wall is then at the right.
        shows_muscle: Whether the view shows the pectoral muscle, above if it is upright.
        options: Further arguments of `find_breast`.

    Returns:
        The breast in the source's coordinates, with its orientation.
    """
    turn, side = header if header is not None and policy != "ignore" else ("identity", expected_chest_wall)
    if turn == "identity":
        found = find_breast(view, stride=stride, size=size, expected_chest_wall=side, **options)
        return _mirrored(found, "identity", chest_wall_left)
    # the grid of the view: it may reach beyond the source's last row and column
    picture = oriented(view, turn)
    grid = picture.shape[0] * stride, picture.shape[1] * stride
    found = find_breast(picture, stride=stride, size=grid, expected_chest_wall=side, **options)
    if policy == "header" or _agrees(picture, found, shows_muscle):
        found = replace(found, notes=(*found.notes, Note("orientation_corrected", orientation=turn.replace("_", " "))))
        return _back_in_source(_mirrored(found, turn, chest_wall_left), turn, size)
    found = find_breast(view, stride=stride, size=size, expected_chest_wall=expected_chest_wall, **options)
    found = replace(found, notes=(*found.notes, Note("orientation_contradicted")))
    return _mirrored(found, "identity", chest_wall_left)


def _agrees(picture: np.ndarray, found: Breast, shows_muscle: bool) -> bool:
    """Return whether a picture shows the chest wall where the header says, and the muscle, if it has one, above."""
    if _DISAGREEING & set(codes(found.notes)) or straightest_side(found.mask) != found.chest_wall:
        return False
    return not shows_muscle or top_heaviness(picture, found) >= TOP_HEAVY


def straightest_side(mask: np.ndarray) -> str:
    """Return the side of its own box that a mask covers most of, which is the chest wall's unless the breast is cut."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    inner = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    down, across = (max(1, round(BAND * side)) for side in inner.shape)
    sides = {
        "left": inner[:, :across],
        "right": inner[:, -across:],
        "top": inner[:down],
        "bottom": inner[-down:],
    }
    return max(sides, key=lambda name: float(sides[name].mean()))


def top_heaviness(picture: np.ndarray, found: Breast) -> float:
    """Return by how much the breast is brighter above than below, next to the chest wall, from -1 to 1."""
    rows, columns = np.flatnonzero(found.mask.any(1)), np.flatnonzero(found.mask.any(0))
    half = max(1, len(columns) // 2)
    next_to_wall = columns[-half:] if found.chest_wall == "right" else columns[:half]
    tissue = np.where(found.mask, 1 - picture if found.negative else picture, 0)[rows[0] : rows[-1] + 1][
        :, next_to_wall
    ]
    part = max(1, round(PART * len(tissue)))
    above, below = float(tissue[:part].mean()), float(tissue[-part:].mean())
    return (above - below) / max(above + below, 1e-9)


def _mirrored(found: Breast, turn: str, chest_wall_left: bool) -> Breast:
    mirror = chest_wall_left and found.chest_wall == "right"
    return replace(found, orientation=mirrored(turn) if mirror else turn)


def _back_in_source(found: Breast, turn: str, size: tuple[int, int]) -> Breast:
    """Return what was found in a turned picture, in the coordinates of the source."""
    rows, columns = found.mask.shape
    top, left, bottom, right = _box_in_source(found.box, (rows * found.stride, columns * found.stride), turn)
    field = _box_in_source(
        (
            *(found.field[0].indices(rows)[0], found.field[1].indices(columns)[0]),
            *(found.field[0].indices(rows)[1], found.field[1].indices(columns)[1]),
        ),
        (rows, columns),
        turn,
    )
    exchanged, wall = ORIENTATIONS[turn][2], found.chest_wall
    if exchanged and wall is not None:
        wall = {"left": "top", "right": "bottom"}[wall]
    return replace(
        found,
        box=(top, left, min(bottom, size[0]), min(right, size[1])),
        mask=np.ascontiguousarray(in_source(found.mask, turn)),
        chest_wall=wall,
        pectoral=None if found.pectoral is None else np.ascontiguousarray(in_source(found.pectoral, turn)),
        field=(slice(field[0], field[2]), slice(field[1], field[3])),
    )


def _box_in_source(box: tuple[int, int, int, int], size: tuple[int, int], turn: str) -> tuple[int, int, int, int]:
    """Return a box (top, left, bottom, right) of a turned picture of (height, width) in the source's coordinates."""
    rows, columns, exchanged = ORIENTATIONS[turn]
    top, left, bottom, right = box
    height, width = size
    if exchanged:
        top, left, bottom, right, height, width = left, top, right, bottom, width, height
    top, bottom = (height - bottom, height - top) if rows else (top, bottom)
    left, right = (width - right, width - left) if columns else (left, right)
    return top, left, bottom, right
