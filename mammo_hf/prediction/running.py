"""From a list of files to a table of scores: read ahead by processes, scored in batches, sharded over devices."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from ..errors import UsageError
from ..explainers.targets import label_names
from ..image_processing_mammo import MammoImageProcessor
from .explaining import score_and_explain
from .journal import Journal
from .outputs import FACTS, write_outputs
from .reading import ImageReader, ReadImage
from .scoring import calibrated_scores
from .side_by_side import SideBySide, replicas

GPU_BATCH = 32
# of a batch on a CPU: with more, activations outgrow the caches, and each image takes longer
CPU_PIXELS = 2 * 448 * 224
Rows = list[tuple[int, list[str]]]
FEW = 16  # files that are read before a process would have started


@dataclass(frozen=True)
class Finished:
    """What a run leaves.

    Attributes:
        output: The scores.
        images: How many images have some.
        rejected: How many could not be read.
        read: How many were read now, and not by an earlier run.
    """

    output: Path
    images: int
    rejected: int
    read: int


def default_batch(processor: MammoImageProcessor, device: str) -> int:
    """Images a batch: 32 on a GPU; on a CPU by their size, 8 of 224 x 112, 2 of 448 x 224, 1 of 896 x 448."""
    height, width = processor.canvas
    return GPU_BATCH if device != "cpu" else max(1, CPU_PIXELS // (height * width))


@dataclass(frozen=True)
class _Run:
    model: Any
    processor: MammoImageProcessor
    labels: list[str]
    explainer: str | None
    pictures: Path | None
    tta: bool


def predict(
    model: Any,
    processor: MammoImageProcessor,
    files: Sequence[str],
    output: str | os.PathLike[str],
    *,
    explainer: str | None = None,
    tta: bool = False,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: str | None = None,
    name: str = "",
) -> Finished | None:
    """Reads files and writes their scores, in the files' order.

    What cannot be read is written to ``OUTPUT.rejected.csv`` with its reason, and so is a file that stands twice. A
    call that was ended at any moment is gone on with by the same call. On a CPU batches are scored side by side, see
    `replicas`. Under ``accelerate launch`` the processes share the batches; the rows are the same.

    Args:
        model: From `load_classifier`; it is moved to the device.
        processor: The model's.
        files: Paths.
        output: ``.csv``, or ``.parquet``.
        explainer: Draws each task's first label into ``OUTPUT.explanations``.
        tta: Test-time augmentation, see `image_logits`.
        batch_size: Images a batch; see `default_batch` where not given.
        num_workers: Processes that read; one for each core of this process's share where not
            given, and none for a few files.
        device: "cpu" or "cuda"; a GPU where there is one if not given.
        name: Of the model, as `identity` gives it: an unfinished run is not gone on with by another one.

    Returns:
        What was done; ``None`` in all processes but the first.

    Raises:
        UsageError: The output is there already, cannot be written, or an unfinished run with other arguments is.
    """
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    output = Path(output)
    _check_output(output)
    labels = label_names(model.config)
    size = batch_size or default_batch(processor, state.device.type)
    pictures = output.with_name(f"{output.stem}.explanations") if explainer else None
    run = _Run(model.to(state.device), processor, labels, explainer, pictures, tta)
    cells = len(FACTS) + len(labels) + bool(explainer) + 1
    journal = Journal(output.with_name(f"{output.name}.part"), cells, len(files))
    with state.main_process_first():
        journal.open(_facts(run, files, size, name))
        if pictures is not None:
            pictures.mkdir(exist_ok=True)
    done, number = journal.done(size), journal.next_run()
    state.wait_for_everyone()  # before anybody's new file is there
    mine = np.flatnonzero(~done)[state.process_index :: state.num_processes]
    workers = num_workers
    if workers is None:
        workers = 0 if len(mine) * size <= FEW else max(1, _cores() // state.num_processes)
    journal.begin(number, state.process_index)
    try:
        read = _read_batches(run, journal, files, mine, size, workers, state)
    finally:
        journal.close()
    journal.mark_finished(number, state.process_index)
    if not state.is_main_process:
        return None
    # not a barrier of torch's, which would give up after half an hour: shares take as long as they take
    journal.wait_for(number, state.num_processes)
    images, rejected = write_outputs(journal, output, labels, explained=bool(explainer))
    journal.remove()
    return Finished(output, images, rejected, read)


def _facts(run: _Run, files: Sequence[str], size: int, name: str) -> dict[str, Any]:
    """What must be the same in a run that goes on with this one."""
    return {
        "model": name or _digest(run.model.config.to_json_string()),
        "processor": _digest(run.processor.to_json_string()),
        "list of files": _digest("\n".join(files)),
        "batch size": size,
        "explainer": run.explainer,
        "tta": run.tta,
    }


def _read_batches(
    run: _Run,
    journal: Journal,
    files: Sequence[str],
    mine: np.ndarray,
    size: int,
    workers: int,
    state: PartialState,
) -> int:
    first = _first_places(files)
    places = [index for batch in mine for index in range(batch * size, min((batch + 1) * size, len(files)))]
    bar = tqdm(
        total=len(files),
        initial=len(files) - len(places),
        unit=" images",
        desc="reading",
        smoothing=0.02,
        disable=not state.is_main_process,
    )
    rejected = 0

    def note(rows: Rows) -> None:
        nonlocal rejected
        journal.write(rows)
        rejected += sum(bool(row[-1]) for _, row in rows)
        bar.update(len(rows))
        if rejected:
            bar.set_postfix_str(f"{rejected} rejected")

    def score(model: Any, images: list[ReadImage]) -> Rows:
        return _rows(replace(run, model=model), images, files)

    scoring = SideBySide(score, _models(run, state))
    with ImageReader(run.processor, min(workers, len(places))) as reader, bar, scoring.started():
        coming = reader.read((index, files[index]) for index in places if first.get(index, index) == index)
        for batch in mine:
            indices = range(batch * size, min((batch + 1) * size, len(files)))
            twice = [index for index in indices if first.get(index, index) != index]
            images = list(islice(coming, len(indices) - len(twice)))
            images += [
                ReadImage(at, reason=f"stands twice in the list, first as number {first[at] + 1}") for at in twice
            ]
            for rows in scoring.put(sorted(images, key=lambda image: image.index)):
                note(rows)
        for rows in scoring.rest():
            note(rows)
    return len(places)


def _models(run: _Run, state: PartialState) -> list[Any]:
    """One for each core of a CPU; explainers hook into the model and draw, which is done by one thread alone."""
    alone = state.device.type != "cpu" or run.explainer is not None
    return replicas(run.model, 1 if alone else torch.get_num_threads())


def _rows(run: _Run, images: list[ReadImage], files: Sequence[str]) -> Rows:
    good = [image for image in images if image.pixel_values is not None]
    scores, pictures = _scored(run, good) if good else (np.zeros((0, 0)), [])
    of_image = {image.index: place for place, image in enumerate(good)}
    rows = []
    for image in images:
        cells, reason = [""] * (len(run.labels) + bool(run.explainer)), image.reason or ""
        if image.index in of_image:
            place = of_image[image.index]
            cells = [f"{value:.6g}" for value in scores[place]] + ([pictures[place]] if run.explainer else [])
            if not np.isfinite(scores[place]).all():
                reason = "its scores are not finite"
        rows.append((image.index, [files[image.index], image.laterality, image.view, *cells, reason]))
    return rows


def _scored(run: _Run, images: list[ReadImage]) -> tuple[np.ndarray, list[str]]:
    """(images, labels) calibrated scores, and the names of the pictures that were drawn."""
    logits, explained = score_and_explain(
        run.model,
        run.processor,
        torch.from_numpy(np.stack([np.asarray(image.pixel_values) for image in images])),
        explainer=run.explainer,
        tta=run.tta,
        geometry=[image.geometry for image in images if image.geometry is not None],
    )
    of_tasks = calibrated_scores(run.model.config, logits.double().cpu().numpy())
    pictures = []
    if run.pictures is not None:
        for image, found in zip(images, explained, strict=True):
            names = {place: f"{image.index + 1:07d}-{run.labels[place].split(':', 1)[0]}.png" for place in found}
            for place, explanation in found.items():
                explanation.save(run.pictures / names[place], style="side_by_side")
            pictures.append(";".join(names.values()))
    return np.concatenate(list(of_tasks.values()), axis=1), pictures


def _first_places(files: Sequence[str]) -> dict[int, int]:
    """For each file that stands again in the list the place where it stands first."""
    seen: dict[str, int] = {}
    again = {}
    for index, file in enumerate(files):
        before = seen.setdefault(os.path.abspath(file), index)
        if before != index:
            again[index] = before
    return again


def _check_output(output: Path) -> None:
    if output.suffix not in (".csv", ".parquet"):
        raise UsageError("is no table", source=output, remedy="name the output .csv or .parquet")
    if output.exists():
        raise UsageError("is there already", source=output, remedy="move it away, or name another output")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
