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
        sys.stdout.flush()  # here, where a reader that has gone is no error
    except MammoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read our output has gone; there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # a disk that fills up, a folder that goes away: nobody's fault in particular, and nothing a traceback explains
        reason = error.strerror or " ".join(str(error).split())
        print(f"error: {error.filename or 'files'}: {reason}; check the path, its rights and the room", file=sys.stderr)
        return 1
    return 0


def log_to(target: str, output_dir: Path) -> None:
    """Logs to the console, or to ``training_log.txt`` in the output folder.

    Raises:
        UsageError: The folder cannot be written to.
    """
    writable_folder(output_dir)
    handler: logging.Handler = logging.StreamHandler()
    if target == "file":
        try:
            handler = logging.FileHandler(output_dir / "training_log.txt", encoding="utf-8")
        except OSError as error:
            raise _not_writable(output_dir / "training_log.txt", error) from error
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", handlers=[handler], force=True)
    quiet()


def quiet() -> None:
    """Silences what other libraries tell of themselves, among it a progress bar for each file that is loaded."""
    for name in ("httpx", "httpx2", "datasets", "matplotlib", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from transformers.utils import logging as of_transformers  # takes a second, which --help should not

    of_transformers.disable_progress_bar()


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
        raise _not_writable(folder, error) from error
    return folder


def _not_writable(place: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot be written to ({error.strerror})", source=place, remedy="name a folder that you can write to"
    )


def check_outputs(out: Path, *folders: Path) -> None:
    """Makes the folders of a run and looks at what it will write, before hours are spent on it.

    Raises:
        UsageError: A folder cannot be made or written to, or ``metrics.json`` is something else.
    """
    for folder in (out, *folders):
        writable_folder(folder)
    read_metrics(out)


def read_metrics(out: Path) -> dict[str, Any]:
    """What ``metrics.json`` holds of earlier stages; empty where there is none yet.

    Raises:
        UsageError: Something else stands in its place.
    """
    path = out / "metrics.json"
    if not path.exists():
        return {}
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metrics = None
    if not isinstance(metrics, dict):
        raise UsageError("is no file of figures", source=path, remedy="move it away or name another folder")
    return metrics


def write_metrics(out: Path, stage: str, figures: dict[str, Any]) -> None:
    """Puts a stage's figures into ``metrics.json`` and leaves those of other stages."""
    metrics = {**read_metrics(out), stage: figures}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
