"""Prepared images: each file read once, put on the model's canvas in 16 bits, and kept as a dataset of shards.

Training then never decodes DICOM. What cannot be read goes to ``rejected.csv`` with its reason, and the run goes on.
"""

from __future__ import annotations

from .layout import Layout
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
from .row import (
    FULL_SCALE,
    LESION_CELL,
    SCHEMA,
    UNKNOWN_PATHOLOGY,
    Recipe,
    differences,
    lesion_map,
    packed_breast,
    prepared_row,
    unpacked_breast,
)
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
