"""Files on a disk or in an object store: written whole, found safely, read by their kind."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DataError, UsageError, refusing

MARKER = "phantom.json"  # next to drawn phantoms, so that everything made from them is labelled as such
PART = ".part-"  # how the name of a file begins that is still being written

# Whole writes: a reader sees the old file or the new one, never a part of one.


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path with the same suffix to write to, and move it to ``path`` at the end.

    The content has reached the disk before it gets its name, so no crash leaves an empty file of that name. After an
    error the old file, if any, is still there and nothing else.

    Args:
        path: File that is written, in an existing folder.

    Raises:
        OSError: The file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f"{PART}{secrets.token_hex(8)}{target.suffix}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        with suppress(OSError):  # the part was moved, or its folder is none
            part.unlink()


@contextmanager
def writing_errors(target: object) -> Iterator[None]:
    """Turn what the operating system reports about a file or folder into an error that says what to do.

    Args:
        target: File or folder that the error names.

    Raises:
        UsageError: An ``OSError`` was raised.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem, remedy = f"the disk is full{_free(target)}", "free space and run it again"
        else:
            # not the error's own text: arrow puts sentences there
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            problem, remedy = f"cannot be written to ({reason})", "choose a folder that you may write to"
        raise UsageError(problem, source=target, remedy=remedy) from error


def _free(target: object) -> str:
    for folder in (Path(str(target)), *Path(str(target)).parents):
        with suppress(OSError):
            return f" ({size_text(shutil.disk_usage(folder).free)} are free)"
    return ""


def size_text(size: float) -> str:
    """Return a number of bytes in the unit that shows it: "312 kB", "4.2 MB", "1.5 GB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.0f} kB"


def as_new_files(*paths: str | os.PathLike[str]) -> None:
    """Give files or folders the mode that the user's umask gives new ones: some libraries write for the user alone.

    Args:
        paths: Files or folders that this process has written.
    """
    mask = os.umask(0o077)
    os.umask(mask)
    for path in paths:
        os.chmod(path, (0o777 if os.path.isdir(path) else 0o666) & ~mask)


class ModelFiles:
    """Base of our models, before that of transformers: weights of a folder are checked, and written as others are."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does, but refuse damaged weights by the name of their file.

        What is missing, or not on this machine, is left to transformers, and so is ``None``: weights that are given.

        Raises:
            DataError: A file of weights on this machine is damaged or cut short.
        """
        from safetensors import safe_open  # importing it takes a while

        if pretrained_model_name_or_path is not None:
            folder = Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
            for path in folder.glob("model*.safetensors"):
                with refusing(path), safe_open(path, framework="numpy"):
                    pass
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as transformers does, with weights that are readable as the user's umask says, not by the user alone."""
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        as_new_files(*Path(save_directory).glob("*.safetensors"))


def writable_folder(folder: Path) -> Path:
    """Create a folder and check that it can be written to.

    Raises:
        UsageError: It cannot.
    """
    probe = folder / f".writable.{os.getpid()}"
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    return folder


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file, text as UTF-8.

    Raises:
        UsageError: The file cannot be written.
    """
    with writing_errors(path), whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_record(content: Any, path: str | os.PathLike[str]) -> None:
    """Write a JSON file; numbers that JSON does not have (NaN, infinity) are an error.

    Raises:
        UsageError: The file cannot be written.
    """
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file; anything but an object counts as an empty one.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", source=path, remedy="check the path") from error
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


# Cells of a CSV file: a spreadsheet takes text that begins with = + - or @ for a formula and runs it, in some languages
# also the wide forms of these, and it passes over white space before them.

_FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\r\n]")


def safe_cell(value: Any) -> Any:
    """Return a cell as it is written to a CSV file: an apostrophe before text that a spreadsheet would run; no number.

    Text that begins with apostrophes before such a character gets one more, so that `plain_cell` gives back any text.
    """
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def plain_cell(text: str) -> str:
    """Return the text of a cell that `safe_cell` made."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


