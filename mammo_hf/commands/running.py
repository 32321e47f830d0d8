"""How every command ends: its exit status, one line for a known error, and what is logged on the way."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import MammoError, UsageError


def run_command(command: Callable[[list[str]], None], arguments: Sequence[str] | None = None) -> int:
    """Runs a command; a known error becomes one line on standard error and its exit status."""
    try:
        command(list(sys.argv[1:] if arguments is None else arguments))
    except MammoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read our output has gone; there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def log_to(target: str, output_dir: Path) -> None:
    """Logs to the console, or to ``training_log.txt`` in the output folder.

    Raises:
        UsageError: The folder cannot be written to.
    """
    writable_folder(output_dir)
    handler: logging.Handler = logging.StreamHandler()
    if target == "file":
        handler = logging.FileHandler(output_dir / "training_log.txt", encoding="utf-8")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", handlers=[handler], force=True)
    for name in ("httpx", "datasets", "matplotlib", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)


def writable_folder(folder: Path) -> Path:
    """Makes a folder and tries that it can be written to.

    Raises:
        UsageError: It cannot.
    """
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot be written to ({error.strerror})", source=folder, remedy="name a folder that you can write to"
        ) from error
    return folder


def write_metrics(out: Path, stage: str, figures: dict[str, Any]) -> None:
    """Puts a stage's figures into ``metrics.json`` and leaves those of other stages."""
    path = out / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    metrics[stage] = figures
    path.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
