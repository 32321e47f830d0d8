"""Label subsets: which patients keep their labels when only a share of the labels may be used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, UsageError
from .privacy import is_salted_hash
from .records import read_record, write_record
from .splits import in_hash_order, share, strata

if TYPE_CHECKING:
    from .table import MammoTable


def label_subset(table: MammoTable, *, percentage: float, seed: int, task: str | None = None) -> tuple[str, ...]:
    """The training patients whose labels are used, as salted hashes.

    By patient, stratified by the patient's gravest label, and nested: the patients of 10 % are among those of 25 %
    with the same seed. Each label that occurs keeps at least one patient. Patients of the validation and test
    splits are never chosen; those who are not chosen stay in the table, for pre-training.

    Args:
        table: The table, split already where a validation split is wanted.
        percentage: Share of the labelled training patients in percent, above 0 and up to 100.
        seed: The seed.
        task: The task whose labels count; ``None`` for the table's first.

    Returns:
        The patients' hashes in sorted order.

    Raises:
        UsageError: The percentage is out of range, or the table has no such task.
        DataError: No training patient has a label for the task.
    """
    if not 0 < percentage <= 100:
        raise UsageError(f"must be above 0 and at most 100, not {percentage}", source="percentage")
    groups = strata(table, task)
    groups.pop(None, None)
    if not groups:
        raise DataError("no training patient has a label", source=task or "table", remedy="check the label tables")
    chosen: list[str] = []
    for patients in groups.values():
        count = max(1, share(len(patients), percentage / 100))
        chosen += in_hash_order(patients, purpose="labels", seed=seed)[:count]
    return tuple(sorted(chosen))


def save_subset(patients: Iterable[str], path: str | Path, **about: str | float | None) -> None:
    """Writes the chosen patients as JSON, so that others can train on the very same ones.

    Args:
        patients: What `label_subset` gave.
        path: The file to write; it appears whole or not at all.
        **about: What else is worth knowing: percentage, seed, task, salt_name.

    Raises:
        DataError: The file cannot be written.
    """
    write_record({**about, "patients": sorted(patients)}, path)


def read_subset(path: str | Path) -> tuple[str, ...]:
    """The patients of a file that `save_subset` wrote.

    Raises:
        DataError: The file cannot be read or is no list of patients.
    """
    patients = read_record(path).get("patients")
    if not isinstance(patients, list) or not patients or not all(is_salted_hash(patient) for patient in patients):
        raise DataError(
            'is no label subset: needs {"patients": [...]} with salted hashes',
            source=path,
            remedy="write it with save_subset",
        )
    return tuple(sorted(patients))
