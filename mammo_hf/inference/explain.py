"""Pictures of where a classifier looked: on the test images of a collection, or on any files.

The verb for tensors is `mammo_hf.explainers.explain`.
"""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from ..data.overrides import read_overrides
from ..encoders.classifier import BagClassifier
from ..errors import DataError, UsageError, check_choice, check_device, check_number
from ..explainers import Explanation, find_explainer
from ..explainers.explain import OPERATING_POINT, OPERATING_POINTS
from ..explainers.explanation import mm_per_pixel
from ..explainers.overlay import method_name, percent, render
from ..explainers.targets import calibrated_scores, fixed_target, task_slices
from ..files import is_remote, safe_cell, whole_file, write_whole, writing_errors
from ..models.checkpoint import exported_graphs, locate, read_tasks
from ..models.own_figures import MapTests, is_tested_for, map_tests
from ..plugins import PluginError, pass_over
from ..processing.geometry import Geometry
from ..processing.image_processing_mammo import MammoImageProcessor
from .outputs import Output, ScoredExam, ScoredImage, facts_of_model, find_outputs, scores_by_label, write_outputs_of
from .reading import REJECTED, Cut, ImageReader, InferenceResult, ReadImage, Source, exams_of, files_to_read, folders_of
from .scoring import as_reported, explain_tasks, image_logits, load_classifier, targets_of_exam

if TYPE_CHECKING:
    import datasets

    from ..data.collection import Collection

logger = logging.getLogger(__name__)

SHOWN = ("attention", "grad_cam", "grad_cam_attention")
SHOWN_OF_BAGS = ("bag_attention", "grad_cam")  # by a head over features
PARTS = ("test", "validation", "train", "unlabelled", "all")  # of a collection
COUNT = 12  # test images of a collection that are drawn
Found = TypeVar("Found")


def explain(
    model: str | os.PathLike[str],
    images: Source | Collection | datasets.Dataset,
    output_dir: str | os.PathLike[str],
    *,
    explainer: str | Sequence[str] | None = None,
    write: Sequence[str] = (),
    target: str | None = None,
    operating_point: str = OPERATING_POINT,
    split: str = "test",
    count: int | None = None,
    num_workers: int = 2,
    device: str | None = None,
    processor_settings: Mapping[str, Any] | None = None,
    overrides: str | os.PathLike[str] | None = None,
    encoder: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
) -> InferenceResult:
    """Draw where a classifier looked: each image alone and under the map of each explainer, side by side.

    Images are drawn into ``001.png`` and so on: of a collection those of one split, those with a lesion's outline
    first; of files each. ``index.csv`` lists of each picture the file, or the key of an image of a collection, the
    explained label, its score, the truth if it is known, where the first map is strongest, and which tests such maps
    have passed; ``index.html`` shows the pictures. ``rejected.csv`` lists the files that could not be read, with the
    reason.

    Args:
        model: A classifier, as in `mammo_hf.models.checkpoint.locate`.
        images: A collection, or a folder that one is recognised in, or one that ``mammo-hf prepare`` wrote, or prepared
            images; or files as in `files_to_read`: an image, a folder without labels, a list of paths.
        output_dir: Folder for the pictures.
        explainer: Names of the explainers, or one name; ``None``: `SHOWN` or, for a head over features,
            `SHOWN_OF_BAGS`.
        write: Names of outputs of plug-ins, such as "capture": what they make of the files of each exam is written into
            a folder of that name in ``output_dir``.
        target: Label to explain, such as "pathology:malignant"; by default, of the first task, of two labels the
            positive one and of more the predicted one, the same for all views of an exam.
        operating_point: Rule below whose threshold the map of a positive label is not drawn, or "none", as in
            `mammo_hf.explainers.explain`.
        split: Split of a collection: "test", "validation", "train", "unlabelled", or "all".
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
        DataError: The model or the collection cannot be read, or it has no image of the split.
    """
    names = [explainer] if isinstance(explainer, str) else list(explainer or ())
    for name in names:
        find_explainer(name)
    written = find_outputs([write] if isinstance(write, str) else write)
    if count is not None:
        check_number("count", count, count >= 1, "1 or more")
    check_number("num_workers", num_workers, num_workers >= 0, "0 or more")
    check_device(device)
    check_choice("operating_point", operating_point, OPERATING_POINTS)
    check_choice("split", split, PARTS)
    folder, out = locate(model), Path(output_dir)
    if exported_graphs(folder):
        remedy = "give the checkpoint that it was exported from"
        raise UsageError("an exported model cannot be explained", source=model, remedy=remedy)
    network, processor = load_classifier(folder, encoder=encoder, trust_remote_code=trust_remote_code)
    of_bags = isinstance(network, BagClassifier)
    names = names or list(SHOWN_OF_BAGS if of_bags else SHOWN)
    processor = processor.with_settings(processor_settings)
    network.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    draw = _Drawing(network, processor, out, names, target, operating_point, written)
    draw.facts = facts_of_model(folder, network.config) if written else {}
    draw.tests = map_tests(folder)
    if _is_labelled(images) and of_bags:
        images = _files_of_split(images, folder, processor, split, count or COUNT, overrides)
    if _is_labelled(images) and written:
        remedy = "give files, or a folder without labels"
        raise UsageError("is of files, and prepared images have none", source="write", remedy=remedy)
    if _is_labelled(images):
        prepared = _prepared(images, folder, processor, out, split, num_workers, overrides)
        result = draw.all(_prepared_exams(draw, prepared, split, count or COUNT))
    else:
        files = files_to_read(images)[:count]  # type: ignore[arg-type]
        given = read_overrides(overrides, folders_of(images))  # type: ignore[arg-type]
        cut = Cut(network.views, network.encoder.tile) if of_bags else None
        reader = ImageReader(processor, min(num_workers, len(files)), given, cut)
        result = draw.all(_exams_of_files(draw, reader, files))
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


