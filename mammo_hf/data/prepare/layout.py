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
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import fsspec

from ...errors import UsageError
from ...files import is_remote
from .row import Recipe

# The folder of a prepared set, on a disk or in an object store; a file in it is whole or not there.


class Folder:
    """A folder by path or by fsspec URL (``s3://``, ``gs://``, ``abfs://``, ...).

    A file is written beside its place and moved there when it is whole and on the disk. Object stores show an object
    only when its upload has ended, so there the file is written to this machine's temporary folder and uploaded.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        self.is_remote = is_remote(self.url)
        if self.is_remote:
            try:
                self._filesystem, self._root = fsspec.core.url_to_fs(self.url)
            except (ImportError, ValueError) as error:  # no client for this store, or no such protocol
                raise UsageError(f"cannot be reached: {error}", source=self.url, remedy="install its client") from error
        else:
            self._filesystem, self._root = fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(self.url))

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.url,)

    def __str__(self) -> str:
        return self.url

    def path(self, name: str) -> str:
        """The path of a file as the filesystem has it."""
        return f"{self._root.rstrip('/')}/{name}"

    def url_of(self, name: str) -> str:
        """The path of a file as `datasets` takes it: a path on a disk, a URL elsewhere."""
        return f"{self.url.rstrip('/')}/{name}" if self.is_remote else self.path(name)

    def make(self) -> None:
        """Makes the folder.

        Raises:
            OSError: It cannot be made.
        """
        if not self.is_remote:
            os.makedirs(self._root, exist_ok=True)

    def size(self, name: str) -> int | None:
        """A file's size in bytes; ``None``: there is no such file."""
        try:
            size: int = self._filesystem.info(self.path(name))["size"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        return size

    def read_text(self, name: str) -> str | None:
        """A file's text; ``None``: there is no such file."""
        try:
            content: bytes = self._filesystem.cat_file(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content.decode("utf-8")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file whole, or leaves it untouched where it has this text already."""
        if self.read_text(name) != text:
            with self.whole_file(name) as part:
                Path(part).write_text(text, encoding="utf-8", newline="")

    def open(self, name: str) -> BinaryIO:
        """Opens a file for reading parts of it.

        Raises:
            OSError: It cannot be read.
        """
        file: BinaryIO = self._filesystem.open(self.path(name), "rb")
        return file

    def remove(self, name: str) -> None:
        """Removes a file if it is there."""
        try:
            self._filesystem.rm_file(self.path(name))
        except FileNotFoundError:
            return

    def names(self, below: str) -> list[str]:
        """The files directly in a folder, by name from the root."""
        self._filesystem.invalidate_cache()
        try:
            found = self._filesystem.ls(self.path(below), detail=False)
        except FileNotFoundError:
            return []
        return sorted(f"{below}/{str(path).rstrip('/').rsplit('/', 1)[-1]}" for path in found)

    @contextmanager
    def whole_file(self, name: str) -> Iterator[str]:
        """Gives a path on this machine to write to; what is there at the end becomes the file, after an error nothing.

        Raises:
            OSError: It cannot be written.
        """
        target = self.path(name)
        where = None if self.is_remote else os.path.dirname(target)
        if where is not None:
            os.makedirs(where, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=where, prefix=".part-")
        os.close(handle)
        try:
            yield part
            if self.is_remote:
                self._filesystem.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                self._filesystem.put_file(part, target)
                self._filesystem.invalidate_cache()
            else:
                _settle(part, target)
        finally:
            Path(part).unlink(missing_ok=True)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[str]:
        """A path on this machine with a file's content: the file itself where it is on a disk.

        Raises:
            OSError: It cannot be read.
        """
        if not self.is_remote:
            yield self.path(name)
            return
        with tempfile.TemporaryDirectory() as temporary:
            copy = os.path.join(temporary, "copy")
            self._filesystem.get_file(self.path(name), copy)
            yield copy

    def sweep(self) -> None:
        """Removes what a killed run has left half-written; only where no other run is at work."""
        if not self.is_remote:
            for part in Path(self._root).glob("**/.part-*"):
                part.unlink(missing_ok=True)


def _settle(part: str, target: str) -> None:
    """Moves a file to its name once its content has reached the disk: no crash leaves an empty file of that name."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(part, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)


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
