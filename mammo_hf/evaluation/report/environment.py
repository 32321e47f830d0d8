"""What a run was made with, without what would name a person or a machine."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r"--([a-z]+[_-])*token")
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
    """The command as it was given, without tokens, of each path its last part alone: folders may name a person."""
    given = _without_tokens(sys.argv if arguments is None else arguments)
    return shlex.join(Path(part).name if "/" in part and not part.startswith("-") else part for part in given)


def _without_tokens(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for part in arguments:
        name, mark, _ = part.partition("=")
        if kept and _TOKEN.fullmatch(kept[-1]):
            kept.append("...")
        else:
            kept.append(f"{name}=..." if mark and _TOKEN.fullmatch(name) else part)
    return kept
