"""Source files, on a disk or in an object store: their content, and a stamp that changes when they do."""

from __future__ import annotations

import os
from typing import Any

import fsspec

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
    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def file_stamp(path: str) -> list[Any] | None:
    """Size and time of change in nanoseconds, or an object's size and tag; ``None``: there is no such file."""
    try:
        if not is_remote(path):
            stat = os.stat(path)
            return [stat.st_size, stat.st_mtime_ns]
        filesystem, name = fsspec.core.url_to_fs(path)
        info = filesystem.info(name)
    except OSError:
        return None
    return [info.get("size"), str(next((info[mark] for mark in _MARKS if info.get(mark)), ""))]
