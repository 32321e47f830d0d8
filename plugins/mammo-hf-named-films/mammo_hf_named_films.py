"""Films named PATIENT_SIDE_VIEW_RESULT.png, such as p07_L_CC_malignant.png."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mammo_hf.data import Collection
from mammo_hf.data.collection import Rejected
from mammo_hf.data.datasets.contents import files_below
from mammo_hf.data.privacy import PRIVATE, private_salt, salted_hash
from mammo_hf.data.schema import task_list
from mammo_hf.errors import DataError

NAME = "named-films"
LOOKS_FOR = "films such as p07_L_CC_malignant.png"
LICENCE = "the collection's own"
TASKS = {"pathology": ("benign", "malignant")}
OFFICIAL_SPLIT = "none"
QUIRKS = ("The result is that of the film's breast; a film without one has no label.",)

_FILM = re.compile(r"(\w+?)_([LR])_(CC|MLO)(?:_(benign|malignant))?\.png")


def recognises(root: Path) -> bool:
    """Return whether a folder holds such films; called for every unknown folder, so it must be quick."""
    return any(_FILM.fullmatch(path.name) for path in Path(root).glob("*.png"))


def load(root: Path) -> Collection:
    """Read the collection.

    Raises:
        DataError: There is no such film.
    """
    rejected: list[Rejected] = []
    films = {path: _FILM.fullmatch(Path(path).name) for path in sorted(files_below(root, rejected, _is_png))}
    rejected += [Rejected(path, "its name does not follow the rule") for path, found in films.items() if not found]
    rows = [_row(path, found) for path, found in films.items() if found]
    if not rows:
        raise DataError("holds no film", source=root, remedy=f"{NAME} needs {LOOKS_FOR}")
    return Collection.from_rows(rows, tasks=task_list(TASKS), salt_name=PRIVATE, rejected=rejected)


def _is_png(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".png")


def _row(path: str, found: re.Match[str]) -> dict[str, Any]:
    salt = private_salt()
    return {
        "image_id": salted_hash(Path(path).stem, salt),
        "path": path,
        "patient": salted_hash(found[1], salt),
        "exam": None,
        "laterality": found[2],
        "view": found[3],
        "source": NAME,
        "split": "train",
        "pathology": found[4],
        "findings": [],
    }
