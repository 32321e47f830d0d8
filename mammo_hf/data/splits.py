"""Choosing patients: stratified by their gravest label, in an order that any machine reproduces."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from .privacy import is_salted_hash
from .records import read_record, write_record

if TYPE_CHECKING:
    from .table import MammoTable

SIDES = ("train", "validation", "test")


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


def strata(table: MammoTable, task: str | None, split: str = "train") -> dict[str | None, list[str]]:
    """The patients of a split by their gravest known label (the last in the task's own order).

    Args:
        table: The table.
        task: The task; ``None`` for the table's first.
        split: The split whose rows count.

    Returns:
        From each label that occurs to its patients; under ``None`` those with no label known.
    """
    if task is None and not table.tasks:
        patients = table.where(split=split).column("patient")
        return {None: list(dict.fromkeys(patients))} if patients else {}
    chosen = find_task(table, task)
    rank = {label: position for position, label in enumerate(chosen["labels"])}
    gravest: dict[str, str | None] = {}
    columns = zip(table.column("patient"), table.column("split"), table.column(chosen["name"]), strict=True)
    for patient, found, label in columns:
        if found != split:
            continue
        before = gravest.setdefault(patient, label)
        if label is not None and (before is None or rank[label] > rank[before]):
            gravest[patient] = label
    groups: dict[str | None, list[str]] = {}
    for patient, label in gravest.items():
        groups.setdefault(label, []).append(patient)
    return groups


def choose_sides(
    table: MammoTable, shares: Mapping[str, float], *, seed: int, task: str | None, taken_from: str
) -> dict[str, str]:
    """Which patients of a split go to the validation and the test split.

    Within each stratum (gravest label; no label known) patients stand in hash order and the first share is taken.
    A stratum of two patients or more gives at least one and keeps at least one, so that a label that occurs is on
    both sides where that is possible. A patient who joins the collection moves none but those at the cut.

    Args:
        table: The table.
        shares: From the split ("test", "validation") to its share of the patients, above 0 and below 1; the first is
            taken first, the next from what remains.
        seed: The seed.
        task: The task to stratify by; ``None`` for the table's first.
        taken_from: The split whose patients are divided.

    Returns:
        From each chosen patient to their side.

    Raises:
        UsageError: A share is out of range, or that side has rows already.
        DataError: There are too few patients.
    """
    for side, fraction in shares.items():
        if not 0 < fraction < 1:
            raise UsageError(f"must be above 0 and below 1, not {fraction}", source=side)
        if side in table.column("split"):
            raise UsageError(f"the table has a {side} split already", source=side, remedy="use that one")
    if sum(shares.values()) >= 1:
        raise UsageError("the shares leave nothing to train on", source=" + ".join(shares))
    left: Sequence[list[str]] = list(strata(table, task, taken_from).values())
    total = [len(group) for group in left]
    chosen: dict[str, str] = {}
    for side, fraction in shares.items():
        patients = sum(len(group) for group in left)
        if patients < 2:
            raise DataError(
                f"{patients} {_WORDS[taken_from]} patient(s) cannot be split in two", source=side, remedy="add patients"
            )
        picked: list[str] = []
        for group, whole in zip(left, total, strict=True):
            count = min(max(share(whole, fraction), 1), len(group) - 1)
            picked += in_hash_order(group, purpose=side, seed=seed)[: max(count, 0)]
        if not picked:  # every stratum holds a single patient
            everyone = (patient for group in left for patient in group)
            picked = in_hash_order(everyone, purpose=side, seed=seed)[:1]
        chosen |= dict.fromkeys(picked, side)
        left = [[patient for patient in group if patient not in chosen] for group in left]
    return chosen


_WORDS = {"train": "training", "unlabelled": "unlabelled"}


def save_split(table: MammoTable, path: str | Path, **about: str | float | list[str] | None) -> None:
    """Writes on which side each patient stands, so that others, and later versions of the data, split alike.

    Args:
        table: The table, split.
        path: The file to write; it appears whole or not at all.
        **about: What else is worth knowing: seed, shares, task.

    Raises:
        DataError: A patient stands on two sides, or the file cannot be written.
    """
    sides = sorted(set(zip(table.column("patient"), table.column("split"), strict=True)))
    splits = dict(sides)
    if len(splits) < len(sides):
        raise DataError("has patients on two sides", source="table", remedy="assert_no_leak lists them")
    write_record({"salt_name": table.salt_name, **about, "splits": splits}, path)


def read_split(path: str | Path) -> dict[str, str]:
    """From each patient to the side, of a file that `save_split` wrote.

    Raises:
        DataError: The file cannot be read or is no saved split.
    """
    splits = read_record(path).get("splits")
    sides = (*SIDES, "unlabelled")
    entries = splits.items() if isinstance(splits, dict) else ()
    if not entries or not all(is_salted_hash(patient) and side in sides for patient, side in entries):
        raise DataError(
            'is no saved split: needs {"splits": {patient: side}} with salted hashes',
            source=path,
            remedy="write it with save_split",
        )
    return dict(entries)


def pin_sides(table: MammoTable, by_rule: Mapping[str, str], pinned: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The sides that a saved split gives to its patients, and the rule to those who are new.

    Args:
        table: The table before the split.
        by_rule: What `choose_sides` says of the table's patients; the others stay where they are.
        pinned: What `read_split` gave.

    Returns:
        From each patient to the side, and a note with counts.

    Raises:
        DataError: The file has none of the table's patients, or puts a patient of its test split on another side.
    """
    current = dict(zip(table.column("patient"), table.column("split"), strict=True))
    known = {patient: pinned[patient] for patient in current if patient in pinned}
    if not known:
        raise DataError(
            "holds none of the table's patients", source="saved split", remedy="hashes depend on the salt: use the same"
        )
    torn = [patient for patient, side in known.items() if current[patient] == "test" and side != "test"]
    if torn:
        raise DataError(
            f"puts {len(torn)} test patients on another side, the first {torn[0]}",
            source="saved split",
            remedy="save it anew, from this collection's official split",
        )
    new = [patient for patient in current if patient not in known]
    sides = {**{patient: by_rule[patient] for patient in new if patient in by_rule}, **known}
    moved = sum(by_rule.get(patient, current[patient]) != side for patient, side in known.items())
    counts = Counter(sides.get(patient, current[patient]) for patient in new)
    note = f"saved split: {len(known)} patients as saved, {moved} of them on another side than the rule would put them"
    if new:
        note += f"; {len(new)} new patients by the rule: " + ", ".join(f"{side} {counts[side]}" for side in counts)
    return sides, note
