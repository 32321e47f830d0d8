"""What has been read so far, on the disk: a run that was ended at any moment is gone on with by the same command.

    scores.csv.part/run.json             what is run: a resumed run must be the same
    scores.csv.part/0000-00000.csv       rows as they come; a file for each run and process, written by it alone

A row is a place in the list, the file, what was found, the scores, and the reason where there are none. Rows are
written a batch at a time. A batch that was cut short is done again whole, so that its scores come from the same batch
as in a run that was never ended.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from ..errors import UsageError
from ..explainers.targets import label_names
from ..files import whole_file, write_record, writing_errors
from ..processing.image_processing_mammo import MammoImageProcessor
from .reading import ImageReader, ReadImage, SideBySide, replicas
from .scoring import calibrated_scores, score_and_explain

Row = list[str]
_RUN = "run.json"
POLL = 0.2  # seconds between two looks


class Journal:
    """The rows of a run and of those before it.

    Args:
        folder: Where; made if need be.
        columns: How many cells a row has.
        total: How many files the list has.
    """

    def __init__(self, folder: Path, columns: int, total: int) -> None:
        self.folder, self._columns, self._total = folder, columns, total
        self._file: Any = None

    def open(self, run: Mapping[str, Any]) -> None:
        """Begins, or goes on with what is there.

        Raises:
            UsageError: What is there belongs to another run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _RUN
        if not path.exists():
            write_record(run, path)
            return
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            before = {}
        other = [name for name, value in run.items() if before.get(name) != value]
        if other:
            raise UsageError(
                f"holds an unfinished run with another {', '.join(other)}",
                source=self.folder,
                remedy="give the same arguments to go on, or remove the folder to begin anew",
            )

    def done(self, batch_size: int) -> np.ndarray:
        """Which batches have all their rows, bool (batches,)."""
        there = np.zeros(self._total, bool)
        for path in self._files():
            for index, _ in self._rows(path):
                there[index] = True
        starts = np.arange(0, self._total, batch_size)
        return np.logical_and.reduceat(there, starts) if self._total else np.zeros(0, bool)

    def next_run(self) -> int:
        """The number that a new run's files get."""
        return 1 + max((int(path.name[:4]) for path in self._files()), default=-1)

    def begin(self, run: int, process: int) -> None:
        """Opens this process's own file."""
        self._file = (self.folder / f"{run:04d}-{process:05d}.csv").open("w", encoding="utf-8", newline="")

    def write(self, rows: Sequence[tuple[int, Sequence[Any]]]) -> None:
        """Writes a batch's rows, each with its place in the list, in rising order."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([index, *row] for index, row in rows)
        self._file.write(text.getvalue())
        self._file.flush()

    def close(self) -> None:
        """Closes this process's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def mark_finished(self, run: int, process: int) -> None:
        """Says that a process has come to the end of its share."""
        (self.folder / f"{run:04d}-{process:05d}.done").touch()

    def wait_for(self, run: int, processes: int) -> None:
        """Waits until each process of a run has come to its end; whoever launched them ends all when one fails."""
        while len(list(self.folder.glob(f"{run:04d}-*.done"))) < processes:
            time.sleep(POLL)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Every row once, in the list's order; of one that was written twice the later."""
        # each file rises, and a later run's rows come before an earlier's
        streams = [self._keyed(path, -number) for number, path in enumerate(self._files())]
        last = -1
        for index, _, row in heapq.merge(*streams):
            if index != last:
                yield index, row
            last = index

    def remove(self) -> None:
        """Takes the folder away, when what it held has been written elsewhere."""
        shutil.rmtree(self.folder)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9][0-9][0-9][0-9]-*.csv"))

    def _keyed(self, path: Path, order: int) -> Iterator[tuple[int, int, Row]]:
        for index, row in self._rows(path):
            yield index, order, row

    def _rows(self, path: Path) -> Iterator[tuple[int, Row]]:
        """A file's whole rows; one that a kill cut short is its last, and is left out."""
        with path.open(encoding="utf-8", newline="") as file:
            for cells in csv.reader(_whole_lines(file)):
                if len(cells) == self._columns + 1 and cells[0].isdigit() and int(cells[0]) < self._total:
                    yield int(cells[0]), cells[1:]


def _whole_lines(file: Any) -> Iterator[str]:
    for line in file:
        if line.endswith("\n"):
            yield line


# The files that a finished run leaves: scores in the list's order, and what could not be read with its reason.


FACTS = ("file", "laterality", "view")
REASON = "reason"
_GROUP = 4096  # rows that are held at a time


def columns_of(labels: list[str], explained: bool) -> list[str]:
    """The columns of the scores: facts, a column a label as "pathology:malignant", and the picture's name if wanted."""
    return [*FACTS, *labels, *(["explanation"] if explained else [])]


def rejects_path(output: Path) -> Path:
    """Where the rejects of an output go."""
    return output.with_name(f"{output.stem}.rejected.csv")


def write_outputs(journal: Journal, output: Path, labels: list[str], explained: bool) -> tuple[int, int]:
    """Writes the scores, as CSV or, by the output's suffix, as parquet, and the rejects, each whole or not at all.

    Returns:
        How many images have scores, and how many were rejected.
    """
    columns = columns_of(labels, explained)
    rejects, counts = rejects_path(output), [0, 0]

    def scored(path: Path) -> Iterator[Row]:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", REASON])
            for _, row in journal.rows():
                *cells, reason = row
                counts[bool(reason)] += 1
                if reason:
                    writer.writerow([cells[0], reason])
                else:
                    yield cells

    write = _write_parquet if output.suffix == ".parquet" else _write_csv
    with writing_errors(output), whole_file(output) as part:
        with whole_file(rejects) as rejected:
            write(part, columns, labels, scored(rejected))
        if not counts[1]:
            rejects.unlink()
    return counts[0], counts[1]


def _write_csv(path: Path, columns: list[str], labels: list[str], rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _write_parquet(path: Path, columns: list[str], labels: list[str], rows: Iterator[Row]) -> None:
    schema = pa.schema([(name, pa.float64() if name in labels else pa.string()) for name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        group: list[Row] = []
        for row in rows:
            group.append(row)
            if len(group) == _GROUP:
                writer.write_table(_table(group, schema))
                group = []
        writer.write_table(_table(group, schema))


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    def column(place: int, kind: Any) -> list[Any]:
        return [float(row[place]) if kind == pa.float64() else row[place] for row in rows]

    arrays = [pa.array(column(place, field.type), field.type) for place, field in enumerate(schema)]
    return pa.Table.from_arrays(arrays, schema=schema)


# From a list of files to a table of scores: read ahead by processes, scored in batches, sharded over devices.


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