def _images_of(images: Any, model: Path, processor: MammoImageProcessor, split: str, overrides: Any) -> Any:
    """Return the images of a split of a collection; images that are prepared as they are."""
    from ..data.collection import Collection
    from ..data.training_data import open_as_trained, reading_of

    if isinstance(images, (str, os.PathLike)):
        reading = reading_of(images, processor) | ({} if overrides is None else {"overrides": overrides})
        images = open_as_trained(os.fspath(images), model, **reading)
    elif overrides is not None:
        raise UsageError("adds nothing to images that are loaded", source="overrides", remedy="give it to load")
    if not isinstance(images, Collection):
        return images
    table = images if split == "all" else images.where(split=split)
    if not len(table):
        raise DataError(f"has no {split} image to explain", source=images.salt_name, remedy=_OTHER_SPLIT)
    return table


_OTHER_SPLIT = "check its tables, or name another split: `split=all`"


def _files_of_split(
    images: Any, model: Path, processor: MammoImageProcessor, split: str, count: int, overrides: Any
) -> list[str]:
    """Return the files of images of a split, those with an annotated finding first."""
    from ..data.prepare.folder import features_folder, folder_of

    table = _images_of(images, model, processor, split, overrides)
    if not hasattr(table, "column") or folder_of(table) is not None or features_folder(table) is not None:
        remedy = "give the collection that they were made from, or files"
        raise UsageError("are prepared, and a head over features explains files", source="the images", remedy=remedy)
    rows = sorted(table, key=lambda row: not row["findings"])
    return [row["path"] for row in rows[:count]]


def _prepared(
    images: Any, model: Path, processor: MammoImageProcessor, out: Path, split: str, num_workers: int, overrides: Any
) -> datasets.Dataset:
    """Return the prepared images of a split of a collection."""
    from ..data.collection import Collection
    from ..data.training_data import prepared_images

    table = _images_of(images, model, processor, split, overrides)
    if not isinstance(table, Collection):
        return table
    return prepared_images(table, processor, out / "prepared", tasks=read_tasks(model), num_workers=num_workers)


class _Shown(NamedTuple):
    """An image that is explained.

    Attributes:
        number: Number of its picture.
        name: Path of its file, or its key in a collection.
        pixels: What is explained of it, (1, channels, height, width).
        image: The picture that is shown of it, (1, height, width) in [0, 1].
        geometry: The way back to its source; ``None`` if it is not known.
        notes: Codes of the notes on it.
        lesion: Mask of its annotated lesions, if there are any.
        truth: Its label in each task, "" where it is not known.
        split: Its split in a collection.
        view: Its side and view, as far as the file says.
    """

    number: int
    name: str
    pixels: torch.Tensor
    image: np.ndarray
    geometry: Geometry | None
    notes: Sequence[str]
    lesion: np.ndarray | None = None
    truth: Mapping[str, str] | None = None
    split: str = ""
    view: tuple[str, str] = ("", "")


