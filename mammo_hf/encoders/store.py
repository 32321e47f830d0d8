"""A folder of features as it is read: a row per image with its bag, and what the features were made with.

The folder is laid out as a prepared one (`mammo_hf.data.prepare.folder`), with ``features.json`` in place of
``prepared.json``. Its rows hold the plain columns of the collection and `COLUMNS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from ..data.prepare.folder import is_features, open_prepared, read_about
from ..errors import UsageError
from ..files import Folder
from ..processing.geometry import Geometry
from .encoding import Bag

COLUMNS = pa.schema(
    [
        ("features", pa.binary()),  # float16 (vectors, 2 * channels), the whole view first
        ("boxes", pa.binary()),  # float32 (vectors, 4): top, left, bottom, right in source pixels
        ("scales", pa.binary()),  # uint8 (vectors,): 1 whole view, 2 tile
        ("lesions", pa.binary()),  # float16 (vectors,): largest fraction of a finding in the box; null: none is known
        ("geometry", pa.string()),  # from the source's pixels to the canvas of the whole view, as JSON
        ("notes", pa.string()),  # codes of the notes on the image, joined by semicolons
        ("precedence", pa.int64()),  # place among the images of its exam, side and view, null if it is the only one
    ]
)

# a column of a folder that was made with a grid: float16 (rows, columns, channels), features of cells of the whole view
GRID = "grid"


def features_about(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of ``features.json``: record of the encoder, views, tasks, number of images and vectors.

    Raises:
        UsageError: It is not a finished folder of features.
    """
    if not is_features(folder):
        raise UsageError(
            "is not a finished folder of features", source=folder, remedy="run mammo-hf embed (again: it resumes)"
        )
    return read_about(Folder(folder))


def read_features(folder: str | os.PathLike[str]) -> datasets.Dataset:
    """Open the rows of a folder of features, memory-mapped; `bag_of_row` unpacks one.

    Raises:
        UsageError: It is not a finished folder of features.
    """
    features_about(folder)
    return open_prepared(folder)


def bag_of_row(row: Mapping[str, Any]) -> Bag:
    """Return the bag of a row, its arrays read-only."""
    scales = np.frombuffer(row["scales"], np.uint8)
    return Bag(
        np.frombuffer(row["features"], np.float16).reshape(len(scales), -1),
        np.frombuffer(row["boxes"], np.float32).reshape(-1, 4),
        scales,
        Geometry.from_dict(json.loads(row["geometry"])),
        tuple(filter(None, (row["notes"] or "").split(";"))),
    )


def lesions_of_row(row: Mapping[str, Any]) -> np.ndarray | None:
    """Return the largest fraction of a finding in each view, float16 (vectors,); ``None`` if no location is known."""
    return None if row["lesions"] is None else np.frombuffer(row["lesions"], np.float16)
