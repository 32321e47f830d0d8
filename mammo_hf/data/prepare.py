"""Prepared images: each file read once, put on the model's canvas in 16 bits, and kept in one arrow file.

Training then never decodes DICOM. What cannot be read goes to ``rejected.csv`` with its reason, and the run goes on.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from ..errors import DataError, MammoError, UsageError
from ..geometry import Geometry
from .findings import finding_mask

if TYPE_CHECKING:
    from ..image_processing_mammo import MammoImageProcessor
    from .table import MammoTable

LESION_CELL = 4  # pixels a side of a cell of the lesion map: the patch of every Swin size
UNKNOWN_PATHOLOGY = 255  # in a lesion map: a finding is here, its label is not known
FULL_SCALE = 65535

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("patient", pa.string()),
        ("split", pa.string()),
        ("laterality", pa.string()),
        ("view", pa.string()),
        ("labels", pa.list_(pa.int64())),
        ("pixels", pa.binary()),
        ("size", pa.list_(pa.int32())),
        ("lesions", pa.binary()),
        ("geometry", pa.string()),
    ]
)
Row = dict[str, Any]

_WORK: dict[str, Any] = {}


def prepare(
    table: MammoTable,
    processor: MammoImageProcessor,
    out: Path,
    *,
    tasks: list[dict[str, Any]],
    lesion_task: str,
    num_workers: int = 0,
) -> datasets.Dataset:
    """Runs the processor once over each image of a table.

    Args:
        table: The images; each row becomes one prepared row, in the same order.
        processor: Its ``fit`` gives the intensity on the canvas, before normalisation.
        out: Folder for ``images.arrow`` and ``rejected.csv``; files of those names are replaced.
        tasks: The tasks whose labels are wanted, ``{"name", "labels"}`` each; ``labels`` follow this order.
        lesion_task: The task whose label a finding's place gets in the lesion map.
        num_workers: Processes beside this one; 0: none.

    Returns:
        A memory-mapped dataset: ``pixels`` uint16 (height, width) as bytes, 65535 for intensity 1; ``lesions`` uint8
        (height / 4, width / 4) as bytes, 0 for none, 1 + label, 255 for a finding of unknown label, or null where the
        place of a finding is not known; ``labels`` with -100 where not known.

    Raises:
        DataError: No image could be read.
        UsageError: ``out`` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _renamed_when_whole(out / "images.arrow") as path, pa.OSFile(str(path), "wb") as sink:
            rejected = _write(table, processor, sink, tasks, lesion_task, num_workers)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", source=out, remedy="name a folder that you can write to"
        ) from error
    rejected = [(entry.source, entry.reason) for entry in table.rejected] + rejected
    write_rejected(rejected, out / "rejected.csv")
    prepared = datasets.Dataset.from_file(str(out / "images.arrow"))
    if len(prepared) == 0:
        reason = f"; the first: {rejected[0][0]}: {rejected[0][1]}" if rejected else ""
        raise DataError(f"none of {len(table)} images could be read{reason}", source=out / "rejected.csv")
    return prepared


def _write(
    table: MammoTable,
    processor: MammoImageProcessor,
    sink: pa.NativeFile,
    tasks: list[dict[str, Any]],
    lesion_task: str,
    num_workers: int,
) -> list[tuple[str, str]]:
    rejected = []
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        results = _prepared_rows(table, processor, tasks, lesion_task, num_workers)
        for source, row in tqdm(results, total=len(table), desc="preparing", unit="image", leave=False):
            if isinstance(row, str):
                rejected.append((source, row))
            else:
                writer.write_batch(pa.RecordBatch.from_pylist([row], schema=SCHEMA))
    return rejected


def _prepared_rows(
    rows: Iterable[Row],
    processor: MammoImageProcessor,
    tasks: list[dict[str, Any]],
    lesion_task: str,
    num_workers: int,
) -> Iterator[tuple[str, Row | str]]:
    _start_worker(processor, tasks, lesion_task)
    if num_workers == 0:
        yield from map(_prepare_row, rows)
        return
    # spawned, not forked: torch's threads in the parent do not survive a fork
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_workers, _start_worker, (processor, tasks, lesion_task)) as pool:
        yield from pool.imap(_prepare_row, rows, chunksize=4)


def _start_worker(processor: MammoImageProcessor, tasks: list[dict[str, Any]], lesion_task: str) -> None:
    _WORK.update(processor=processor, tasks=tasks, lesion_task=lesion_task)


def _prepare_row(row: Row) -> tuple[str, Row | str]:
    try:
        return row["path"], _prepared(row, _WORK["processor"], _WORK["tasks"], _WORK["lesion_task"])
    except MammoError as error:
        return row["path"], error.problem
    except OSError as error:
        return row["path"], error.strerror or type(error).__name__


def _prepared(row: Row, processor: MammoImageProcessor, tasks: list[dict[str, Any]], lesion_task: str) -> Row:
    intensity, geometry = processor.fit(row["path"])
    lesion_labels = next(task["labels"] for task in tasks if task["name"] == lesion_task)
    lesions = lesion_map(row["findings"] or [], geometry, lesion_labels)
    labels = [task["labels"].index(row[task["name"]]) if row.get(task["name"]) is not None else -100 for task in tasks]
    return {
        **{name: row.get(name) for name in ("image_id", "patient", "split", "laterality", "view")},
        "labels": labels,
        "pixels": np.rint(intensity * FULL_SCALE).astype(np.uint16).tobytes(),
        "size": list(intensity.shape),
        "lesions": None if lesions is None else lesions.tobytes(),
        "geometry": json.dumps(geometry.to_dict()),
    }


def lesion_map(findings: list[Row], geometry: Geometry, labels: list[str]) -> np.ndarray | None:
    """Where the findings lie on the model's canvas, in cells of 4 x 4 pixels.

    Args:
        findings: Findings of one image, as in a table's row.
        geometry: From source pixels to the canvas.
        labels: The lesion task's labels; a cell that two findings share gets the later one in this order.

    Returns:
        uint8 (height / 4, width / 4): 0 none, 1 + label, 255 where a finding's label is not known; ``None`` where there
        is no finding or one whose place is not known.
    """
    order = {label: index for index, label in enumerate(labels)}
    height, width = geometry.size
    cells = np.zeros((height // LESION_CELL, width // LESION_CELL), np.uint8)
    for finding in sorted(findings, key=lambda finding: order.get(finding["pathology"], -1)):
        mask = finding_mask(finding, geometry.source_size)
        if mask is None:
            return None
        coverage = geometry.mask_to_model(mask)
        coverage = coverage[: cells.shape[0] * LESION_CELL, : cells.shape[1] * LESION_CELL]
        peak = coverage.reshape(cells.shape[0], LESION_CELL, cells.shape[1], LESION_CELL).max(axis=(1, 3))
        index = order.get(finding["pathology"], -1)
        cells[peak >= 0.5] = UNKNOWN_PATHOLOGY if index < 0 else index + 1
    return cells if findings else None


def write_rejected(rejected: list[tuple[str, str]], path: Path) -> None:
    """Writes ``rejected.csv``: one line a file that was left out, with the reason."""
    with _renamed_when_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "reason"])
        writer.writerows(rejected)


@contextmanager
def _renamed_when_whole(path: Path) -> Iterator[Path]:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
