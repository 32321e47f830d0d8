"""The folder of a prepared set, on a disk or in an object store; a file in it is whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec

from ...errors import UsageError
from .files import is_remote


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
