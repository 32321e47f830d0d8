"""What a run was made with, without what would name a person or a machine."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PACKAGES = ("mammo-hf", "torch", "transformers", "datasets", "numpy", "scipy", "pydicom")


def environment(device: str) -> dict[str, Any]:
    """Versions, the kind of processor, the day.

    Args:
        device: What the model ran on.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "packages": versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "date": datetime.now(UTC).date().isoformat(),
    }


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command as it was given, of each path its last part alone: folders above it may name a person."""
    given = list(sys.argv if arguments is None else arguments)
    return shlex.join(Path(part).name if "/" in part and not part.startswith("-") else part for part in given)