def _prepared_exams(draw: _Drawing, prepared: datasets.Dataset, split: str, count: int) -> Iterator[list[_Shown]]:
    """Yield prepared images exam by exam, as far as these matter, those with a lesion's outline first."""
    from ..data.prepared_row import geometry_of, lesion_mask
    from ..data.torch_datasets import LabelledImages, rows_of
    from ..notes import codes_in

    rows = list(range(len(prepared))) if split == "all" else rows_of(prepared, (split,))
    small = prepared.select_columns(["labels", "lesions"])  # whole rows of a native store are drawn when they are read
    if split in ("test", "validation", "train"):
        rows = [row for row in rows if max(small[row]["labels"]) >= 0]
    if not rows:
        raise DataError(f"there is no {'' if split == 'all' else split + ' '}image to explain", remedy=_OTHER_SPLIT)
    draw.found(min(len(rows), count))
    rows.sort(key=lambda row: small[row]["lesions"] is None)
    images = LabelledImages(prepared.select(rows[:count]), draw.processor)
    exams: dict[Any, list[int]] = {}
    for index, at in enumerate(rows[:count]):
        key = (prepared[at]["patient"], prepared[at].get("exam")) if draw.by_exam else index
        exams.setdefault(key, []).append(index)
    for members in exams.values():
        found = []
        for index in members:
            intensity, _, row = images.intensity_and_lesions(index)
            labels = zip(draw.tasks, row["labels"], strict=True)
            truth = {task["name"]: task["labels"][label] if label >= 0 else "" for task, label in labels}
            found.append(
                _Shown(
                    index + 1,
                    str(row["image_id"]),
                    images.normalized(intensity)[None],
                    intensity.numpy(),
                    geometry_of(row),
                    codes_in(row["notes"]),
                    lesion_mask(row),
                    truth,
                    str(row["split"]),
                )
            )
        yield found


def _exams_of_files(draw: _Drawing, ahead: ImageReader, files: Sequence[str]) -> Iterator[list[_Shown]]:
    """Yield files exam by exam, as far as these matter; those that cannot be read are rejected."""
    draw.found(len(files))
    number = {file: index + 1 for index, file in enumerate(files)}
    together = exams_of(files, ahead.overrides) if draw.by_exam else [[(file,)] for file in files]
    exams = [[file for file, *_ in exam] for exam in together]
    with ahead as reader:
        coming = reader.read(enumerate(file for exam in exams for file in exam))
        for exam in exams:
            found = []
            for file, image in zip(exam, coming, strict=False):
                if image.reason is not None or image.geometry is None:
                    draw.reject(file, image)
                    continue
                pixels, shown = _pixels(image, reader.processor)
                view = image.laterality, image.view
                found.append(_Shown(number[file], file, pixels, shown, image.geometry, image.notes, view=view))
            yield found


def _pixels(image: ReadImage, processor: MammoImageProcessor) -> tuple[torch.Tensor, np.ndarray]:
    """Return what is explained of an image, (1, channels, height, width), and how it is shown, (1, height, width)."""
    if image.views is not None:
        intensity = image.views.finest[0][None]
        return torch.from_numpy(intensity)[None], intensity
    pixels = np.asarray(image.pixel_values)[None]
    return torch.from_numpy(pixels), processor.denormalize(pixels)


_COLUMNS = (
    *("picture", "image", "split", "label", "score", "truth", "map", "peak_row_mm", "peak_column_mm", "warrant"),
    "notes",
)
_PASSED = {True: "passed", False: "not passed", None: "not measured"}  # a test of maps


