"""Small files that are kept beside a checkpoint: written whole or not at all, and JSON read back with care."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import DataError


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
