"""What has been read so far, on the disk: a run that was ended at any moment is gone on with by the same command.

    scores.csv.part/run.json             what is run: a resumed run must be the same
    scores.csv.part/0000-00000.csv       rows as they come; a file for each run and process, written by it alone

A row is a place in the list, the file, what was found, the scores, and the reason where there are none. Rows are
written a batch at a time. A batch that was cut short is done again whole, so that its scores come from the same batch
as in a run that was never ended.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError

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
            part = path.with_suffix(".new")
            part.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
            part.replace(path)
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