class _Drawing:
    """Pictures of explanations, and the tables that list them.

    Args:
        network: A classifier.
        processor: Its processor.
        out: Folder of the pictures.
        names: Names of the explainers.
        target: Label that is explained; ``None`` for the default.
        operating_point: Rule below whose threshold no map is drawn.
        write: Outputs by name, which get each exam.
    """

    def __init__(
        self,
        network: Any,
        processor: MammoImageProcessor,
        out: Path,
        names: Sequence[str],
        target: str | None,
        operating_point: str,
        write: Mapping[str, Output],
    ) -> None:
        self.network, self.processor, self.out, self.names = network, processor, out, names
        self.target, self.operating_point = target, operating_point
        self.tasks = getattr(network.config, "tasks", None) or []
        self.first = next(iter(task_slices(network.config)))
        self.by_prediction = target is None and fixed_target(network.config, self.first) is None
        self.by_exam = self.by_prediction or bool(write)
        # explainers score the pooled features of the image
        self.scored_apart = getattr(network.config, "score_from", "pooled") != "pooled"
        self.write, self.facts = write, dict[str, Any]()
        self.tests: Mapping[str, MapTests] = {}
        self.rows: list[list[Any]] = []
        self.remarks: dict[str, None] = {}
        self.rejected: list[list[str]] = []
        self.noted: Counter[str] = Counter()
        self.bar = tqdm(desc="explaining", unit=" images", disable=None)

    def found(self, images: int) -> None:
        """Take the number of images that are to be drawn."""
        self.bar.reset(images)

    def reject(self, file: str, image: ReadImage) -> None:
        """Take a file that could not be read."""
        self.rejected.append([file, image.reason or "", image.code])
        self.bar.update()

    def all(self, exams: Iterator[list[_Shown]]) -> InferenceResult:
        """Draw images, and write the tables."""
        with self.bar, writing_errors(self.out):
            for exam in exams:
                self.out.mkdir(parents=True, exist_ok=True)
                of_exam = self.by_prediction and len(exam) > 1
                logits = [self._logits(shown) if of_exam or self.scored_apart else None for shown in exam]
                target: Any = self._target_of(logits) if of_exam else self.target
                found = []
                for shown, own in zip(exam, logits, strict=True):
                    found.append(self._draw(shown, target, own))
                    self.bar.update()
                if self.write and found:
                    self._write(exam, found)
        self.out.mkdir(parents=True, exist_ok=True)
        self.rows.sort()
        _write_table(self.out / "index.csv", list(_COLUMNS), self.rows)
        write_whole(self.out / "index.html", self._page())
        rejects = self.out / "rejected.csv" if self.rejected else None
        if rejects is not None:
            _write_table(rejects, list(REJECTED), self.rejected)
        refusals = Counter(code for *_, code in self.rejected)
        counts: dict[str, Any] = {"notes": self.noted, "refusals": refusals}
        return InferenceResult(self.out, len(self.rows), len(self.rejected), rejects, **counts)

    def _logits(self, shown: _Shown) -> torch.Tensor:
        """Return the logits (1, labels) that the scores of an image are made of."""
        with torch.inference_mode():
            return image_logits(self.network, shown.pixels.to(self.network.device)).float().cpu()

    def _target_of(self, logits: Sequence[Any]) -> list[int]:
        """Return the label that is explained on all views of an exam, from the logits of each."""
        scores = calibrated_scores(self.network.config, torch.cat(list(logits)).double().numpy())
        return targets_of_exam(self.network.config, {self.first: scores[self.first].mean(axis=0)}, [self.first])

    def _write(self, exam: Sequence[_Shown], found: Sequence[tuple[torch.Tensor, Mapping[str, Explanation]]]) -> None:
        """Write the outputs of an exam, from the logits and the explanations of each image."""
        config, images = self.network.config, []
        for shown, (logits, explanations) in zip(exam, found, strict=True):
            of_tasks = calibrated_scores(config, logits.double().numpy())
            scores = scores_by_label(config, np.concatenate([table[0] for table in of_tasks.values()]))
            facts = shown.name, *shown.view, scores, tuple(shown.notes)
            images.append(ScoredImage(*facts, tuple(explanations.values())))
        options = {"explainer": " ".join(self.names), "target": self.target, "operating_point": self.operating_point}
        write_outputs_of(ScoredExam(tuple(images), {}, self.facts, options, self.processor), self.write, self.out)

    def _draw(
        self, shown: _Shown, target: Any, logits: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, Explanation]]:
        """Draw an image, and return its logits and explanations."""
        explained = by_each(self.names, partial(self._explained, shown, target, logits))
        found = {name: one for name, (_, one) in explained.items()}
        logits, first = next(iter(explained.values()))
        maps = {name: explanation.map[0] for name, explanation in found.items()}
        remarks = dict.fromkeys(line for one in found.values() for line in one.remarks)
        text = "\n".join([first.result(), *remarks])
        mm, name = mm_per_pixel(shown.geometry), f"{shown.number:03d}.png"
        look: dict[str, Any] = {"outline": shown.lesion, "mm": mm, "caption": text, "strength": first.strength()}
        picture = render(first.images[0], maps, "side_by_side", **look)
        with writing_errors(self.out / name), whole_file(self.out / name) as part:
            picture.save(part)
        self.remarks |= remarks
        self.noted.update(shown.notes)
        self.rows.append(self._row(name, shown, first))
        return logits, found

    def _row(self, picture: str, shown: _Shown, first: Explanation) -> list[Any]:
        drawn = "below the operating point" if first.strength() == 0 else "empty" if first.flat[0] else "drawn"
        peak = next(iter(first.peaks(1)), None)
        place = ["", ""] if peak is None or peak.mm is None else [f"{value:.1f}" for value in peak.mm]
        truth = (shown.truth or {}).get(first.target[0].split(":", 1)[0], "")
        front = [picture, shown.name, shown.split, first.target[0], f"{first.score[0]:.6g}", truth]
        return [*front, drawn, *place, self._warrant(first), ";".join(shown.notes)]

    def _warrant(self, explanation: Explanation) -> str:
        tests = self.tests.get(explanation.explainer)
        if tests is None or not is_tested_for(tests.target, explanation.target[0], any(explanation.predicted)):
            return "not measured"
        return "; ".join(f"{test} {_PASSED[one]}" for test, one in tests.passed.items())

    def _explained(
        self, shown: _Shown, target: Any, logits: torch.Tensor | None, name: str
    ) -> tuple[torch.Tensor, Explanation]:
        """Explain an image by one explainer; return its logits, and the explanation with the score that is reported."""
        geometry = None if shown.geometry is None else [shown.geometry]
        options: dict[str, Any] = {"images": shown.image, "geometry": geometry, "tasks": [self.first]}
        options |= {"target": target, "operating_point": self.operating_point}
        own, explained = explain_tasks(self.network, shown.pixels.to(self.network.device), name, **options)
        logits = own if logits is None else logits
        (found,) = as_reported(explained[0], logits[0], self.network.config).values()
        return logits, found

    def _page(self) -> str:
        """Return the page that shows the pictures, with what is known of the model above them."""
        cards = []
        for picture, name, split, label, score, truth, drawn, *place, _, notes in self.rows:
            facts = [f"<b>{escape(label)} {percent(float(score))}</b>"]
            facts += [f"truth: {escape(truth)}"] if truth else []
            facts += ["no map: below the operating point"] if drawn.startswith("below") else []
            facts += [f"strongest at {place[0]} mm down, {place[1]} mm across"] if place[0] and drawn == "drawn" else []
            facts += [escape(one) for one in (split, notes.replace(";", ", ")) if one]
            cards.append(
                f'<figure><a href="{picture}"><img src="{picture}" loading="lazy" alt="map of {escape(name)}"></a>'
                f"<figcaption>{picture}: {escape(name)}<br>{'; '.join(facts)}</figcaption></figure>"
            )
        methods = ", ".join(method_name(name) for name in self.names)
        rejected = f"<p>{len(self.rejected)} files could not be read: see rejected.csv.</p>" * bool(self.rejected)
        remarks = "".join(f"<li>{escape(one)}</li>" for one in self.remarks)
        page = resources.files("mammo_hf.inference").joinpath("explained.html").read_text(encoding="utf-8")
        parts = {"METHODS": escape(methods), "REMARKS": remarks, "REJECTED": rejected, "CARDS": "\n".join(cards)}
        for name, part in parts.items():
            page = page.replace(f"<!--{name}-->", part)
        return page


def by_each(names: Sequence[str], run: Callable[[str], Found]) -> dict[str, Found]:
    """Return what is found by each explainer; one that fails is named in a warning and passed over.

    Raises:
        PluginError: All of them failed.
    """
    found: dict[str, Found] = {}
    for name in names:
        try:
            found[name] = run(name)
        except PluginError as error:
            pass_over(str(error))
            if name == names[-1] and not found:
                raise
    return found


def _write_table(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    with (
        writing_errors(path),
        whole_file(path) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows(map(safe_cell, row) for row in [columns, *rows])
