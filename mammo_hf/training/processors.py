"""The processor of a training: what is done to its images, whatever they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data.prepare import differences, is_prepared, prepared_processor
from ..image_processing_mammo import MammoImageProcessor
from .loading import load_processor

PROCESSOR_FILE = "preprocessor_config.json"
SIZE = (448, 224)


def training_processor(
    dataset: str | Path,
    *,
    start: str | Path | None = None,
    named: str | Path | None = None,
    size: tuple[int, int] | None = None,
    **changes: Any,
) -> MammoImageProcessor:
    """The processor that is asked for, or that a prepared folder, or else the starting checkpoint, was made with.

    A model that goes on from another then sees its images as that one did: the same slices of a volume, the same
    window, the same size.

    Args:
        dataset: A collection, or a folder that ``mammo-hf prepare`` wrote.
        start: What training starts from; a checkpoint folder or a model size's name.
        named: A folder with a ``preprocessor_config.json``, before all others.
        size: (height, width) instead of its own.
        **changes: Other arguments of `MammoImageProcessor` instead of its own.

    Raises:
        UsageError: The prepared folder is not finished, or a change makes no sense.
        DataError: The named folder's processor cannot be read.
    """
    if named is not None:
        found = load_processor(named)
    elif is_prepared(dataset):
        found = prepared_processor(dataset)
    elif start is not None and _is_ours(Path(start) / PROCESSOR_FILE):
        found = load_processor(start)
    else:
        found = MammoImageProcessor(size=SIZE)
    if size is not None:
        changes["size"] = size
    return MammoImageProcessor.from_dict(found.to_dict() | changes)


def unlike(start: str | Path, processor: MammoImageProcessor) -> list[str]:
    """In what the images that a checkpoint has learnt from differ from those of a processor.

    Args:
        start: A checkpoint's folder; what has no processor of ours differs in nothing that is known.
        processor: Of the images that it is to see now.

    Returns:
        Parameters with both values, theirs first.
    """
    if not _is_ours(Path(start) / PROCESSOR_FILE):
        return []
    return differences(load_processor(start).to_dict(), processor.to_dict())


def _is_ours(path: Path) -> bool:
    """Whether a file is of this package's processor; that of a stock Swin knows nothing of mammograms."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("image_processor_type") == MammoImageProcessor.__name__
