"""Choosing patients: stratified by their gravest label, in an order that any machine reproduces."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError

if TYPE_CHECKING:
    from .table import MammoTable


def in_hash_order(patients: Iterable[str], *, purpose: str, seed: int) -> list[str]:
    """Patients in a random order that depends on the purpose, the seed and each patient alone.

    A generator's order would change with every patient who comes or goes, and with the library's version; the order
    of SHA-256 digests does not. The purpose keeps choices of the same seed independent of each other.
    """
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{purpose}|{seed}|{patient}".encode()).digest())


def share(count: int, fraction: float) -> int:
    """The number nearest to that fraction of `count`, halves upward on every platform; grows with the fraction."""
    return math.floor(count * fraction + 0.5)


def find_task(table: MammoTable, task: str | None) -> dict[str, Any]:
    """The table's task of that name; its first for ``None``.

    Raises:
        UsageError: The table has no such task.
    """
    for known in table.tasks:
        if task in (None, known["name"]):
            return known
    names = ", ".join(known["name"] for known in table.tasks) or "none"
    raise UsageError(f"the table has no task {task!r}", source="task", remedy=f"its tasks: {names}")


def strata(table: MammoTable, task: str | None) -> dict[str | None, list[str]]:
    """The training patients by their gravest known label (the last in the task's own order).

    Args:
        table: The table; only rows of the training split count.
        task: The task; ``None`` for the table's first.

    Returns:
        From each label that occurs to its patients; under ``None`` those with no label known.
    """
    chosen = find_task(table, task)
    rank = {label: position for position, label in enumerate(chosen["labels"])}
    gravest: dict[str, str | None] = {}
    columns = zip(table.column("patient"), table.column("split"), table.column(chosen["name"]), strict=True)
    for patient, split, label in columns:
        if split != "train":
            continue
        before = gravest.setdefault(patient, label)
        if label is not None and (before is None or rank[label] > rank[before]):
            gravest[patient] = label
    groups: dict[str | None, list[str]] = {}
    for patient, label in gravest.items():
        groups.setdefault(label, []).append(patient)
    return groups


def validation_patients(table: MammoTable, *, validation: float, seed: int, task: str | None) -> frozenset[str]:
    """Which training patients become the validation split.

    Within each stratum (gravest label; no label known) patients stand in hash order and the first share is taken.
    A stratum of two patients or more gives at least one and keeps at least one, so that a label that occurs is on
    both sides where that is possible. A patient who joins the collection moves none but those at the cut.

    Args:
        table: The table.
        validation: Share of the patients, above 0 and below 1.
        seed: The seed.
        task: The task to stratify by; ``None`` for the table's first.

    Raises:
        UsageError: The share is out of range, or validation rows are there already.
        DataError: There are fewer than two training patients.
    """
    if not 0 < validation < 1:
        raise UsageError(f"must be above 0 and below 1, not {validation}", source="validation")
    if "validation" in table.column("split"):
        raise UsageError("the table has a validation split already", source="validation", remedy="use that one")
    groups: Sequence[list[str]] = list(strata(table, task).values())
    patients = sum(len(group) for group in groups)
    if patients < 2:
        raise DataError(
            f"{patients} training patient(s) cannot be split in two", source="validation", remedy="add patients"
        )
    chosen: list[str] = []
    for group in groups:
        count = min(max(share(len(group), validation), 1), len(group) - 1)
        chosen += in_hash_order(group, purpose="validation", seed=seed)[:count]
    if not chosen:  # every stratum holds a single patient
        everyone = (patient for group in groups for patient in group)
        chosen = in_hash_order(everyone, purpose="validation", seed=seed)[:1]
    return frozenset(chosen)
