"""Source files, on a disk or in an object store: their content, and a stamp that changes when they do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .errors import DataError

MARKER = "phantom.json"  # beside drawn phantoms, so that whatever is made of them is named as such

# Small files that are kept beside a checkpoint: written whole or not at all, and JSON read back with care.


def write_record(content: dict[str, Any], path: str | Path) -> None:
    """Writes a JSON file; a reader sees the old file or the new one, never a part.

    Raises:
        DataError: The file cannot be written.
    """
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file; a reader sees the old file or the new one, never a part.

    Raises:
        DataError: The file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"cannot be written ({error.strerror})", source=path, remedy="choose another folder") from error


def read_record(path: str | Path) -> dict[str, Any]:
    """A JSON file's content; empty where it holds anything but an object.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", source=path, remedy="check the path") from error
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


# what the object stores' clients call the mark that changes with the content, the surest first
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")


def is_remote(path: str) -> bool:
    """Whether a path is a URL such as ``s3://bucket/1-1.dcm``."""
    return "://" in path


def readable(path: str) -> str | bytes:
    """The path itself where it is on a disk; the file's content where it is in an object store.

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
    """Size and time of change in nanoseconds, or an object's size and tag; ``None``: there is no such file."""
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
