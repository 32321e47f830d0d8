"""What decides each part of a prepared row, as a short hash: a part is made again when its hash changes, and only then.

The pixels depend on the file and on the processor's fit; normalisation and masks come later and change nothing here.
The lesion map depends on the pixels' geometry, the findings and their mask files. Labels and split are copied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .files import file_stamp

if TYPE_CHECKING:
    from ...image_processing_mammo import MammoImageProcessor
    from .row import Recipe

_AFTER_THE_FIT = {"num_channels", "image_mean", "image_std", "mask_block_size", "mask_ratio", "patch_size"}
_NAMES = {"image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "auto_map"}


class Keys(NamedTuple):
    """The hashes of one row's parts, 16 hexadecimal digits each."""

    pixels: str
    lesions: str


def digest(facts: Any) -> str:
    """16 hexadecimal digits that depend on the facts, in whatever order their names stand."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fit_parameters(processor: MammoImageProcessor) -> dict[str, Any]:
    """The processor's parameters on which the canvas depends; a parameter that is new here counts."""
    return {name: value for name, value in processor.to_dict().items() if name not in _AFTER_THE_FIT | _NAMES}


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The parameters of two processors that differ, with both values, theirs first."""
    names = sorted(theirs.keys() | ours.keys())
    return [f"{name} {theirs.get(name)}, not {ours.get(name)}" for name in names if theirs.get(name) != ours.get(name)]


def row_keys(row: dict[str, Any], recipe: Recipe) -> Keys:
    """The keys of a table's row.

    The path is no part of them, so that a collection may move; size and time of change are.
    """
    pixels = digest([row["image_id"], file_stamp(row["path"]), recipe.fit])
    findings = [
        {**finding, "mask_path": finding.get("mask_path") and file_stamp(finding["mask_path"])}
        for finding in row["findings"] or []
    ]
    return Keys(pixels, digest([pixels, findings, recipe.lesion_task]))
