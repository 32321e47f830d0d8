"""What a card says of a collection: its name where that is public, and how many stand on which side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.phantom.writing import MARKER
from ..data.privacy import PRIVATE

if TYPE_CHECKING:
    from ..data import MammoTable

PHANTOMS = "mammo_hf phantoms"
SIDES = ("train", "validation", "test", "unlabelled")


def collection_facts(table: MammoTable, tasks: Sequence[Mapping[str, Any]], dataset: str | Path) -> dict[str, Any]:
    """Counts of a table, for ``metrics.json``.

    Args:
        table: As it was trained on, with its splits.
        tasks: Whose labels are counted.
        dataset: The folder that it was read from: phantoms lie there in the layout of a real collection.

    Returns:
        ``name``, ``None`` for a private collection; and ``splits``: for each side ``images``, ``patients``, and by
        task's name ``labels``, from a label to its images.
    """
    columns = {name: table.column(name) for name in ("split", "patient", *(str(task["name"]) for task in tasks))}
    splits: dict[str, Any] = {}
    for side in SIDES:
        rows = [row for row, split in enumerate(columns["split"]) if split == side]
        if not rows:
            continue
        splits[side] = {
            "images": len(rows),
            "patients": len({columns["patient"][row] for row in rows}),
            "labels": {str(task["name"]): _counts(task, columns[str(task["name"])], rows) for task in tasks},
        }
    return {"name": public_name(table, dataset), "splits": splits}


def public_name(table: MammoTable, dataset: str | Path) -> str | None:
    """The collection's name; ``None`` for a private one."""
    if is_phantom(dataset):
        return PHANTOMS
    return None if table.salt_name == PRIVATE else table.salt_name


def is_phantom(dataset: str | Path) -> bool:
    """Whether a folder, prepared or not, named alone or as NAME:FOLDER, holds images that were drawn."""
    folders = (str(dataset), str(dataset).partition(":")[2])
    return any((Path(folder) / MARKER).is_file() for folder in folders if folder)


def _counts(task: Mapping[str, Any], values: Sequence[str | None], rows: Sequence[int]) -> dict[str, int]:
    found = Counter(values[row] for row in rows)
    return {str(label): found[label] for label in task["labels"]}
