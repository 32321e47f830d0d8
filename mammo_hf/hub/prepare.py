"""Prepared images with their card: a collection read once, at the model's size, and described for whoever gets it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from ..data.collection import Collection
from ..data.loading import load
from ..data.prepare.executors import Executor, ray_executor
from ..data.prepare.folder import (
    PROCESSOR,
    SPLIT_NAME,
    features_folder,
    folder_of,
    prepared_table,
    read_about,
)
from ..data.prepare.row import FINISHED, FIXED
from ..data.prepare.running import SHARD_SIZE, PreparedCollection, collection_digest, prepare_images
from ..data.terms import read_terms
from ..data.training_data import collection_facts, reading_of
from ..encoders.configuration_mammo_bag import public_record
from ..errors import UsageError
from ..evaluation.report.facts import sentences
from ..files import Folder
from ..models.checkpoint import CARD, load_processor
from ..processing.image_processing_mammo import MammoImageProcessor
from .model_card import DATASET, plain, templates

logger = logging.getLogger(__name__)
IMAGE_SIZE = (896, 448)  # height and width that keep small lesions visible; no stage of a Swin pads them
# the Hub's own names for how many rows there are
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def prepare(
    collection: Collection | str | Path,
    output_dir: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    store: str = FIXED,
    processor: MammoImageProcessor | str | os.PathLike[str] | None = None,
    decode: str | None = None,
    processor_settings: Mapping[str, Any] | None = None,
    lesion_task: str | None = None,
    num_workers: int = 0,
    format: str | None = None,
    shard_size: int = SHARD_SIZE,
    max_rejected_fraction: float = 0.5,
    ray: bool = False,
    ray_address: str | None = None,
    **reading: Any,
) -> PreparedCollection:
    """Read a collection once: every image on the model's canvas, in 16 bits, as a dataset that training starts from.

    Only what is missing or has changed is read; a run that was killed at any moment is resumed by the same call. What
    cannot be read is listed in ``rejected.csv`` with its reason.

    Args:
        collection: Collection, or anything that `mammo_hf.load` takes.
        output_dir: Folder, or fsspec URL such as ``s3://bucket/folder``.
        image_size: (height, width) of the canvas; ``None``: that of the processor if one is given, or else 896 x 448.
        store: "fixed" for images on this canvas, in 16 bits; or "native" for the stored values of the breast, all
            of them, from which training, evaluation and embedding draw images of any size. It needs the extra
            ``codecs``; ``image_size`` is then what they take if they ask for none.
        processor: Processor, or folder with a ``preprocessor_config.json``: how images are read and cropped.
        decode: Way of decoding JPEG 2000 and HTJ2K, "exact" or "fast"; ``None``: that of the processor.
        processor_settings: Settings of how images are read in place of the processor's own, such as
            ``{"any_anatomy": True}``; see `mammo_hf.processing.image_processing_mammo.SETTINGS`.
        lesion_task: Task that gives the findings their label in the lesion map; ``None``: the collection's first.
        num_workers: Number of processes in addition to this one; 0: none. With Ray on this machine its CPUs; 0: all.
        format: "arrow", which is memory-mapped in training, or "parquet", which is compressed and can be streamed;
            ``None``: arrow, or parquet with Ray.
        shard_size: Approximate number of images per file.
        max_rejected_fraction: Fraction of unreadable images above which the run ends in an error.
        ray: Whether a Ray cluster prepares the images, or a Ray on this machine.
        ray_address: Address of the cluster, such as "auto" or "ray://head:10001".
        reading: Options of `mammo_hf.load` for a collection that is not loaded yet.

    Returns:
        The collection of the folder, as `mammo_hf.load` gives it; its text says what this run did.

    Raises:
        DataError: The collection cannot be read, no image could be, or too many could not.
        UsageError: An argument is wrong, the collection is prepared already, or the folder cannot be written to.
    """
    if ray_address and not ray:
        raise UsageError("is for a run on Ray", source="ray_address", remedy="give `ray` too")
    settings = dict(processor_settings or {}) | ({} if decode is None else {"decode": decode})
    made = _processor(processor, image_size).with_settings(settings)
    if not isinstance(collection, Collection):
        collection = load(collection, **reading_of(collection, made) | reading)
    elif reading:
        raise UsageError(
            "adds nothing to a collection that is loaded", source=next(iter(reading)), remedy="give it to load"
        )
    if features_folder(collection) is not None:
        problem, remedy = "holds features, not images", "name what they were made from"
        raise UsageError(problem, source=features_folder(collection), remedy=remedy)
    if folder_of(collection) is not None:
        raise UsageError(
            "is prepared already", source=folder_of(collection), remedy="train on it, or name what it was made from"
        )
    if store == FIXED:
        _suggest_native(collection, output_dir, made.canvas)
    executor: Executor | None = ray_executor(ray_address, num_cpus=num_workers or None) if ray else None
    summary = prepare_images(
        collection,
        made,
        output_dir,
        lesion_task=lesion_task,
        num_workers=num_workers,
        # what Ray writes is in an object store more often than on a disk that can be memory-mapped
        format=format or ("parquet" if ray else "arrow"),
        shard_size=shard_size,
        max_rejected_fraction=max_rejected_fraction,
        executor=executor,
        store=store,
    )
    write_dataset_card(output_dir)
    logger.info("%s", summary)
    return PreparedCollection.of(load(output_dir), summary)


def _suggest_native(collection: Collection, out: str | Path, size: tuple[int, int]) -> None:
    """Log what serves a second size of the same images, if a folder next to this one, or this one, holds a first."""
    folder, images = Folder(out), collection_digest(collection)
    if folder.is_remote:
        return
    here = Path(folder.path("")).absolute()
    found = sorted(held for path in here.parent.glob(f"*/{FINISHED}") if (held := _held(path, images)))
    if not found or (here, FIXED, size) in found:
        return
    path, store, (height, width) = next((one for one in found if one[1] != FIXED), found[0])
    if store == FIXED and (height, width) != size:
        advice = "prepared once with --store native, images of any size are drawn from one folder"
        logger.warning("%s holds the same images at %d x %d: %s", path, height, width, advice)
    elif store != FIXED and path != here:
        logger.warning("%s is a native store of the same images: train on it at any --image_size", path)


def _held(path: Path, images: str) -> tuple[Path, str, tuple[int, int]] | None:
    """Return folder, kind of store and size of a prepared folder; ``None`` if it is of other images, or damaged."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        size = json.loads((path.parent / PROCESSOR).read_text(encoding="utf-8"))["size"]
        held = path.parent, about["store"], (size["height"], size["width"])
        return held if about["collection"] == images else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _processor(
    processor: MammoImageProcessor | str | os.PathLike[str] | None, image_size: tuple[int, int] | None
) -> MammoImageProcessor:
    if processor is None:
        return MammoImageProcessor(size=image_size or IMAGE_SIZE)
    if not isinstance(processor, MammoImageProcessor):
        processor = load_processor(Path(processor))
    return MammoImageProcessor.from_dict(processor.to_dict() | ({"size": image_size} if image_size else {}))


