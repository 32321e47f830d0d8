"""An archive's scores as one table: files are read ahead, scored in batches, and sharded over devices.

A run that was interrupted at any moment is resumed by the same call, see `journal`.

Where breasts or exams are scored too, a batch is an exam: its files are found by a pass over the headers, read
together, and forgotten when its rows are written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from ..data.overrides import Overrides, read_overrides
from ..data.precedence import not_counting
from ..data.privacy import private_salt, salted_hash
from ..encoders.classifier import BagClassifier, units_of
from ..errors import UsageError, check_choice, check_device, check_number, printable
from ..explainers import Explanation, find_explainer
from ..explainers.explain import OPERATING_POINT, OPERATING_POINTS
from ..explainers.targets import calibrated_scores, deferral_thresholds, fixed_target, label_names, resolve, task_slices
from ..files import writing_errors
from ..isolation import isolating
from ..metrics import aggregation
from ..metrics.aggregation import LEVELS, RULES
from ..models.checkpoint import exported_graphs, locate, repository_of
from ..notes import codes
from ..processing.image_processing_mammo import MammoImageProcessor
from .exams import missing_views
from .exported import load_exported
from .journal import Journal, rejects_path, write_tables
from .outputs import Output, ScoredExam, ScoredImage, facts_of_model, find_outputs, scores_by_label, write_outputs_of
from .reading import (
    Cut,
    ImageReader,
    InferenceResult,
    ReadImage,
    SideBySide,
    Source,
    exams_of,
    files_to_read,
    folders_of,
    replicas,
)
from .scoring import as_reported, bag_logits_and_notes, explain_bag, load_classifier, score_and_explain, targets_of_exam

logger = logging.getLogger(__name__)

GPU_BATCH = 32
CPU_PIXELS = 2 * 448 * 224  # per batch on a CPU: with more, activations outgrow the caches, and each image takes longer
FEW = 16  # files that are read before a process would have started
FACTS = ("file", "exam", "accession", "laterality", "view", "notes")
MAPS_BY = ("grad_cam", "bag_attention")  # explainers of outputs that show maps: of a Swin, of a head over features
DECODED = "decoded"  # column behind these if images are not all decoded exactly
OF_UNITS = ("level", "images")  # columns in front of these if breasts or exams are scored too
Rows = list[tuple[int, list[str]]]
Explained = Mapping[int, Explanation]  # by the label's index into the logits
BatchScores = tuple[np.ndarray, Sequence[Explained], list[list[str]], Any]


@dataclass(frozen=True)
class ScoringOptions:
    """Options that the rows of a table depend on, see `predict`; a run that resumes another one has the same."""

    level: str | None = None
    aggregate: str = "mean"
    explainer: str | None = None
    target: str | None = None
    operating_point: str = OPERATING_POINT
    defer: float | None = None
    tta: bool = False
    plain_exams: bool = False
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            check_number("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")
        if self.level is not None:
            check_choice("level", self.level, LEVELS)
        check_choice("aggregate", self.aggregate, RULES)
        if self.explainer is not None:
            find_explainer(self.explainer)
        check_choice("operating_point", self.operating_point, OPERATING_POINTS)
        if self.defer is not None:
            check_number("defer", self.defer, 0 < self.defer < 1, "above 0 and below 1")


@isolating()
def predict(
    model: str | os.PathLike[str],
    source: Source,
    output: str | os.PathLike[str],
    *,
    level: str | None = None,
    aggregate: str = "mean",
    explainer: str | None = None,
    target: str | None = None,
    operating_point: str = OPERATING_POINT,
    defer: float | None = None,
    write: Sequence[str] = (),
    tta: bool = False,
    plain_exams: bool = False,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    decode: str | None = None,
    processor_settings: Mapping[str, Any] | None = None,
    overrides: str | os.PathLike[str] | None = None,
    encoder: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
) -> InferenceResult | None:
    """Score images with a classifier, and write the scores as a table in the files' order.

    With ``level="breast"`` or ``"exam"`` the table also has a row per breast or exam, before those of its images, and
    the columns ``level`` and ``images``, the number of images that it is scored from; the rows are then in the order of
    the exams. Files of one StudyInstanceUID are one exam, or of one name in the overrides file; any other file is an
    exam of its own. Of several images of one view one counts, as in `mammo_hf.data.precedence.precedence`.

    A file that cannot be read is listed in ``OUTPUT.rejected.csv`` with the reason, and so is one that is listed twice.
    A call that was interrupted is resumed by the same call. Under ``accelerate launch`` the processes divide the
    batches; the rows are the same.

    Args:
        model: A classifier, as in `mammo_hf.models.checkpoint.locate`, or the folder of an exported one.
        source: Images to score, as in `files_to_read`: an image, a folder, a list of paths, or a sequence of these.
        output: The table to write, ``.csv`` or ``.parquet``.
        level: "image" for images alone, or "breast" or "exam" for those too; ``None``: the level that a head over
            features was trained on, the image for any other model.
        aggregate: Rule that combines the images of a breast or exam if the model scores images alone: "mean", "max" or
            "noisy_or".
        explainer: Name of an explainer; maps are then drawn into ``OUTPUT.explanations``, of each task for the positive
            one of two labels or the predicted one of more. If exams are scored, it is the same for all of their views.
        target: Label to explain instead, such as "pathology:malignant".
        operating_point: Rule below whose threshold the map of a positive label is not drawn, or "none", as in
            `mammo_hf.explainers.explain`.
        write: Names of outputs of plug-ins, such as "sr": what they make of each exam is written into a folder of
            that name in ``OUTPUT.written``. The table is then in the order of the exams, too. One that shows maps takes
            `MAPS_BY` if no explainer is named.
        defer: Fraction of the validation images, or of its exams, that would be left to a person, above 0 and below 1:
            images, breasts and exams that the model is less sure of have the note ``left_to_a_person``.
        tta: Whether to use test-time augmentation: the mean of the logits over five views of each image.
        plain_exams: Whether ``exam`` and ``accession`` in the table are StudyInstanceUID and AccessionNumber
            themselves, to find the exam in an archive, and not salted hashes of them.
        batch_size: Number of images per batch; see `default_batch`.
        num_workers: Number of processes that read; by default one per core, and none for a few files.
        device: The device, "cpu" or "cuda"; by default a GPU if there is one.
        dtype: The model's number format, "float32", "bfloat16" or "float16".
        decode: Way of decoding JPEG 2000 and HTJ2K, "exact" or "fast"; ``None``: as the model was trained. With "fast"
            the column ``decoded`` says what was done with each image; another way than in training warns.
        processor_settings: Settings of how images are read in place of the model's own, such as
            ``{"any_anatomy": True}``; see `mammo_hf.processing.image_processing_mammo.SETTINGS`.
        overrides: Table of files whose header is wrong, or that have none, see `mammo_hf.data.overrides`.
        encoder: Encoder of a head over features, if it is no longer where the head says.
        trust_remote_code: Whether code of the encoder's own repository may be run.

    Returns:
        What was done; ``None`` in all processes but the first.

    Raises:
        UsageError: An argument makes no sense, the model is not a classifier, the output exists already or cannot be
            written, or an unfinished run with other arguments was started for it.
        DataError: The model cannot be read.
    """
    # Check everything that can be checked before the model is loaded
    options = ScoringOptions(level, aggregate, explainer, target, operating_point, defer, tta, plain_exams, batch_size)
    if num_workers is not None:
        check_number("num_workers", num_workers, num_workers >= 0, "0 or more")
    check_device(device)
    if target is not None and explainer is None and not write:
        raise UsageError("needs an explainer", source="target", remedy="name one, or leave the target out")
    written = find_outputs([write] if isinstance(write, str) else write)
    output = Path(output)
    _check_output(output)
    files = files_to_read(source)
    given = read_overrides(overrides, folders_of(source))
    folder = locate(model)
    with writing_errors(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
    with _alone(output):
        maps = explainer is not None or any(one.MAPS for one in written.values())
        loaded, processor = _loaded(folder, maps, dtype, encoder, trust_remote_code)
        if tta and isinstance(loaded, BagClassifier):
            raise UsageError("is for a Swin, and this is a head over features", source="tta", remedy="leave it out")
        settings = dict(processor_settings or {}) | ({} if decode is None else {"decode": decode})
        processor = _changed(processor, settings)
        processor.check_whole_images()
        result = score_files(
            loaded,
            processor,
            files,
            output,
            options,
            overrides=given,
            write=written,
            facts=facts_of_model(folder, loaded.config) if written else None,
            num_workers=num_workers,
            device=device,
            name=f"{identity(folder)} {loaded.dtype}",
        )
    if result is not None:
        logger.info("%s", result)
    return result


def _changed(processor: MammoImageProcessor, settings: dict[str, Any] | None) -> MammoImageProcessor:
    """Return a model's processor with other settings, with a warning if it decodes in another way than in training."""
    changed = processor.with_settings(settings)
    if changed.decode != processor.decode:
        logger.warning(
            "images are decoded by decode=%r, the model was trained with decode=%r: compare the scores of some images "
            "both ways before you rely on them",
            changed.decode,
            processor.decode,
        )
    return changed