# Finding files, and recognising them by their first bytes: one function for every door.

_DICOM_SUFFIXES = (".dcm", ".dicom")
_PREAMBLE = 128  # bytes before the letters DICM
START = _PREAMBLE + 4  # bytes that `sniff` needs
# PNG, JPEG, TIFF (also of 64 bits)
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def sniff(start: bytes) -> str:
    """Return what a file is by its first `START` bytes: "dicom", "picture" (PNG, JPEG, TIFF, PGM), or "".

    The preamble of a DICOM file may be the beginning of another format, as a TIFF's (PS3.10 7.1): the letters after it
    decide. Files from before DICOM Part 10 have none, and begin with the first attributes, of group 0002 or 0008.
    """
    if start[_PREAMBLE:START] == b"DICM":
        return "dicom"
    if start.startswith(_PICTURES) or (start[:2] in (b"P2", b"P5") and start[2:3] in (b" ", b"\t", b"\r", b"\n", b"#")):
        return "picture"
    return "dicom" if start[:2] in (b"\x02\0", b"\x08\0") else ""


def is_dicom_entry(entry: os.DirEntry[str]) -> bool:
    """Tell whether a folder's entry is a DICOM file: by its suffix, or by its first bytes if it has none.

    What cannot be looked at counts as one, so that its reader names it: a FIFO, a device, a link that leads nowhere.
    """
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix and not suffix[1:].isdecimal():  # a file named by its UID alone ends in digits
        return suffix in _DICOM_SUFFIXES
    if entry.name == "DICOMDIR":
        return False
    try:
        if not entry.is_file():  # a FIFO would be waited for
            return True
        with open(entry.path, "rb") as file:
            return sniff(file.read(START)) == "dicom"
    except OSError:
        return True


def walk(
    root: str | os.PathLike[str],
    on_error: Callable[[str, str], object] = lambda folder, reason: None,
    accepts: Callable[[os.DirEntry[str]], bool] = is_dicom_entry,
) -> Iterator[str]:
    """Find all files of a kind below a folder, through links too; each folder is listed once.

    Args:
        root: Folder to search.
        on_error: Function that is called with each folder that cannot be listed, and the reason.
        accepts: Function that decides whether an entry is wanted; by default DICOM files, opened only if they have no
            suffix.
    """
    seen: set[tuple[int, int]] = set()
    pending = [os.fspath(root)]
    while pending:
        folder = pending.pop()
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in seen:  # a link back to a folder above, or to one already seen
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            on_error(folder, f"cannot be listed ({error.strerror})")
            continue
        yield from (entry.path for entry in entries if not _is_folder(entry) and accepts(entry))
        pending += reversed([entry.path for entry in entries if _is_folder(entry)])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # links in a circle


# Files that may be in an object store: their content, and a stamp that changes when they do.

# what the object stores' clients call the mark that changes with the content, the most reliable first
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")


def is_remote(path: str) -> bool:
    """Tell whether a path is a URL, as that of an object in a store, and not a path on a disk."""
    return "://" in path


def readable(path: str) -> str | bytes:
    """Return the path itself if it is on a disk, and the file's content if it is in an object store.

    Raises:
        OSError: The object cannot be read.
    """
    if not is_remote(path):
        return path
    import fsspec  # most users have no object store

    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def file_stamp(path: str) -> list[Any] | None:
    """Return size and time of change in nanoseconds, or an object's size and tag; ``None``: there is no such file."""
    try:
        if not is_remote(path):
            stat = os.stat(path)
            return [stat.st_size, stat.st_mtime_ns]
        import fsspec

        filesystem, name = fsspec.core.url_to_fs(path)
        info = filesystem.info(name)
    except OSError:
        return None
    return [info.get("size"), str(next((info[mark] for mark in _MARKS if info.get(mark)), ""))]


