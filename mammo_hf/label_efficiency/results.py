"""The results of a grid on disk: a file a cell, so that a broken run goes on where it was."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..data.records import write_record, write_whole
from ..errors import UsageError
from .cells import Cell
from .study import CellResult, StudySettings


class Results:
    """A folder of results.

    Args:
        folder: Of the study.
        settings: Written into ``study.json``; results of other settings are refused.

    Raises:
        UsageError: The folder holds a study of other settings.
    """

    def __init__(self, folder: Path, settings: StudySettings) -> None:
        self.folder = folder / "cells"
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {name: _plain(value) for name, value in vars(settings).items() if name not in ("out", "num_workers")}
        path = folder / "study.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            other = [name for name, value in about.items() if before.get(name) != value]
            if other:
                raise UsageError(
                    f"holds a study with another {other[0]}: {before.get(other[0])!r}, not {about[other[0]]!r}",
                    source=folder,
                    remedy="give the same arguments, or another --output_dir",
                )
        write_record(about, path)

    def __contains__(self, cell: Cell) -> bool:
        return self._path(cell).is_file() or self._failure(cell).is_file()

    def save(self, cell: Cell, result: CellResult) -> None:
        """Writes a result; it appears whole or not at all."""
        content = io.BytesIO()
        arrays = {name: value for name, value in vars(result).items() if name != "facts"}
        np.savez(content, **arrays, facts=np.array(json.dumps(result.facts)))
        write_whole(self._path(cell), content.getvalue())

    def fail(self, cell: Cell, reason: str) -> None:
        """Writes why a cell has no result; it is not tried again."""
        write_whole(self._failure(cell), reason.encode() + b"\n")

    def load(self, cell: Cell) -> CellResult | str | None:
        """A result, the reason why there is none, or ``None`` for a cell that has not been run."""
        if self._failure(cell).is_file():
            return self._failure(cell).read_text(encoding="utf-8").strip()
        if not self._path(cell).is_file():
            return None
        with np.load(self._path(cell)) as stored:
            arrays = {name: stored[name] for name in stored.files if name != "facts"}
            return CellResult(**arrays, facts=json.loads(str(stored["facts"])))

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.npz"

    def _failure(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.failed"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
