"""Pictures of where a classifier looked: on the test images of a collection, or on any files.

The verb for tensors is `mammo_hf.explainers.explain`.
"""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.overrides import read_overrides
from ..encoders.classifier import BagClassifier
from ..errors import DataError, UsageError, check_device, check_number
from ..explainers import Explanation, find_explainer
from ..explainers import explain as explain_batch
from ..explainers.explanation import mm_per_pixel
from ..explainers.overlay import side_by_side
from ..files import is_remote, safe_cell, whole_file, writing_errors
from ..models.checkpoint import locate, read_tasks
from ..plugins import PluginError, pass_over
from ..processing.image_processing_mammo import MammoImageProcessor
from .onnx import is_exported
from .reading import REJECTED, Cut, ImageReader, InferenceResult, ReadImage, Source, files_to_read, folders_of
from .scoring import load_classifier

if TYPE_CHECKING:
    import datasets

    from ..data.collection import Collection

logger = logging.getLogger(__name__)

SHOWN = ("attention", "grad_cam", "grad_cam_attention")
SHOWN_OF_BAGS = ("bag_attention", "grad_cam")  # by a head over features
COUNT = 12  # test images of a collection that are drawn


def explain(
    model: str | os.PathLike[str],
    images: Source | Collection | datasets.Dataset,
    output_dir: str | os.PathLike[str],
    *,
    explainer: str | Sequence[str] | None = None,
    target: str | None = None,
    count: int | None = None,
    num_workers: int = 2,
    device: str | None = None,
    processor_settings: Mapping[str, Any] | None = None,
    overrides: str | os.PathLike[str] | None = None,
    encoder: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
) -> InferenceResult:
    """Draw where a classifier looked: each image alone and under the map of each explainer, side by side.

    Of a collection, test images are drawn into ``001.png`` and so on, those with a lesion's outline first. Of files,
    each is drawn; ``explanations.csv`` lists the picture, the explained label and its probability of each file, and
    ``rejected.csv`` the files that could not be read, with the reason.

    Args:
        model: A classifier, as in `mammo_hf.models.checkpoint.locate`.
        images: A collection, or a folder that one is recognised in, or one that ``mammo-hf prepare`` wrote, or prepared
            images; or files as in `files_to_read`: an image, a folder without labels, a list of paths.
        output_dir: Folder for the pictures.
        explainer: Names of the explainers, or one name; ``None``: `SHOWN` or, for a head over features,
            `SHOWN_OF_BAGS`.
        target: Label to explain, such as "pathology:malignant"; by default what the first task predicts.
        count: Largest number of images; by default 12 of a collection, and all files.
        num_workers: Number of processes that read.
        device: The device, "cpu" or "cuda"; by default a GPU if there is one.
        processor_settings: Settings of how images are read in place of the model's own, such as
            ``{"any_anatomy": True}``; see `mammo_hf.processing.image_processing_mammo.SETTINGS`.
        overrides: Table of files whose header is wrong, see `mammo_hf.data.overrides`.
        encoder: Encoder of a head over features, if it is no longer where the head says.
        trust_remote_code: Whether code of the encoder's own repository may be run.

    Raises:
        UsageError: An argument makes no sense, or the model is not a classifier.
        DataError: The model or the collection cannot be read, or it has no labelled test image.
    """
    names = [explainer] if isinstance(explainer, str) else list(explainer or ())
    for name in names:
        find_explainer(name)
    if count is not None:
        check_number("count", count, count >= 1, "1 or more")
    check_number("num_workers", num_workers, num_workers >= 0, "0 or more")
    check_device(device)
    folder, out = locate(model), Path(output_dir)
    if is_exported(folder):
        remedy = "give the checkpoint that it was exported from"
        raise UsageError("an exported model cannot be explained", source=model, remedy=remedy)
    network, processor = load_classifier(folder, encoder=encoder, trust_remote_code=trust_remote_code)
    of_bags = isinstance(network, BagClassifier)
    names = names or list(SHOWN_OF_BAGS if of_bags else SHOWN)
    processor = processor.with_settings(processor_settings)
    network.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    if _is_labelled(images) and of_bags:
        images = _test_files(images, folder, processor, count or COUNT, overrides)
    if _is_labelled(images):
        prepared = _prepared(images, folder, processor, out, num_workers, overrides)
        result = _explain_prepared(network, processor, prepared, out, names, target=target, count=count or COUNT)
    else:
        files = files_to_read(images)[:count]  # type: ignore[arg-type]
        given = read_overrides(overrides, folders_of(images))  # type: ignore[arg-type]
        cut = Cut(network.views, network.encoder.tile) if of_bags else None
        reader = ImageReader(processor, min(num_workers, len(files)), given, cut)
        result = _explain_files(network, reader, files, out, names, target=target)
    logger.info("%s", result)
    return result


def _is_labelled(images: Any) -> bool:
    """Return whether images are a collection or prepared images, and not files."""
    if isinstance(images, Sequence) and not isinstance(images, str):
        return False
    if not isinstance(images, (str, os.PathLike)):
        return True
    text, path = os.fspath(images), Path(images)
    if path.is_dir():
        from ..data.datasets.discovery import sources_of

        return (path / "layout.json").is_file() or bool(sources_of(path))
    return is_remote(text) or path.suffix.lower() == ".toml" or (":" in text and not path.exists())


def _test_images(images: Any, model: Path, processor: MammoImageProcessor, overrides: Any) -> Any:
    """Return the test images of a collection; images that are prepared as they are."""
    from ..data.collection import Collection
    from ..data.training_data import open_as_trained, reading_of

    if isinstance(images, (str, os.PathLike)):
        reading = reading_of(images, processor) | ({} if overrides is None else {"overrides": overrides})
        images = open_as_trained(os.fspath(images), model, **reading)
    elif overrides is not None:
        raise UsageError("adds nothing to images that are loaded", source="overrides", remedy="give it to load")
    if not isinstance(images, Collection):
        return images
    table = images.where(split="test")
    if not len(table):
        raise DataError("has no test image to explain", source=images.salt_name, remedy="check its test tables")
    return table


