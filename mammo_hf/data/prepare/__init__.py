"""Prepared images: each file read once, put on the model's canvas in 16 bits, and kept as a dataset of shards.

Training then never decodes DICOM. What cannot be read goes to ``rejected.csv`` with its reason, and the run goes on.
"""

from __future__ import annotations

from .breast_cells import packed_breast, unpacked_breast
from .keys import differences
from .layout import Layout
from .lesions import LESION_CELL, UNKNOWN_PATHOLOGY, lesion_map
from .reading import (
    check_canvas,
    folder_of,
    for_training,
    is_being_prepared,
    is_prepared,
    open_prepared,
    prepared_lesion_task,
    prepared_processor,
    prepared_table,
    shards_of,
    stream_prepared,
)
from .row import FULL_SCALE, SCHEMA, Recipe, prepared_row
from .running import SHARD_SIZE, Summary, prepare

__all__ = [
    "FULL_SCALE",
    "LESION_CELL",
    "SCHEMA",
    "SHARD_SIZE",
    "UNKNOWN_PATHOLOGY",
    "Layout",
    "Recipe",
    "Summary",
    "check_canvas",
    "differences",
    "folder_of",
    "for_training",
    "is_being_prepared",
    "is_prepared",
    "lesion_map",
    "open_prepared",
    "packed_breast",
    "prepare",
    "prepared_lesion_task",
    "prepared_processor",
    "prepared_row",
    "prepared_table",
    "shards_of",
    "stream_prepared",
    "unpacked_breast",
]
