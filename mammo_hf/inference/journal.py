"""The rows of a run of `predict` on the disk while it lasts, and the tables that are made of them at its end.

    scores.csv.part/run.json             what is run: a resumed run must be the same
    scores.csv.part/0000-00000.csv       rows as they come; one file per run and process, written by it alone

A row is an index into the list, the file, what was found, the scores, the rank among the images of its view, and the
reason with its code if there are no scores. Rows are written one batch at a time. A batch that was cut short is scored
again as a whole, so that its scores come from the same batch as in a run that was never interrupted.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..data.precedence import not_counting
from ..errors import UsageError
from ..files import safe_cell, whole_file, write_record, writing_errors
from ..notes import codes_in
from .reading import REJECTED

_RUN = "run.json"
POLL = 0.2  # seconds between two looks


class Journal:
    """The rows of a run and of those before it.

    Args:
        folder: The folder of the journal; created if it does not exist.
        columns: Number of cells in a row.
        total: Number of files in the list.
    """

    def __init__(self, folder: Path, columns: int, total: int) -> None:
        self.folder, self._columns, self._total = folder, columns, total
        self._file: Any = None

    def open(self, run: Mapping[str, Any]) -> None:
        """Start a run, or resume what is there.

        Raises:
            UsageError: What is there belongs to another run.
        """
        with writing_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _RUN
        if not path.exists():
            write_record(dict(run), path)
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
                remedy="give the same arguments to resume it, or remove the folder to start again",
            )

    def done(self, batches: Sequence[range]) -> np.ndarray:
        """Return which batches, given as the numbers of their last rows, have all of these, bool (batches,)."""
        present = np.zeros(self._total, bool)
        for path in self._files():
            for index, _ in self._rows(path):
                present[index] = True
        return np.array([present[batch.start : batch.stop].all() for batch in batches], bool)

    def next_run(self) -> int:
        """Return the number that a new run's files get."""
        return 1 + max((int(path.name[:4]) for path in self._files()), default=-1)

    def begin(self, run: int, process: int) -> None:
        """Open this process's own file."""
        path = self.folder / f"{run:04d}-{process:05d}.csv"
        with writing_errors(path):
            self._file = path.open("w", encoding="utf-8", newline="")

    def write(self, rows: Sequence[tuple[int, Sequence[Any]]]) -> None:
        """Write a batch's rows, each with its index in the list, in rising order."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([index, *row] for index, row in rows)
        with writing_errors(self.folder):
            self._file.write(text.getvalue())
            self._file.flush()

    def close(self) -> None:
        """Close this process's file."""
        if self._file is not None:
            file, self._file = self._file, None
            with writing_errors(self.folder):
                file.close()

    def mark_finished(self, run: int, process: int) -> None:
        """Record that a process has finished its batches."""
        path = self.folder / f"{run:04d}-{process:05d}.done"
        with writing_errors(path):
            path.touch()

    def wait_for(self, run: int, processes: int) -> None:
        """Wait until each process of a run has finished; the launcher ends all of them if one fails."""
        while len(list(self.folder.glob(f"{run:04d}-*.done"))) < processes:
            time.sleep(POLL)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield every row once, in the list's order; the later one of a row that was written twice."""
        # each file rises, and a later run's rows come before an earlier's
        streams = [self._keyed(path, -number) for number, path in enumerate(self._files())]
        last = -1
        for index, _, row in heapq.merge(*streams):
            if index != last:
                yield index, row
            last = index

    def remove(self) -> None:
        """Remove the folder, when its content has been written elsewhere."""
        shutil.rmtree(self.folder)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9][0-9][0-9][0-9]-*.csv"))

    def _keyed(self, path: Path, order: int) -> Iterator[tuple[int, int, list[str]]]:
        for index, row in self._rows(path):
            yield index, order, row

    def _rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yield a file's whole rows; one that a kill has cut short is its last, and is left out."""
        # split at line feeds alone: the name of a file may hold a carriage return
        with path.open(encoding="utf-8", newline="\n") as file:
            for cells in csv.reader(line for line in file if line.endswith("\n")):
                if len(cells) == self._columns + 1 and cells[0].isdigit() and int(cells[0]) < self._total:
                    yield int(cells[0]), cells[1:]


# The files that a finished run leaves: scores in the list's order, and rejected files with the reason.

_GROUP = 4096  # rows of a parquet file that are held at a time


def rejects_path(output: Path) -> Path:
    """Return the table in which the rejected files of an output are listed."""
    return output.with_name(f"{output.stem}.rejected.csv")


def write_tables(
    journal: Journal, output: Path, columns: list[str], labels: list[str]
) -> tuple[int, Counter[str], Counter[str]]:
    """Write the scores, as parquet or CSV by the output's suffix, and the rejected files, each whole or not at all.

    Returns:
        The number of images with scores, of these by code of a note, and of the rejected files by code of the reason.

    Raises:
        UsageError: The disk is full, or the files cannot be written for another reason.
    """
    rejects, notes, refusals = rejects_path(output), Counter[str](), Counter[str]()
    file_at, notes_at = columns.index("file"), columns.index("notes")
    images, others = 0, _not_counting(journal, columns)
    with (
        writing_errors(output),
        whole_file(output) as table,
        whole_file(rejects) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        rejected = csv.writer(file)
        rejected.writerow(REJECTED)

        def scored() -> Iterator[list[str]]:
            nonlocal images
            for index, (*cells, _, reason, code) in journal.rows():
                if reason:
                    refusals[code] += 1
                    rejected.writerow(map(safe_cell, (cells[file_at], reason, code)))
                else:
                    images += bool(cells[file_at])
                    found = [*codes_in(cells[notes_at]), *(["another_image_counts"] if index in others else [])]
                    cells[notes_at] = ";".join(found)
                    notes.update(found)
                    yield cells

        (_write_parquet if output.suffix == ".parquet" else _write_csv)(table, columns, labels, scored())
    if not refusals:
        rejects.unlink()
    return images, notes, refusals


def _not_counting(journal: Journal, names: list[str]) -> set[int]:
    """Return the images that do not count for their exam, because another one of the same view does."""
    columns = [names.index(name) for name in ("exam", "laterality", "view")]
    ranked = (
        (index, tuple(cells[column] for column in columns), tuple(json.loads(rank)))
        for index, (*cells, rank, reason, _) in journal.rows()
        if not reason
    )
    return set(not_counting(one for one in ranked if all(one[1])))


def _write_csv(path: Path, columns: list[str], labels: list[str], rows: Iterator[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(map(safe_cell, row) for row in chain([columns], rows))


def _write_parquet(path: Path, columns: list[str], labels: list[str], rows: Iterator[list[str]]) -> None:
    import pyarrow as pa  # here, because most tables are CSV
    import pyarrow.parquet as pq

    numbers = {"images", *labels}
    schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        while True:
            group = list(islice(rows, _GROUP))
            arrays = [
                pa.array(
                    [float(row[column]) if field.type == pa.float64() else row[column] for row in group], field.type
                )
                for column, field in enumerate(schema)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            if len(group) < _GROUP:
                break
