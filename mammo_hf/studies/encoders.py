"""Arms of a study over features that `embed` computes, once for the whole grid: any frozen encoder, and its heads."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from ..data.collection import Collection
from ..encoders import bag_of_row, features_about, read_features
from ..encoders.bags import TILE
from ..encoders.embed import embed
from ..encoders.encoder import GROUP
from ..encoders.units import Bags, features_of, score_bags
from ..errors import DataError
from ..models.checkpoint import CONFIG, locate, read_json
from ..plugins import offered
from ..processing.image_processing_mammo import MammoImageProcessor
from ..training.bags import DEFAULTS, BagFit
from ..training.classification import ClassificationConfig
from .cells import FROZEN_RANDOM
from .features import frozen_encoder


def is_plugin(init: str) -> bool:
    """Return whether a starting point is an encoder of another package."""
    return not Path(init).expanduser().exists() and init in offered(GROUP)


def is_other_encoder(init: str) -> bool:
    """Return whether a starting point is an encoder other than a Swin, for heads over its features alone.

    Raises:
        UsageError: There is no such model.
    """
    if is_plugin(init):
        return True
    folder = locate(init)
    config = folder / CONFIG
    return folder.is_dir() and config.is_file() and read_json(config).get("model_type") != "swin"


def embedded(
    init: str, model: str, table: Collection, processor: MammoImageProcessor, folder: Path, *, num_workers: int
) -> str:
    """Compute the features of a collection with the encoder of an arm, or take those that are there.

    Args:
        init: Encoder as in `mammo_hf.encoders.load_encoder`, or "random" for a random one of a size, which is kept next
            to its features.
        model: Size of the random encoder.
        table: Collection of images.
        processor: Processor of the study, for the random encoder.
        folder: Folder of the features.
        num_workers: Number of processes that encode.

    Returns:
        The folder.

    Raises:
        UsageError: There is no such encoder, or the folder holds features of another.
        DataError: Too few images can be read.
    """
    encoder = init
    if init == FROZEN_RANDOM:
        encoder = str(folder.with_name(f"{folder.name}_encoder"))
        frozen_encoder(init, model, processor).save_pretrained(encoder)
        processor.save_pretrained(encoder)
    embed(table, folder, encoder=encoder, num_workers=num_workers)
    return os.fspath(folder)


def pooled_features(folder: str, image_ids: Sequence[str], *, tiles: bool) -> np.ndarray:
    """Return mean and maximum of the features of images: of the whole view, and the mean of those of the tiles.

    Args:
        folder: Folder of features.
        image_ids: Images, in the order that is returned.
        tiles: Whether those of the tiles come after those of the whole view.

    Returns:
        float32 (images, 2 * channels), or (images, 4 * channels) with tiles.

    Raises:
        DataError: An image has no features.
    """
    found: dict[str, np.ndarray] = {}
    for row in read_features(folder).select_columns(["image_id", "features", "boxes", "scales", "geometry", "notes"]):
        bag = bag_of_row(row)
        features, of_tiles = bag.features.astype(np.float32), bag.scales == TILE
        found[row["image_id"]] = np.concatenate([features[0], *([features[of_tiles].mean(0)] if tiles else [])])
    _check_all_there(image_ids, found, folder)
    return np.stack([found[image_id] for image_id in image_ids])


def bag_probabilities(
    folder: str,
    table: Collection,
    task: dict[str, Any],
    patients: tuple[str, ...],
    tested: Sequence[str],
    *,
    output_dir: Path,
    seed: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Train a head over the bags of images, as `mammo_hf.finetune` does on features, and score some images.

    Args:
        folder: Folder of features.
        table: Collection with the split of a cell.
        task: The task.
        patients: Patients whose labels are used.
        tested: Images that are scored, in the order of the scores.
        output_dir: Folder of the training's checkpoints.
        seed: Random seed.

    Returns:
        Probabilities of the tested images, float64 (n, classes), and the facts of the training.

    Raises:
        DataError: An image has no features, or no training image has a label.
    """
    tasks = [{**task, "level": "image"}]
    rows = features_of(table, tasks, folder)
    config = ClassificationConfig(
        str(output_dir), **DEFAULTS, seed=seed, disable_tqdm=True, report_to="none", save_total_limit=1
    )
    fitted = BagFit(rows, tasks, patients, features_about(folder), config)
    fitted.train([], None)
    place = {image_id: row for row, image_id in enumerate(rows["image_id"])}
    _check_all_there(tested, place, folder)
    bags = Bags(rows.select([place[image_id] for image_id in tested]), tasks, level="image")
    return softmax(score_bags(fitted.network, bags), axis=-1), fitted.figures


def _check_all_there(image_ids: Sequence[str], found: Container[str], folder: str) -> None:
    missing = sum(image_id not in found for image_id in image_ids)
    if missing:
        raise DataError(f"{missing} images have no features", source=folder, remedy="see its rejected.csv")
