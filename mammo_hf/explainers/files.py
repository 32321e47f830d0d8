"""An explanation's files: a picture, arrays, or places, each written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from .overlay import Style

if TYPE_CHECKING:
    from .explanation import Explanation

SUFFIXES = (".png", ".npz", ".json")


def save_explanation(
    explanation: Explanation, path: str | os.PathLike[str], index: int, style: Style, outline: np.ndarray | None
) -> Path:
    """Writes what the suffix asks for; see ``Explanation.save``.

    Raises:
        UsageError: Another suffix, or a folder that cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"an explanation is saved as {', '.join(SUFFIXES)}", source=path, remedy="choose one of these suffixes"
        )
    picture = explanation.overlay(index, style=style, outline=outline) if suffix == ".png" else None
    part = path.with_name(f".{path.stem}.{os.getpid()}{suffix}")
    try:
        if picture is not None:
            picture.save(part)
        elif suffix == ".npz":
            np.savez_compressed(part, **_arrays(explanation))
        else:
            part.write_text(json.dumps(explanation.to_dict(index), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", source=path, remedy="choose a folder that can be"
        ) from error
    finally:
        if part.parent.is_dir() and part.exists():
            part.unlink()
    return path


def _arrays(explanation: Explanation) -> dict[str, np.ndarray]:
    arrays = {
        "map": explanation.map,
        "target": np.array(explanation.target),
        "explainer": np.array(explanation.explainer),
        "flat": np.array(explanation.flat),
        "score": np.array(explanation.score),
        **{f"fact_{name}": np.array(values) for name, values in explanation.facts.items()},
    }
    optional = {"heads": explanation.heads, "logits": explanation.logits}
    return {**arrays, **{name: array for name, array in optional.items() if array is not None}}