def _test_files(images: Any, model: Path, processor: MammoImageProcessor, count: int, overrides: Any) -> list[str]:
    """Return the files of test images, those with an annotated finding first."""
    from ..data.prepare.folder import features_folder_of, folder_of

    table = _test_images(images, model, processor, overrides)
    if not hasattr(table, "column") or folder_of(table) is not None or features_folder_of(table) is not None:
        remedy = "give the collection that they were made from, or files"
        raise UsageError("are prepared, and a head over features explains files", source="the images", remedy=remedy)
    rows = sorted(table, key=lambda row: not row["findings"])
    return [row["path"] for row in rows[:count]]


def _prepared(
    images: Any, model: Path, processor: MammoImageProcessor, out: Path, num_workers: int, overrides: Any
) -> datasets.Dataset:
    """Return the prepared test images of a collection."""
    from ..data.collection import Collection
    from ..data.training_data import prepared_images

    table = _test_images(images, model, processor, overrides)
    if not isinstance(table, Collection):
        return table
    return prepared_images(table, processor, out / "prepared", tasks=read_tasks(model), num_workers=num_workers)


def _explain_prepared(
    network: Any,
    processor: MammoImageProcessor,
    prepared: datasets.Dataset,
    out: Path,
    names: Sequence[str],
    *,
    target: str | None,
    count: int,
) -> InferenceResult:
    """Draw labelled test images, those with a lesion's outline first."""
    from ..data.prepared_row import lesion_mask
    from ..data.torch_datasets import LabelledImages, rows_of

    rows = [row for row in rows_of(prepared, ("test",)) if max(prepared[row]["labels"]) >= 0]
    if not rows:
        raise DataError("there is no labelled test image to explain", remedy="check the collection's test tables")
    rows.sort(key=lambda row: prepared[row]["lesions"] is None)
    images = LabelledImages(prepared.select(rows[:count]), processor)
    with writing_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for index in range(len(images)):
        intensity, _, row = images.intensity_and_lesions(index)
        pixels = images.normalized(intensity)[None].to(network.device)
        found = _by_each(names, partial(explain_batch, network, pixels, target))
        maps = {name: explanation.map[0] for name, explanation in found.items()}
        _save(out / f"{index + 1:03d}.png", intensity[0].numpy(), maps, lesion_mask(row))
    return InferenceResult(out, len(images))


def _by_each(names: Sequence[str], run: Callable[[str], Explanation]) -> dict[str, Explanation]:
    """Return the explanation of each explainer; one that fails is named in a warning and passed over.

    Raises:
        PluginError: All of them failed.
    """
    found: dict[str, Explanation] = {}
    for name in names:
        try:
            found[name] = run(name)
        except PluginError as error:
            pass_over(str(error))
            if name == names[-1] and not found:
                raise
    return found


def _explain_files(
    network: Any,
    ahead: ImageReader,
    files: Sequence[str],
    out: Path,
    names: Sequence[str],
    *,
    target: str | None,
) -> InferenceResult:
    """Draw files, and list them."""
    with writing_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    drawn: list[list[Any]] = []
    rejected: list[list[str]] = []
    noted: Counter[str] = Counter()
    with ahead as reader:
        for image in reader.read(enumerate(files)):
            if image.reason is not None or image.geometry is None:
                rejected.append([files[image.index], image.reason or "", image.code])
                continue
            pixels, shown = _pixels(image, reader.processor)
            pixels = pixels.to(network.device)
            run = partial(explain_batch, network, pixels, target, images=shown, geometry=[image.geometry])
            found = _by_each(names, run)
            first: Explanation = next(iter(found.values()))
            picture = f"{image.index + 1:03d}.png"
            maps = {name: explanation.map[0] for name, explanation in found.items()}
            _save(out / picture, first.images[0], maps, None, mm_per_pixel(image.geometry), first.caption())
            noted.update(image.notes)
            label, score = first.target[0], f"{first.score[0]:.6g}"
            drawn.append([files[image.index], picture, label, score, ";".join(image.notes)])
    _write_table(out / "explanations.csv", ["file", "picture", "label", "score", "notes"], drawn)
    if rejected:
        _write_table(out / "rejected.csv", list(REJECTED), rejected)
    rejects = out / "rejected.csv" if rejected else None
    refusals = Counter(code for *_, code in rejected)
    return InferenceResult(out, len(drawn), len(rejected), rejects, notes=noted, refusals=refusals)


def _pixels(image: ReadImage, processor: MammoImageProcessor) -> tuple[torch.Tensor, np.ndarray]:
    """Return what is explained of an image, (1, channels, height, width), and how it is shown, (1, height, width)."""
    if image.views is not None:
        intensity = image.views.finest[0][None]
        return torch.from_numpy(intensity)[None], intensity
    pixels = np.asarray(image.pixel_values)[None]
    return torch.from_numpy(pixels), processor.denormalize(pixels)


def _save(
    path: Path,
    image: np.ndarray,
    maps: dict[str, np.ndarray],
    mask: np.ndarray | None,
    mm: float | None = None,
    caption: str = "",
) -> None:
    picture = side_by_side(image, maps, mask, mm=mm, caption=caption)
    with writing_errors(path), whole_file(path) as part:
        picture.save(part)


def _write_table(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    with (
        writing_errors(path),
        whole_file(path) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows(map(safe_cell, row) for row in [columns, *rows])