def write_dataset_card(folder: str | os.PathLike[str]) -> str:
    """Write ``README.md`` into a prepared folder, on a disk or in an object store.

    Returns:
        The card's path.

    Raises:
        UsageError: The folder is not finished.
    """
    target = Folder(folder)
    target.write_text(CARD, str(dataset_card(target)))
    return target.path(CARD)


def dataset_card(folder: Folder) -> DatasetCard:
    """Return the card of a prepared folder, or of a folder of features.

    Raises:
        UsageError: The folder is not finished.
    """
    about = read_about(folder)
    collection = prepared_table(folder.url)
    collection.root = folder.url
    facts = collection_facts(collection, about["tasks"])
    rows = "features" if "encoder" in about else "prepared"
    metadata = DatasetCardData(
        license="unknown",
        task_categories=["image-classification"],
        size_categories=next((name for most, name in _SIZES if about["images"] < most), "n>1M"),
        pretty_name=f"{plain(facts['name'] or 'A private collection')}, {rows}",
        tags=["mammography", "medical-imaging", "mammo_hf"],
        configs=[{"config_name": "default", "data_files": [{"split": SPLIT_NAME, "path": "data/*"}]}],
    )
    terms = read_terms(folder.url) or ()
    processor: dict[str, Any] = json.loads(folder.read_text(PROCESSOR) or "{}")
    # mean and deviation are applied only when the images are trained on
    done = {key: value for key, value in processor.items() if key not in ("image_mean", "image_std")}
    content = (
        templates()
        .get_template("dataset_card.md.j2")
        .render(
            about={"encoder": None, **about},
            encoder=public_record(about.get("encoder") or {}),
            collection=facts,
            steps=sentences("preprocessing", done),
            terms=terms,
            repository=DATASET,
        )
    )
    return DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n{content.strip()}\n")