def _loaded(
    folder: Path,
    maps: bool,
    dtype: str,
    encoder: str | os.PathLike[str] | None,
    trust_remote_code: bool,
) -> tuple[Any, MammoImageProcessor]:
    options: dict[str, Any] = {"encoder": encoder, "trust_remote_code": trust_remote_code}
    if not exported_graphs(folder):
        return load_classifier(folder, dtype=getattr(torch, dtype), **options)
    for name, unsupported in (("explainer", maps), ("dtype", dtype != "float32")):
        if unsupported:
            remedy = "give the checkpoint that it was exported from, or leave this out"
            raise UsageError("is not available for an exported model", source=name, remedy=remedy)
    return load_exported(folder, **options)


def _level_of(model: Any) -> str:
    """Return the level that a model scores by itself: the highest that a task of a head over features has."""
    if not isinstance(model, BagClassifier):
        return LEVELS[0]
    tasks: Any = model.config.tasks
    return LEVELS[max(LEVELS.index(task["level"]) for task in tasks)]


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Let one run at a time write to an output; the processes of one launch are one run.

    Raises:
        UsageError: Another run is writing to it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    lock = filelock.FileLock(output.with_name(f".{output.name}.lock"))
    with writing_errors(output.parent):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            remedy = "wait until it has ended, or name another output"
            raise UsageError("another run is writing to it", source=output, remedy=remedy) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def identity(folder: Path) -> str:
    """Return what distinguishes a model from another one in the same place: the Hub's commit, or its files' state."""
    repository = repository_of(folder)
    if repository is not None:
        return f"{repository}@{folder.name}"
    endings = (".json", ".safetensors", ".onnx", ".xml", ".bin")
    files = sorted(path for path in folder.iterdir() if path.suffix in endings)
    return _digest(json.dumps([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]))


