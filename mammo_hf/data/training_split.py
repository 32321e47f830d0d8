"""The split of a training: what a collection has of its own stays, what it lacks is made, and both are said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .table import MammoTable

VALIDATION_SHARE, TEST_SHARE = 0.15, 0.2


def complete_split(
    table: MammoTable,
    *,
    validation: float = VALIDATION_SHARE,
    test: float = TEST_SHARE,
    seed: int = 0,
    task: str | None = None,
    saved: str | Path | None = None,
) -> MammoTable:
    """Gives a table the validation and the test split that it lacks.

    An official split is never touched. A table of unlabelled images alone gets no test split: there is nothing to test
    on, and pre-training may learn from all of them.

    Args:
        table: The table as its source gave it.
        validation: Share of the training patients for a validation split where there is none; 0: none is made.
        test: Share of the training patients for a test split where there is none; 0: none is made.
        seed: The seed.
        task: The task to stratify by; ``None`` for the table's first.
        saved: A file that `save_split` wrote: its patients stand as they stood there.

    Returns:
        The table, split; its notes say where each split is from.

    Raises:
        UsageError: A share is out of range.
        DataError: As `MammoTable.split`.
    """
    splits = table.column("split")
    own = {side for side in ("validation", "test") if side in splits}
    training = table.where(split="train")
    labelled = any(label is not None for task in table.tasks for label in training.column(task["name"]))
    shares = {
        "validation": 0.0 if "validation" in own else validation,
        "test": test if labelled and "test" not in own else 0.0,
    }
    notes = [_own(table, side) for side in sorted(own)]
    if "test" not in own and saved is None:
        if not labelled:
            notes.append("test: none, as no image has a label")
        elif not test:
            notes.append("test: none; the collection has no split of its own, and no share is asked for")
        else:
            notes.append(f"test: the collection has no split of its own, so {test:.0%} of the patients are taken")
    table = table.with_notes(*notes)
    if saved is None and not any(shares.values()):
        return table
    return table.split(shares["validation"], seed, task, test=shares["test"], saved=saved)


def _own(table: MammoTable, side: str) -> str:
    rows = table.where(split=side)
    return f"{side}: {len(set(rows.column('patient')))} patients ({len(rows)} images), the collection's own split"
