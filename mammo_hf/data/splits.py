"""Choosing patients: stratified by their gravest label, in an order that any machine reproduces."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from ..files import read_record, write_record
from . import TEST_FRACTION, VALIDATION_FRACTION
from .privacy import is_salted_hash
from .schema import AGE_BANDS, SPLITS

if TYPE_CHECKING:
    from .collection import Collection

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


def find_task(table: Collection, task: str | None) -> dict[str, Any]:
    """The table's task of that name; its first for ``None``.

    Raises:
        UsageError: The table has no such task.
    """
    for known in table.tasks:
        if task in (None, known["name"]):
            return known
    names = ", ".join(known["name"] for known in table.tasks) or "none"
    raise UsageError(f"the table has no task {task!r}", source="task", remedy=f"its tasks: {names}")


def strata(table: Collection, task: str | None, split: str = "train") -> dict[str | None, list[str]]:
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
    table: Collection, shares: Mapping[str, float], *, seed: int, task: str | None, taken_from: str
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


def save_split(table: Collection, path: str | Path, **about: str | float | list[str] | None) -> None:
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


def pin_sides(table: Collection, by_rule: Mapping[str, str], pinned: Mapping[str, str]) -> tuple[dict[str, str], str]:
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


# Label subsets: which patients keep their labels when only a share of the labels may be used.


def label_subset(table: Collection, *, percentage: float, seed: int, task: str | None = None) -> tuple[str, ...]:
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


# The split of a training: what a collection has of its own stays, what it lacks is made, and both are said.


def complete_split(
    table: Collection,
    *,
    validation_fraction: float = VALIDATION_FRACTION,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    task: str | None = None,
    saved: str | Path | None = None,
) -> Collection:
    """Gives a table the validation and the test split that it lacks.

    An official split is never touched. A table of unlabelled images alone gets no test split: there is nothing to test
    on, and pre-training may learn from all of them.

    Args:
        table: The table as its source gave it.
        validation_fraction: Fraction of the training patients for a validation split where there is none; 0: none is
            made.
        test_fraction: Fraction of the training patients for a test split where there is none; 0: none is made.
        seed: The seed.
        task: The task to stratify by; ``None`` for the table's first.
        saved: A file that `save_split` wrote: its patients stand as they stood there.

    Returns:
        The table, split; its notes say where each split is from.

    Raises:
        UsageError: A share is out of range.
        DataError: As `Collection.split`.
    """
    splits = table.column("split")
    own = {side for side in ("validation", "test") if side in splits}
    training = table.where(split="train")
    labelled = any(label is not None for task in table.tasks for label in training.column(task["name"]))
    shares = {
        "validation": 0.0 if "validation" in own else validation_fraction,
        "test": test_fraction if labelled and "test" not in own else 0.0,
    }
    notes = [_own(table, side) for side in sorted(own)]
    if "test" not in own and saved is None:
        if not labelled:
            notes.append("test: none, as no image has a label")
        elif not test_fraction:
            notes.append("test: none; the collection has no split of its own, and no share is asked for")
        else:
            notes.append(
                f"test: the collection has no split of its own, so {test_fraction:.0%} of the patients are taken"
            )
    table = table.with_notes(*notes)
    if saved is None and not any(shares.values()):
        return table
    return table.split(shares["validation"], seed, task, test_fraction=shares["test"], saved=saved)


def _own(table: Collection, side: str) -> str:
    rows = table.where(split=side)
    return f"{side}: {len(set(rows.column('patient')))} patients ({len(rows)} images), the collection's own split"


# Whom a checkpoint has learnt from: the saved split beside it, which the next stage reads before it tests anybody.


SPLIT_FILE = "split.json"


def save_training_split(
    table: Collection, checkpoint: str | Path, *, before: frozenset[str] = frozenset(), **about: float
) -> None:
    """Writes a training's split beside its checkpoint, in the form that `Collection.split` takes as ``saved``.

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


# A split in numbers: patients and images on each side, their classes, views and vendors, and who moved.


FACTS = ("view", "laterality", "vendor", "age_band", "source")
UNKNOWN = "not known"


def split_report(table: Collection) -> dict[str, Any]:
    """Counts of a table's split.

    Returns:
        ``splits``: from each split that occurs to its patients, exams, breasts and images; ``tasks``: from each task
        and label to the images by split, with the patients by their gravest label; ``facts``: from each of view,
        laterality, vendor, age band and source to the images by value and split; ``moved``: patients (hashes) with
        before, after and reason; ``rejected``: how many files and table rows were left out; ``notes``.
    """
    splits = table.column("split")
    present = [split for split in SPLITS if split in splits]
    exams, breasts = table.by_exam(), table.by_breast()
    sides = {
        split: {
            "patients": len({p for p, s in zip(table.column("patient"), splits, strict=True) if s == split}),
            "exams": sum(splits[group.rows[0]] == split for group in exams),
            "breasts": sum(splits[group.rows[0]] == split and group.laterality is not None for group in breasts),
            "images": splits.count(split),
        }
        for split in present
    }
    facts = {}
    for name in FACTS:
        counts = _cross(table.column(name), splits, present, AGE_BANDS if name == "age_band" else None)
        if set(counts) != {UNKNOWN}:
            facts[name] = counts
    return {
        "splits": sides,
        "tasks": {task["name"]: _task(table, task, splits, present) for task in table.tasks},
        "facts": facts,
        "moved": [moved._asdict() for moved in table.moved],
        "rejected": len(table.rejected),
        "notes": list(table.notes),
    }


def _task(table: Collection, task: dict[str, Any], splits: list[str], present: list[str]) -> dict[str, Any]:
    labels, values = task["labels"], table.column(task["name"])
    rank = {label: place for place, label in enumerate(labels)}
    worst: dict[tuple[str, str], str | None] = {}
    for patient, split, label in zip(table.column("patient"), splits, values, strict=True):
        before = worst.setdefault((patient, split), label)
        if label is not None and (before is None or rank[label] > rank[before]):
            worst[patient, split] = label
    patients = _cross(list(worst.values()), [split for _, split in worst], present, labels)
    return {"images": _cross(values, splits, present, labels), "patients": patients}


def _cross(
    values: list[str | None], splits: list[str], present: list[str], order: Any = None
) -> dict[str, dict[str, int]]:
    """From each value, in the given order or by name, and last what is not known, to the counts by split."""
    counts = Counter(zip(values, splits, strict=True))
    known = {value for value in values if value is not None}
    ordered = sorted(known) if order is None else [value for value in order if value in known]
    table = {value: {split: counts[value, split] for split in present} for value in ordered}
    if None in values:
        table[UNKNOWN] = {split: counts[None, split] for split in present}
    return table