class Work(NamedTuple):
    """Work of a run, in its order.

    Attributes:
        files: Paths of the images.
        batches: Positions in ``files`` of each batch.
        by_exam: Whether a batch is an exam. One of n files that begins at position p then has the rows 2p to
            2p + n - 1 for its units, as far as there are any, and the n rows after these for its images; else the
            number of a row is the file's position.
    """

    files: list[str]
    batches: list[range]
    by_exam: bool

    def rows_of_images(self, batch: range) -> range:
        """Return the numbers of the rows of a batch's images, the last that are written."""
        return range(batch.start + batch.stop, 2 * batch.stop) if self.by_exam else batch

    @classmethod
    def of(cls, files: Sequence[str], size: int, by_exam: bool, overrides: Overrides | None = None) -> Work:
        """Return the work on files: in batches of some size, or exam by exam."""
        if not by_exam:
            starts = range(0, len(files), size)
            return cls(list(files), [range(start, min(start + size, len(files))) for start in starts], False)
        exams = exams_of(files, overrides)
        ends = np.cumsum([len(exam) for exam in exams]).tolist()
        batches = [range(end - len(exam), end) for end, exam in zip(ends, exams, strict=True)]
        return cls([file for file, *_ in chain.from_iterable(exams)], batches, True)


@isolating()
def score_files(
    model: Any,
    processor: MammoImageProcessor,
    files: Sequence[str],
    output: Path,
    options: ScoringOptions = ScoringOptions(),
    *,
    overrides: Overrides | None = None,
    write: Mapping[str, Output] | None = None,
    facts: Mapping[str, Any] | None = None,
    num_workers: int | None = None,
    device: str | None = None,
    name: str = "",
) -> InferenceResult | None:
    """Score files with a loaded classifier; `predict` with a model and files that are found already.

    On a CPU batches are scored side by side, see `replicas`.

    Args:
        model: A classifier; it is moved to the device.
        processor: The model's processor.
        files: Paths of the images.
        output: The table to write.
        options: Options that the rows depend on.
        overrides: What the user says of files in place of their headers.
        write: Outputs by name, see `predict`.
        facts: Facts on the model that they state, from `mammo_hf.inference.outputs.facts_of_model`.
        num_workers: Number of processes that read.
        device: The device, see `predict`.
        name: Identity of the model: an unfinished run is not resumed with another one.
    """
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    made_by = _BagScorer if isinstance(model, BagClassifier) else _Scorer
    scorer = made_by(model.to(state.device), processor, output, options, overrides or {}, write or {}, facts or {})
    work = Work.of(files, scorer.size, scorer.by_exam, overrides)
    journal = Journal(output.with_name(f"{output.name}.part"), len(scorer.columns) + 3, len(files) * (1 + work.by_exam))
    # Find out which batches an earlier run has left to do, and which of those are this process's
    with state.main_process_first():
        journal.open(scorer.facts(work.files, name))
        if scorer.pictures is not None:
            scorer.pictures.mkdir(exist_ok=True)
    done, number = journal.done([work.rows_of_images(batch) for batch in work.batches]), journal.next_run()
    state.wait_for_everyone()  # before the file of any new process is there
    mine = [work.batches[batch] for batch in np.flatnonzero(~done)[state.process_index :: state.num_processes]]
    if num_workers is None:
        num_workers = 0 if sum(map(len, mine)) <= FEW else max(1, _cores() // state.num_processes)
    # Score them
    journal.begin(number, state.process_index)
    try:
        _read_batches(scorer, journal, work, mine, num_workers, state)
    finally:
        journal.close()
    journal.mark_finished(number, state.process_index)
    if not state.is_main_process:
        return None
    # not a barrier of torch's, which would give up after half an hour: the processes may need very different times
    journal.wait_for(number, state.num_processes)
    images, notes, refusals = write_tables(journal, output, scorer.columns, scorer.labels)
    journal.remove()
    rejects = rejects_path(output) if refusals else None
    resumed = sum(len(batch) for batch, was_done in zip(work.batches, done, strict=True) if was_done)
    return InferenceResult(output, images, refusals.total(), rejects, resumed, notes, refusals)


def default_batch(processor: MammoImageProcessor, device: str) -> int:
    """Return the images per batch: 32 on a GPU; on a CPU 8 of 224 x 112, 2 of 448 x 224, 1 of 896 x 448."""
    height, width = processor.canvas
    return GPU_BATCH if device != "cpu" else max(1, CPU_PIXELS // (height * width))


class _Scorer:
    """A classifier of images and what is done with it: rows of scores, and pictures of explanations."""

    cut: Cut | None = None

    def __init__(
        self,
        model: Any,
        processor: MammoImageProcessor,
        output: Path,
        options: ScoringOptions,
        overrides: Overrides,
        write: Mapping[str, Output],
        model_facts: Mapping[str, Any],
    ) -> None:
        level = options.level or _level_of(model)
        by_default = MAPS_BY[isinstance(model, BagClassifier)] if any(one.MAPS for one in write.values()) else None
        self.options = replace(options, level=level, explainer=options.explainer or by_default)
        self.model, self.processor, self.level, self.units = model, processor, level, level != "image"
        self.size = options.batch_size or self._default_size()
        self.target = None if options.target is None else resolve(options.target, 1, model.config)
        levels = dict.fromkeys(("image", level)) if options.defer is not None else {}
        self.thresholds = {one: deferral_thresholds(model.config, options.defer or 0.0, one) for one in levels}
        self.overrides, self.salt = overrides, _salt()
        self.labels = label_names(model.config)
        self.pictures = output.with_name(f"{output.stem}.explanations") if options.explainer else None
        self.by_exam = self.units or bool(write)
        self.write, self.written, self.model_facts = write, output.with_name(f"{output.stem}.written"), model_facts
        front = OF_UNITS if self.units else ()
        self.decoded = [DECODED] if processor.decode == "fast" else []
        self.columns = [*front, *FACTS, *self.decoded, *self.labels, *(["explanation"] if options.explainer else [])]

    def facts(self, files: Sequence[str], name: str) -> dict[str, Any]:
        """Return what must be the same in a run that resumes this one."""
        return {
            "model": name or _digest(self.model.config.to_json_string()),
            "processor": _digest(self.processor.to_json_string()),
            "list of files": _digest("\n".join(files)),
            "overrides file": _digest(json.dumps(sorted(self.overrides.items()))),
            **asdict(replace(self.options, batch_size=self.size)),
            "outputs": sorted(self.write),
        }

    def _default_size(self) -> int:
        return default_batch(self.processor, self.model.device.type)

    def score(self, model: Any, images: list[ReadImage]) -> BatchScores:
        """Score images.

        Returns:
            Calibrated scores (images, labels), the explanations of each image, the codes of the model's own notes, and
            what `unit` takes.
        """
        batches = [images[first : first + self.size] for first in range(0, len(images), self.size)]
        target = self.target or self._target_of_exam(model, batches)
        found = [self._batch(model, batch, self.options.explainer, target) for batch in batches]
        tables, explained, noted = zip(*found, strict=True)
        scores = np.concatenate(tables)
        return scores, list(chain.from_iterable(explained)), list(chain.from_iterable(noted)), scores

    def left_to_a_person(self, level: str, scores: np.ndarray) -> list[str]:
        """Return the code of the note on scores (labels,) that are left to a person; nothing on others."""
        parts, thresholds = task_slices(self.model.config), self.thresholds.get(level, {})
        unsure = any(scores[parts[name]].max() < threshold for name, threshold in thresholds.items())
        return ["left_to_a_person"] * unsure

    def unit(self, model: Any, images: Any, members: list[int]) -> np.ndarray:
        """Return the calibrated scores (labels,) of a breast or exam from those of its images."""
        together = np.zeros(len(members), np.int64)
        parts = task_slices(model.config).values()
        return np.concatenate(
            [aggregation.aggregate(self.options.aggregate, images[members][:, part], together, 1)[0] for part in parts]
        )

    def _target_of_exam(self, model: Any, batches: Sequence[list[ReadImage]]) -> list[int] | None:
        """Return what is explained on all images of an exam; they are scored for it only if that is needed."""
        if self.options.explainer is None or not self.by_exam:
            return None
        slices, scores = task_slices(model.config), {}
        if any(fixed_target(model.config, name) is None for name in slices):
            table = np.concatenate([self._batch(model, batch, None, None)[0] for batch in batches])
            of_exam = self.unit(model, table, list(range(len(table))))
            scores = {name: of_exam[part] for name, part in slices.items()}
        return targets_of_exam(model.config, scores)

    def _batch(
        self, model: Any, images: list[ReadImage], explainer: str | None, target: list[int] | None
    ) -> tuple[np.ndarray, list[Explained], list[list[str]]]:
        logits, explained, notes = score_and_explain(
            model,
            self.processor,
            torch.from_numpy(np.stack([np.asarray(image.pixel_values) for image in images])),
            explainer=explainer,
            target=target,
            operating_point=self.options.operating_point,
            tta=self.options.tta,
            geometry=[image.geometry for image in images if image.geometry is not None],
        )
        by_task = calibrated_scores(model.config, logits.double().cpu().numpy())
        scores = np.concatenate(list(by_task.values()), axis=1)
        return scores, list(explained), [codes(one) for one in notes]

    def draw(self, images: list[ReadImage], explained: Sequence[Explained]) -> list[str]:
        """Draw the explanations of images, and return the names of the pictures of each."""
        if self.pictures is None:
            return []
        pictures = []
        for image, found in zip(images, explained, strict=True):
            names = {at: f"{image.index + 1:07d}-{self.labels[at].split(':', 1)[0]}.png" for at in found}
            for at, explanation in found.items():
                explanation.save(self.pictures / names[at], style="side_by_side")
            pictures.append(";".join(names.values()))
        return pictures


class _BagScorer(_Scorer):
    """A head over features with its encoder: it scores breasts and exams itself, from the bags of their images."""

    def __init__(self, model: BagClassifier, *arguments: Any, **options: Any) -> None:
        super().__init__(model, *arguments, **options)
        self.cut = Cut(model.views, model.encoder.tile)

    def _default_size(self) -> int:
        return 1

    def score(self, model: BagClassifier, images: list[ReadImage]) -> BatchScores:
        """Encode and score images, each alone; see `_Scorer.score`."""
        of_units, of_each, noted = [], [], []
        explained: list[Explained] = []
        wanted: dict[str, Any] = {"target": self.target, "operating_point": self.options.operating_point}
        for image in images:
            assert image.views is not None
            _, bag = model.bag(image.views, image.laterality, image.view)
            logits, notes = bag_logits_and_notes(model, bag)
            of_units.append(bag)
            of_each.append(logits)
            noted.append(codes(notes))
        if self.options.explainer is not None and self.target is None and self.by_exam:
            of_exam = self.unit(model, of_units, list(range(len(of_units))))
            by_task = {name: of_exam[part] for name, part in task_slices(model.config).items()}
            wanted["target"] = targets_of_exam(model.config, by_task)
        for image, logits in zip(images, of_each, strict=True):
            if self.options.explainer is not None and image.views is not None:
                found = explain_bag(model, image.views, self.options.explainer, **wanted)
                explained.append(as_reported(found, torch.from_numpy(logits), model.config))
        return np.stack([_calibrated(model, logits) for logits in of_each]), explained, noted, of_units

    def unit(self, model: BagClassifier, images: Any, members: list[int]) -> np.ndarray:
        """Return the calibrated scores (labels,) that the head gives to the images of a unit."""
        return _calibrated(model, model.unit_logits([images[member] for member in members]))


def _calibrated(model: BagClassifier, logits: np.ndarray) -> np.ndarray:
    return np.concatenate([table[0] for table in calibrated_scores(model.config, logits[None]).values()])


def _read_batches(
    scorer: _Scorer, journal: Journal, work: Work, batches: list[range], workers: int, state: PartialState
) -> None:
    """Read and score this process's batches."""
    count, rejected = sum(map(len, batches)), 0
    position = {
        "total": len(work.files),
        "initial": len(work.files) - count,
        "disable": None if state.is_main_process else True,
    }
    bar = tqdm(desc="reading", unit=" images", smoothing=0.02, **position)

    def note(rows: Rows) -> None:
        nonlocal rejected
        journal.write(rows)
        rejected += sum(bool(row[-2]) for _, row in rows)
        bar.update(sum(bool(row[scorer.columns.index("file")]) for _, row in rows))
        if rejected:
            bar.set_postfix_str(f"{rejected} rejected")

    first = _first_indices(work.files)
    # explainers hook into the model and draw, which one thread does alone
    alone = state.device.type != "cpu" or scorer.options.explainer is not None
    scoring: SideBySide[tuple[range, list[ReadImage]], Rows] = SideBySide(
        lambda model, batch: _rows(scorer, model, work, *batch),
        replicas(scorer.model, 1 if alone else torch.get_num_threads()),
    )
    reader = ImageReader(scorer.processor, min(workers, count), scorer.overrides, scorer.cut)
    with reader, bar, scoring.started():
        coming = reader.read((index, work.files[index]) for batch in batches for index in batch if index not in first)
        for batch in batches:
            reasons = {
                index: f"is listed twice, first as number {first[index] + 1}" for index in batch if index in first
            }
            images = [ReadImage(i, reason=reasons[i], code="left_out") if i in reasons else next(coming) for i in batch]
            for rows in scoring.put((batch, images)):
                note(rows)
        for rows in scoring.rest():
            note(rows)


def _rows(scorer: _Scorer, model: Any, work: Work, batch: range, images: list[ReadImage]) -> Rows:
    """Score the images of a batch, and the units of an exam, and return their rows with their numbers."""
    good = [image for image in images if image.reason is None]
    scores, explained, noted, of_units = scorer.score(model, good) if good else (np.zeros((0, 0)), [], [], [])
    pictures = scorer.draw(good, explained)
    order = {image.index: number for number, image in enumerate(good)}
    rows = []
    for row, image in zip(work.rows_of_images(batch), images, strict=True):
        own, reason, code = [], image.reason or "", image.code
        cells = [""] * (len(scorer.labels) + bool(scorer.pictures))
        if image.index in order:
            number = order[image.index]
            own = [*noted[number], *scorer.left_to_a_person("image", scores[number])]
            cells = [f"{value:.6g}" for value in scores[number]] + ([pictures[number]] if scorer.pictures else [])
            if not np.isfinite(scores[number]).all():
                reason, code = "its scores are not finite", "damaged"
        file = printable(work.files[image.index])
        facts = [file, *_exam_cells(scorer, image), image.laterality, image.view, ";".join([*image.notes, *own])]
        facts += [image.decoded for _ in scorer.decoded]
        front = ["image", "1"] if scorer.units else []
        rows.append((row, [*front, *facts, *cells, json.dumps(image.precedence), reason, code]))
    units = _units(scorer, model, good, of_units) if scorer.units and good else []
    if scorer.write and good:
        write_outputs_of(_exam(scorer, work, good, (scores, explained, noted), units), scorer.write, scorer.written)
    return [*_unit_rows(scorer, 2 * batch.start, units, _exam_cells(scorer, good[0]) if good else []), *rows]


# its side, "" if it is not one breast; the side and view of each of its images; its scores
Unit = tuple[str, list[tuple[str, str]], np.ndarray]


def _counted(images: list[ReadImage]) -> list[int]:
    """Return the images of an exam that count for breast and exam."""
    keys = [(image.laterality, image.view) for image in images]
    others = not_counting((at, key, images[at].precedence) for at, key in enumerate(keys) if all(key))
    return [at for at in range(len(images)) if at not in others]


def _units(scorer: _Scorer, model: Any, images: list[ReadImage], of_units: Any) -> list[Unit]:
    """Score the breasts, or the exam, of some images; a unit without finite scores is left out."""
    counted = _counted(images)
    found = []
    for side, members in units_of(scorer.level, [images[at].laterality for at in counted]):
        own = [counted[member] for member in members]
        scores = scorer.unit(model, of_units, own)
        if np.isfinite(scores).all():
            found.append((side, [(images[at].laterality, images[at].view) for at in own], scores))
    return found


def _unit_rows(scorer: _Scorer, number: int, units: list[Unit], exam: list[str]) -> Rows:
    """Return the rows of units; ``number`` is that of the first."""
    rows: Rows = []
    for side, views, scores in units:
        cells = [f"{value:.6g}" for value in scores] + ([""] if scorer.pictures else [])
        missing = codes(missing_views(views)) if scorer.level == "exam" else []
        notes = ";".join([*missing, *scorer.left_to_a_person(scorer.level, scores)])
        facts = ["", *exam, side, "", notes, *("" for _ in scorer.decoded)]
        row = [scorer.level, str(len(views)), *facts, *cells, "[]", "", ""]
        rows.append((number + len(rows), row))
    return rows


def _exam(
    scorer: _Scorer,
    work: Work,
    images: list[ReadImage],
    scored: tuple[np.ndarray, Sequence[Explained], list[list[str]]],
    units: list[Unit],
) -> ScoredExam:
    """Return what outputs are made of."""
    config, counted = scorer.model.config, set(_counted(images))
    found = []
    for at, (image, scores, own) in enumerate(zip(images, scored[0], scored[2], strict=True)):
        maps = tuple(scored[1][at].values()) if scored[1] else ()
        notes = (*image.notes, *own, *(["another_image_counts"] if at not in counted else []))
        facts = work.files[image.index], image.laterality, image.view
        found.append(ScoredImage(*facts, scores_by_label(config, scores), notes, maps))
    of_units = {side or "exam": scores_by_label(config, scores) for side, _, scores in units}
    names = ("tta", "explainer", "level", "aggregate", "target", "operating_point")
    options = {name: getattr(scorer.options, name) for name in names}
    return ScoredExam(tuple(found), of_units, scorer.model_facts, options, scorer.processor)


def _exam_cells(scorer: _Scorer, image: ReadImage) -> list[str]:
    """Return what names the exam of an image in the table: its study and its accession."""
    names = [image.study, image.accession]
    if scorer.options.plain_exams:
        return [printable(name) for name in names]
    return [salted_hash(name, scorer.salt) if name and scorer.salt else "" for name in names]


def _first_indices(files: Sequence[str]) -> dict[int, int]:
    """Return for each file that is listed again the index at which it is listed first."""
    seen: dict[str, int] = {}
    again = {}
    for index, file in enumerate(files):
        before = seen.setdefault(os.path.abspath(file), index)
        if before != index:
            again[index] = before
    return again


def _check_output(output: Path) -> None:
    if output.suffix not in (".csv", ".parquet"):
        raise UsageError("is not a table", source=output, remedy="name the output .csv or .parquet")
    if output.exists():
        raise UsageError("already exists", source=output, remedy="move it away, or name another output")


def _salt() -> str:
    """Return this user's salt for the hashes of exams; "" where it can be neither read nor kept."""
    try:
        return private_salt()
    except UsageError as error:
        logger.warning("exams are not known in the table: %s", error)
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
