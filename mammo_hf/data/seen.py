"""Whom a checkpoint has learnt from: the saved split beside it, which the next stage reads before it tests anybody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .records import read_record
from .splits import read_split, save_split

if TYPE_CHECKING:
    from .table import MammoTable

SPLIT_FILE = "split.json"


def save_training_split(
    table: MammoTable, checkpoint: str | Path, *, before: frozenset[str] = frozenset(), **about: float
) -> None:
    """Writes a training's split beside its checkpoint, in the form that `MammoTable.split` takes as ``saved``.

    Args:
        table: The table as it was trained on.
        checkpoint: The checkpoint's folder.
        before: Whom the checkpoint that the training started from had learnt from; those who stand in no training row
            of the table are written too.
        **about: Seed and shares.

    Raises:
        DataError: The file cannot be written.
    """
    earlier = sorted(before - set(table.column("patient")))
    save_split(table, Path(checkpoint) / SPLIT_FILE, **about, **({"seen_before": earlier} if earlier else {}))


def read_seen(checkpoint: str | Path) -> frozenset[str] | None:
    """The patients that a checkpoint has learnt from, validation patients among them: they chose its best epoch.

    Returns:
        Their hashes; ``None`` where the checkpoint does not say, as those of other programs.

    Raises:
        DataError: Its file is no saved split.
    """
    path = Path(checkpoint) / SPLIT_FILE
    if not path.is_file():
        return None
    sides = read_split(path)
    earlier = read_record(path).get("seen_before", ())
    return frozenset(patient for patient, side in sides.items() if side != "test") | frozenset(earlier)