class Folder:
    """A folder by path or by fsspec URL (of S3, GCS, Azure, ...); a file in it is whole or not there.

    On a disk files are written as by `whole_file`. Object stores show an object only when its upload has ended, so
    there a file is first written to this machine's temporary folder.

    Args:
        url: Path or URL.

    Raises:
        UsageError: The URL's store has no client here, or its protocol is unknown.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        import fsspec

        self.url = os.fspath(url)
        self.is_remote = is_remote(self.url)
        if self.is_remote:
            try:
                self._filesystem, self._root = fsspec.core.url_to_fs(self.url)
            except (ImportError, ValueError) as error:
                raise UsageError(f"cannot be reached: {error}", source=self.url, remedy="install its client") from error
        else:
            self._filesystem, self._root = fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(self.url))

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.url,)

    def __str__(self) -> str:
        return self.url

    def path(self, name: str) -> str:
        """Return the path of a file as the filesystem has it."""
        return f"{self._root.rstrip('/')}/{name}"

    def url_of(self, name: str) -> str:
        """Return the path of a file as `datasets` takes it: a path on a disk, a URL elsewhere."""
        return f"{self.url.rstrip('/')}/{name}" if self.is_remote else self.path(name)

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes; ``None``: there is no such file."""
        try:
            size: int = self._filesystem.info(self.path(name))["size"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        return size

    def names(self, below: str) -> list[str]:
        """Return the files directly in a folder, by name from the root."""
        self._filesystem.invalidate_cache()
        try:
            found = self._filesystem.ls(self.path(below), detail=False)
        except FileNotFoundError:
            return []
        return sorted(f"{below}/{str(path).rstrip('/').rsplit('/', 1)[-1]}" for path in found)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading parts of it.

        Raises:
            OSError: The file cannot be read.
        """
        file: BinaryIO = self._filesystem.open(self.path(name), "rb")
        return file

    def read_text(self, name: str) -> str | None:
        """Return a file's text, with "\ufffd" for what is not UTF-8; ``None``: there is no such file."""
        try:
            content: bytes = self._filesystem.cat_file(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content.decode("utf-8", errors="replace")

    def write_text(self, name: str, text: str) -> None:
        """Write a file, or leave it untouched if it has this text already.

        Raises:
            OSError: The file cannot be written.
        """
        if self.read_text(name) != text:
            with self.whole_file(name) as part:
                Path(part).write_text(text, encoding="utf-8", newline="")

    @contextmanager
    def whole_file(self, name: str) -> Iterator[str]:
        """Give a path on this machine to write to; its content becomes the file at the end, and nothing after an error.

        Raises:
            OSError: The file cannot be written.
        """
        target = self.path(name)
        parent = target.rpartition("/")[0]
        if not self.is_remote:
            os.makedirs(parent, exist_ok=True)
            with whole_file(target) as part:
                yield str(part)
            return
        with tempfile.TemporaryDirectory() as temporary:
            local = os.path.join(temporary, "file")
            yield local
            self._filesystem.makedirs(parent, exist_ok=True)
            self._filesystem.put_file(local, target)
            self._filesystem.invalidate_cache()

    @contextmanager
    def local_copy(self, name: str) -> Iterator[str]:
        """Give a path on this machine with a file's content: the file itself if it is on a disk.

        Raises:
            OSError: The file cannot be read.
        """
        if not self.is_remote:
            yield self.path(name)
            return
        with tempfile.TemporaryDirectory() as temporary:
            local = os.path.join(temporary, "file")
            self._filesystem.get_file(self.path(name), local)
            yield local

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self.path(name))

    def sweep(self) -> None:
        """Remove what a killed run has left half-written; call it only if no other run is at work."""
        if not self.is_remote:
            for part in Path(self._root).glob(f"**/{PART}*"):
                part.unlink(missing_ok=True)
