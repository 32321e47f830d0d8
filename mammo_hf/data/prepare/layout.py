"""Which file holds which row, and when a prepared folder counts as finished.

    data/images-00003-of-00025.arrow     rows, readable with `datasets` alone
    shards/images-00003-of-00025.json    that this shard is done, for which rows, and what was rejected
    layout.json                          how many shards, and their format
    preprocessor_config.json             the processor
    state.json, dataset_info.json        for ``datasets.load_from_disk`` (arrow)
    rejected.csv                         what was left out and why
    prepared.json                        written last: the folder is finished

A row's shard follows from its ``image_id`` alone. A file that joins the collection or changes touches one shard.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import datasets

from ...errors import UsageError
from .folder import Folder
from .row import Recipe

FORMATS = ("arrow", "parquet")
FINISHED, LAYOUT, REJECTED = "prepared.json", "layout.json", "rejected.csv"
PROCESSOR = "preprocessor_config.json"
_STATE, _INFO = "state.json", "dataset_info.json"
# the name `datasets` gives the folder's one part: load_dataset(folder, split="images")
SPLIT_NAME = "images"


@dataclass(frozen=True)
class Layout:
    """How many shards there are and how they are written."""

    shards: int
    format: str

    @classmethod
    def of(cls, folder: Folder, rows: int, *, shard_size: int, format: str) -> Layout:
        """The layout that the folder has, or a new one where it has none that fits; the old shards then go.

        A layout stays while its shards hold between a quarter and twice of ``shard_size`` rows on average: shards that
        changed with every row would have to be written anew with every row.
        """
        text = folder.read_text(LAYOUT)
        if text is not None:
            layout = cls(**json.loads(text))
            if layout.format == format and rows <= 2 * shard_size * layout.shards <= 8 * max(rows, shard_size):
                return layout
            mark_unfinished(folder)
            for name in [*folder.names("shards"), *folder.names("data"), _INFO]:
                folder.remove(name)
        layout = cls(max(1, -(-rows // shard_size)), format)
        folder.write_text(LAYOUT, json.dumps(asdict(layout)) + "\n")
        return layout

    def shard_of(self, image_id: str) -> int:
        """The number of the shard that holds an image."""
        return zlib.crc32(image_id.encode()) % self.shards

    def data_file(self, shard: int) -> str:
        """The file of a shard's rows."""
        return f"data/{self._name(shard)}.{self.format}"

    def done_file(self, shard: int) -> str:
        """The file that says that a shard is done."""
        return f"shards/{self._name(shard)}.json"

    def data_files(self) -> list[str]:
        """All shards' files."""
        return [self.data_file(shard) for shard in range(self.shards)]

    def _name(self, shard: int) -> str:
        return f"{SPLIT_NAME}-{shard:05d}-of-{self.shards:05d}"


def mark_unfinished(folder: Folder) -> None:
    """Takes the finishing marks away, before the first shard is replaced."""
    for name in (FINISHED, _STATE):
        folder.remove(name)


def finish(
    folder: Folder, layout: Layout, recipe: Recipe, facts: dict[str, Any], rejected: list[tuple[str, str]]
) -> None:
    """Writes what makes the shards a dataset; whatever is so already stays untouched.

    Args:
        folder: Where.
        layout: Its layout.
        recipe: How its rows were prepared.
        facts: What ``prepared.json`` says besides.
        rejected: Source and reason of each file that was left out.

    Raises:
        OSError: It cannot be written.
    """
    folder.write_text(PROCESSOR, recipe.processor.to_json_string())
    folder.write_text(REJECTED, _csv(rejected))
    if layout.format == "arrow":
        info = datasets.DatasetInfo(features=datasets.Features.from_arrow_schema(recipe.schema))
        folder.write_text(_INFO, json.dumps(asdict(info), indent=2, sort_keys=True))
        state = {
            **dict.fromkeys(("_format_columns", "_format_type", "_split")),
            **{"_format_kwargs": {}, "_output_all_columns": False, "_fingerprint": facts["fingerprint"]},
            "_data_files": [{"filename": name} for name in layout.data_files()],
        }
        folder.write_text(_STATE, json.dumps(state, indent=2, sort_keys=True))
    about = {**facts, **asdict(layout), "tasks": list(recipe.tasks), "lesion_task": recipe.lesion_task["name"]}
    folder.write_text(FINISHED, json.dumps(about, indent=2, sort_keys=True) + "\n")


def read_about(folder: Folder) -> dict[str, Any]:
    """What ``prepared.json`` says.

    Raises:
        UsageError: The folder is not finished.
    """
    text = folder.read_text(FINISHED)
    if text is None:
        raise UsageError(
            "is no finished prepared folder", source=folder, remedy="run mammo-hf prepare (again: it goes on)"
        )
    about: dict[str, Any] = json.loads(text)
    return about


def _csv(rejected: list[tuple[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["source", "reason"])
    writer.writerows(rejected)
    return text.getvalue()
